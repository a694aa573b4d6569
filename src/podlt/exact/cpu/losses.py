"""The likelihood of one class a line, by the loops of `kernels.losses`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import losses
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor


def picked(x: Tensor, target: Tensor, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """`Likelihoods.picked`, in one pass that writes nothing but the sum and the count."""
    (m, n), out = x.shape, torch.empty(2)
    if target.shape != (m,):
        raise ValueError(f"{operation}: expected {m} classes, got {tuple(target.shape)}")
    values, classes, place = x.contiguous(), target.contiguous(), address(out)
    found = losses.picked_at(
        address(values), address(classes, torch.int64), m, n, ignore, sum_bits(m), place, place + 4
    )
    _check(found, n, operation)
    return out[0], out[1]


def spread(values: Tensor, target: Tensor, shape: Sequence[int], ignore: int, operation: str) -> Tensor:
    """`Likelihoods.spread`, in one pass."""
    (m, n), out = shape, torch.empty(tuple(shape))
    each = values.numel() != 1 or m == 1
    if target.shape != (m,) or values.numel() not in (1, m):
        raise ValueError(f"{operation}: expected {m} classes, got {tuple(target.shape)}")
    given, classes = values.contiguous(), target.contiguous()
    found = losses.spread_at(address(given), each, address(classes, torch.int64), m, n, ignore, address(out))
    _check(found, n, operation)
    return out


def _check(found: int, classes: int, operation: str) -> None:
    if found == losses.NOT_FINITE:
        raise NonFiniteError(operation)
    if found == losses.OUTSIDE:
        raise IndexError(f"{operation}: expected classes below {classes}, got another")
