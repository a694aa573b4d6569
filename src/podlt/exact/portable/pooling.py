"""Pooling in two dimensions under ATen's signatures: maxima compare, averages are exact sums divided once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from podlt.errors import UnsupportedError
from podlt.exact.portable import reduce
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, number, rounded, units
from podlt.exact.rules import sum_bits

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
    """As aten::avg_pool2d, without `ceil_mode`, and with padding only where it counts in the divisor."""
    k, s, p = _average_window(kernel, stride, padding, ceil, include_pad)
    windows = pad(x, (p[1], p[1], p[0], p[0])).unfold(-2, k[0], s[0]).unfold(-2, k[1], s[1])
    total = reduce.total(windows, [windows.ndim - 2, windows.ndim - 1], False, "avg_pool2d")
    return torch.div(total, number(float(divisor or k[0] * k[1]), x))


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
    k, s, p = _average_window(kernel, stride, padding, ceil, include_pad)
    share = torch.div(grad, number(float(divisor or k[0] * k[1]), x))
    places = torch.arange(x.numel(), device=x.device).reshape(x.shape)
    windows = pad(places, (p[1], p[1], p[0], p[0]), value=-1).unfold(-2, k[0], s[0]).unfold(-2, k[1], s[1])
    shares = share[..., None, None].expand(windows.shape).reshape(-1, 1)
    return reduce.scatter_rows(None, windows.reshape(-1), shares, x.numel(), "avg_pool2d_backward").reshape(x.shape)


def adaptive_average_pool(x: Tensor, size: Sizes) -> Tensor:
    """As aten::_adaptive_avg_pool2d, where the input's size is a multiple of the output's.

    Raises:
        UnsupportedError: it is not.
    """
    return average_pool(x, _adaptive(x, size))


def adaptive_average_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """As aten::_adaptive_avg_pool2d_backward, for the sizes that `adaptive_average_pool` takes."""
    kernel = _adaptive(x, grad.shape[-2:])
    return average_pool_backward(grad, x, kernel, kernel, (0,), False, True, None)


def _adaptive(x: Tensor, size: Sizes) -> tuple[int, int]:
    h, w = x.shape[-2:]
    if not (size[0] and size[1]) or h % size[0] or w % size[1]:
        raise UnsupportedError(f"_adaptive_avg_pool2d: expected sizes that divide ({h}, {w}), got {tuple(size)}")
    return h // size[0], w // size[1]


def _average_window(
    kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include_pad: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    k, s, p = _pair(kernel), _pair(stride or kernel), _pair(padding)
    if ceil or (any(p) and not include_pad):
        raise UnsupportedError(
            "avg_pool2d: expected ceil_mode false, and count_include_pad true where there is padding"
        )
    return k, s, p


def _pair(values: Sizes) -> tuple[int, int]:
    return int(values[0]), int(values[-1])


def _length(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    span = n + 2 * p - d * (k - 1) - 1
    length = (span + (s - 1 if ceil else 0)) // s + 1
    return length - 1 if ceil and (length - 1) * s >= n + p else length
