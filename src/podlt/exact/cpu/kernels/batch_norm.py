"""Loops on the CPU for batch normalisation: exact sums and float32 steps, a channel at a time while it is in the cache.

Definitions, step by step: `definition.layers`.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import kernel
from podlt.exact.cpu.kernels.sums import (
    RAW,
    channel_sum,
    exponent,
    is_finite,
    magnitude,
    power64,
    raw_units,
    rounded,
)


@kernel
def batch_norm(x: Array, weight: Array, bias: Array, eps: np.float32, bits: int, stats: Array, out: Array) -> bool:
    """Normalise float32 (n, c, l) by channel, one channel after the other while it is in the cache.

    Args:
        weight: float32 (c,).
        bias: float32 (c,).
        bits: `constants.sum_bits` of n * l.
        stats: float32 (3, c), written: the means, the sums of (x - mean)**2, and 1/deviations.
        out: float32 (n, c, l), written.
    """
    n, c, length = x.shape
    count = np.float32(n * length)
    worst = np.uint32(0)
    for j in range(c):
        s, top = channel_sum(x, j, bits)
        worst = max(worst, top)
        mean = s / count
        top = np.uint32(0)
        for i in range(n):
            row = x[i, j]
            for k in range(length):
                d = row[k] - mean
                top = max(top, magnitude(d * d))
        worst = max(worst, top)
        scale, total = power64(bits - exponent(top)), -np.int64(n * length) * RAW
        for i in range(n):
            row = x[i, j]
            for k in range(length):
                d = row[k] - mean
                total += raw_units(d * d, scale)
        squares = rounded(total, exponent(top) - bits)
        factor = scalars.rsqrt(squares / count + eps)
        stats[0, j], stats[1, j], stats[2, j] = mean, squares, factor
        w, b = weight[j], bias[j]
        for i in range(n):
            row, target = x[i, j], out[i, j]
            for k in range(length):
                target[k] = ((row[k] - mean) * factor) * w + b
    return is_finite(worst)


@kernel
def channel_normalise(x: Array, mean: Array, rstd: Array, weight: Array, bias: Array, out: Array) -> None:
    """((x - mean) * rstd) * weight + bias by channel, float32 (n, c, l)."""
    n, c, length = x.shape
    for i in range(n):
        for j in range(c):
            row, target = x[i, j], out[i, j]
            for k in range(length):
                target[k] = ((row[k] - mean[j]) * rstd[j]) * weight[j] + bias[j]


@kernel
def batch_norm_backward(
    grad: Array, x: Array, mean: Array, rstd: Array, weight: Array, training: bool, bits: int, sums: Array, out: Array
) -> bool:
    """The gradient of `channel_normalise`'s argument, and in `sums` (2, c) those of weight and bias.

    With `training`, the means of grad and of grad * normalised are taken off. Whether all was finite.
    """
    n, c, length = x.shape
    count = np.float32(n * length)
    worst = np.uint32(0)
    for j in range(c):
        m, r = mean[j], rstd[j]
        top, top_g = np.uint32(0), np.uint32(0)
        for i in range(n):
            row, g = x[i, j], grad[i, j]
            for k in range(length):
                top = max(top, magnitude(g[k] * ((row[k] - m) * r)))
                top_g = max(top_g, magnitude(g[k]))
        worst = max(worst, max(top, top_g))
        extra = -np.int64(n * length) * RAW
        scale, total = power64(bits - exponent(top)), extra
        scale_g, total_g = power64(bits - exponent(top_g)), extra
        for i in range(n):
            row, g = x[i, j], grad[i, j]
            for k in range(length):
                total += raw_units(g[k] * ((row[k] - m) * r), scale)
                total_g += raw_units(g[k], scale_g)
        sums[0, j] = rounded(total, exponent(top) - bits)
        sums[1, j] = rounded(total_g, exponent(top_g) - bits)
        a, b, factor = sums[1, j] / count, sums[0, j] / count, weight[j] * r
        for i in range(n):
            row, target, g = x[i, j], out[i, j], grad[i, j]
            if training:
                for k in range(length):
                    target[k] = ((g[k] - a) - ((row[k] - m) * r) * b) * factor
            else:
                for k in range(length):
                    target[k] = g[k] * factor
    return is_finite(worst)
