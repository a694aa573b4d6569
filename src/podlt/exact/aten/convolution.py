"""Exact convolutions in one to three dimensions, and their gradients. Definition: `definition.layers.convolution`.

A tensor is cut before it is laid out as a matrix, so what is copied is int8. Exponents are shared, and digits decided,
by whatever one product contracts: a sample and a group of the input, an output channel of the weight (forward); a
sample of the gradient and an input channel of the weight (gradient of the input); a channel of each (gradient of the
weight).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from podlt.exact.aten import volumes
from podlt.exact.aten.backend import Backend, Filters, Operation, Tensor
from podlt.exact.geometry import Geometry, Pair, Sizes, geometry

_BACKWARD = "convolution_backward"


def forward(
    b: Backend, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, operation: str = "convolution"
) -> Tensor:
    """The convolution of float32 (n, c, h, w) with (o, c / groups, kh, kw), `+ bias` as one float32 operation.

    Raises:
        NonFiniteError: an operand holds an infinity or a NaN. The message names `operation`.
    """
    taps = (weight.shape[2], weight.shape[3])
    size = g.output((x.shape[2], x.shape[3]), taps)
    return b.convolutions.convolve(x, Filters(weight, g.groups, False), bias, g, taps, size, b.digits, operation)


def input_gradient(
    b: Backend,
    grad: Tensor,
    weight: Tensor,
    size: Pair,
    bias: Tensor | None,
    g: Geometry,
    operation: str = _BACKWARD,
) -> Tensor:
    """The gradient of `forward`'s input of height and width `size`; with `bias`, a transposed convolution.

    Raises:
        NonFiniteError: an operand holds an infinity or a NaN. The message names `operation`.
    """
    taps = weight.shape[2:]
    around = tuple(d * (k - 1) - p for d, k, p in zip(g.dilation, taps, g.padding, strict=True))
    turned = replace(g, stride=(1, 1), padding=(around[0], around[1]))
    given = grad, Filters(weight, g.groups, True), bias, turned, (taps[0], taps[1]), size, b.digits, operation
    return b.convolutions.convolve(*given, g.stride)


def _convolution(
    b: Backend,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Tensor:
    if x.ndim == 5:
        settings = stride, padding, dilation, transposed, output_padding, groups
        return volumes.convolution(partial(_convolution, b), x, weight, bias, *settings)
    g = geometry(x.ndim, stride, padding, dilation, groups)
    flat = x.ndim == 3
    if flat:
        x, weight = x.unsqueeze(2), weight.unsqueeze(2)
    image, taps = (x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3])
    extra = (0 if flat else output_padding[0], output_padding[-1])
    size = g.input(image, taps, extra) if transposed else g.output(image, taps)
    if not x.numel() or not weight.numel():  # sums of nothing
        out = x.new_zeros((x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *size))
        out = out if bias is None else out + bias.reshape(-1, 1, 1)
    elif transposed:
        out = input_gradient(b, x, weight, size, bias, g, "convolution")
    else:
        out = forward(b, x, weight, bias, g)
    return out.squeeze(2) if flat else out


def _convolution_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sizes | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    shapes = x.shape, weight.shape
    d_x = d_weight = d_bias = None
    if mask[2]:
        d_bias = b.sums.total(grad, [d for d in range(grad.ndim) if d != 1], False, _BACKWARD)
    if not grad.numel() or not x.numel() or not weight.numel():
        return (torch.zeros_like(x) if mask[0] else None), (torch.zeros_like(weight) if mask[1] else None), d_bias
    if x.ndim == 5:
        settings = stride, padding, dilation, transposed, output_padding, groups
        wanted, flat = (mask[0], mask[1]), partial(_convolution_backward, b)
        return *volumes.convolution_backward(flat, grad, x, weight, *settings, wanted), d_bias
    g = geometry(x.ndim, stride, padding, dilation, groups)
    if x.ndim == 3:
        grad, x, weight = grad.unsqueeze(2), x.unsqueeze(2), weight.unsqueeze(2)
    if mask[0]:
        if transposed:
            d_x = forward(b, grad, weight, None, g, _BACKWARD)
        else:
            d_x = input_gradient(b, grad, weight, (x.shape[2], x.shape[3]), None, g)
        d_x = d_x.reshape(shapes[0])
    if mask[1]:
        pair = (x, grad) if transposed else (grad, x)
        d_weight = b.convolutions.weight_gradient(*pair, weight.shape, g, b.digits).reshape(shapes[1])
    return d_x, d_weight, d_bias


BY_BACKEND: Mapping[str, Operation] = {
    "convolution.default": _convolution,
    "convolution_backward.default": _convolution_backward,
}
