"""The recipe of a call: what `podlt.train(model, dataset, ...)` trains, to be looked at and to be given again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from podlt.errors import UsageError
from podlt.manager.modules import given_name
from podlt.program.preparation import unwrapped
from podlt.recipe import Recipe, check
from podlt.recipe_faults import of_argument
from podlt.translation.datasets import data_table
from podlt.translation.losses import LossLike, translate_loss
from podlt.translation.optimizers import OptimizerLike, translate_optimizer

_SHORT = ("epochs", "workers", "batch_size", "seed")

ARGUMENTS = (*_SHORT, "loss", "optimizer", "test", "label", "test_fraction", "metrics", "cheats", "run", "callbacks")
"""What may have been meant by an argument of another name."""


def recipe_of(
    model: nn.Module,
    dataset: Any,
    *,
    loss: LossLike = "cross_entropy",
    optimizer: OptimizerLike = "adamw",
    epochs: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    test: Any = None,
    label: str | int | None = None,
    test_fraction: float | None = None,
    folder: Path | None = None,
    **tables: Any,
) -> Recipe:
    """The recipe of a training that a Python program describes by its objects.

    `podlt.train(recipe_of(model, dataset, ...), model=model)` is the run of `podlt.train(model, dataset, ...)`.

    Args:
        model: the module; its parameters are those that the run begins with.
        dataset: a path or a named set, a `DataSpec`, a frame (pandas, polars), tensors or arrays (a tuple of inputs and
            a label, or by name), a map-style data set, a `DatasetDict` with its splits, or a `DataLoader`, which is
            taken for its data set. Objects are written to files in podlt's cache once.
        loss: a name, a loss of `torch.nn`, or a callable `(model, *inputs, *labels)`.
        optimizer: a name, a table as a recipe has it, or SGD, Adam or AdamW of `torch.optim` with its groups.
        epochs: how often each example is trained on; 1 unless given.
        workers: how many; 50 unless given.
        batch_size: examples of a round, which is one step of the optimiser; 1000 unless given.
        seed: of the order of examples and of draws.
        test: the examples to test on, as `dataset`.
        label: the column or array to be predicted, where the data do not say so.
        test_fraction: the part of the examples that is held out to test on, where there is no `test`.
        folder: where objects are written; the cache unless given.
        tables: the recipe's other fields by their names: `data`, `training`, `protocol` and `evaluation` as mappings,
            `arithmetic`, `digits`.

    Raises:
        UsageError: a part cannot be used; says which, and why.
        DataError: an item of the data has another form than the first.
    """
    options = {"label": label, "test_fraction": test_fraction}
    options = {name: value for name, value in options.items() if value is not None}
    short = dict(zip(_SHORT, (epochs, workers, batch_size, seed), strict=True))
    module = unwrapped(model)
    document = {
        **tables,
        "data": data_table(dataset, test, {**tables.get("data", {}), **options}, folder),
        "model": {"name": given_name(type(module).__name__)},
        "loss": {"name": translate_loss(loss).name},
        "optimizer": translate_optimizer(optimizer, module),
        "training": {
            **_builtins(tables.get("training", {})),
            **{name: value for name, value in short.items() if value is not None},
        },
    }
    try:
        recipe = msgspec.convert(_builtins(document), Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(of_argument(str(error), Recipe, ARGUMENTS)) from None
    check(recipe)
    return recipe


def _builtins(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError as error:
        raise UsageError(f"recipe: {error}") from None
