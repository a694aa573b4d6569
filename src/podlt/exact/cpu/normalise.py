"""Softmax, layer and batch normalisation, and their gradients. Definitions: `definition_layers`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError, sum_bits
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import elementary, norms
from podlt.exact.cpu.kernels import sums as kernels_sums
from podlt.exact.cpu.scratch import address

_none = np.empty(0, np.float32)
Tensors3 = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


def array(x: torch.Tensor | None) -> Array:
    """The memory of a tensor, made contiguous where it is not; an empty array for None."""
    return _none if x is None else x.detach().contiguous().numpy()


def softmax(x: torch.Tensor, dim: int, logarithm: bool, operation: str) -> torch.Tensor:
    """Softmax along `dim`, or its logarithm. -inf is a value like any other as long as one is finite in each line.

    Raises:
        NonFiniteError: a line holds +inf, NaN or nothing but -inf.
    """
    values = _lines(x, dim)
    out = torch.empty(values.shape)
    if values.numel():
        n = values.shape[-1]
        m = values.numel() // n
        if not norms.softmax_at(address(values), m, n, sum_bits(n), logarithm, address(out)):
            raise NonFiniteError(operation)
    return _from_lines(out, x, dim)


def softmax_backward(grad: torch.Tensor, y: torch.Tensor, dim: int, logarithm: bool, operation: str) -> torch.Tensor:
    """The gradient of `softmax`'s argument from the gradient of its result `y`."""
    given, values = _lines(grad, dim), _lines(y, dim)
    if given.shape != values.shape:
        raise ValueError(f"{operation}: expected a gradient of shape {tuple(y.shape)}, got {tuple(grad.shape)}")
    out = torch.empty(values.shape)
    if values.numel():
        n = values.shape[-1]
        m = values.numel() // n
        places = address(given), address(values)
        if not norms.softmax_backward_at(*places, m, n, sum_bits(n), logarithm, address(out)):
            raise NonFiniteError(operation)
    return _from_lines(out, y, dim)


def layer_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As aten::native_layer_norm: (normalised, means, 1/deviations)."""
    n = math.prod(shape)
    values = array(x).reshape(-1, n)
    out = torch.empty(x.shape)
    stats = torch.empty((2, values.shape[0]))
    if not norms.layer_norm(
        values,
        array(weight).reshape(-1),
        array(bias).reshape(-1),
        np.float32(eps),
        sum_bits(n),
        out.numpy().reshape(-1, n),
        stats.numpy(),
    ):
        raise NonFiniteError("native_layer_norm")
    lead = [*x.shape[: x.ndim - len(shape)], *[1] * len(shape)]
    return out, stats[0].reshape(lead), stats[1].reshape(lead)


def layer_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    shape: Sequence[int],
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mask: Sequence[bool],
) -> Tensors3:
    """As aten::native_layer_norm_backward: the gradients of argument, weight and bias that `mask` asks for."""
    n = math.prod(shape)
    g = array(grad).reshape(-1, n)
    values = array(x).reshape(-1, n)
    out = torch.empty(x.shape)
    stats = np.stack([array(mean).reshape(-1), array(rstd).reshape(-1)])
    terms = scratch.take("norm terms", g.shape, np.float32)
    if not norms.layer_norm_backward(
        g, values, array(weight).reshape(-1), stats, sum_bits(n), out.numpy().reshape(-1, n), terms
    ):
        raise NonFiniteError("native_layer_norm_backward")
    d_weight = _columns(terms, shape) if mask[1] and weight is not None else None
    d_bias = _columns(g, shape) if mask[2] and bias is not None else None
    return out if mask[0] else None, d_weight, d_bias


def batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """As aten::_native_batch_norm_legit_functional: result, means, 1/deviations, new running mean and variance.

    A running value becomes (1 - momentum) * old + momentum * new, the variance unbiased.
    """
    values = _channels(x)
    channels = values.shape[1]
    scale = array(weight) if weight is not None else np.ones(channels, np.float32)
    shift = array(bias) if bias is not None else np.zeros(channels, np.float32)
    out = torch.empty(x.shape)
    target = out.numpy().reshape(values.shape)
    if not training:
        factor = np.empty(channels, np.float32)
        elementary.unary(elementary.RSQRT, array(running_var) + np.float32(eps), factor)
        norms.channel_normalise(values, array(running_mean), factor, scale, shift, target)
        return out, torch.empty(0), torch.empty(0), running_mean, running_var
    count = values.shape[0] * values.shape[2]
    stats = np.empty((3, channels), np.float32)
    if not norms.batch_norm(values, scale, shift, np.float32(eps), sum_bits(count), stats, target):
        raise NonFiniteError("native_batch_norm")
    mean, squares, factor = stats
    if running_mean is not None and running_var is not None:
        keep, take = np.float32(1.0 - momentum), np.float32(momentum)
        unbiased = squares / np.float32(max(count - 1, 1))
        running_mean = torch.from_numpy(keep * array(running_mean) + take * mean)
        running_var = torch.from_numpy(keep * array(running_var) + take * unbiased)
    return out, torch.from_numpy(mean), torch.from_numpy(factor), running_mean, running_var


def batch_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    save_mean: torch.Tensor | None,
    save_invstd: torch.Tensor | None,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Tensors3:
    """As aten::native_batch_norm_backward: the gradients of argument, weight and bias that `mask` asks for."""
    values, g = _channels(x), _channels(grad)
    if training:
        mean, factor = array(save_mean), array(save_invstd)
    else:
        mean = array(running_mean)
        factor = np.empty_like(mean)
        elementary.unary(elementary.RSQRT, array(running_var) + np.float32(eps), factor)
    scale = array(weight) if weight is not None else np.ones_like(mean)
    out = torch.empty(x.shape)
    target, sums = out.numpy().reshape(values.shape), np.empty((2, len(mean)), np.float32)
    bits = sum_bits(values.shape[0] * values.shape[2])
    if not norms.batch_norm_backward(g, values, mean, factor, scale, training, bits, sums, target):
        raise NonFiniteError("native_batch_norm_backward")
    return (
        out if mask[0] else None,
        torch.from_numpy(sums[0]) if mask[1] else None,
        torch.from_numpy(sums[1]) if mask[2] else None,
    )


def _lines(x: torch.Tensor, dim: int) -> torch.Tensor:
    """`x` in contiguous memory with `dim` last."""
    if x.ndim == 0:
        return x.reshape(1)
    return (x if dim in (-1, x.ndim - 1) else x.movedim(dim, -1)).contiguous()


def _from_lines(out: torch.Tensor, x: torch.Tensor, dim: int) -> torch.Tensor:
    """What lies as `_lines` of `x` lie, in the order of dimensions that `x` has."""
    if x.ndim == 0:
        return out.reshape(())
    return out if dim in (-1, x.ndim - 1) else out.movedim(-1, dim).contiguous()


def _columns(values: Array, shape: Sequence[int]) -> torch.Tensor:
    out = torch.empty(tuple(shape))
    columns = values.reshape(1, *values.shape)
    if not kernels_sums.sum_columns(columns, sum_bits(values.shape[0]), out.numpy().reshape(1, -1)):
        raise NonFiniteError("native_layer_norm_backward")
    return out


def _channels(x: torch.Tensor) -> Array:
    """Float32 (n, c, ...) as (n, c, l)."""
    return array(x).reshape(x.shape[0], x.shape[1], -1)
