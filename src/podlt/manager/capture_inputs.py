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
from podlt.program.ir import Program
from podlt.program.line_sums import BATCH_NORM
from podlt.program.machine import machine_bytes
from podlt.program.memory import MemoryNeedError, check_memory, gib, most_lines, peak_bytes
from podlt.program.needs import least_lines
from podlt.program.pieces import piece_sizes
from podlt.protocol.plan import RoundCut, fragment_bounds
from podlt.recipe import Recipe, run_seed

MOST_ROUNDS = 20_000
"""How many rounds are looked at for the smallest fragment: a fraction of a second."""

FEW, MANY = 7, 32
"""On how many lines of the data a program is held against its module: a task's, within these bounds."""


def tried_lines(recipe: Recipe, train: Dataset) -> dict[str, torch.Tensor]:
    """Lines from all over the data, to hold a captured program against its module on."""
    workers = recipe.training.workers
    useful = workers - recipe.protocol.options.most_spares(workers)
    per_task = -(-recipe.training.block_lines // max(1, useful))
    count = min(max(FEW, min(MANY, per_task)), train.lines)
    return as_batch(train.read(np.linspace(0, train.lines - 1, count).astype(np.int64)))


def task_lines(recipe: Recipe, lines: int) -> int:
    """The most lines that are one batch of a task: of a round's largest fragment, or of a local step of it.

    Args:
        recipe: the plan; as many workers as it says.
        lines: of the training set.
    """
    training = recipe.training
    return batch_bounds(recipe, lines, training.block_lines, training.fragment_lines)[1]


def piece_lines(recipe: Recipe, lines: int) -> int:
    """The most lines that are executed at once. Arguments as `task_lines`."""
    return piece_sizes(task_lines(recipe, lines), recipe.training.micro_lines)[1]


def planned(captured: Captured, recipe: Recipe, lines: int) -> tuple[Program, list[str]]:
    """The program of a run, and what its user should know of it, a sentence each.

    Args:
        captured: the recipe's model.
        recipe: the plan; as many workers as it says.
        lines: of the training set.

    Raises:
        UsageError: the plan's tasks are too small for the model, or too large for this machine.
    """
    program = with_plan(captured.program, recipe)
    require_lines(program, recipe, lines)
    require_memory(program, recipe, lines)
    return program, [*captured.notices, *filter(None, [piece_notice(program)])]


def with_plan(program: Program, recipe: Recipe) -> Program:
    """A captured program with what the recipe says of how its tasks are executed."""
    training = recipe.training
    return replace(program, local_optimizer=training.local_optimizer, micro_lines=training.micro_lines)


def require_memory(program: Program, recipe: Recipe, lines: int, allowed: int = 0) -> None:
    """Refuses a plan whose tasks take more memory than this machine has.

    Args:
        program: the run's, with its plan.
        recipe: the plan; as many workers as it says.
        lines: of the training set.
        allowed: bytes that a task may take; 0 for what this machine has.

    Raises:
        UsageError: a task takes more; names the `micro_lines` that would do.
    """
    allowed = allowed or machine_bytes()
    piece = piece_lines(recipe, lines)
    try:
        check_memory(program, piece, allowed)
    except MemoryNeedError:
        needed = gib(peak_bytes(program, piece, is_summed=bool(program.micro_lines))[0])
        fits, least = most_lines(program, allowed), least_lines(program)[0]
        cure = f"set training.micro_lines = {fits}" if fits >= least else "take a smaller model, or a larger machine"
        raise UsageError(
            f"{piece} lines of this model take {needed}, and this machine has {gib(allowed)} for a task: {cure}"
        ) from None


def piece_notice(program: Program) -> str:
    """What the user of `micro_lines` should know of the program; "" if there is nothing."""
    if not program.micro_lines or not any(n.operation == BATCH_NORM and n.arguments[5] is True for n in program.nodes):
        return ""
    return (
        f"training.micro_lines = {program.micro_lines}: BatchNorm takes its means and variances over a piece of at "
        "most so many lines, not over a task"
    )


def require_lines(program: Program, recipe: Recipe, lines: int) -> None:
    """Refuses a plan whose smallest fragment has fewer lines than the program can be run with.

    Args:
        program: the run's.
        recipe: the plan; as many workers as it says.
        lines: of the training set.

    Raises:
        UsageError: it has; names the block or fragment size that would do.
    """
    least, why = least_lines(program)
    training = recipe.training
    found = _smallest(recipe, lines, training.block_lines, training.fragment_lines)
    if found >= least:
        return
    name = "fragment_lines" if training.fragment_lines else "block_lines"
    asked = training.fragment_lines or training.block_lines
    fits = (n for n in range(asked + 1, lines + 1) if _smallest(recipe, lines, *_sizes(recipe, n)) >= least)
    cure = next((f"training.{name} = {n}" for n in fits), "fewer workers")
    if training.micro_lines and _smallest(_whole(recipe), lines, *_sizes(recipe, asked)) >= least:
        name, asked, cure = "micro_lines", training.micro_lines, f"training.micro_lines = {2 * least - 1}"
    raise UsageError(
        f"training.{name} = {asked}: the smallest fragment would have {found} of {lines} lines, and the model needs "
        f"{least}: {why}. Take {cure}, or a model without BatchNorm (GroupNorm, LayerNorm)"
    )


def _sizes(recipe: Recipe, size: int) -> tuple[int, int]:
    """Block and fragment size where the one that the recipe speaks of has this size."""
    if recipe.training.fragment_lines:
        return max(recipe.training.block_lines, size), size
    return size, 0


def _whole(recipe: Recipe) -> Recipe:
    """The recipe without pieces."""
    return msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, micro_lines=0))


def _smallest(recipe: Recipe, lines: int, block_lines: int, fragment_lines: int) -> int:
    """The lines of the smallest batch that is executed at once: a whole one, or a piece of it."""
    smallest = batch_bounds(recipe, lines, block_lines, fragment_lines)[0]
    return piece_sizes(smallest, recipe.training.micro_lines)[0]


def batch_bounds(recipe: Recipe, lines: int, block_lines: int, fragment_lines: int) -> tuple[int, int]:
    """The lines of the smallest and largest batch: of a round's fragments, or of a local step."""
    sizes = [
        stop - start
        for taken, fragments in _rounds(recipe, RoundCut(lines, block_lines, fragment_lines))
        for start, stop in fragment_bounds(taken, fragments)
    ]
    smallest, largest = min(sizes), max(sizes)
    return smallest // min(recipe.training.local_steps, smallest), -(-largest // recipe.training.local_steps)


def _rounds(recipe: Recipe, cut: RoundCut) -> set[tuple[int, int]]:
    """How many lines and fragments the rounds of a run have from which nobody leaves.

    They follow from the recipe's seed, round by round; of a long run only the first `MOST_ROUNDS` are looked at.
    """
    options, workers = recipe.protocol.options, recipe.training.workers
    found, round, seed = set[tuple[int, int]](), 0, run_seed(recipe)
    for epoch in range(recipe.training.epochs):
        offset = 0
        while offset < cut.lines and round < MOST_ROUNDS:
            plan = cut.upcoming(epoch, offset, workers - options.spares_of(seed, round, workers))
            found.add((plan.lines, plan.fragments))
            offset, round = offset + plan.lines, round + 1
    return found
