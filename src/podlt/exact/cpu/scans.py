"""Products in a written order, the first few of an order, and sums at places of lines: a loop each.

What the loops do not know stays with the compositions of `aten`, whose bits they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from podlt.exact.aten.backend import Operation
from podlt.exact.constants import Array, NanError, NonFiniteError, sum_bits
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import scans, scatter, selection, sums

Tensor = torch.Tensor

MOST_IN_ORDER = 256
"""From so many values of a line on a whole sort takes less than putting each in its place, in the worst order."""

_WHOLE = {torch.float32, torch.int64}


def _cumulative_product(otherwise: Operation, x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::cumprod."""
    if dtype not in (None, x.dtype) or x.dtype not in _WHOLE or not x.numel() or not x.ndim:
        return otherwise(x, dim, dtype=dtype)  # type: ignore[no-any-return]
    dim %= x.ndim
    out = torch.empty(x.shape, dtype=x.dtype)
    lines = math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1 :])
    scans.multiply_prefixes(_array(x).reshape(lines), out.numpy().reshape(lines))
    return out


def _product(otherwise: Operation, x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::prod."""
    if dtype not in (None, x.dtype) or x.dtype not in _WHOLE or x.numel() < 2:
        return otherwise(x, dtype=dtype)  # type: ignore[no-any-return]
    values = _array(x).reshape(-1)
    if len(values) > scans.STRIPE:
        levels = (-(-len(values) // scans.STRIPE) - 1).bit_length()
        rows = scratch.take("product", (levels + 1, scans.STRIPE), values.dtype.type)
        scans.multiply_stripes(values, rows)
        return torch.tensor(rows[levels, 0], dtype=x.dtype)
    work = torch.empty(1 << ((x.numel() - 1).bit_length() - 1), dtype=x.dtype)
    scans.multiply_halves(values, work.numpy())
    return work[0].clone()


def _topk(
    otherwise: Operation, x: Tensor, k: int, dim: int = -1, largest: bool = True, in_order: bool = True
) -> tuple[Tensor, Tensor]:
    """As aten::topk.

    Raises:
        NanError: a value is a NaN.
    """
    if x.dtype is not torch.float32 or not x.numel() or not x.ndim or not 0 < k <= min(x.shape[dim], MOST_IN_ORDER):
        return otherwise(x, k, dim, largest, in_order)  # type: ignore[no-any-return]
    last = dim % x.ndim == x.ndim - 1
    lines = x if last else x.movedim(dim, -1)
    shape = (*lines.shape[:-1], k)
    values, index = torch.empty(shape), torch.empty(shape, dtype=torch.int64)
    given = _array(lines).reshape(-1, lines.shape[-1])
    if not selection.top(given, largest, values.numpy().reshape(-1, k), index.numpy().reshape(-1, k)):
        raise NanError("topk")
    return (values, index) if last else (_back(values, dim), _back(index, dim))


def _scatter_add(otherwise: Operation, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """As aten::scatter_add.

    Raises:
        NonFiniteError: a value is not finite.
    """
    apart = {x.dtype, source.dtype} != {torch.float32} or not x.ndim or not index.numel() or not x.numel()
    if apart or any(n != own for d, (n, own) in enumerate(zip(index.shape, x.shape, strict=True)) if d != dim % x.ndim):
        return otherwise(x, dim, index, source)  # type: ignore[no-any-return]
    last = dim % x.ndim == x.ndim - 1
    added = source if source.shape == index.shape else source[tuple(slice(0, n) for n in index.shape)]
    base, places, values = (t if last else t.movedim(dim, -1) for t in (x, index, added))
    out = torch.empty(base.shape)
    start, at, terms = (_array(t).reshape(-1, t.shape[-1]) for t in (base, places, values))
    found = scatter.scatter_lines(start, at, terms, sum_bits(index.numel() + 1), out.numpy().reshape(start.shape))
    if found == sums.NOT_FINITE:
        raise NonFiniteError("scatter_add")
    if found == sums.OUTSIDE:
        return otherwise(x, dim, index, source)  # type: ignore[no-any-return]  # which says what is wrong
    return out if last else _back(out, dim)


def _array(x: Tensor) -> Array:
    """The values of a tensor, made contiguous where they are not."""
    values: Array = x.detach().contiguous().numpy()
    return values


def _back(x: Tensor, dim: int) -> Tensor:
    """The last dimension in its place."""
    return x.movedim(-1, dim).contiguous()


_FASTER: Mapping[str, Callable[..., Any]] = {
    "cumprod.default": _cumulative_product,
    "prod.default": _product,
    "topk.default": _topk,
    "scatter_add.default": _scatter_add,
}


def faster(base: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """These operations in one loop each, in place of those of a table."""
    return {name: partial(of, base[name]) for name, of in _FASTER.items()}
