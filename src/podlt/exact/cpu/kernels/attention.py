"""Loops on the CPU for the softmax of attention, which leave out what a query does not see by its place.

A key that is not seen has the probability 0 and the gradient 0, which change no sum: the bits are those of whole rows.
Definition: `definition.attention`.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

_INFINITE = np.uint32(0x7F800000)
_0, _INFINITY = np.float32(0.0), np.float32(np.inf)


@kernel
def softmax_at(at: int, heads: int, t: int, s: int, bits: int, causal: bool) -> bool:
    """Float32 scores (heads, t, s) at an address to their softmax by rows; zeros in a row of nothing but -inf.

    Returns:
        False where a row has +inf or a NaN.
    """
    x, scale = array_at(at, heads * t * s, np.float32).reshape((heads * t, s)), power64(bits - 1)
    fine = True
    for i in range(heads * t):
        visible = min(i % t + 1, s) if causal else s
        row, rest = x[i, :visible], x[i, visible:]
        key = np.int32(-0x80000000)
        top = np.uint32(0)
        for j in range(visible):
            b = np.float32(row[j]).view(np.int32)
            key = max(key, np.int32(b ^ np.int32((b >> 31) & 0x7FFFFFFF)))
            top = max(top, magnitude(row[j]))
        largest = np.int32(key ^ np.int32((key >> 31) & 0x7FFFFFFF)).view(np.float32)
        fine = fine and top <= _INFINITE and largest < _INFINITY
        rest[:] = _0
        if largest == -_INFINITY:
            row[:] = _0
            continue
        total = np.int64(0)
        for j in range(visible):
            e = scalars.exp(row[j] - largest)
            row[j] = e
            total += units(e, scale)
        divisor = rounded(total, 1 - bits)
        for j in range(visible):
            row[j] = row[j] / divisor
    return fine


@kernel
def softmax_backward_at(grad_at: int, y_at: int, heads: int, t: int, s: int, bits: int, causal: bool) -> bool:
    """Gradients (heads, t, s) of `softmax_at`'s results, at an address, to those of its scores; whether all was
    finite."""
    count = heads * t
    grad = array_at(grad_at, count * s, np.float32).reshape((count, s))
    y = array_at(y_at, count * s, np.float32).reshape((count, s))
    products = np.empty(s, np.float32)
    worst = np.uint32(0)
    for i in range(count):
        visible = min(i % t + 1, s) if causal else s
        g, row, rest = grad[i, :visible], y[i, :visible], grad[i, visible:]
        top = np.uint32(0)
        for j in range(visible):
            product = g[j] * row[j]
            products[j] = product
            top = max(top, magnitude(product))
        worst = max(worst, top)
        scale = power64(bits - exponent(top))
        total = np.int64(0)
        for j in range(visible):
            total += units(products[j], scale)
        sum_ = rounded(total, exponent(top) - bits)
        for j in range(visible):
            g[j] = row[j] * (g[j] - sum_)
        rest[:] = _0
    return is_finite(worst)
