"""Softmax, layer, group and batch normalisation, and their gradients. Definitions: `definition_layers`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.portable.bits import Tensor, from_order_keys, magnitudes, number, order_keys, rounded, units
from podlt.exact.portable.elementary import exp, log, rsqrt
from podlt.exact.portable.reduce import total

Tensors3 = tuple[Tensor | None, Tensor | None, Tensor | None]
_INFINITY = 0x7F800000


def softmax(x: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """Softmax along `dim`, or its logarithm. -inf is a value like any other as long as one is finite in each line.

    Raises:
        NonFiniteError: a line holds +inf, NaN or nothing but -inf.
    """
    if not x.numel():
        return torch.empty(x.shape, device=x.device)
    largest = from_order_keys(order_keys(x).amax(dim=dim, keepdim=True))
    if bool((magnitudes(x) > _INFINITY).any() | torch.isinf(largest).any()):
        raise NonFiniteError(operation)
    d = x - largest
    powers = exp(d)
    # The largest exponential of a line is exactly 1, so 2**1 bounds the terms of its sum.
    e = torch.full((), 1 - sum_bits(x.shape[dim] if x.ndim else 1), dtype=torch.int64, device=x.device)
    sums = rounded(units(powers, e).sum(dim=dim, keepdim=True), e)
    return d - log(sums) if logarithm else torch.div(powers, sums)


def softmax_backward(grad: Tensor, y: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """The gradient of `softmax`'s argument from the gradient of its result `y`."""
    if not y.numel():
        return torch.empty(y.shape, device=y.device)
    if logarithm:
        return grad - exp(y) * total(grad, [dim], True, operation)
    return y * (grad - total(grad * y, [dim], True, operation))


def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As aten::native_layer_norm: (normalised, means, 1/deviations)."""
    n = math.prod(shape)
    rows = x.reshape(-1, n)
    count = number(n, x)
    mean = torch.div(total(rows, [1], True, "native_layer_norm"), count)
    d = rows - mean
    factor = rsqrt(torch.div(total(d * d, [1], True, "native_layer_norm"), count) + _float32(eps))
    out = d * factor
    if weight is not None:
        out = out * weight.reshape(1, n)
    if bias is not None:
        out = out + bias.reshape(1, n)
    lead = [*x.shape[: x.ndim - len(shape)], *[1] * len(shape)]
    return out.reshape(x.shape), mean.reshape(lead), factor.reshape(lead)


def layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Sequence[bool],
) -> Tensors3:
    """As aten::native_layer_norm_backward: the gradients of argument, weight and bias that `mask` asks for."""
    n = math.prod(shape)
    name = "native_layer_norm_backward"
    rows, given, factor = x.reshape(-1, n), grad.reshape(-1, n), rstd.reshape(-1, 1)
    count = number(n, x)
    h = (rows - mean.reshape(-1, 1)) * factor
    g = given if weight is None else given * weight.reshape(1, n)
    a = torch.div(total(g, [1], True, name), count)
    b = torch.div(total(g * h, [1], True, name), count)
    d_x = ((g - a) - h * b) * factor
    d_weight = total(given * h, [0], False, name).reshape(tuple(shape)) if mask[1] and weight is not None else None
    d_bias = total(given, [0], False, name).reshape(tuple(shape)) if mask[2] and bias is not None else None
    return d_x.reshape(x.shape) if mask[0] else None, d_weight, d_bias


def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, length: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As aten::native_group_norm: (normalised, means, 1/deviations)."""
    rows = x.reshape(n * groups, -1)
    out, mean, rstd = layer_norm(rows, rows.shape[1:], None, None, eps)
    out = out.reshape(n, c, length)
    out = out if weight is None else out * weight.reshape(1, c, 1)
    out = out if bias is None else out + bias.reshape(1, c, 1)
    return out.reshape(x.shape), mean.reshape(n, groups), rstd.reshape(n, groups)


def group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    n: int,
    c: int,
    length: int,
    groups: int,
    mask: Sequence[bool],
) -> Tensors3:
    """As aten::native_group_norm_backward: the gradients of argument, weight and bias that `mask` asks for."""
    name = "native_group_norm_backward"
    g = grad.reshape(n, c, length)
    given = (g if weight is None else g * weight.reshape(1, c, 1)).reshape(n * groups, -1)
    rows = x.reshape(n * groups, -1)
    d_x, _, _ = layer_norm_backward(given, rows, rows.shape[1:], mean, rstd, None, None, [True, False, False])
    normal = ((rows - mean.reshape(-1, 1)) * rstd.reshape(-1, 1)).reshape(n, c, length)
    d_weight = total(g * normal, [0, 2], False, name) if mask[1] else None
    d_bias = total(g, [0, 2], False, name) if mask[2] else None
    return d_x.reshape(x.shape) if d_x is not None and mask[0] else None, d_weight, d_bias


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """As aten::_native_batch_norm_legit_functional: result, means, 1/deviations, new running mean and variance.

    A running value becomes (1 - momentum) * old + momentum * new, the variance unbiased.
    """
    values = _channels(x)
    count = values.shape[0] * values.shape[2]
    saved = torch.empty(0, device=x.device), torch.empty(0, device=x.device)
    if training:
        mean = torch.div(total(values, [0, 2], False, "native_batch_norm"), number(count, x))
        d = values - mean[:, None]
        squares = total(d * d, [0, 2], False, "native_batch_norm")
        variance = torch.div(squares, number(count, x))
        if running_mean is not None and running_var is not None:
            keep, take = _float32(1.0 - momentum), _float32(momentum)
            unbiased = torch.div(squares, number(max(count - 1, 1), x))
            running_mean, running_var = running_mean * keep + mean * take, running_var * keep + unbiased * take
    else:
        assert running_mean is not None and running_var is not None
        mean, variance = running_mean, running_var
    factor = rsqrt(variance + _float32(eps))
    if training:
        saved = mean, factor
    out = ((values - mean[:, None]) * factor[:, None]) * (1.0 if weight is None else weight[:, None])
    out = out + (0.0 if bias is None else bias[:, None])
    return out.reshape(x.shape), *saved, running_mean, running_var


def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Tensors3:
    """As aten::native_batch_norm_backward: the gradients of argument, weight and bias that `mask` asks for."""
    name = "native_batch_norm_backward"
    values, g = _channels(x), _channels(grad)
    if training:
        assert save_mean is not None and save_invstd is not None
        mean, rstd = save_mean, save_invstd
    else:
        assert running_mean is not None and running_var is not None
        mean, rstd = running_mean, rsqrt(running_var + _float32(eps))
    h = (values - mean[:, None]) * rstd[:, None]
    d_weight, d_bias = total(g * h, [0, 2], False, name), total(g, [0, 2], False, name)
    factor = (rstd if weight is None else weight * rstd)[:, None]
    if training:
        count = number(values.shape[0] * values.shape[2], x)
        a, b = torch.div(d_bias, count)[:, None], torch.div(d_weight, count)[:, None]
        g = (g - a) - h * b
    d_x = (g * factor).reshape(x.shape)
    return d_x if mask[0] else None, d_weight if mask[1] else None, d_bias if mask[2] else None


def _channels(x: Tensor) -> Tensor:
    """Float32 (n, c, ...) as (n, c, l)."""
    return x.reshape(x.shape[0], x.shape[1], -1)


def _float32(value: float) -> float:
    """The float32 nearest to a number: what it is rounded to before it meets a tensor."""
    return float(torch.tensor(value, dtype=torch.float32))
