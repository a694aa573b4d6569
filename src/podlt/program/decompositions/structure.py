"""Views, diagonals and windows by indices, which are looked at before anything is read; and norms without statistics.

Programs know no strides: a value is row-major. `as_strided` is read by the strides that PyTorch says the value has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch

from podlt.errors import UnsupportedError

aten = torch.ops.aten
Tensor = torch.Tensor
Sizes = Sequence[int]


def _in_memory(x: Tensor) -> tuple[list[int], Tensor]:
    """The order of dimensions in which a value lies in memory without gaps, and the value in that order, flat.

    Raises:
        UnsupportedError: it has gaps, or overlaps.
    """
    order = sorted(range(x.ndim), key=lambda d: (x.stride(d), x.shape[d] != 1), reverse=True)
    expected = 1
    for d in reversed(order):
        if x.shape[d] != 1 and x.stride(d) != expected:
            raise UnsupportedError("as_strided of a tensor that is no whole: call contiguous() first")
        expected *= x.shape[d]
    return order, x.permute(order).reshape(-1)


def _covering(size: Sizes, stride: Sizes, offset: int, count: int) -> list[int] | None:
    """The order of dimensions in which a view covers the whole memory, or None where it does not."""
    order = sorted(range(len(size)), key=lambda d: (stride[d], size[d] != 1), reverse=True)
    expected = 1
    for d in reversed(order):
        if size[d] != 1 and stride[d] != expected:
            return None
        expected *= size[d]
    return order if offset == 0 and expected == count else None


def _inverse(order: Sequence[int]) -> list[int]:
    return [list(order).index(d) for d in range(len(order))]


def _places(size: Sizes, stride: Sizes, offset: int) -> Tensor:
    """The place in memory of each element."""
    places = torch.full([1] * len(size), offset, dtype=torch.int64)
    for d, (n, step) in enumerate(zip(size, stride, strict=True)):
        shape = [1] * len(size)
        shape[d] = n
        places = places + (torch.arange(n) * step).reshape(shape)
    return places.expand(list(size))


def _as_strided(x: Tensor, size: Sizes, stride: Sizes, storage_offset: int | None = None) -> Tensor:
    """A permuted view where it is one, and else a gather."""
    _, flat = _in_memory(x)
    offset = int(storage_offset or 0)
    order = _covering(size, stride, offset, x.numel())
    if order is None:
        return aten.index.Tensor(flat, [_places(size, stride, offset)])  # type: ignore[no-any-return]
    return flat.reshape([size[d] for d in order]).permute(_inverse(order))


def _as_strided_scatter(
    x: Tensor, source: Tensor, size: Sizes, stride: Sizes, storage_offset: int | None = None
) -> Tensor:
    """A value with another in the place of a view."""
    lying, flat = _in_memory(x)
    offset = int(storage_offset or 0)
    order = _covering(size, stride, offset, x.numel())
    if order is None:
        flat = aten.index_put.default(flat, [_places(size, stride, offset)], source)
    else:
        flat = source.permute(order).reshape(-1)
    return flat.reshape([x.shape[d] for d in lying]).permute(_inverse(lying))


def _unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Windows along a dimension, their cells last."""
    if not x.ndim:
        return x.expand(1)
    dim %= x.ndim
    count = (x.shape[dim] - size) // step + 1
    places = (torch.arange(count) * step).unsqueeze(1) + torch.arange(size)
    return aten.index.Tensor(x.movedim(dim, -1), [None] * (x.ndim - 1) + [places]).movedim(-2, dim)  # type: ignore[no-any-return]


def _along_diagonal(x: Tensor, offset: int, dim1: int, dim2: int) -> tuple[Tensor, Tensor, Tensor]:
    """The value with both dimensions last, and the places of the diagonal along them."""
    moved = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2:]
    length = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    line = torch.arange(length)
    return moved, line - min(offset, 0), line + max(offset, 0)


def _diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    moved, rows, columns = _along_diagonal(x, offset, dim1, dim2)
    return aten.index.Tensor(moved, [None] * (x.ndim - 2) + [rows, columns])  # type: ignore[no-any-return]


def _diagonal_scatter(x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    moved, rows, columns = _along_diagonal(x, offset, dim1, dim2)
    found = aten.index_put.default(moved, [None] * (x.ndim - 2) + [rows, columns], source)
    return found.movedim((-2, -1), (dim1, dim2))  # type: ignore[no-any-return]


def _diagonal_backward(grad: Tensor, sizes: Sizes, offset: int, dim1: int, dim2: int) -> Tensor:
    return _diagonal_scatter(grad.new_zeros(list(sizes)), grad, offset, dim1, dim2)


def _norm_without_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch norm (or one of instances) that keeps no running values: those of one that does are left."""
    channels = x.shape[1]
    statistics = x.new_zeros([channels]), x.new_ones([channels])
    return aten._native_batch_norm_legit_functional.default(  # type: ignore[no-any-return]
        x, weight, bias, *statistics, training, momentum, eps
    )[:3]


def _vector_product(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """aten::addmv."""
    product = torch.mv(a, b) * alpha
    return product + c * beta if beta else product


def _block_sum(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """aten::addbmm."""
    product = torch.bmm(a, b).sum(0) * alpha
    return product + c * beta if beta else product


def _masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The values of `source` in order where the mask holds; a place is only read where it does."""
    mask = mask.expand(x.shape)
    number = mask.reshape(-1).to(torch.int64).cumsum(0) - 1
    flat = source.reshape(-1)
    taken = aten.index.Tensor(flat, [number.clamp(0, prod(source.shape) - 1)])
    return torch.where(mask, taken.reshape(x.shape), x)


def _masked_scatter_backward(grad: Tensor, mask: Tensor, sizes: Sizes) -> Tensor:
    """Each value of `source` has the gradient of the place that it went to."""
    mask = mask.expand(grad.shape).reshape(-1)
    number = (mask.to(torch.int64).cumsum(0) - 1).clamp(0, prod(sizes) - 1)
    own = torch.where(mask, grad.reshape(-1), 0.0)
    zeros = grad.new_zeros([prod(sizes)])
    return aten.index_put.default(zeros, [number], own, True).reshape(list(sizes))  # type: ignore[no-any-return]


RULES: Mapping[Any, Callable[..., Any]] = {
    aten.as_strided.default: _as_strided,
    aten.as_strided_scatter.default: _as_strided_scatter,
    aten.unfold.default: _unfold,
    aten.diagonal.default: _diagonal,
    aten.diagonal_scatter.default: _diagonal_scatter,
    aten.diagonal_backward.default: _diagonal_backward,
    aten._native_batch_norm_legit.no_stats: _norm_without_statistics,
    aten.addmv.default: _vector_product,
    aten.addbmm.default: _block_sum,
    aten.masked_scatter.default: _masked_scatter,
    aten.masked_scatter_backward.default: _masked_scatter_backward,
}
