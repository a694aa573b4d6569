"""Exact sums over dimensions, prefixes and scattered rows. Definition: `definition.exact_sum`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from podlt.exact.aten.tensors import normal_dims
from podlt.exact.constants import sum_bits
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, rounded, units


def total(x: Tensor, dims: Sequence[int] | None, keepdim: bool, operation: str = "sum") -> Tensor:
    """`Sums.total`."""
    reduced = normal_dims(dims, x.ndim)
    if not x.numel():
        shape = [1 if d in reduced else n for d, n in enumerate(x.shape) if keepdim or d not in reduced]
        return torch.zeros(shape, device=x.device)
    n = math.prod(x.shape[d] for d in reduced)
    e = exponents(magnitudes(x).amax(dim=reduced, keepdim=True), operation) - sum_bits(n)
    out = rounded(units(x.detach(), e).sum(dim=reduced, keepdim=True), e)
    return out if keepdim or not reduced else out.reshape([m for d, m in enumerate(x.shape) if d not in reduced])


def cumulative(x: Tensor, dim: int) -> Tensor:
    """`Sums.cumulative`."""
    if not x.numel():
        return torch.empty(x.shape, device=x.device)
    n = x.shape[dim] if x.ndim else 1
    e = exponents(magnitudes(x).amax(dim=dim, keepdim=True), "cumsum") - sum_bits(n)
    return rounded(units(x.detach(), e).cumsum(dim), e)


def scatter_rows(base: Tensor | None, index: Tensor, x: Tensor, rows: int, operation: str) -> Tensor:
    """`Sums.scatter_rows`: integers are added, so the order of a device's atomic additions is of no matter."""
    if len(index) and int(index.max()) >= rows:
        raise IndexError(f"{operation}: expected indices below {rows}, got {int(index.max())}")
    given = [t for t in (x, base) if t is not None and t.numel()]
    shape = (rows, x.shape[-1] if base is None else base.shape[1])
    if not given:
        return torch.zeros(shape, device=x.device)
    top = torch.stack([magnitudes(t).amax() for t in given]).amax()
    e = exponents(top, operation) - sum_bits(len(index) + 1)
    sums = torch.zeros((rows + 1, shape[1]), dtype=torch.int64, device=x.device)
    if base is not None:
        sums[:rows] = units(base, e)
    places = torch.where(index < 0, rows, index)  # one more row takes what is left out
    sums.index_add_(0, places, units(x.reshape(len(index), shape[1]), e))
    return rounded(sums[:rows], e)
