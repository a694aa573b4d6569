"""Softmax, layer and batch normalisation, and their gradients, one kernel a step. Definitions: `definition.layers`."""

from __future__ import annotations

import torch

from podlt.exact.aten.tensors import INFINITY, number, order_keys
from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.portable.bits import Tensor, from_order_keys, magnitudes, rounded, units
from podlt.exact.portable.elementary import exp, log, rsqrt
from podlt.exact.portable.reduce import total


def softmax(x: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax`."""
    if not x.numel():
        return torch.empty(x.shape, device=x.device)
    largest = from_order_keys(order_keys(x).amax(dim=dim, keepdim=True))
    if bool((magnitudes(x) > INFINITY).any() | torch.isinf(largest).any()):
        raise NonFiniteError(operation)
    d = x - largest
    powers = exp(d)
    # The largest exponential of a line is exactly 1, so 2**1 bounds the terms of its sum.
    e = torch.full((), 1 - sum_bits(x.shape[dim] if x.ndim else 1), dtype=torch.int64, device=x.device)
    sums = rounded(units(powers, e).sum(dim=dim, keepdim=True), e)
    return d - log(sums) if logarithm else torch.div(powers, sums)


def softmax_backward(grad: Tensor, y: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax_backward`."""
    if not y.numel():
        return torch.empty(y.shape, device=y.device)
    if logarithm:
        return grad - exp(y) * total(grad, [dim], True, operation)
    return y * (grad - total(grad * y, [dim], True, operation))


def layer_norm(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.layer_norm`."""
    count = number(rows.shape[1], rows)
    mean = torch.div(total(rows, [1], True, operation), count)
    mean = mean if rows.shape[1] else torch.zeros_like(mean)
    d = rows - mean
    rstd = rsqrt(torch.div(total(d * d, [1], True, operation), count) + eps)
    out = d * rstd
    if weight is not None:
        out = out * weight.reshape(1, -1)
    if bias is not None:
        out = out + bias.reshape(1, -1)
    return out, mean.squeeze(1), rstd.squeeze(1)


def layer_norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, operation: str
) -> tuple[Tensor, Tensor]:
    """`Norms.layer_norm_backward`."""
    count = number(rows.shape[1], rows)
    rstd = rstd.reshape(-1, 1)
    h = (rows - mean.reshape(-1, 1)) * rstd
    g = grad if weight is None else grad * weight.reshape(1, -1)
    a = torch.div(total(g, [1], True, operation), count)
    b = torch.div(total(g * h, [1], True, operation), count)
    return ((g - a) - h * b) * rstd, grad * h


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`Norms.batch_norm`."""
    values = _channels(x)
    terms = values.shape[0] * values.shape[2]
    count = number(terms, x)
    mean = torch.div(total(values, [0, 2], False, operation), count)
    d = values - mean[:, None]
    squares = total(d * d, [0, 2], False, operation)
    rstd = rsqrt(torch.div(squares, count) + eps)
    unbiased = torch.div(squares, number(max(terms - 1, 1), x))
    return channel_normalise(x, mean, rstd, weight, bias), mean, unbiased, rstd


def channel_normalise(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`Norms.channel_normalise`; without a weight and a bias, by 1 and 0."""
    out = ((_channels(x) - mean[:, None]) * rstd[:, None]) * (1.0 if weight is None else weight[:, None])
    return (out + (0.0 if bias is None else bias[:, None])).reshape(x.shape)


def batch_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, training: bool, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.batch_norm_backward`."""
    values, g = _channels(x), _channels(grad)
    h = (values - mean[:, None]) * rstd[:, None]
    d_weight, d_bias = total(g * h, [0, 2], False, operation), total(g, [0, 2], False, operation)
    if training:
        count = number(values.shape[0] * values.shape[2], x)
        g = (g - torch.div(d_bias, count)[:, None]) - h * torch.div(d_weight, count)[:, None]
    d_x = g * (rstd if weight is None else weight * rstd)[:, None]
    return d_x.reshape(x.shape), d_weight, d_bias


def _channels(x: Tensor) -> Tensor:
    """Float32 (n, c, ...) as (n, c, l)."""
    return x.reshape(x.shape[0], x.shape[1], -1)
