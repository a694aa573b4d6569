"""Pooling in two dimensions under ATen's signatures: maxima compare, averages are exact sums divided once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError, sum_bits
from podlt.exact.cpu import reduce
from podlt.exact.cpu.kernels import pooling

Sizes = Sequence[int]


def max_pool(
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As aten::max_pool2d_with_indices; of equal values the first in row-major order is taken."""
    k, s, p, d = _pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation)
    height, width = (_length(x.shape[x.ndim - 2 + i], k[i], s[i], p[i], d[i], ceil) for i in (0, 1))
    values: Array = x.detach().contiguous().numpy().reshape(-1, x.shape[-2], x.shape[-1])
    out = torch.empty((*x.shape[:-2], height, width))
    index = torch.empty(out.shape, dtype=torch.int64)
    shape = (values.shape[0], height, width)
    window = np.array([*k, *s, *p, *d], np.int64)
    pooling.max_pool(values, window, out.numpy().reshape(shape), index.numpy().reshape(shape))
    return out, index


def max_pool_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil: bool,
    index: torch.Tensor,
) -> torch.Tensor:
    """As aten::max_pool2d_with_indices_backward: the exact sum of what each input was the maximum for.

    Raises:
        NonFiniteError: the gradient holds an infinity or a NaN.
        IndexError: an index lies outside its plane.
    """
    out = torch.empty(x.shape)
    area = x.shape[-2] * x.shape[-1]
    if not out.numel():
        return out
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= area):
        raise IndexError(f"max_pool2d_with_indices_backward: expected indices below {area}")
    planes = out.numel() // area
    k = _pair(kernel)
    values: Array = grad.detach().contiguous().numpy().reshape(planes, -1)
    places: Array = index.contiguous().numpy().reshape(planes, -1)
    if not pooling.max_pool_backward(values, places, sum_bits(k[0] * k[1]), out.numpy().reshape(planes, -1)):
        raise NonFiniteError("max_pool2d_with_indices_backward")
    return out


def average_pool(
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> torch.Tensor:
    """As aten::avg_pool2d: the exact sum of each window, divided by its number of cells (or by `divisor`)."""
    windows = _windows(x, kernel, stride, padding, ceil, include_pad)
    return _average(x, windows, divisor, "avg_pool2d")


def average_pool_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> torch.Tensor:
    """As aten::avg_pool2d_backward: the exact sum of each window's share, one exponent for the tensor."""
    windows = _windows(x, kernel, stride, padding, ceil, include_pad)
    return _average_backward(grad, x, windows, divisor, "avg_pool2d_backward")


def adaptive_average_pool(x: torch.Tensor, size: Sizes) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d: window i of n over a line of m is from floor(i m / n) to ceil((i + 1) m / n)."""
    return _average(x, _adaptive(x, size), None, "_adaptive_avg_pool2d")


def adaptive_average_pool_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d_backward: see `average_pool_backward`."""
    return _average_backward(grad, x, _adaptive(x, grad.shape[-2:]), None, "_adaptive_avg_pool2d_backward")


@dataclass(frozen=True, slots=True)
class _Line:
    """The windows along one dimension: `first` cells, so many as `length` each; those outside of the line hold nothing.

    count: what each window's share of the divisor is; even: the step between windows where it is always the same, and
    all of a window's cells count.
    """

    first: torch.Tensor
    length: int
    stop: torch.Tensor
    count: torch.Tensor
    even: int


def _windows(
    x: torch.Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include_pad: bool
) -> tuple[_Line, _Line]:
    k, s, p = _pair(kernel), _pair(stride or kernel), _pair(padding)

    def line(i: int) -> _Line:
        n = x.shape[x.ndim - 2 + i]
        first = torch.arange(_length(n, k[i], s[i], p[i], 1, ceil)) * s[i] - p[i]
        stop = torch.clamp(first + k[i], max=n)
        counted = torch.clamp(first + k[i], max=n + p[i]) - first
        return _Line(first, k[i], stop, counted if include_pad else stop - torch.clamp(first, min=0), s[i])

    return line(0), line(1)


def _adaptive(x: torch.Tensor, size: Sizes) -> tuple[_Line, _Line]:
    def line(i: int) -> _Line:
        n, m = int(size[i]), x.shape[x.ndim - 2 + i]
        first = torch.arange(n) * m // max(n, 1)
        stop = ((torch.arange(n) + 1) * m + n - 1) // max(n, 1)
        length = int((stop - first).max()) if n else 0
        return _Line(first, length, stop, stop - first, length if n and m % n == 0 else 0)

    return line(0), line(1)


def _cells(x: torch.Tensor, lines: tuple[_Line, _Line], fill: float) -> torch.Tensor:
    """What each window sees, (..., windows, windows, cells, cells), with `fill` where it sees nothing."""
    rows, columns = lines
    if rows.even and columns.even:
        around = [amount for line, n in ((columns, x.shape[-1]), (rows, x.shape[-2])) for amount in _around(line, n)]
        padded = torch.nn.functional.pad(x, around, value=fill)
        return padded.unfold(-2, rows.length, rows.even).unfold(-2, columns.length, columns.even)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1), value=fill)
    places = []
    for line, n in ((rows, x.shape[-2]), (columns, x.shape[-1])):
        place = line.first[:, None] + torch.arange(line.length)
        places.append(torch.where((place >= 0) & (place < line.stop[:, None]), place, n))
    return padded[..., places[0][:, None, :, None], places[1][None, :, None, :]]


def _around(line: _Line, n: int) -> tuple[int, int]:
    """How much to pad before and after a line of `n` cells, so that every window lies within."""
    before = -int(line.first[0]) if len(line.first) else 0
    last = int(line.first[-1]) + line.length if len(line.first) else 0
    return before, last - n  # less than nothing where no window reaches the end


def _average(x: torch.Tensor, lines: tuple[_Line, _Line], divisor: int | None, operation: str) -> torch.Tensor:
    windows = _cells(x, lines, 0.0)
    total = reduce.total(windows, [windows.ndim - 2, windows.ndim - 1], False, operation)
    return total / _area(lines, divisor)


def _average_backward(
    grad: torch.Tensor, x: torch.Tensor, lines: tuple[_Line, _Line], divisor: int | None, operation: str
) -> torch.Tensor:
    share = grad / _area(lines, divisor)
    places = _cells(torch.arange(x.numel()).reshape(x.shape), lines, -1)
    shares = share[..., None, None].expand(places.shape).reshape(-1, 1)
    return reduce.scatter_rows(None, places.reshape(-1), shares, x.numel(), operation).reshape(x.shape)


def _area(lines: tuple[_Line, _Line], divisor: int | None) -> torch.Tensor:
    """By what each window's sum is divided."""
    if divisor is not None:
        return torch.tensor(float(divisor))
    return (lines[0].count[:, None] * lines[1].count).float()


def _pair(values: Sizes) -> tuple[int, int]:
    return int(values[0]), int(values[-1])


def _length(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    span = n + 2 * p - d * (k - 1) - 1
    length = (span + (s - 1 if ceil else 0)) // s + 1
    return length - 1 if ceil and (length - 1) * s >= n + p else length
