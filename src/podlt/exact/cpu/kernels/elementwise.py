"""Loops on the CPU over elements, each with all steps of an operation: compositions read their operands many times.

Choices, not branches, so that they vectorise; constants are float32 arguments. Addresses, because a small tensor is
computed sooner than an array is handed over.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, assignment, arg-type"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, inlined, kernel, scalar
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

CLAMP, LEAKY_RELU, ELU, SOFTPLUS, LOG_SIGMOID, LOG_SIGMOID_BUFFER = range(6)
(
    HARDTANH_BACKWARD,
    LEAKY_RELU_BACKWARD,
    SOFTPLUS_BACKWARD,
    LOG_SIGMOID_BACKWARD,
    ELU_BACKWARD,
    ELU_RESULT_BACKWARD,
    TANH_BACKWARD,
    SIGMOID_BACKWARD,
    MAXIMUM,
    MINIMUM,
    SQUARED_BACKWARD,
) = range(11)
SQUARED, SMOOTH_L1, HUBER, BINARY = range(4)

_0, _1, _2, _HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
STRETCH = 1024


@kernel
def one(which: int, at: int, n: int, p: float, q: float, r: float, to: int) -> None:
    """Float32 (n,) at an address to f of them at another: `CLAMP` to [p, q] and the functions after it.

    Args:
        p: of `LEAKY_RELU` its slope, of `ELU` the product of alpha and scale, of `SOFTPLUS` beta.
        q: of `ELU` the scale, of `SOFTPLUS` the threshold.
        r: of `ELU` the scale of its input.
    """
    a, b, c = np.float32(p), np.float32(q), np.float32(r)
    x, out = array_at(at, n, np.float32), array_at(to, n, np.float32)
    if which == CLAMP:
        for i in range(n):
            v = x[i]
            v = a if v < a else v
            out[i] = b if v > b else v
    elif which == LEAKY_RELU:
        for i in range(n):
            out[i] = x[i] if x[i] > _0 else x[i] * a
    elif which == ELU:
        for i in range(n):
            below = scalars.expm1(x[i] * c) * a
            out[i] = below if x[i] <= _0 else x[i] * b
    elif which == SOFTPLUS:
        for i in range(n):
            t = x[i] * a
            soft = scalars.log1p(scalars.exp(t)) / a
            out[i] = x[i] if t > b else soft
    elif which == LOG_SIGMOID_BUFFER:
        for i in range(n):
            out[i] = scalars.exp(-abs(x[i]))
    else:
        for i in range(n):
            soft = scalars.log1p(scalars.exp(-abs(x[i])))
            out[i] = (_0 if x[i] > _0 else x[i]) - soft


@inlined
def _larger(a: np.float32, b: np.float32) -> np.float32:
    """The larger: +0 is above -0, and a NaN wins."""
    chosen = a if a > b else b
    both = np.int32(np.float32(a).view(np.int32) & np.float32(b).view(np.int32)).view(np.float32)
    return a if a != a else both if a == b else chosen


@inlined
def _smaller(a: np.float32, b: np.float32) -> np.float32:
    """The smaller: -0 is below +0, and a NaN wins."""
    chosen = a if a < b else b
    both = np.int32(np.float32(a).view(np.int32) | np.float32(b).view(np.int32)).view(np.float32)
    return a if a != a else both if a == b else chosen


@kernel
def two(which: int, first: int, second: int, n: int, p: float, q: float, r: float, to: int) -> None:
    """Float32 (n,) at two addresses to f of each pair at a third: gradient and argument (or result), or two values.

    Args:
        p: as of `one`; the lower bound of `HARDTANH_BACKWARD`; the number of terms that `SQUARED_BACKWARD` divides by.
        q: as of `one`; the upper bound of `HARDTANH_BACKWARD`; the gradient of the loss of `SQUARED_BACKWARD`.
        r: as of `one`.
    """
    a, b, c = np.float32(p), np.float32(q), np.float32(r)
    g, x, out = array_at(first, n, np.float32), array_at(second, n, np.float32), array_at(to, n, np.float32)
    if which == HARDTANH_BACKWARD:
        for i in range(n):
            given, value = g[i], x[i]  # both are read whatever is chosen, so that the loop has no branch
            out[i] = _0 if (value <= a) | (value >= b) else given
    elif which == LEAKY_RELU_BACKWARD:
        for i in range(n):
            out[i] = g[i] if x[i] > _0 else g[i] * a
    elif which == SOFTPLUS_BACKWARD:
        for i in range(n):
            t = x[i] * a
            s = scalars.sigmoid(t)
            out[i] = g[i] * (_1 if t > b else s)
    elif which == LOG_SIGMOID_BACKWARD:
        for i in range(n):
            out[i] = g[i] * scalars.sigmoid(-x[i])
    elif which == ELU_BACKWARD:
        for i in range(n):
            below = ((g[i] * c) * a) * scalars.exp(x[i] * c)
            out[i] = below if x[i] <= _0 else g[i] * b
    elif which == ELU_RESULT_BACKWARD:
        for i in range(n):
            below = (g[i] * c) * (x[i] + a)
            out[i] = below if x[i] <= _0 else g[i] * b
    elif which == TANH_BACKWARD:
        for i in range(n):
            out[i] = g[i] * (_1 - x[i] * x[i])
    elif which == SIGMOID_BACKWARD:
        for i in range(n):
            out[i] = g[i] * ((_1 - x[i]) * x[i])
    elif which == MAXIMUM:
        for i in range(n):
            out[i] = _larger(g[i], x[i])
    elif which == MINIMUM:
        for i in range(n):
            out[i] = _smaller(g[i], x[i])
    else:
        for i in range(n):
            out[i] = (((g[i] - x[i]) * _2) / a) * b


@kernel
def choose(mask: int, count: int, first: int, second: int, n: int, singles: int, to: int) -> None:
    """Of each pair of float32 (n,) at two addresses the first where the mask, uint8 (count,), is not 0.

    Args:
        count: of the mask, which is repeated `n / count` times.
        singles: 1 where the first is one value for all, plus 2 where the second is.
    """
    chosen, out = array_at(mask, count, np.uint8), array_at(to, n, np.float32)
    a = array_at(first, 1 if singles & 1 else n, np.float32)
    b = array_at(second, 1 if singles & 2 else n, np.float32)
    for start in range(0, n, count):
        target = out[start : start + count]
        if singles == 0:
            x, y = a[start : start + count], b[start : start + count]
            for i in range(count):
                target[i] = x[i] if chosen[i] else y[i]
        elif singles == 1:
            y, single = b[start : start + count], a[0]
            for i in range(count):
                target[i] = single if chosen[i] else y[i]
        elif singles == 2:
            x, single = a[start : start + count], b[0]
            for i in range(count):
                target[i] = x[i] if chosen[i] else single
        else:
            for i in range(count):
                target[i] = a[0] if chosen[i] else b[0]


@scalar
def _losses(which: int, x: Array, y: Array, edge: np.float32, out: Array) -> None:
    """What each pair adds to a loss."""
    if which == SQUARED:
        for i in range(len(out)):
            d = x[i] - y[i]
            out[i] = d * d
    elif which == SMOOTH_L1:
        for i in range(len(out)):
            z = abs(x[i] - y[i])
            near, far = ((z * _HALF) * z) / edge, z - edge * _HALF
            out[i] = near if z < edge else far
    elif which == HUBER:
        for i in range(len(out)):
            z = abs(x[i] - y[i])
            near, far = (z * _HALF) * z, edge * (z - edge * _HALF)
            out[i] = near if z <= edge else far
    else:
        for i in range(len(out)):
            tail = scalars.log1p(scalars.exp(-abs(x[i])))
            out[i] = ((_0 if x[i] < _0 else x[i]) - x[i] * y[i]) + tail


@kernel
def loss_at(which: int, first: int, second: int, n: int, beta: float, bits: int, to: int) -> bool:
    """The exact sum of the losses of float32 (n,) at two addresses, at a third; whether all were finite.

    Terms are made twice, by stretches that stay in the cache: for their exponent, and for their sum.
    """
    x, y, edge = array_at(first, n, np.float32), array_at(second, n, np.float32), np.float32(beta)
    terms = np.empty(STRETCH, np.float32)
    top = np.uint32(0)
    for start in range(0, n, STRETCH):
        part = terms[: min(STRETCH, n - start)]
        _losses(which, x[start:], y[start:], edge, part)
        for i in range(len(part)):
            top = max(top, magnitude(part[i]))
    scale, total = power64(bits - exponent(top)), np.int64(0)
    for start in range(0, n, STRETCH):
        part = terms[: min(STRETCH, n - start)]
        _losses(which, x[start:], y[start:], edge, part)
        for i in range(len(part)):
            total += units(part[i], scale)
    array_at(to, 1, np.float32)[0] = rounded(total, exponent(top) - bits)
    return is_finite(top)


@kernel
def whole_power(at: int, n: int, times: int, to: int) -> None:
    """Float32 (n,) at an address to their powers at another, by squares in binary64: as `scalars.power` does."""
    x, out = array_at(at, n, np.float32), array_at(to, n, np.float32)
    square, total = np.empty(STRETCH, np.float64), np.empty(STRETCH, np.float64)
    for start in range(0, n, STRETCH):
        count = min(STRETCH, n - start)
        part, target = x[start : start + count], out[start : start + count]
        for i in range(count):
            square[i] = part[i]
            total[i] = 1.0
        left = abs(times)
        while left:
            if left & 1:
                for i in range(count):
                    total[i] = total[i] * square[i]
            for i in range(count):
                square[i] = square[i] * square[i]
            left >>= 1
        if times < 0:
            for i in range(count):
                target[i] = np.float32(1.0 / total[i])
        else:
            for i in range(count):
                target[i] = np.float32(total[i])
