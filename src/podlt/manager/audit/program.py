"""Claim PROGRAM: the program that the run executed is the recipe's model and loss, captured again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podlt.data.dataset import Dataset
from podlt.errors import PodltError
from podlt.execution.task_executor import TaskExecutor, as_batch
from podlt.manager.audit.model import Rebuilt
from podlt.manager.capture_inputs import tried_examples, with_plan
from podlt.manager.weights import Weights
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.recipe import Recipe

ANOTHER = 0.05
"""From which relative difference of two updates of the same examples on they are not the same step rounded
otherwise."""

MOST_EXAMPLES = 64
"""How many examples are executed with both programs."""


def check_program(
    recipe: Recipe, program: Program, weights: Weights, train: Dataset | None, rebuilt: Rebuilt, remedy: str
) -> Finding:
    """Captures the recipe's model again, and compares.

    Another version of PyTorch may capture the same step as another program: then one that plainly computes something
    else fails, and one that does not was not checked.

    Args:
        recipe: the run's.
        program: what it executed.
        weights: hold the first parameters, as far as they are known.
        train: the training set, None if it is not here: what its fields are is no document's.
        rebuilt: the recipe's model.
        remedy: the command that would have built it.
    """
    planned = with_plan(program, recipe)
    if planned.digest != program.digest:
        why = "the recipe says another local_optimizer or micro_batch_size than the program that was executed"
        return Finding(Claim.PROGRAM, Outcome.FAILS, why=why)
    if rebuilt.module is None or rebuilt.loss is None:
        return _not_checked(rebuilt.why, remedy)
    if train is None:
        return _not_checked("the data, whose fields it takes, are not here", "")
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in train.fields]
    try:
        examples = tried_examples(recipe, train)
        again = capture(rebuilt.module, rebuilt.loss, fields, program.arithmetic, examples).program
        again = with_plan(again, recipe)
    except Exception as error:  # the model may be its author's code
        return _not_checked(f"the recipe's model could not be captured here: {error}", "")
    if again.digest == program.digest:
        return Finding(Claim.PROGRAM, Outcome.HOLDS, "captured again: the same bytes")
    if recipe.model.parameters:
        return _not_checked("the model was given as an object: the recipe's name is not what was captured", "")
    why = "capturing the recipe's model here gives another program"
    random = any(node.operation == "uniform" for node in again.nodes)  # draws may be numbered in another order
    distance = None if random else _distance(recipe, [program, again], weights, train)
    if distance is not None and not distance <= ANOTHER:
        what = f"{why}, and on the first parameters its update is another ({distance:.0%} of its size)"
        return Finding(Claim.PROGRAM, Outcome.FAILS, why=what)
    return _not_checked(why, f"use the versions of podlt and PyTorch ({recipe.torch or 'unknown'}) that began the run")


def _distance(recipe: Recipe, programs: Sequence[Program], weights: Weights, train: Dataset) -> float | None:
    """How far the updates of two programs are from each other, by the size of the larger; None if one has none."""
    examples = train.read(np.arange(min(MOST_EXAMPLES, recipe.training.batch_size, train.examples), dtype=np.int64))
    updates = []
    try:
        for program in programs:
            out = np.zeros(weights.update_layout.nbytes, np.uint8)
            execute = TaskExecutor(program, recipe.training.local_steps, recipe.training.local_lr)
            execute(weights.views, as_batch(examples), bytes(32), out)
            updates.append(out[: weights.update_layout.float_bytes].view(np.float32).astype(np.float64))
    except (PodltError, RuntimeError, IndexError, ValueError):
        return None
    size = max(float(np.linalg.norm(update)) for update in updates)
    return float(np.linalg.norm(updates[0] - updates[1])) / size if size else 0.0


def _not_checked(why: str, remedy: str) -> Finding:
    return Finding(Claim.PROGRAM, Outcome.NOT_CHECKED, why=why, remedy=remedy)
