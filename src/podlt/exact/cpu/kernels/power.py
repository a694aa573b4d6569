"""Powers on the CPU, in stretches whose loops vectorise. Definition: `definition.elementary.power`.

Each step is that of `scalars.power`, with choices in place of branches: what is no ordinary power is worked out of
ones, and put right afterwards. A division by a power of two is a product by its reciprocal, of the same bits.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, arg-type, assignment"

from __future__ import annotations

import math

import numpy as np

from podlt.exact import coefficients as c
from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, kernel, scalar

STRETCH = 512
_ROUND = np.float64(6755399441055744.0)  # 1.5 * 2**52
_ROUND_BITS = np.int64(_ROUND.view(np.int64))
_MANTISSA, _HALF_BITS = np.int64(0xFFFFFFFFFFFFF), np.int64(0x3FE0000000000000)
_LN2, _INVERSE_LN2 = np.float64(c.LN2), np.float64(c.INVERSE_LN2)
_INF = np.float64(np.inf)


@scalar
def _log64(x: np.float64) -> np.float64:
    """ln x for an ordinary x above 0."""
    bits = np.float64(x).view(np.int64)
    m = np.int64((bits & _MANTISSA) | _HALF_BITS).view(np.float64)
    small = m < 0.70710678118654752
    n = np.int64((bits >> 52) + _ROUND_BITS).view(np.float64) - (_ROUND + 1022.0)  # whole numbers: exact
    n = n - 1.0 if small else n
    m = m + m if small else m
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = 1.0 / 17.0
    series = series * z + 1.0 / 15.0
    series = series * z + 1.0 / 13.0
    series = series * z + 1.0 / 11.0
    series = series * z + 1.0 / 9.0
    series = series * z + 1.0 / 7.0
    series = series * z + 1.0 / 5.0
    series = series * z + 1.0 / 3.0
    series = series * z + 1.0
    return n * _LN2 + (s + s) * series


@scalar
def _exp64(x: np.float64) -> np.float64:
    """e**x, of a float32's range."""
    x = x if x > -120.0 else -120.0
    x = x if x < 100.0 else 100.0
    whole = x * _INVERSE_LN2 + _ROUND
    n = whole - _ROUND
    r = x - n * _LN2
    total = r / 12.0 + 1.0
    total = total * r / 11.0 + 1.0
    total = total * r / 10.0 + 1.0
    total = total * r / 9.0 + 1.0
    total = total * r * 0.125 + 1.0
    total = total * r / 7.0 + 1.0
    total = total * r / 6.0 + 1.0
    total = total * r / 5.0 + 1.0
    total = total * r * 0.25 + 1.0
    total = total * r / 3.0 + 1.0
    total = total * r * 0.5 + 1.0
    total = total * r + 1.0
    exponent = np.float64(whole).view(np.int64) - _ROUND_BITS
    return total * np.int64((exponent + 1023) << 52).view(np.float64)


@scalar
def _ordinary(x: np.float64, y: np.float64) -> np.float64:
    """exp(y ln x), and what powers of zeros, infinities and negative numbers are."""
    usual = (x > 0.0) & (x < _INF) & (abs(y) < _INF)
    out = _exp64((y if usual else 1.0) * _log64(x if usual else 1.0))
    edge = 0.0 if (x == 0.0) == (y > 0.0) else _INF
    out = edge if (x == 0.0) | (x == _INF) else out
    defined = (x >= 0.0) & (abs(y) < _INF)
    return out if defined else np.nan


@kernel
def power_of_one(at: int, n: int, y: np.float64, to: int) -> None:
    """Float32 (n,) at an address to their powers at another, by one exponent that is not whole."""
    x, out = array_at(at, n, np.float32), array_at(to, n, np.float32)
    if abs(y) == 0.5:
        for i in range(n):
            root = math.sqrt(np.float64(x[i]))
            out[i] = np.float32(root if y > 0 else 1.0 / root)
        return
    for i in range(n):
        out[i] = np.float32(_ordinary(np.float64(x[i]), y))


@kernel
def power_of_each(x: Array, y: Array, out: Array) -> None:
    """out[i] = x[i] ** y[i] for float32 (n,) arrays."""
    for start in range(0, len(x), STRETCH):
        base, exponents, target = x[start:][:STRETCH], y[start:][:STRETCH], out[start:][:STRETCH]
        for i in range(len(base)):
            target[i] = np.float32(_ordinary(np.float64(base[i]), np.float64(exponents[i])))
        for i in range(len(base)):
            other = np.float64(exponents[i])
            if abs(other) == 0.5 or (abs(other) <= c.LARGEST_INTEGER_POWER and other == np.rint(other)):
                target[i] = np.float32(scalars.power(np.float64(base[i]), other))
