"""The losses that a recipe can name: each a sum over lines, and over a line's positions a mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError


def cross_entropy(model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
    """Logits (n, classes) with labels (n,), or (n, positions, classes) with labels (n, positions)."""
    output, label = model(*batch[:-1]), batch[-1].long()
    if output.shape[-1] < 2:
        raise UnsupportedError('cross_entropy needs an output for each of two or more classes: use the loss "bce"')
    if output.ndim == 3:
        total = functional.cross_entropy(output.flatten(0, 1), label.flatten(), reduction="sum")
        return total / float(output.shape[1])
    return functional.cross_entropy(output, label, reduction="sum")


def mse(model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
    """Squared error; outputs and labels of the same number of elements a line."""
    output, label = _pair(model, batch)
    return functional.mse_loss(output, label, reduction="sum") / output.shape[1]


def bce(model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits; labels 0 or 1."""
    output, label = _pair(model, batch)
    return functional.binary_cross_entropy_with_logits(output, label, reduction="sum") / output.shape[1]


def _pair(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    output, label = model(*batch[:-1]), batch[-1]
    return output.reshape(output.shape[0], -1), label.reshape(label.shape[0], -1).to(output.dtype)


NAMED: dict[str, Callable[..., torch.Tensor]] = {"cross_entropy": cross_entropy, "mse": mse, "bce": bce}
