"""Order and extremes of floats by whole numbers that order like them.

Which of two equal values a device's maximum or sort takes, and whether it tells -0 from +0, is left open by torch; of
whole numbers nothing is.
"""

from __future__ import annotations

import math

import torch

from podlt.exact.aten.tensors import order_keys
from podlt.exact.portable.bits import Tensor, from_order_keys


def _keys(x: Tensor) -> Tensor:
    """Whole numbers that order as the values of `x` do; -0 and +0 are equal."""
    if not x.is_floating_point():
        return x.to(torch.int32) if x.dtype == torch.bool else x
    return order_keys(x + 0.0)


def sort(x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    """`Selection.sort`."""
    index = torch.sort(_keys(x), dim=dim, descending=descending, stable=True)[1]
    return (torch.gather(x, dim, index) if x.ndim else x.clone()), index.contiguous()


def first(x: Tensor, dim: int, largest: bool) -> Tensor:
    """`Selection.first`."""
    keys, n = _keys(x), x.shape[dim]
    best = keys.amax(dim, True) if largest else keys.amin(dim, True)
    places = torch.arange(n, device=x.device).reshape([n if d == dim % x.ndim else 1 for d in range(x.ndim)])
    return torch.where(keys == best, places, n).amin(dim, True)


def extreme(x: Tensor, dims: list[int], keepdim: bool, largest: bool) -> Tensor:
    """`Selection.extreme`."""
    of = torch.amax if largest else torch.amin
    if not x.is_floating_point():
        return of(x, dims, keepdim)
    found = from_order_keys(of(order_keys(x), dims, keepdim))
    nan = torch.where(torch.isnan(x), 1, 0).amax(dims, keepdim) == 1
    return torch.where(nan, math.nan, found)


def check_places(index: Tensor, size: int, operation: str, least: int = 0) -> None:
    """`Selection.check_places`: on CUDA an index beyond its tensor is an assertion that ends the process."""
    if index.numel() and (int(index.min()) < least or int(index.max()) >= size):
        raise IndexError(f"{operation}: expected indices from {least} to {size - 1}, got others")
