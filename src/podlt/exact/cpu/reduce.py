"""Exact sums over any dimensions of a tensor: the order of the terms cannot change a bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from podlt.exact.aten.tensors import normal_dims
from podlt.exact.constants import Array, NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import sums
from podlt.exact.cpu.scratch import address

_nothing = np.empty((0, 0), np.float32)


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
    kept = [d for d in range(ndim) if d not in reduced]
    result = tuple(1 if d in reduced else n for d, n in enumerate(shape)) if keepdim else tuple(shape[d] for d in kept)
    n = math.prod(shape[d] for d in reduced)
    order, columns = None, False
    if not kept or kept == list(range(kept[0], kept[-1] + 1)):
        first, last = (kept[0], kept[-1]) if kept else (ndim, ndim - 1)
        blocks = _around(shape, first, last)
        if blocks[2] == 1 and blocks[1] > 1:
            columns, blocks = True, (1, blocks[0], blocks[1])
    elif reduced == list(range(reduced[0], reduced[-1] + 1)):
        columns, blocks = True, _around(shape, reduced[0], reduced[-1])
    else:
        order, blocks = (*kept, *reduced), (1, math.prod(shape[d] for d in kept), n)
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
    base: torch.Tensor | None, index: torch.Tensor, x: torch.Tensor, rows: int, operation: str
) -> torch.Tensor:
    """`Sums.scatter_rows`."""
    places: Array = index.detach().contiguous().numpy().reshape(-1)
    if len(places) and int(places.max()) >= rows:
        raise IndexError(f"{operation}: expected indices below {rows}, got {int(places.max())}")
    values = x.detach().contiguous().numpy().reshape(len(places), -1) if len(places) else _nothing
    out = torch.empty((rows, x.shape[-1] if base is None else base.shape[1]))
    start = _nothing if base is None else base.detach().contiguous().numpy()
    if not sums.scatter_rows(start, places, values, sum_bits(len(places) + 1), out.numpy()):
        raise NonFiniteError(operation)
    return out


def _around(shape: Sequence[int], first: int, last: int) -> tuple[int, int, int]:
    """The sizes before, in and after the dimensions `first` to `last`."""
    return math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])
