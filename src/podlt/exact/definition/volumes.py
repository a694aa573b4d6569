"""The definition of convolutions in three dimensions: as many in two, whose channels are those of a window of depths.

A tensor (n, c, d, h, w) becomes (n * windows, c * taps, h, w): what each window along the depth sees, a channel's taps
side by side. So whatever a convolution in two dimensions shares among a sample or a channel (exponents above all), one
in three shares among a sample's window, and a channel's tap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from podlt.exact.constants import Array

Sizes = Sequence[int]
Flat = Callable[..., Any]
"""A convolution in two dimensions, or its gradients, under ATen's signature."""


def convolution(
    flat: Flat,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    extra: Sizes,
    groups: int,
) -> Array:
    """aten::convolution of (n, c, d, h, w), by `flat` over (n, c, h, w)."""
    taps = weight.shape[2]
    s, p, d = stride[0], padding[0], dilation[0]
    if transposed:
        count = (x.shape[2] - 1) * s - 2 * p + d * (taps - 1) + extra[0] + 1
        seen, kernel = _reached(x, count, taps, s, p, d), _turned(weight)
    else:
        count = (x.shape[2] + 2 * p - d * (taps - 1) - 1) // s + 1
        seen, kernel = _seen(x, count, taps, s, p, d), _side_by_side(weight)
    out = flat(seen, kernel, bias, stride[1:], padding[1:], dilation[1:], transposed, extra[1:], groups)
    return _apart(out, len(x))


def convolution_backward(
    flat: Flat,
    grad: Array,
    x: Array,
    weight: Array,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    extra: Sizes,
    groups: int,
) -> tuple[Array, Array]:
    """The gradients of `convolution`'s input and weight, by `flat`, those of one in two dimensions."""
    taps = weight.shape[2]
    numbers = taps, stride[0], padding[0], dilation[0]
    rest = None, stride[1:], padding[1:], dilation[1:], transposed, extra[1:], groups
    if transposed:
        given = _seen(grad, x.shape[2], *numbers), _together(x), _side_by_side(weight)
        d_x, d_weight, _ = flat(*given, *rest, [True, True, False])
    else:
        given = _reached(grad, x.shape[2], *numbers), _together(x), _turned(weight)
        d_x, _, _ = flat(*given, *rest, [True, False, False])
        given = _together(grad), _seen(x, grad.shape[2], *numbers), _side_by_side(weight)
        _, d_weight, _ = flat(*given, *rest, [False, True, False])
    return _apart(d_x, len(x)), d_weight.reshape(weight.shape)


def _seen(x: Array, count: int, taps: int, s: int, p: int, d: int) -> Array:
    """What `count` windows along the depth see: tap k of window i is depth i s + k d - p, or nothing."""
    return _gathered(x, count, taps, lambda i, k: i * s + k * d - p)


def _reached(x: Array, count: int, taps: int, s: int, p: int, d: int) -> Array:
    """By which windows `count` depths are seen: depth i by tap k of window (i + p - k d) / s, where that is one."""
    return _gathered(x, count, taps, lambda i, k: (i + p - k * d) // s if (i + p - k * d) % s == 0 else -1)


def _gathered(x: Array, count: int, taps: int, place: Callable[[int, int], int]) -> Array:
    n, c, depth, h, w = x.shape
    out = np.zeros((n, count, c, taps, h, w), np.float32)
    for i, k in np.ndindex(count, taps):
        if 0 <= place(i, k) < depth:
            out[:, i, :, k] = x[:, :, place(i, k)]
    return out.reshape(n * count, c * taps, h, w)


def _side_by_side(weight: Array) -> Array:
    """The taps along the depth beside each other, within each of the second dimension's channels."""
    return weight.reshape(weight.shape[0], -1, *weight.shape[3:])


def _turned(weight: Array) -> Array:
    """The same within each of the first dimension's channels."""
    return np.moveaxis(weight, 2, 1).reshape(-1, weight.shape[1], *weight.shape[3:])


def _together(x: Array) -> Array:
    """Each depth of each sample as a sample."""
    return np.moveaxis(x, 2, 1).reshape(-1, x.shape[1], *x.shape[3:])


def _apart(x: Array, samples: int) -> Array:
    """The depths back among their samples."""
    count = len(x) // samples if samples else 0
    return np.moveaxis(x.reshape(samples, count, *x.shape[1:]), 1, 2)
