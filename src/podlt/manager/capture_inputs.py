"""What a run's own data and plan ask of its captured program, before the first round."""

from __future__ import annotations

import numpy as np
import torch

from podlt.data.dataset import Dataset
from podlt.errors import UsageError
from podlt.execution.task_executor import as_batch
from podlt.program.ir import Program
from podlt.program.needs import least_lines
from podlt.protocol.plan import fragment_bounds, next_lines
from podlt.recipe import Recipe

FEW, MANY = 7, 32
"""On how many lines of the data a program is held against its module: a task's, within these bounds."""


def tried_lines(recipe: Recipe, train: Dataset) -> dict[str, torch.Tensor]:
    """Lines from all over the data, to hold a captured program against its module on."""
    per_task = -(-recipe.training.block_lines // max(1, recipe.training.workers - recipe.protocol.spares))
    count = min(max(FEW, min(MANY, per_task)), train.lines)
    return as_batch(train.read(np.linspace(0, train.lines - 1, count).astype(np.int64)))


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
    raise UsageError(
        f"training.{name} = {asked}: the smallest fragment would have {found} of {lines} lines, and the model needs "
        f"{least}: {why}. Take {cure}, or a model without BatchNorm (GroupNorm, LayerNorm)"
    )


def _sizes(recipe: Recipe, size: int) -> tuple[int, int]:
    """Block and fragment size where the one that the recipe speaks of has this size."""
    if recipe.training.fragment_lines:
        return max(recipe.training.block_lines, size), size
    return size, 0


def _smallest(recipe: Recipe, lines: int, block_lines: int, fragment_lines: int) -> int:
    """The lines of the smallest batch: of a whole round's and of the last round's fragments, or of a local step."""
    useful = recipe.training.workers - recipe.protocol.spares
    whole = next_lines(lines, 0, block_lines, fragment_lines, useful)
    sizes = []
    for taken in {whole, lines % whole or whole}:
        sizes += [stop - start for start, stop in fragment_bounds(taken, min(useful, taken))]
    smallest = min(sizes)
    return smallest // min(recipe.training.local_steps, smallest)
