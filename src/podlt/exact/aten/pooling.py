"""Pooling in two dimensions under ATen's signatures: maxima compare, averages are exact sums divided once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import pad

from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.windows import Line, Lines, adaptive_windows, area, windows
from podlt.exact.constants import ACCUMULATOR_BITS, SUM_BITS, sum_bits
from podlt.exact.geometry import Sizes, pair, pooled_length

FEW_TERMS = 2 ** (ACCUMULATOR_BITS - SUM_BITS)
"""Sums of up to so many terms keep the same bits."""


def _max_pool(
    b: Backend,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil: bool = False,
) -> tuple[Tensor, Tensor]:
    k, s, p, d = pair(kernel), pair(stride or kernel), pair(padding), pair(dilation)
    h, w = (pooled_length(x.shape[x.ndim - 2 + i], k[i], s[i], p[i], d[i], ceil) for i in (0, 1))
    return b.pooling.max_pool(x, k, s, p, d, (h, w))  # type: ignore[no-any-return]


def _max_pool_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil: bool,
    index: Tensor,
) -> Tensor:
    """As aten::max_pool2d_with_indices_backward: the exact sum of what each input was the maximum for.

    Raises:
        NonFiniteError: the gradient holds an infinity or a NaN.
        IndexError: an index lies outside its plane.
    """
    name = "max_pool2d_with_indices_backward"
    area = x.shape[-2] * x.shape[-1]
    if not x.numel() or not grad.numel():
        return torch.zeros(x.shape, device=x.device)
    if int(index.min()) < 0 or int(index.max()) >= area:
        raise IndexError(f"{name}: expected indices below {area}")
    k = pair(kernel)
    return b.pooling.max_pool_backward(grad, index, x.shape, sum_bits(k[0] * k[1]), name)


def _average_pool(
    b: Backend,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """As aten::avg_pool2d: the exact sum of each window, divided by its number of cells (or by `divisor`)."""
    return _average(b, x, windows(x, kernel, stride, padding, ceil, include_pad), divisor, "avg_pool2d")


def _average_pool_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """As aten::avg_pool2d_backward: the exact sum of each window's share, one exponent for the tensor."""
    lines = windows(x, kernel, stride, padding, ceil, include_pad)
    return _average_backward(b, grad, x, lines, divisor, "avg_pool2d_backward")


def _adaptive_pool(b: Backend, x: Tensor, size: Sizes) -> Tensor:
    """As aten::_adaptive_avg_pool2d: window i of n over a line of m is from floor(i m / n) to ceil((i + 1) m / n)."""
    return _average(b, x, adaptive_windows(x, size), None, "_adaptive_avg_pool2d")


def _adaptive_pool_backward(b: Backend, grad: Tensor, x: Tensor) -> Tensor:
    """As aten::_adaptive_avg_pool2d_backward: see `_average_pool_backward`."""
    return _average_backward(b, grad, x, adaptive_windows(x, grad.shape[-2:]), None, "_adaptive_avg_pool2d_backward")


def _cells(x: Tensor, lines: Lines, fill: float) -> Tensor:
    """What each window sees, (..., windows, windows, cells, cells), with `fill` where it sees nothing."""
    rows, columns = lines
    if rows.step and columns.step:
        padded = pad(x, [*_around(columns), *_around(rows)], value=fill)
        return _unfolded(_unfolded(padded, x.ndim - 2, rows), x.ndim - 1, columns)
    padded = pad(x, (0, 1, 0, 1), value=fill)
    places = []
    for line in lines:
        place = line.first[:, None] + torch.arange(line.length, device=x.device)
        places.append(torch.where((place >= 0) & (place < line.stop[:, None]), place, line.cells))
    return padded[..., places[0][:, None, :, None], places[1][None, :, None, :]]


def _around(line: Line) -> tuple[int, int]:
    """How much to pad before and after, so that every window lies within; less than nothing where none comes near."""
    count = len(line.first)
    end = line.start + (count - 1) * line.step + line.length if count else line.start
    return -line.start, end - line.cells


def _unfolded(x: Tensor, dim: int, line: Line) -> Tensor:
    """The windows along `dim`, their cells in a new last dimension: by slices, which one copy puts together."""
    n = len(line.first)
    if line.step == line.length:
        return x.reshape(*x.shape[:dim], n, line.length, *x.shape[dim + 1 :]).movedim(dim + 1, -1)
    span = max((n - 1) * line.step + 1, 0)
    before = (slice(None),) * dim
    return torch.stack([x[(*before, slice(i, i + span, line.step))] for i in range(line.length)], -1)


def _average(b: Backend, x: Tensor, lines: Lines, divisor: int | None, operation: str) -> Tensor:
    rows, columns = lines
    if rows.length * columns.length > FEW_TERMS:  # a sum keeps bits by how many terms its own window sees
        ends = [list(zip(line.first.clamp(min=0).tolist(), line.stop.tolist(), strict=True)) for line in lines]
        total = x.new_empty((*x.shape[:-2], len(rows.first), len(columns.first)))
        for i, (top, bottom) in enumerate(ends[0]):
            for j, (left, right) in enumerate(ends[1]):
                seen = x[..., top:bottom, left:right]
                total[..., i, j] = b.sums.total(seen, [seen.ndim - 2, seen.ndim - 1], False, operation)
        return torch.div(total, area(lines, divisor, x))
    seen = _cells(x, lines, 0.0)
    total = b.sums.total(seen, [seen.ndim - 2, seen.ndim - 1], False, operation)
    return torch.div(total, area(lines, divisor, x))


def _average_backward(b: Backend, grad: Tensor, x: Tensor, lines: Lines, divisor: int | None, operation: str) -> Tensor:
    share = torch.div(grad, area(lines, divisor, x))
    places = _cells(torch.arange(x.numel(), device=x.device).reshape(x.shape), lines, -1)
    shares = share[..., None, None].expand(places.shape).reshape(-1, 1)
    places = places.reshape(-1)
    inside = places >= 0  # what lies outside is no term
    return b.sums.scatter_rows(None, places[inside], shares[inside], x.numel(), operation).reshape(x.shape)


BY_BACKEND: Mapping[str, Operation] = {
    "max_pool2d_with_indices.default": _max_pool,
    "max_pool2d_with_indices_backward.default": _max_pool_backward,
    "avg_pool2d.default": _average_pool,
    "avg_pool2d_backward.default": _average_pool_backward,
    "_adaptive_avg_pool2d.default": _adaptive_pool,
    "_adaptive_avg_pool2d_backward.default": _adaptive_pool_backward,
}
