"""Loops on the CPU for softmax and normalisations: elementary functions, exact sums and float32 steps in one pass.

Definitions, step by step: `definition.layers`.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels.sums import channel_sum, exponent, is_finite, magnitude, power64, rounded, units

_INFINITE = np.uint32(0x7F800000)
_1 = np.float32(1.0)


@kernel
def softmax_at(at: int, m: int, n: int, bits: int, logarithm: bool, to: int) -> bool:
    """Float32 (m, n) at an address to their softmax, or its logarithm, at another, by rows.

    The largest exponential of a row is exactly 1: that is the exponent of the sum, and no pass is spent on it.

    Returns:
        False where a row has no finite maximum, or a NaN.
    """
    x, out = array_at(at, m * n, np.float32).reshape((m, n)), array_at(to, m * n, np.float32).reshape((m, n))
    scale = power64(bits - 1)
    fine = True
    for i in range(m):
        row, target = x[i], out[i]
        key = np.int32(-0x80000000)
        top = np.uint32(0)
        for j in range(n):
            b = np.float32(row[j]).view(np.int32)
            key = max(key, np.int32(b ^ np.int32((b >> 31) & 0x7FFFFFFF)))
            top = max(top, magnitude(row[j]))
        largest = np.int32(key ^ np.int32((key >> 31) & 0x7FFFFFFF)).view(np.float32)
        fine = fine and top <= _INFINITE and abs(largest) < np.float32(np.inf)
        total = np.int64(0)
        if logarithm:
            for j in range(n):
                d = row[j] - largest
                target[j] = d
                total += units(scalars.exp(d), scale)
            shift = scalars.log(rounded(total, 1 - bits))
            for j in range(n):
                target[j] = target[j] - shift
        else:
            for j in range(n):
                e = scalars.exp(row[j] - largest)
                target[j] = e
                total += units(e, scale)
            divisor = rounded(total, 1 - bits)
            for j in range(n):
                target[j] = target[j] / divisor
    return fine


@kernel
def softmax_backward_at(grad_at: int, y_at: int, m: int, n: int, bits: int, logarithm: bool, to: int) -> bool:
    """From the gradients of `softmax_at`'s results to those of its argument; whether all was finite."""
    size, shape = m * n, (m, n)
    grad, y = array_at(grad_at, size, np.float32).reshape(shape), array_at(y_at, size, np.float32).reshape(shape)
    out = array_at(to, size, np.float32).reshape(shape)
    worst = np.uint32(0)
    for i in range(m):
        g, row, target = grad[i], y[i], out[i]
        top = np.uint32(0)
        for j in range(n):
            target[j] = g[j] if logarithm else g[j] * row[j]
            top = max(top, magnitude(target[j]))
        worst = max(worst, top)
        scale = power64(bits - exponent(top))
        total = np.int64(0)
        for j in range(n):
            total += units(target[j], scale)
        s = rounded(total, exponent(top) - bits)
        if logarithm:
            for j in range(n):
                target[j] = g[j] - scalars.exp(row[j]) * s
        else:
            for j in range(n):
                target[j] = row[j] * (g[j] - s)
    return is_finite(worst)


@kernel
def _row_sum(values: Array, bits: int) -> tuple[np.float32, np.uint32]:
    top = np.uint32(0)
    for j in range(len(values)):
        top = max(top, magnitude(values[j]))
    scale = power64(bits - exponent(top))
    total = np.int64(0)
    for j in range(len(values)):
        total += units(values[j], scale)
    return rounded(total, exponent(top) - bits), top


@kernel
def layer_norm(x: Array, weight: Array, bias: Array, eps: np.float32, bits: int, out: Array, stats: Array) -> bool:
    """Normalise rows of float32 (m, n); `stats` (2, m) receives means and 1/deviations; whether all was finite.

    `weight` and `bias` are (n,), or (0,) for none.
    """
    m, n = x.shape
    count = np.float32(n)
    worst = np.uint32(0)
    scratch = np.empty(n, np.float32)
    for i in range(m):
        row, target = x[i], out[i]
        s, top = _row_sum(row, bits)
        worst = max(worst, top)
        mean = s / count
        for j in range(n):
            d = row[j] - mean
            target[j] = d
            scratch[j] = d * d
        s, top = _row_sum(scratch, bits)
        worst = max(worst, top)
        r = scalars.rsqrt(s / count + eps)
        stats[0, i] = mean
        stats[1, i] = r
        for j in range(n):
            target[j] = target[j] * r
        if len(weight) > 0:
            for j in range(n):
                target[j] = target[j] * weight[j]
        if len(bias) > 0:
            for j in range(n):
                target[j] = target[j] + bias[j]
    return is_finite(worst)


@kernel
def layer_norm_backward(
    grad: Array, x: Array, weight: Array, stats: Array, bits: int, out: Array, terms: Array
) -> bool:
    """The gradient of `layer_norm`'s argument in `out`; in `terms` grad * normalised, to be summed."""
    m, n = x.shape
    count = np.float32(n)
    worst = np.uint32(0)
    scratch = np.empty(n, np.float32)
    for i in range(m):
        g, row, target, term = grad[i], x[i], out[i], terms[i]
        mean, r = stats[0, i], stats[1, i]
        for j in range(n):
            h = (row[j] - mean) * r
            term[j] = h
            target[j] = g[j] * weight[j] if len(weight) > 0 else g[j]
            scratch[j] = target[j] * h
        a, top = _row_sum(target, bits)
        worst = max(worst, top)
        b, top = _row_sum(scratch, bits)
        worst = max(worst, top)
        a = a / count
        b = b / count
        for j in range(n):
            target[j] = ((target[j] - a) - term[j] * b) * r
            term[j] = g[j] * term[j]
    return is_finite(worst)


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
        scale, total = power64(bits - exponent(top)), np.int64(0)
        for i in range(n):
            row = x[i, j]
            for k in range(length):
                d = row[k] - mean
                total += units(d * d, scale)
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
        scale, total = power64(bits - exponent(top)), np.int64(0)
        scale_g, total_g = power64(bits - exponent(top_g)), np.int64(0)
        for i in range(n):
            row, g = x[i, j], grad[i, j]
            for k in range(length):
                total += units(g[k] * ((row[k] - m) * r), scale)
                total_g += units(g[k], scale_g)
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
