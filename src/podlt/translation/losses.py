"""A loss as a Python program has it: its name in a recipe, and the object where a name does not say all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.nn import functional

from podlt.errors import UsageError
from podlt.manager.modules import given_name
from podlt.program.losses import NAMED
from podlt.program.step import Loss
from podlt.recipe import Recipe

LossLike = str | nn.Module | Callable[..., Any]
"""A name of `podlt.program.losses.NAMED` or `module:callable`; a loss of `torch.nn`; a callable (model, *batch)."""


class TranslatedLoss(NamedTuple):
    """A loss in a recipe's words.

    Attributes:
        name: what the recipe names.
        given: the object, which the recipe does not have; None where its name says all.
    """

    name: str
    given: Loss | None


_MODULES: Mapping[type[nn.Module], tuple[str, Mapping[str, Any]]] = {
    nn.CrossEntropyLoss: ("cross_entropy", {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}),
    nn.NLLLoss: ("nll", {"weight": None, "ignore_index": -100}),
    nn.MSELoss: ("mse", {}),
    nn.L1Loss: ("l1", {}),
    nn.SmoothL1Loss: ("smooth_l1", {"beta": 1.0}),
    nn.HuberLoss: ("huber", {"delta": 1.0}),
    nn.BCEWithLogitsLoss: ("bce", {"weight": None, "pos_weight": None}),
}
"""PyTorch's losses -> the name of the same, and the options with which it is the same."""

_FUNCTIONS: Mapping[Callable[..., Any], str] = {
    functional.cross_entropy: "cross_entropy",
    functional.nll_loss: "nll",
    functional.mse_loss: "mse",
    functional.l1_loss: "l1",
    functional.smooth_l1_loss: "smooth_l1",
    functional.huber_loss: "huber",
    functional.binary_cross_entropy_with_logits: "bce",
}
"""The same as functions of scores and labels."""


def translate_loss(loss: LossLike) -> TranslatedLoss:
    """A loss in a recipe's words.

    A loss of `torch.nn` with its default options is the named one. With others it is captured as it is, by what it
    computes, or refused there: `label_smoothing`, `weight` and `ignore_index` mean what PyTorch means by them.

    Raises:
        UsageError: there is no such name, or a loss is a sum where a step is by the mean.
    """
    if isinstance(loss, str):
        if ":" not in loss and loss not in NAMED:
            raise UsageError(
                f"loss: expected one of {', '.join(NAMED)}, a loss of torch.nn or a callable, got {loss!r}"
            )
        return TranslatedLoss(loss, None)
    if isinstance(loss, nn.Module):
        return _module(loss)
    if not callable(loss):
        raise UsageError(f"loss: expected a name, a loss of torch.nn or a callable, got {type(loss).__name__}")
    name = importable_name(loss)
    if name is not None and name.startswith(f"{functional.__name__}:"):
        return TranslatedLoss(_function(loss), None)
    return TranslatedLoss(name, None) if name is not None else TranslatedLoss(given_name(_called(loss)), loss)


def loss_of_recipe(loss: LossLike | None, recipe: Recipe) -> Loss | None:
    """The object of the loss that a recipe names; None where its name says all.

    Raises:
        UsageError: it is another loss than the recipe's.
    """
    if loss is None:
        return None
    name, given = translate_loss(loss)
    if name != recipe.loss.name:
        raise UsageError(f"loss: the recipe names {recipe.loss.name!r}, and {name!r} was given")
    return given


def _module(loss: nn.Module) -> TranslatedLoss:
    kind = type(loss).__name__
    reduction = getattr(loss, "reduction", "mean")
    if reduction == "sum":
        raise UsageError(
            f'loss: {kind}(reduction="sum"): a step is by the mean over the examples of a round, whoever computed '
            'them: take reduction="mean", and a learning rate as many times as large as there are examples in a round'
        )
    name, options = _MODULES.get(type(loss), ("", {}))
    if name and reduction == "mean" and all(getattr(loss, key) == value for key, value in options.items()):
        return TranslatedLoss(name, None)
    return TranslatedLoss(given_name(kind), loss)


def _function(loss: Callable[..., Any]) -> str:
    """The name of what a function of `torch.nn.functional` computes, which takes scores and not the model."""
    if loss not in _FUNCTIONS:
        raise UsageError(
            f"loss: functional.{loss.__name__} takes scores and labels: give the loss of torch.nn, or a callable "
            "taking (model, *inputs, *labels)"
        )
    return _FUNCTIONS[loss]


def importable_name(found: Callable[..., Any]) -> str | None:
    """`module:callable` by which any process finds a function again; None for lambdas, closures and scripts' own."""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or module not in sys.modules:
        return None
    value: Any = sys.modules[module]
    for part in name.split("."):
        value = getattr(value, part, None)
    return f"{module}:{name}" if value is found else None


def _called(found: Callable[..., Any]) -> str:
    return str(getattr(found, "__name__", type(found).__name__))
