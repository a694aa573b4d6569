"""Everything that could fail after hours, tried before the first round: evaluation, what it decides, and the disk."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podlt.data.dataset import Dataset
from podlt.errors import UsageError
from podlt.manager.metrics.evaluation import BATCH_BYTES, Evaluation, evaluate_part, whole_bytes
from podlt.manager.metrics.evaluator import VALIDATION, Evaluator, called
from podlt.manager.metrics.given import MOST_BYTES
from podlt.manager.metrics.named import better_of
from podlt.recipe import Recipe, cut_of

FEW, MORE = 8, 512
"""On how many examples evaluation is tried; a metric that fails on few (all of one class) is tried on more."""

TIGHT = 0.8
"""The share of the free disk above which a run's history is worth a warning."""


def try_evaluation(evaluator: Evaluator, train: Dataset, recipe: Recipe) -> UsageError | None:
    """Evaluates a few examples of each part, with every metric, by a copy of the module.

    Args:
        evaluator: of the run.
        train: the training part.
        recipe: says which figures decide over something.

    Returns:
        What is wrong where module and loss fail on training examples too: capture says more of it, if it refuses them.

    Raises:
        UsageError: a part cannot be evaluated, or a metric cannot; or a figure that the recipe names is none.
    """
    if not evaluator.parts:
        _check_figures(recipe, set())
        return None
    try:
        module = copy.deepcopy(evaluator.module)
    except Exception as error:
        return UsageError(f"{type(evaluator.module).__name__} cannot be copied: {error}")
    figures: set[str] = set()
    with torch.random.fork_rng(devices=[]):
        for prefix, part in evaluator.parts:
            try:
                found = _tried(module, evaluator, part, prefix)
            except UsageError as error:
                if _fails(module, evaluator, train):
                    return error
                raise error
            _refuse_missing(found, prefix)
            figures |= {prefix + name for name in (*found.values, *found.missing)}
            needed = whole_bytes(module, part, evaluator.metrics.chosen or ())
            if needed > MOST_BYTES:
                names = ", ".join(metric.name for metric in evaluator.metrics.chosen or () if metric.whole)
                raise UsageError(
                    f"evaluation.metrics: {names} needs all outputs of the {called(prefix)} at once, "
                    f"{needed / 2**30:.1f} GiB (at most {MOST_BYTES / 2**30:.0f}): give a torchmetrics object, which "
                    "takes batches, or fewer examples (data.test_limit)"
                )
    _check_figures(recipe, figures)
    return None


def _tried(module: nn.Module, evaluator: Evaluator, part: Dataset, prefix: str) -> Evaluation:
    """What few examples give; more of them where few do not."""
    found, at_once = Evaluation({}, {}), min(FEW, evaluator.examples)
    for examples in (_spread, _varied):
        ids = examples(part)
        found = evaluate_part(module, evaluator.loss, part, evaluator.metrics, at_once, ids, called(prefix))
        if not found.missing or len(ids) == part.examples:
            break
    return found


def _spread(part: Dataset, count: int = FEW) -> npt.NDArray[np.int64]:
    """The numbers of examples from all over a part."""
    return np.unique(np.linspace(0, part.examples - 1, min(count, part.examples)).astype(np.int64))


def _varied(part: Dataset) -> npt.NDArray[np.int64]:
    """The numbers of more examples, one of each class among them: what is rare may be what a metric needs."""
    ids = _spread(part, MORE)
    label = next((field for field in part.fields if field.role == "label"), None)
    if label is None or label.shape or label.dtype == "f32":
        return ids
    looked = _spread(part, max(MORE, BATCH_BYTES // sum(field.row_bytes for field in part.fields)))
    _, first = np.unique(part.read(looked)[label.name], return_index=True)
    return np.union1d(ids, looked[first[:MORE]])


def _fails(module: nn.Module, evaluator: Evaluator, train: Dataset) -> bool:
    """Whether module and loss fail on examples that are trained on, too."""
    try:
        evaluate_part(module, evaluator.loss, train, evaluator.metrics, FEW, _spread(train, MORE))
    except UsageError:
        return True
    return False


def _refuse_missing(found: Evaluation, prefix: str) -> None:
    wrong = {name: why for name, why in found.missing.items() if not why.startswith("not defined")}
    if wrong:
        text = "; ".join(f"{prefix}{name}: {why}" for name, why in wrong.items())
        raise UsageError(f"evaluation.metrics, tried on a few examples of the {called(prefix)}: {text}")


def _check_figures(recipe: Recipe, figures: set[str]) -> None:
    """Refuses figures to stop or to choose by that will not be there."""
    evaluation = recipe.evaluation
    asked = {"keep_best": (evaluation.keep_best, evaluation.best_mode)}
    if evaluation.early_stopping is not None:
        asked["early_stopping.figure"] = (evaluation.early_stopping.figure, evaluation.early_stopping.mode)
    for field, (figure, mode) in asked.items():
        if figure and figure not in figures:
            known = f"there are {', '.join(sorted(figures))}" if figures else "there is no test or validation set"
            lacking = figure.startswith(VALIDATION) and not any(name.startswith(VALIDATION) for name in figures)
            held = ": hold a validation set out by data.validation_fraction" if lacking else ""
            raise UsageError(f"evaluation.{field} = {figure!r}: no such figure; {known}{held}")
        if figure and not mode and better_of(figure) is None:
            option = "best_mode" if field == "keep_best" else "early_stopping.mode"
            raise UsageError(f'evaluation.{field} = {figure!r}: say whether less is better: {option} = "min" or "max"')


def try_disk(
    path: Path, model: nn.Module, recipe: Recipe, examples: int, free: Callable[[Path], int] | None = None
) -> tuple[str, bool]:
    """Estimates what the files of a run's rounds take.

    Args:
        path: the run's directory, which need not be there.
        model: the module.
        recipe: says how many rounds, and what is kept of them.
        examples: of the training part.
        free: the bytes that are free at a path; as the system says unless given.

    Returns:
        A sentence for people, "" where it is not worth one, and whether it is a warning.

    Raises:
        UsageError: it does not fit, unless the run ends early.
    """
    needed = history_bytes(model, recipe, examples)
    place = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    has = free(place) if free is not None else shutil.disk_usage(place).free
    keeps = "every round's update" if recipe.training.history == "all" else "the updates since the last two checkpoints"
    text = f"the run's files will take about {_size(needed)} ({keeps}); {_size(has)} are free at {place}"
    cure = 'training.history = "last", fewer checkpoints (training.checkpoint_every), or another disk'
    if needed > has and recipe.evaluation.early_stopping is None:  # else it may end in time
        raise UsageError(f"{text}: {cure}")
    if needed > TIGHT * has:
        return f"{text}: {cure}", True
    return (text, False) if needed >= 2**30 else ("", False)


def history_bytes(model: nn.Module, recipe: Recipe, examples: int) -> int:
    """The bytes of the updates and checkpoints of a run from which nobody leaves; the log comes on top.

    Args:
        model: the module.
        recipe: as in `try_disk`.
        examples: of the training part.
    """
    training = recipe.training
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    state = sum(v.nbytes for v in (*model.parameters(), *model.buffers()))
    optimizer = trained * _MOMENTS.get(str(recipe.optimizer.get("name")), 0)
    options = recipe.protocol.options
    useful = training.workers - options.most_spares(training.workers)
    size = cut_of(recipe, examples).next_examples(0, useful)
    rounds = training.epochs * -(-examples // size)
    checkpoints = 1 + rounds // training.checkpoint_every
    if training.history == "last":
        rounds, checkpoints = min(rounds, 2 * training.checkpoint_every), min(checkpoints, 3)
    return trained * rounds + (state + optimizer) * checkpoints + state


_MOMENTS = {"adamw": 2, "adam": 2}
"""How many numbers an optimiser keeps for each parameter, at least."""


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
