"""Selection, order and placement under ATen's names. Definitions: `definition_selection`.

Floats are ordered by whole numbers that order like them: which of two equal values a device's maximum or sort takes,
and whether it tells -0 from +0, is left open by torch; of whole numbers nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from podlt.errors import UsageError
from podlt.exact.constants import NanError, NonFiniteError
from podlt.exact.portable import reduce
from podlt.exact.portable.bits import Tensor, from_order_keys, order_keys
from podlt.exact.portable.elementary import exp, log
from podlt.exact.portable.elementwise import Operation, Scalar
from podlt.exact.portable.structure import check_places
from podlt.exact.quotients import cumprod

Extreme = Callable[..., Tensor]


def _ordered(x: Tensor, operation: str) -> Tensor:
    """Whole numbers that order as the values of `x` do; -0 and +0 are equal.

    Raises:
        NanError: a value is a NaN.
    """
    if not x.is_floating_point():
        return x.to(torch.int32) if x.dtype == torch.bool else x
    if bool(torch.isnan(x).any()):
        raise NanError(operation)
    return order_keys(x + 0.0)


def _at_least_one(x: Tensor, dims: Sequence[int], operation: str) -> None:
    if any(x.shape[d] == 0 for d in dims):
        raise UsageError(f"{operation}: expected at least one value in each line, got none")


def sort(x: Tensor, dim: int = -1, descending: bool = False, operation: str = "sort") -> tuple[Tensor, Tensor]:
    """As aten::sort; equal values (-0 and +0 are) keep the order in which they stood.

    Raises:
        NanError: a value is a NaN. The message names `operation`.
    """
    index = torch.sort(_ordered(x, operation), dim=dim, descending=descending, stable=True)[1]
    return (torch.gather(x, dim, index) if x.ndim else x.clone()), index.contiguous()


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
        return _first(x.reshape(-1), 0, torch.amax, "argmax").reshape([1] * x.ndim if keepdim else [])
    index = _first(x, dim, torch.amax, "argmax")
    return index if keepdim or not x.ndim else index.squeeze(dim)


def maximum_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """As aten::max.dim: the first of the largest values of each line, and where it stands; raises as `argmax` does."""
    return _value_and_place(x, dim, keepdim, torch.amax, "max")


def minimum_along(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """As aten::min.dim: the first of the smallest values of each line, and where it stands; raises as `argmax` does."""
    return _value_and_place(x, dim, keepdim, torch.amin, "min")


def _value_and_place(x: Tensor, dim: int, keepdim: bool, of: Extreme, operation: str) -> tuple[Tensor, Tensor]:
    index = _first(x, dim, of, operation)
    values = torch.gather(x, dim, index)
    return (values, index) if keepdim or not x.ndim else (values.squeeze(dim), index.squeeze(dim))


def _first(x: Tensor, dim: int, of: Extreme, operation: str) -> Tensor:
    """The index of the first extreme of each line, `dim` kept with one place."""
    keys = _ordered(x, operation)
    if not x.ndim:
        return torch.zeros((), dtype=torch.int64, device=x.device)
    _at_least_one(x, [dim], operation)
    n = x.shape[dim]
    places = torch.arange(n, device=x.device).reshape([n if d == dim % x.ndim else 1 for d in range(x.ndim)])
    return torch.where(keys == of(keys, dim, True), places, n).amin(dim, True)


def largest(x: Tensor, dims: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """As aten::amax; -0 is below +0, and a NaN wins."""
    return _extreme(x, dims, keepdim, torch.amax, "amax")


def least(x: Tensor, dims: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """As aten::amin; -0 is below +0, and a NaN wins."""
    return _extreme(x, dims, keepdim, torch.amin, "amin")


def _extreme(x: Tensor, dims: int | Sequence[int], keepdim: bool, of: Extreme, operation: str) -> Tensor:
    if not x.ndim:
        return x.clone()
    reduced = reduce.normal_dims([dims] if isinstance(dims, int) else list(dims), x.ndim)
    _at_least_one(x, reduced, operation)
    if not x.is_floating_point():
        return of(x, reduced, keepdim)
    found = from_order_keys(of(order_keys(x), reduced, keepdim))
    nan = torch.where(torch.isnan(x), 1, 0).amax(reduced, keepdim) == 1
    return torch.where(nan, math.nan, found)


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
    if bool(torch.isnan(x).any()):
        raise NanError("logsumexp")
    if bool((x == math.inf).any()):
        raise NonFiniteError("logsumexp")
    reduced = reduce.normal_dims([dims] if isinstance(dims, int) else list(dims), x.ndim)
    if x.ndim and any(x.shape[d] == 0 for d in reduced):
        return torch.full_like(reduce.total(x, reduced, keepdim), -math.inf)
    top = largest(x, reduced, True)
    shifted = x - torch.where(top == -math.inf, 0.0, top)
    total = reduce.total(exp(shifted), reduced, keepdim, "logsumexp")
    return log(total) + top.reshape(total.shape)


def scatter(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """As aten::scatter.src.

    Raises:
        UsageError: a place is named twice: the result would depend on order. IndexError: one lies outside.
    """
    check_places(index, x.shape[dim] if x.ndim else 1, "scatter")
    places = torch.arange(x.numel(), device=x.device).reshape(x.shape).gather(dim, index)
    if len(torch.unique(places)) != places.numel():
        raise UsageError("scatter: expected different places, got one twice: the result would depend on order")
    return torch.scatter(x, dim, index, source)


def counting(device: torch.device) -> Operation:
    """As aten::arange.start_step, on `device`; floats are start + i * step in binary64, each operation rounded."""

    def run(
        start: Scalar, end: Scalar, step: Scalar = 1, *, dtype: torch.dtype | None = None, **layout: object
    ) -> Tensor:
        at = layout.get("device") or device
        assert isinstance(at, torch.device)
        whole = all(isinstance(value, int) for value in (start, end, step))
        if dtype not in (None, torch.float32) or (dtype is None and whole):
            return torch.arange(start, end, step, dtype=dtype, device=at)
        count = torch.arange(start, end, step, device="meta").numel()
        steps = torch.arange(count, device=at).double() * float(step)
        return (steps + float(start)).float()

    return run


def selection(device: torch.device) -> dict[str, Operation]:
    """Every operation that selects or orders, by its ATen name; counts are made on `device`."""
    count = counting(device)
    return {
        "arange.default": lambda end, **options: count(0, end, **options),
        "arange.start": count,
        "arange.start_step": count,
        "amax.default": largest,
        "amin.default": least,
        "argmax.default": argmax,
        "max.dim": maximum_along,
        "min.dim": minimum_along,
        "sort.default": sort,
        "topk.default": topk,
        "prod.default": product,
        "cumprod.default": cumprod,
        "logsumexp.default": log_sum_exp,
        "scatter.src": scatter,
    }
