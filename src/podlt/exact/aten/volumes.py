"""Convolutions in three dimensions, by those in two. Definition: `definition.volumes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from podlt.exact.aten.backend import Tensor
from podlt.exact.geometry import Sizes, spanned

Flat = Callable[..., Any]


def convolution(
    flat: Flat,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    extra: Sizes,
    groups: int,
) -> Tensor:
    """aten::convolution of float32 (n, c, d, h, w), by `flat` over (n, c, h, w)."""
    depth, taps = x.shape[2], weight.shape[2]
    numbers = taps, stride[0], padding[0], dilation[0]
    if transposed:
        count = spanned(depth, *numbers) + extra[0]
        seen, kernel = _reached(x, count, *numbers), _turned(weight)
    else:
        count = (depth + 2 * padding[0] - dilation[0] * (taps - 1) - 1) // stride[0] + 1
        seen, kernel = _seen(x, count, *numbers), _side_by_side(weight)
    out = flat(seen, kernel, bias, stride[1:], padding[1:], dilation[1:], transposed, extra[1:], groups)
    return _apart(out, x.shape[0], count)


def convolution_backward(
    flat: Flat,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    extra: Sizes,
    groups: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of `convolution`'s input and weight, by `flat`, those of one in two dimensions.

    Args:
        wanted: which of both.
    """
    n, depth = x.shape[0], x.shape[2]
    numbers = weight.shape[2], stride[0], padding[0], dilation[0]
    rest = None, stride[1:], padding[1:], dilation[1:], transposed, extra[1:], groups
    d_x = d_weight = None
    if transposed:
        given = _seen(grad, depth, *numbers), _together(x), _side_by_side(weight)
        d_x, d_weight, _ = flat(*given, *rest, [*wanted, False])
    if wanted[0] and not transposed:
        given = _reached(grad, depth, *numbers), _together(x), _turned(weight)
        d_x = flat(*given, *rest, [True, False, False])[0]
    if wanted[1] and not transposed:
        given = _together(grad), _seen(x, grad.shape[2], *numbers), _side_by_side(weight)
        d_weight = flat(*given, *rest, [False, True, False])[1]
    d_x = None if d_x is None else _apart(d_x, n, depth)
    return d_x, None if d_weight is None else d_weight.reshape(weight.shape)


def _seen(x: Tensor, count: int, taps: int, s: int, p: int, d: int) -> Tensor:
    """What `count` windows along the depth see: tap k of window i is depth i s + k d - p, or nothing."""
    windows, tap = torch.arange(count).unsqueeze(1), torch.arange(taps)
    return _gathered(x, windows * s + tap * d - p)


def _reached(x: Tensor, count: int, taps: int, s: int, p: int, d: int) -> Tensor:
    """By which windows `count` depths are seen: depth i by tap k of window (i + p - k d) / s, where that is one."""
    span = torch.arange(count).unsqueeze(1) + p - torch.arange(taps) * d
    return _gathered(x, torch.where(span % s == 0, torch.div(span, s, rounding_mode="floor"), -1))


def _gathered(x: Tensor, places: Tensor) -> Tensor:
    """Depths (n, c, d, h, w) at places (count, taps) as (n * count, c * taps, h, w), zeros outside."""
    n, c, depth, h, w = x.shape
    count, taps = places.shape
    inside = (places >= 0) & (places < depth)
    out = x.new_zeros((n, count, c, taps, h, w))
    windows, tap = inside.nonzero(as_tuple=True)
    found = x[:, :, places[windows, tap].to(x.device)]
    out[:, windows.to(x.device), :, tap.to(x.device)] = found.permute(2, 0, 1, 3, 4)
    return out.reshape(n * count, c * taps, h, w)


def _side_by_side(weight: Tensor) -> Tensor:
    """The taps along the depth beside each other, within each of the second dimension's channels."""
    return weight.flatten(1, 2)


def _turned(weight: Tensor) -> Tensor:
    """The same within each of the first dimension's channels."""
    return weight.transpose(1, 2).flatten(0, 1)


def _together(x: Tensor) -> Tensor:
    """Each depth of each sample as a sample."""
    return x.transpose(1, 2).flatten(0, 1)


def _apart(x: Tensor, samples: int, count: int) -> Tensor:
    """The depths back among their samples."""
    return x.reshape(samples, count, *x.shape[1:]).transpose(1, 2)
