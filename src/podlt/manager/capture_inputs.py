"""What a run's own data and plan ask of its captured program, before the first round."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import torch

from podlt.data.dataset import Dataset
from podlt.errors import UsageError
from podlt.execution.task_executor import as_batch
from podlt.program.capture import Captured
from podlt.program.example_sums import BATCH_NORM
from podlt.program.ir import Program
from podlt.program.machine import machine_bytes
from podlt.program.memory import MemoryNeedError, check_memory, gib, most_examples, peak_bytes
from podlt.program.needs import least_examples
from podlt.program.pieces import piece_sizes
from podlt.protocol.plan import RoundCut, shard_bounds
from podlt.recipe import Recipe, run_seed

MOST_ROUNDS = 20_000
"""How many rounds are looked at for the smallest shard: a fraction of a second."""

FEW, MANY = 7, 32
"""On how many examples of the data a program is held against its module: a task's, within these bounds."""


def tried_examples(recipe: Recipe, train: Dataset) -> dict[str, torch.Tensor]:
    """Examples from all over the data, to hold a captured program against its module on."""
    workers = recipe.training.workers
    useful = workers - recipe.protocol.options.most_spares(workers)
    per_task = -(-recipe.training.batch_size // max(1, useful))
    count = min(max(FEW, min(MANY, per_task)), train.examples)
    return as_batch(train.read(np.linspace(0, train.examples - 1, count).astype(np.int64)))


def task_examples(recipe: Recipe, examples: int) -> int:
    """The most examples that are one batch of a task: of a round's largest shard, or of a local step of it.

    Args:
        recipe: the plan; as many workers as it says.
        examples: of the training set.
    """
    training = recipe.training
    return batch_bounds(recipe, examples, training.batch_size, training.shard_size)[1]


def piece_examples(recipe: Recipe, examples: int) -> int:
    """The most examples that are executed at once. Arguments as `task_examples`."""
    return piece_sizes(task_examples(recipe, examples), recipe.training.micro_batch_size)[1]


def planned(captured: Captured, recipe: Recipe, examples: int) -> tuple[Program, list[str]]:
    """The program of a run, and what its user should know of it, a sentence each.

    Args:
        captured: the recipe's model.
        recipe: the plan; as many workers as it says.
        examples: of the training set.

    Raises:
        UsageError: the plan's tasks are too small for the model, or too large for this machine.
    """
    program = with_plan(captured.program, recipe)
    require_examples(program, recipe, examples)
    require_memory(program, recipe, examples)
    return program, [*captured.notices, *filter(None, [piece_notice(program)])]


def with_plan(program: Program, recipe: Recipe) -> Program:
    """A captured program with what the recipe says of how its tasks are executed."""
    training = recipe.training
    return replace(program, local_optimizer=training.local_optimizer, micro_batch_size=training.micro_batch_size)


def require_memory(program: Program, recipe: Recipe, examples: int, allowed: int = 0) -> None:
    """Refuses a plan whose tasks take more memory than this machine has.

    Args:
        program: the run's, with its plan.
        recipe: the plan; as many workers as it says.
        examples: of the training set.
        allowed: bytes that a task may take; 0 for what this machine has.

    Raises:
        UsageError: a task takes more; names the `micro_batch_size` that would do.
    """
    allowed = allowed or machine_bytes()
    piece = piece_examples(recipe, examples)
    try:
        check_memory(program, piece, allowed)
    except MemoryNeedError:
        needed = gib(peak_bytes(program, piece, is_summed=bool(program.micro_batch_size))[0])
        fits, least = most_examples(program, allowed), least_examples(program)[0]
        cure = (
            f"set training.micro_batch_size = {fits}" if fits >= least else "take a smaller model, or a larger machine"
        )
        raise UsageError(
            f"{piece} examples of this model take {needed}, and this machine has {gib(allowed)} for a task: {cure}"
        ) from None


def piece_notice(program: Program) -> str:
    """What the user of `micro_batch_size` should know of the program; "" if there is nothing."""
    if not program.micro_batch_size or not any(
        n.operation == BATCH_NORM and n.arguments[5] is True for n in program.nodes
    ):
        return ""
    return (
        f"training.micro_batch_size = {program.micro_batch_size}: BatchNorm takes its means and variances over a piece "
        "of at most so many examples, not over a task"
    )


def require_examples(program: Program, recipe: Recipe, examples: int) -> None:
    """Refuses a plan whose smallest shard has fewer examples than the program can be run with.

    Args:
        program: the run's.
        recipe: the plan; as many workers as it says.
        examples: of the training set.

    Raises:
        UsageError: it has; names the batch or shard size that would do.
    """
    least, why = least_examples(program)
    training = recipe.training
    found = _smallest(recipe, examples, training.batch_size, training.shard_size)
    if found >= least:
        return
    name = "shard_size" if training.shard_size else "batch_size"
    asked = training.shard_size or training.batch_size
    fits = (n for n in range(asked + 1, examples + 1) if _smallest(recipe, examples, *_sizes(recipe, n)) >= least)
    cure = next((f"training.{name} = {n}" for n in fits), "fewer workers")
    if training.micro_batch_size and _smallest(_whole(recipe), examples, *_sizes(recipe, asked)) >= least:
        name, asked, cure = (
            "micro_batch_size",
            training.micro_batch_size,
            f"training.micro_batch_size = {2 * least - 1}",
        )
    raise UsageError(
        f"training.{name} = {asked}: the smallest shard would have {found} of {examples} examples, and the model needs "
        f"{least}: {why}. Take {cure}, or a model without BatchNorm (GroupNorm, LayerNorm)"
    )


def _sizes(recipe: Recipe, size: int) -> tuple[int, int]:
    """RoundBatch and shard size where the one that the recipe speaks of has this size."""
    if recipe.training.shard_size:
        return max(recipe.training.batch_size, size), size
    return size, 0


def _whole(recipe: Recipe) -> Recipe:
    """The recipe without pieces."""
    return msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, micro_batch_size=0))


def _smallest(recipe: Recipe, examples: int, batch_size: int, shard_size: int) -> int:
    """The examples of the smallest batch that is executed at once: a whole one, or a piece of it."""
    smallest = batch_bounds(recipe, examples, batch_size, shard_size)[0]
    return piece_sizes(smallest, recipe.training.micro_batch_size)[0]


def batch_bounds(recipe: Recipe, examples: int, batch_size: int, shard_size: int) -> tuple[int, int]:
    """The examples of the smallest and largest batch: of a round's shards, or of a local step."""
    sizes = [
        stop - start
        for taken, shards in _rounds(recipe, RoundCut(examples, batch_size, shard_size))
        for start, stop in shard_bounds(taken, shards)
    ]
    smallest, largest = min(sizes), max(sizes)
    return smallest // min(recipe.training.local_steps, smallest), -(-largest // recipe.training.local_steps)


def _rounds(recipe: Recipe, cut: RoundCut) -> set[tuple[int, int]]:
    """How many examples and shards the rounds of a run have from which nobody leaves.

    They follow from the recipe's seed, round by round; of a long run only the first `MOST_ROUNDS` are looked at.
    """
    options, workers = recipe.protocol.options, recipe.training.workers
    found, round, seed = set[tuple[int, int]](), 0, run_seed(recipe)
    for epoch in range(recipe.training.epochs):
        offset = 0
        while offset < cut.examples and round < MOST_ROUNDS:
            plan = cut.upcoming(epoch, offset, workers - options.spares_of(seed, round, workers))
            found.add((plan.examples, plan.shards))
            offset, round = offset + plan.examples, round + 1
    return found
