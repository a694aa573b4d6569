"""Loops on the CPU for softmax and normalisations: elementary functions, exact sums and float32 steps in one pass.

Definitions, step by step: `definition.layers`.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, kernel, scalar
from podlt.exact.cpu.kernels.sums import (
    RAW,
    exponent,
    is_finite,
    magnitude,
    power64,
    raw_units,
    rounded,
)

_INFINITE = np.uint32(0x7F800000)
_1 = np.float32(1.0)


@scalar
def _sum_under(values: Array, top: np.uint32, bits: int) -> np.float32:
    """The exact sum of values of which the largest magnitude is `top`."""
    scale, total = power64(bits - exponent(top)), -np.int64(len(values)) * RAW
    for j in range(len(values)):
        total += raw_units(values[j], scale)
    return rounded(total, exponent(top) - bits)


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
        total = -np.int64(n) * RAW
        if logarithm:
            for j in range(n):
                d = row[j] - largest
                target[j] = d
                total += raw_units(scalars.exp(d), scale)
            shift = scalars.log(rounded(total, 1 - bits))
            for j in range(n):
                target[j] = target[j] - shift
        else:
            for j in range(n):
                e = scalars.exp(row[j] - largest)
                target[j] = e
                total += raw_units(e, scale)
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
        s = _sum_under(target, top, bits)
        if logarithm:
            for j in range(n):
                target[j] = g[j] - scalars.exp(row[j]) * s
        else:
            for j in range(n):
                target[j] = row[j] * (g[j] - s)
    return is_finite(worst)


@kernel
def layer_norm_at(
    x: int, weight: int, bias: int, m: int, n: int, kinds: int, eps: float, bits: int, out: int, stats: int
) -> bool:
    """Normalise the rows of the float32 (m, n) at an address; whether all was finite.

    Args:
        weight: where float32 (kinds, n) lies, of which row i % kinds is that of row i; or 0 for none.
        bias: as `weight`.
        stats: where float32 (2, m) lies, written: means and 1/deviations.
    """
    rows, found = array_at(x, m * n, np.float32).reshape((m, n)), array_at(out, m * n, np.float32).reshape((m, n))
    factors = array_at(weight, kinds * n if weight != 0 else 0, np.float32)
    shifts = array_at(bias, kinds * n if bias != 0 else 0, np.float32)
    means = array_at(stats, 2 * m, np.float32)
    count, small = np.float32(n), np.float32(eps)
    worst = np.uint32(0)
    squares = np.empty(n, np.float32)
    for i in range(m):
        row, target = rows[i], found[i]
        top = np.uint32(0)
        for j in range(n):
            top = max(top, magnitude(row[j]))
        worst = max(worst, top)
        mean = _sum_under(row, top, bits) / count
        top = np.uint32(0)
        for j in range(n):
            d = row[j] - mean
            target[j] = d
            squares[j] = d * d
            top = max(top, magnitude(squares[j]))
        worst = max(worst, top)
        r = scalars.rsqrt(_sum_under(squares, top, bits) / count + small)
        means[i] = mean
        means[m + i] = r
        first = (i % kinds) * n
        if weight != 0 and bias != 0:
            w, b = factors[first : first + n], shifts[first : first + n]
            for j in range(n):
                target[j] = (target[j] * r) * w[j] + b[j]
            continue
        for j in range(n):
            target[j] = target[j] * r
        if weight != 0:
            for j in range(n):
                target[j] = target[j] * factors[first + j]
        if bias != 0:
            for j in range(n):
                target[j] = target[j] + shifts[first + j]
    return is_finite(worst)


@kernel
def layer_norm_backward_at(
    grad: int, x: int, weight: int, mean: int, rstd: int, m: int, n: int, kinds: int, bits: int, out: int, terms: int
) -> bool:
    """The gradient of `layer_norm_at`'s argument in `out`; in `terms` grad * normalised, to be summed.

    Args:
        weight: as of `layer_norm_at`.
        mean: where float32 (m,) lies.
        rstd: where float32 (m,) lies.
    """
    size, shape = m * n, (m, n)
    given, rows = array_at(grad, size, np.float32).reshape(shape), array_at(x, size, np.float32).reshape(shape)
    found, normal = array_at(out, size, np.float32).reshape(shape), array_at(terms, size, np.float32).reshape(shape)
    factors = array_at(weight, kinds * n, np.float32) if weight != 0 else np.ones(n, np.float32)
    turns = kinds if weight != 0 else 1
    means, deviations = array_at(mean, m, np.float32), array_at(rstd, m, np.float32)
    count = np.float32(n)
    worst = np.uint32(0)
    scaled, standard, products = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(m):
        g, row, target, term = given[i], rows[i], found[i], normal[i]
        middle, r = means[i], deviations[i]
        w = factors[(i % turns) * n :][:n]
        top_a, top_b = np.uint32(0), np.uint32(0)
        for j in range(n):
            t = g[j] * w[j]
            h = (row[j] - middle) * r
            p = t * h
            scaled[j] = t
            standard[j] = h
            products[j] = p
            top_a, top_b = max(top_a, magnitude(t)), max(top_b, magnitude(p))
        worst = max(worst, max(top_a, top_b))
        scale_a, scale_b = power64(bits - exponent(top_a)), power64(bits - exponent(top_b))
        sum_a = sum_b = -np.int64(n) * RAW
        for j in range(n):
            sum_a += raw_units(scaled[j], scale_a)
            sum_b += raw_units(products[j], scale_b)
        a = rounded(sum_a, exponent(top_a) - bits) / count
        b = rounded(sum_b, exponent(top_b) - bits) / count
        for j in range(n):
            h = standard[j]
            target[j] = ((scaled[j] - a) - h * b) * r
            term[j] = g[j] * h
    return is_finite(worst)
