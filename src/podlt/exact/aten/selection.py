"""Selection and order under ATen's names. Definitions: `definition.selection`.

A result that is fixed by its definition may be computed by any algorithm: a stable order is unique, and so is the first
of equal maxima.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from podlt.errors import UsageError
from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.tensors import normal_dims
from podlt.exact.constants import NanError


def ordered(x: Tensor, operation: str) -> None:
    """Refuse what has no order.

    Raises:
        NanError: a value is a NaN. The message names `operation`.
    """
    if x.is_floating_point() and bool(torch.isnan(x).any()):
        raise NanError(operation)


def _at_least_one(x: Tensor, dims: Sequence[int], operation: str) -> None:
    if any(x.shape[d] == 0 for d in dims):
        raise UsageError(f"{operation}: expected at least one value in each line, got none")


def sort(
    b: Backend, x: Tensor, dim: int = -1, descending: bool = False, operation: str = "sort"
) -> tuple[Tensor, Tensor]:
    """As aten::sort; equal values (-0 and +0 are) keep the order in which they stood.

    Raises:
        NanError: a value is a NaN. The message names `operation`.
    """
    ordered(x, operation)
    return b.selection.sort(x, dim, descending)


def topk(
    b: Backend, x: Tensor, k: int, dim: int = -1, largest: bool = True, in_order: bool = True
) -> tuple[Tensor, Tensor]:
    """As aten::topk, always in order: the first `k` of `sort`.

    Raises:
        UsageError: a line holds fewer than `k` values.
        NanError: a value is a NaN.
    """
    values, index = sort(b, x, dim, largest, "topk")
    length = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= length:
        raise UsageError(f"topk: expected k from 0 to {length}, got {k}")
    if not x.ndim:
        return (values, index) if k else (values.new_empty(0), index.new_empty(0))
    return values.narrow(dim, 0, k).contiguous(), index.narrow(dim, 0, k).contiguous()


def _first(b: Backend, x: Tensor, dim: int, largest: bool, operation: str) -> Tensor:
    """The index of the first extreme of each line, `dim` kept with one place.

    Raises:
        UsageError: there is no value.
        NanError: a value is a NaN.
    """
    ordered(x, operation)
    if not x.ndim:
        return torch.zeros((), dtype=torch.int64, device=x.device)
    _at_least_one(x, [dim], operation)
    return b.selection.first(x, dim, largest)


def _argmax(b: Backend, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """As aten::argmax: the first of equal values, in row-major order where `dim` is None; raises as `_first` does."""
    if dim is None:
        return _first(b, x.reshape(-1), 0, True, "argmax").reshape([1] * x.ndim if keepdim else [])
    index = _first(b, x, dim, True, "argmax")
    return index if keepdim or not x.ndim else index.squeeze(dim)


def _extreme_along(
    largest: bool, operation: str, b: Backend, x: Tensor, dim: int, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """As aten::max.dim and aten::min.dim: the first extreme of each line, and its index; raises as `_first` does."""
    index = _first(b, x, dim, largest, operation)
    values = torch.gather(x, dim, index)
    return (values, index) if keepdim or not x.ndim else (values.squeeze(dim), index.squeeze(dim))


def _extreme(
    is_largest: bool, operation: str, b: Backend, x: Tensor, dims: int | Sequence[int] = (), keepdim: bool = False
) -> Tensor:
    """As aten::amax and aten::amin; -0 is below +0, and a NaN wins.

    Raises:
        UsageError: there is no value.
    """
    if not x.ndim:
        return x.clone()
    reduced = normal_dims([dims] if isinstance(dims, int) else dims, x.ndim)
    _at_least_one(x, reduced, operation)
    return b.selection.extreme(x, reduced, keepdim, is_largest)


largest = partial(_extreme, True, "amax")
least = partial(_extreme, False, "amin")

BY_BACKEND: Mapping[str, Operation] = {
    "amax.default": largest,
    "amin.default": least,
    "argmax.default": _argmax,
    "max.dim": partial(_extreme_along, True, "max"),
    "min.dim": partial(_extreme_along, False, "min"),
    "sort.default": sort,
    "topk.default": topk,
}
