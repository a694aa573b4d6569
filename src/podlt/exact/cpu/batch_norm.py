"""Batch normalisation and its gradient, by the loops of `kernels.batch_norm`."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import batch_norm as kernels

Tensor = torch.Tensor


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`Norms.batch_norm`."""
    values, out = _channels(x), torch.empty(x.shape)
    stats, count = np.empty((3, x.shape[1]), np.float32), values.shape[0] * values.shape[2]
    scale, shift = _affine(weight, bias, x.shape[1])
    target = out.numpy().reshape(values.shape)
    if not kernels.batch_norm(values, scale, shift, np.float32(eps), sum_bits(count), stats, target):
        raise NonFiniteError(operation)
    unbiased = torch.from_numpy(stats[1] / np.float32(max(count - 1, 1)))
    return out, torch.from_numpy(stats[0]), unbiased, torch.from_numpy(stats[2])


def channel_normalise(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`Norms.channel_normalise`."""
    values, out = _channels(x), torch.empty(x.shape)
    affine = _affine(weight, bias, x.shape[1])
    kernels.channel_normalise(values, _array(mean), _array(rstd), *affine, out.numpy().reshape(values.shape))
    return out


def batch_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, training: bool, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.batch_norm_backward`."""
    values, out = _channels(x), torch.empty(x.shape)
    given = _channels(grad), values, _array(mean), _array(rstd), _affine(weight, None, x.shape[1])[0]
    bits, sums = sum_bits(values.shape[0] * values.shape[2]), np.empty((2, x.shape[1]), np.float32)
    if not kernels.batch_norm_backward(*given, training, bits, sums, out.numpy().reshape(values.shape)):
        raise NonFiniteError(operation)
    return out, torch.from_numpy(sums[0]), torch.from_numpy(sums[1])


def _affine(weight: Tensor | None, bias: Tensor | None, channels: int) -> tuple[Array, Array]:
    """Each channel's weight and bias, 1 and 0 where there are none."""
    scale = np.ones(channels, np.float32) if weight is None else _array(weight)
    return scale, np.zeros(channels, np.float32) if bias is None else _array(bias)


def _channels(x: Tensor) -> Array:
    """Float32 (n, c, ...) as (n, c, l)."""
    return _array(x).reshape(x.shape[0], x.shape[1], -1)


def _array(x: Tensor) -> Array:
    """The memory of a tensor, made contiguous where it is not."""
    return x.detach().contiguous().numpy()
