"""The loss of a batch as one number, whatever a user's loss gives: what is captured, and what figures are made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.program.ir import FieldSpec
from podlt.program.losses import NAMED, entry, scores

Loss = str | Callable[..., Any]
"""A name of `losses.NAMED`; a module of PyTorch's kind, called with output and labels; or a callable taking
(model, *inputs, *labels). What the last two give may be one value an example, their sum, or their mean."""


class SummedLoss:
    """The loss of a batch, summed over its examples.

    Args:
        loss: a name, a module or a callable.
        fields: inputs and labels, in the order in which a batch has them.
        mean: whether the loss is a mean over examples: its sum is that many times as much.

    Raises:
        UnsupportedError: there is no loss of this name.
    """

    def __init__(self, loss: Loss, fields: Sequence[FieldSpec], *, mean: bool = False) -> None:
        if isinstance(loss, str) and loss not in NAMED:
            raise UnsupportedError(f"no loss named {loss!r}: expected one of {', '.join(NAMED)}, or a callable")
        self._loss, self._fields, self._mean = loss, fields, mean

    def __call__(self, model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        """The sum.

        Raises:
            UnsupportedError: the loss gives no such thing.
        """
        inputs: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        for field, value in zip(self._fields, batch, strict=True):
            scaled = value if field.scale is None else value.to(torch.get_default_dtype()) * field.scale
            (inputs if field.role == "input" else labels).append(scaled)
        value = loss_value(self._loss, model, inputs, labels)
        if value.ndim:
            return value.sum()
        return value * batch[0].shape[0] if self._mean else value


def is_mean(loss: Loss, model: nn.Module, inputs: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> bool:
    """Whether a loss is a mean over examples: of examples that are there twice it is what it is of the examples."""
    once = loss_value(loss, model, inputs, labels)
    if isinstance(loss, str) or once.ndim:
        return False
    twice = loss_value(loss, model, *([torch.cat([value, value]) for value in group] for group in (inputs, labels)))
    return bool((twice - once).abs() < (twice - 2 * once).abs())


def _require_takes(
    loss: Callable[..., Any], model: nn.Module, inputs: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> None:
    """Refuses a callable that takes something else than a loss is called with, such as scores and labels.

    Raises:
        UnsupportedError: it does.
    """
    try:
        inspect.signature(loss).bind(model, *inputs, *labels)
    except TypeError as error:
        given = ", ".join(["model", *("input" for _ in inputs), *("label" for _ in labels)])
        raise UnsupportedError(f"the loss is called with ({given}), which it does not take: {error}") from None
    except ValueError:  # what is built in may have no signature
        return


def loss_value(
    loss: Loss, model: nn.Module, inputs: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> torch.Tensor:
    """What a loss says of some examples: one value an example, their sum or their mean.

    Raises:
        UnsupportedError: it gives something else.
    """
    if isinstance(loss, str):
        if len(labels) != 1:
            raise UnsupportedError(f"{loss} takes one label, got {len(labels)}: give a loss of your own, a callable")
        return NAMED[loss](scores(model(*inputs)), labels[0])
    if isinstance(loss, nn.Module):
        found = loss(scores(model(*inputs)), *labels)
    else:
        _require_takes(loss, model, inputs, labels)
        found = loss(model, *inputs, *labels)
    value = found if isinstance(found, torch.Tensor) else entry(found, "loss")
    examples = inputs[0].shape[0]
    if (
        not isinstance(value, torch.Tensor)
        or value.ndim > 1
        or (value.ndim == 1 and value.shape[0] not in (1, examples))
    ):
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(found).__name__
        raise UnsupportedError(
            f"the loss must be a tensor (or an output with one as its loss): one value an example, their sum or their "
            f"mean; got {got}"
        )
    return value if value.ndim == 0 or value.shape[0] == examples else value.sum()
