"""Pooling in two dimensions under ATen's signatures: maxima compare, averages are exact sums divided once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from podlt.exact.constants import sum_bits
from podlt.exact.portable import reduce
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, number, rounded, units

Sizes = Sequence[int]


def max_pool(
    x: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = (0,), dilation: Sizes = (1,), ceil: bool = False
) -> tuple[Tensor, Tensor]:
    """As aten::max_pool2d_with_indices; of equal values the first in row-major order is taken, and NaN before any."""
    k, s, p, d = _pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation)
    h, w = x.shape[-2:]
    size = [_length((h, w)[i], k[i], s[i], p[i], d[i], ceil) for i in (0, 1)]
    more = [max((size[i] - 1) * s[i] + d[i] * (k[i] - 1) + 1 - (h, w)[i] - p[i], 0) for i in (0, 1)]
    around = (p[1], more[1], p[0], more[0])
    values = pad(x, around)
    places = pad(torch.arange(h * w, device=x.device).reshape(h, w), around, value=-1)
    out = torch.full((*x.shape[:-2], *size), -torch.inf, device=x.device)
    index = torch.full(out.shape, -1, dtype=torch.int64, device=x.device)
    for tap in range(k[0] * k[1]):
        y, z = (tap // k[1]) * d[0], (tap % k[1]) * d[1]
        window = (..., slice(y, y + (size[0] - 1) * s[0] + 1, s[0]), slice(z, z + (size[1] - 1) * s[1] + 1, s[1]))
        value, place = values[window], places[window]
        better = (place >= 0) & ((index < 0) | (value > out) | torch.isnan(value))
        out, index = torch.where(better, value, out), torch.where(better, place, index)
    return out, index


def max_pool_backward(
    grad: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool, index: Tensor
) -> Tensor:
    """As aten::max_pool2d_with_indices_backward: the exact sum of what each input was the maximum for.

    Raises:
        NonFiniteError: the gradient holds an infinity or a NaN.
        IndexError: an index lies outside its plane.
    """
    area = x.shape[-2] * x.shape[-1]
    if not x.numel() or not grad.numel():
        return torch.zeros(x.shape, device=x.device)
    if int(index.min()) < 0 or int(index.max()) >= area:
        raise IndexError(f"max_pool2d_with_indices_backward: expected indices below {area}")
    planes, k = x.numel() // area, _pair(kernel)
    values, places = grad.reshape(planes, -1), index.reshape(planes, -1)
    e = exponents(magnitudes(values).amax(dim=1, keepdim=True), "max_pool2d_with_indices_backward")
    e = e - sum_bits(k[0] * k[1])
    sums = torch.zeros((planes, area), dtype=torch.int64, device=x.device)
    return rounded(sums.scatter_add_(1, places, units(values, e)), e).reshape(x.shape)


def average_pool(
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """As aten::avg_pool2d: the exact sum of each window, divided by its number of cells (or by `divisor`)."""
    return _average(x, _windows(x, kernel, stride, padding, ceil, include_pad), divisor, "avg_pool2d")


def average_pool_backward(
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
    lines = _windows(x, kernel, stride, padding, ceil, include_pad)
    return _average_backward(grad, x, lines, divisor, "avg_pool2d_backward")


def adaptive_average_pool(x: Tensor, size: Sizes) -> Tensor:
    """As aten::_adaptive_avg_pool2d: window i of n over a line of m is from floor(i m / n) to ceil((i + 1) m / n)."""
    return _average(x, _adaptive(x, size), None, "_adaptive_avg_pool2d")


def adaptive_average_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """As aten::_adaptive_avg_pool2d_backward: see `average_pool_backward`."""
    return _average_backward(grad, x, _adaptive(x, grad.shape[-2:]), None, "_adaptive_avg_pool2d_backward")


@dataclass(frozen=True, slots=True)
class _Line:
    """The windows along one dimension: places int64 (windows, cells), -1 where a cell lies outside; counts (windows,):
    what each window's share of the divisor is."""

    places: Tensor
    counts: Tensor


def _line(first: Tensor, length: int, stop: Tensor, counts: Tensor) -> _Line:
    places = first[:, None] + torch.arange(length, device=first.device)
    return _Line(torch.where((places >= 0) & (places < stop[:, None]), places, -1), counts)


def _windows(
    x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include_pad: bool
) -> tuple[_Line, _Line]:
    k, s, p = _pair(kernel), _pair(stride or kernel), _pair(padding)

    def line(i: int) -> _Line:
        n = x.shape[x.ndim - 2 + i]
        first = torch.arange(_length(n, k[i], s[i], p[i], 1, ceil), device=x.device) * s[i] - p[i]
        stop = (first + k[i]).clamp(max=n)
        counted = (first + k[i]).clamp(max=n + p[i]) - first
        return _line(first, k[i], stop, counted if include_pad else stop - first.clamp(min=0))

    return line(0), line(1)


def _adaptive(x: Tensor, size: Sizes) -> tuple[_Line, _Line]:
    def line(i: int) -> _Line:
        n, m = int(size[i]), x.shape[x.ndim - 2 + i]
        index = torch.arange(n, device=x.device)
        first, stop = index * m // max(n, 1), ((index + 1) * m + n - 1) // max(n, 1)
        return _line(first, int((stop - first).max()) if n else 0, stop, stop - first)

    return line(0), line(1)


def _cells(lines: tuple[_Line, _Line], width: int) -> Tensor:
    """The place in its plane of each cell of each window, int64 (h, w, cells, cells), -1 outside."""
    rows, columns = lines[0].places[:, None, :, None], lines[1].places[None, :, None, :]
    return torch.where((rows >= 0) & (columns >= 0), rows * width + columns, -1)


def _area(lines: tuple[_Line, _Line], divisor: int | None, like: Tensor) -> Tensor:
    """By what each window's sum is divided."""
    if divisor is not None:
        return number(float(divisor), like)
    return (lines[0].counts[:, None] * lines[1].counts).float()


def _average(x: Tensor, lines: tuple[_Line, _Line], divisor: int | None, operation: str) -> Tensor:
    cells = _cells(lines, x.shape[-1])
    seen = torch.where(cells >= 0, x.flatten(-2)[..., cells.clamp(min=0)], 0.0)
    total = reduce.total(seen, [seen.ndim - 2, seen.ndim - 1], False, operation)
    return torch.div(total, _area(lines, divisor, x))


def _average_backward(
    grad: Tensor, x: Tensor, lines: tuple[_Line, _Line], divisor: int | None, operation: str
) -> Tensor:
    share = torch.div(grad, _area(lines, divisor, x))
    cells, area = _cells(lines, x.shape[-1]), x.shape[-2] * x.shape[-1]
    planes = torch.arange(x.numel() // max(area, 1), device=x.device).reshape(*x.shape[:-2], 1, 1, 1, 1)
    places = torch.where(cells >= 0, planes * area + cells, -1)
    shares = share[..., None, None].expand(places.shape).reshape(-1, 1)
    return reduce.scatter_rows(None, places.reshape(-1), shares, x.numel(), operation).reshape(x.shape)


def _pair(values: Sizes) -> tuple[int, int]:
    return int(values[0]), int(values[-1])


def _length(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    span = n + 2 * p - d * (k - 1) - 1
    length = (span + (s - 1 if ceil else 0)) // s + 1
    return length - 1 if ceil and (length - 1) * s >= n + p else length
