"""Selection, order and placement under ATen's names. Definitions: `definition_selection`.

A result that is fixed by its definition may be computed by any algorithm: a stable order is unique, and so is the first
of equal maxima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from podlt.errors import UsageError
from podlt.exact.constants import Array, NanError, NonFiniteError
from podlt.exact.cpu import reduce
from podlt.exact.cpu.kernels import elementary

Tensor = torch.Tensor
_MAGNITUDE = 0x7FFFFFFF


def ordered(x: Tensor, operation: str) -> None:
    """Refuse what has no order.

    Raises:
        NanError: a value is a NaN.
    """
    if x.is_floating_point() and bool(torch.isnan(x).any()):
        raise NanError(operation)


def sort(x: Tensor, dim: int = -1, descending: bool = False, operation: str = "sort") -> tuple[Tensor, Tensor]:
    """As aten::sort; equal values (-0 and +0 are) keep the order in which they stood.

    Raises:
        NanError: a value is a NaN. The message names `operation`.
    """
    ordered(x, operation)
    values, index = torch.sort(x, dim=dim, descending=descending, stable=True)
    return values.contiguous(), index.contiguous()


def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, in_order: bool = True) -> tuple[Tensor, Tensor]:
    """As aten::topk, always in order: the first `k` of `sort`.

    Raises:
        UsageError: a line holds fewer than `k` values. NanError: a value is a NaN.
    """
    values, index = sort(x, dim, largest, "topk")
    length = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= length:
        raise UsageError(f"topk: expected k from 0 to {length}, got {k}")
    if not x.ndim:
        return (values, index) if k else (values.new_empty(0), index.new_empty(0))
    return values.narrow(dim, 0, k).contiguous(), index.narrow(dim, 0, k).contiguous()


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """As aten::argmax: the first of equal values, in row-major order where `dim` is None.

    Raises:
        UsageError: there is no value. NanError: one is a NaN.
    """
    if dim is None:
        return _first(x.reshape(-1), 0, np.argmax, "argmax").reshape([1] * x.ndim if keepdim else [])
    index = _first(x, dim, np.argmax, "argmax")
    return index if keepdim or not x.ndim else index.squeeze(dim)


def maximum_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """As aten::max.dim: the first of the largest values of each line, and where it stands; raises as `argmax` does."""
    return _value_and_place(x, dim, keepdim, np.argmax, "max")


def minimum_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """As aten::min.dim: the first of the smallest values of each line, and where it stands; raises as `argmax` does."""
    return _value_and_place(x, dim, keepdim, np.argmin, "min")


def largest(x: Tensor, dims: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """As aten::amax; -0 is below +0, and a NaN wins."""
    return _extremum(x, dims, keepdim, torch.amax, "amax")


def least(x: Tensor, dims: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """As aten::amin; -0 is below +0, and a NaN wins."""
    return _extremum(x, dims, keepdim, torch.amin, "amin")


def product(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::prod: ones up to a power of two, then the first half times the second half until one value is left."""
    kind = dtype or (x.dtype if x.is_floating_point() else torch.int64)
    values = x.to(kind).reshape(-1)
    size = 1 << max(values.numel() - 1, 0).bit_length()
    values = torch.cat([values, values.new_ones(size - values.numel())])
    while values.numel() > 1:
        half = values.numel() // 2
        values = values[:half] * values[half:]
    return values.reshape(())


def log_sum_exp(x: Tensor, dims: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """As aten::logsumexp; -inf where there is nothing but -inf, or nothing.

    Raises:
        NonFiniteError: a value is +inf. NanError: one is a NaN.
    """
    ordered(x, "logsumexp")
    if bool((x == math.inf).any()):
        raise NonFiniteError("logsumexp")
    given = [dims] if isinstance(dims, int) else list(dims)
    reduced = reduce.normal_dims(given, x.ndim)
    if x.ndim and any(x.shape[d] == 0 for d in reduced):
        return torch.full_like(reduce.total(x, reduced, keepdim), -math.inf)
    top = torch.amax(x, reduced, True) if x.ndim else x
    shifted = x - torch.where(top == -math.inf, 0.0, top)
    total = reduce.total(_elementary(elementary.EXP, shifted), reduced, keepdim, "logsumexp")
    return _elementary(elementary.LOG, total) + top.reshape(total.shape)


def scatter(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """As aten::scatter.src.

    Raises:
        UsageError: a place is named twice: the result would depend on order.
    """
    places = torch.arange(x.numel()).reshape(x.shape).gather(dim, index)
    if len(np.unique(places.numpy())) != places.numel():
        raise UsageError("scatter: expected different places, got one twice: the result would depend on order")
    return torch.scatter(x, dim, index, source)


def _elementary(which: int, x: Tensor) -> Tensor:
    out = torch.empty(x.shape)
    elementary.unary(which, x.contiguous().numpy().reshape(-1), out.numpy().reshape(-1))
    return out


def _first(x: Tensor, dim: int, where: Callable[..., Array], operation: str) -> Tensor:
    """The index of the first extreme of each line, `dim` kept with one place."""
    ordered(x, operation)
    if x.ndim and x.shape[dim] == 0:
        raise UsageError(f"{operation}: expected at least one value in each line, got none")
    if not x.ndim:
        return torch.zeros((), dtype=torch.int64)
    return torch.from_numpy(np.ascontiguousarray(where(x.detach().numpy(), axis=dim, keepdims=True)))


def _value_and_place(
    x: Tensor, dim: int, keepdim: bool, where: Callable[..., Array], operation: str
) -> tuple[Tensor, Tensor]:
    index = _first(x, dim, where, operation)
    values = torch.gather(x, dim, index)
    return (values, index) if keepdim or not x.ndim else (values.squeeze(dim), index.squeeze(dim))


def _extremum(x: Tensor, dims: int | Sequence[int], keepdim: bool, of: Callable[..., Tensor], operation: str) -> Tensor:
    """torch's own extreme, whose only freedom is the sign of a zero: where one comes out, signed zeros are ordered."""
    if not x.ndim:
        return x.clone()
    reduced = reduce.normal_dims([dims] if isinstance(dims, int) else list(dims), x.ndim)
    if any(x.shape[d] == 0 for d in reduced):
        raise UsageError(f"{operation}: expected at least one value in each line, got none")
    found = of(x, reduced, keepdim)
    if not x.is_floating_point() or not bool((found == 0).any()):
        return found
    keys = of(_order_keys(x), reduced, keepdim)
    zeros = torch.where(keys < 0, -0.0, 0.0)
    return torch.where(found == 0, zeros, found)


def _order_keys(x: Tensor) -> Tensor:
    """Int32 in the order of the float32 values, -0 below +0: negative for negative values and -0."""
    bits = x.detach().contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & _MAGNITUDE)
