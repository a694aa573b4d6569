"""What a run is trained with: its data, the user's model and loss, the optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from podlt.data.describe import precision_warnings
from podlt.data.prepare import Prepared
from podlt.errors import NotCheckedError, UsageError
from podlt.manager import events as ev
from podlt.manager.data_source import find_for_resume
from podlt.manager.directory import RunDirectory, Settings
from podlt.manager.metrics.given import FIELD, Metrics, MetricSet, choose_metrics, named_objects
from podlt.manager.modules import build_model, code_folder, find_loss, load_name
from podlt.manager.weights import recipe_optimizer
from podlt.program.optimizer import Optimizer
from podlt.program.preparation import unwrapped
from podlt.program.step import Loss
from podlt.recipe import Recipe


class RunInputs(msgspec.Struct, frozen=True):
    """Everything that a recipe names, loaded.

    Attributes:
        data: the training set, and the test set if there is one.
        settings: of the run, with where the data are now.
        model: the user's module.
        loss: a name, or the user's callable.
        optimizer: with a schedule that ends with the rounds.
        metrics: what is measured in addition to the loss.
    """

    data: Prepared
    settings: Settings
    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    metrics: MetricSet = MetricSet()


def load_inputs(
    directory: RunDirectory,
    recipe: Recipe,
    settings: Settings,
    *,
    model: nn.Module | None,
    loss: Loss | None,
    listener: ev.Listener,
    cache: Path | None,
    metrics: Metrics | None = None,
) -> RunInputs:
    """Prepares the data, and imports the user's code.

    Args:
        directory: of the run, which may not be made yet.
        recipe: names everything.
        settings: say where it was.
        model: the module itself, instead of what the recipe names.
        loss: the callable itself, instead of what the recipe names.
        listener: gets `Preparing`.
        cache: where prepared data are stored; the usual folder for None.
        metrics: the objects themselves, of those that the recipe names (`naming_metrics`).

    Raises:
        UsageError: the data, the model or the loss cannot be used; says where.
    """
    begun = directory.path.is_dir() and directory.has_entries()

    def progress(what: str, done: int, total: int | None) -> None:
        listener(ev.Preparing(what=what, done=done, total=total or 0))

    data, settings = find_for_resume(recipe, settings, directory.path, cache, progress, begun)
    if not begun and recipe.arithmetic == "exact":
        for sentence in precision_warnings(data.train, recipe.digits):
            warnings.warn(sentence, stacklevel=2)
    code = code_folder(settings, directory.path)

    def metric(name: str) -> Callable[..., Any]:
        try:
            return load_name(name, code, FIELD)
        except UsageError as error:
            if not begun:
                raise
            raise NotCheckedError(str(error)) from error  # a figure keeps no run from being resumed

    optimizer = recipe_optimizer(recipe, data.train.examples)
    module = unwrapped(model) if model is not None else build_model(recipe, data.train.info, code)
    optimizer.require_names([name for name, _ in module.named_parameters()])
    return RunInputs(
        data=data,
        settings=settings,
        model=module,
        loss=loss if loss is not None else find_loss(recipe, code),
        optimizer=optimizer,
        metrics=choose_metrics(recipe, metric, named_objects(metrics) if metrics is not None else None),
    )
