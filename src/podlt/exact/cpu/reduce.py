"""Exact sums over any dimensions of a tensor: the order of the terms cannot change a bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from podlt.exact.aten.tensors import normal_dims
from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import sums
from podlt.exact.cpu.scratch import address


def total(x: torch.Tensor, dims: Sequence[int] | None, keepdim: bool, operation: str = "sum") -> torch.Tensor:
    """`Sums.total`."""
    plan = _plan(x.shape, None if dims is None else tuple(dims), keepdim)
    if not x.numel():
        return torch.zeros(plan.shape)
    out = torch.empty(plan.shape)
    values = (x if plan.order is None else x.permute(plan.order)).contiguous()
    if not sums.sum_at(address(values), plan.columns, *plan.blocks, plan.bits, address(out)):
        raise NonFiniteError(operation)
    return out


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a sum is done.

    Args:
        shape: of the result.
        order: of the dimensions before it is done, None as they are.
        columns: whether the middle of three `blocks` of dimensions is summed, and not the outer two.
        bits: of a term.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...] | None
    columns: bool
    blocks: tuple[int, int, int]
    bits: int


@lru_cache(maxsize=512)
def _plan(shape: tuple[int, ...], dims: tuple[int, ...] | None, keepdim: bool) -> _Plan:
    """Choose the loop by where the reduced dimensions lie: together, or leading and trailing around kept ones."""
    ndim = len(shape)
    reduced = normal_dims(dims, ndim)
    remaining = [d for d in range(ndim) if d not in reduced]
    result = (
        tuple(1 if d in reduced else n for d, n in enumerate(shape)) if keepdim else tuple(shape[d] for d in remaining)
    )
    n = math.prod(shape[d] for d in reduced)
    order, columns = None, False
    if not remaining or remaining == list(range(remaining[0], remaining[-1] + 1)):
        first, last = (remaining[0], remaining[-1]) if remaining else (ndim, ndim - 1)
        blocks = _around(shape, first, last)
        if not remaining:
            blocks = (1, 1, n)
        elif blocks[2] == 1 and blocks[1] > 1:
            columns, blocks = True, (1, blocks[0], blocks[1])
    elif reduced == list(range(reduced[0], reduced[-1] + 1)):
        columns, blocks = True, _around(shape, reduced[0], reduced[-1])
    else:
        order, blocks = (*remaining, *reduced), (1, math.prod(shape[d] for d in remaining), n)
    return _Plan(result, order, columns, blocks, sum_bits(n))


def cumulative(x: torch.Tensor, dim: int) -> torch.Tensor:
    """`Sums.cumulative`."""
    out = torch.empty(x.shape)
    if x.numel():
        dim = dim % x.ndim if x.ndim else 0
        shape = _around(x.shape, dim, dim)
        values = x.detach().contiguous().numpy().reshape(shape)
        if not sums.sum_prefixes(values, sum_bits(shape[1]), out.numpy().reshape(shape)):
            raise NonFiniteError("cumsum")
    return out


def scatter_rows(
    base: torch.Tensor | None,
    index: torch.Tensor,
    x: torch.Tensor,
    rows: int,
    operation: str,
    terms: int | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """`Sums.scatter_rows`.

    Args:
        terms: the bound on their number where it is another than that of the indices.
        out: float32 (rows, width), contiguous: takes the result, and is returned.
    """
    width = x.shape[-1] if base is None else base.shape[1]
    places, values = index.contiguous(), x.contiguous()
    out = torch.empty((rows, width)) if out is None else out
    start = None if base is None else base.contiguous()
    n = places.numel()
    bits = sum_bits((n if terms is None else terms) + 1)
    at = 0 if start is None else address(start), address(places, torch.int64), n, address(values), rows, width, bits
    found = sums.scatter_rows(*at, address(out))
    if found == sums.NOT_FINITE:
        raise NonFiniteError(operation)
    if found == sums.OUTSIDE:
        raise IndexError(f"{operation}: expected indices below {rows}, got {int(places.max())}")
    return out


def _around(shape: Sequence[int], first: int, last: int) -> tuple[int, int, int]:
    """The sizes before, in and after the dimensions `first` to `last`."""
    return math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])
