"""Pooling in two dimensions under ATen's signatures: maxima compare, averages are exact sums divided once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact import kernels_convolution, reduce
from podlt.exact.rules import Array, NonFiniteError, sum_bits

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
    kernels_convolution.max_pool(values, window, out.numpy().reshape(shape), index.numpy().reshape(shape))
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
    if not kernels_convolution.max_pool_backward(
        values, places, sum_bits(k[0] * k[1]), out.numpy().reshape(planes, -1)
    ):
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
    """As aten::avg_pool2d, without `ceil_mode`, and with padding only where it counts in the divisor."""
    k, s, p = _average_window(kernel, stride, padding, ceil, include_pad)
    padded = torch.nn.functional.pad(x, (p[1], p[1], p[0], p[0]))
    windows = padded.unfold(-2, k[0], s[0]).unfold(-2, k[1], s[1])
    total = reduce.total(windows, [windows.ndim - 2, windows.ndim - 1], False, "avg_pool2d")
    return total / torch.tensor(float(divisor or k[0] * k[1]))


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
    k, s, p = _average_window(kernel, stride, padding, ceil, include_pad)
    share = grad / torch.tensor(float(divisor or k[0] * k[1]))
    places = torch.arange(x.numel()).reshape(x.shape)
    places = torch.nn.functional.pad(places, (p[1], p[1], p[0], p[0]), value=-1)
    windows = places.unfold(-2, k[0], s[0]).unfold(-2, k[1], s[1])
    shares = share[..., None, None].expand(windows.shape).reshape(-1, 1)
    return reduce.scatter_rows(None, windows.reshape(-1), shares, x.numel(), "avg_pool2d_backward").reshape(x.shape)


def adaptive_average_pool(x: torch.Tensor, size: Sizes) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d, where the input's size is a multiple of the output's.

    Raises:
        UnsupportedError: it is not.
    """
    return average_pool(x, _adaptive(x, size))


def adaptive_average_pool_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d_backward, for the sizes that `adaptive_average_pool` takes."""
    kernel = _adaptive(x, grad.shape[-2:])
    return average_pool_backward(grad, x, kernel, kernel, (0,), False, True, None)


def _adaptive(x: torch.Tensor, size: Sizes) -> tuple[int, int]:
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
