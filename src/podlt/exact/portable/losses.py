"""The likelihood of one class a line."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podlt.exact.portable.bits import Tensor
from podlt.exact.portable.reduce import total
from podlt.exact.portable.selection import check_places


def picked(x: Tensor, target: Tensor, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """`Likelihoods.picked`."""
    counted, safe = _counted(target, x.shape[1], ignore, operation)
    terms = torch.where(counted, -x.gather(1, safe.unsqueeze(1)).squeeze(1), 0.0)
    return total(terms, None, False, operation), counted.sum().float()


def spread(values: Tensor, target: Tensor, shape: Sequence[int], ignore: int, operation: str) -> Tensor:
    """`Likelihoods.spread`."""
    counted, safe = _counted(target, shape[1], ignore, operation)
    each = torch.where(counted, values.expand(target.shape), 0.0)
    zeros = torch.zeros(tuple(shape), device=values.device)
    return zeros.scatter(1, safe.unsqueeze(1), each.unsqueeze(1))


def _counted(target: Tensor, classes: int, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """Which targets count, and targets that are safe to look up."""
    counted = target != ignore
    safe = torch.where(counted, target, 0)
    check_places(safe, classes, operation)
    return counted, safe
