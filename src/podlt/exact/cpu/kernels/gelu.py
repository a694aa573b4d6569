"""GELU and its slope, in short loops one after the other over what stays in the first cache.

A loop over all steps of one element has some 80 instructions that wait for each other: a processor sees too few
elements at once to fill that time. The bits are those of `definition.elementary`: what is left out below cannot occur
for these arguments.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, arg-type"

from __future__ import annotations

import numpy as np

from podlt.exact import coefficients as c
from podlt.exact.constants import Array
from podlt.exact.cpu.jit import inlined, scalar
from podlt.exact.cpu.scalars import either, horner, signed

STRETCH = 512
_1, _4, _HALF, _MINUS_HALF = (np.float32(v) for v in (1.0, 4.0, 0.5, -0.5))
_ROUND32 = np.float32(12582912.0)
_UP, _DOWN = np.int32(64 << 23), np.float32(2.0**-64)
_EXP, _LOG2_E, _LN2_HIGH, _LN2_LOW, _EXP_LEAST = c.EXP, c.LOG2_E, c.LN2_HIGH, c.LN2_LOW, c.EXP_LEAST
_ERF_NEAR, _ERF_FAR, _ERF_SMALL = c.ERF_NEAR, c.ERF_FAR, c.ERF_SMALL
_SQRT_HALF, _INVERSE_SQRT_TWO_PI = c.SQRT_HALF, c.INVERSE_SQRT_TWO_PI


@scalar
def _exp_bits(x: np.float32) -> np.int32:
    """The bits of e**x where that is a normal float32; else what they would be if exponents went on.

    The rounded multiple of log 2 lies in the low bits of `t`: it is added to the exponent as it stands.
    """
    t = x * _LOG2_E + _ROUND32
    n = t - _ROUND32
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = horner(_EXP, r)
    p = (p * (r * r) + r) + _1
    return np.int32(np.float32(p).view(np.int32) + np.int32(np.float32(t).view(np.int32) << 23))


@inlined
def _exp_normal(x: np.float32) -> np.float32:
    """e**x for -87 < x < 88."""
    return np.int32(_exp_bits(x)).view(np.float32)


@inlined
def _exp_below(x: np.float32) -> np.float32:
    """e**x for x <= 0, rounded once where it is subnormal; of a NaN, something finite."""
    b = x if x > _EXP_LEAST else _EXP_LEAST
    return np.int32(_exp_bits(b) + _UP).view(np.float32) * _DOWN


@scalar
def _twice_area(x: Array, near: Array, far: Array) -> None:
    """1 + erf(x / sqrt 2) in `near`; of a NaN something finite, which is multiplied by it. `far` is overwritten."""
    for i in range(len(x)):
        u = x[i] * _SQRT_HALF
        size = abs(u)
        b = size if size < _4 else _4
        near[i] = horner(_ERF_NEAR, u * u) * u + u
        far[i] = horner(_ERF_FAR, b) * b - b
    for i in range(len(x)):
        u = x[i] * _SQRT_HALF
        tail = _1 - _exp_normal(far[i])  # that argument is between -17 and 0
        near[i] = _1 + either(abs(u) <= _ERF_SMALL, near[i], signed(tail, u))


@scalar
def gelu(x: Array, out: Array) -> None:
    """Float32 (n,) to GELU of each."""
    near, far = np.empty(STRETCH, np.float32), np.empty(STRETCH, np.float32)
    for start in range(0, len(x), STRETCH):
        count = min(STRETCH, len(x) - start)
        part, target = x[start : start + count], out[start : start + count]
        _twice_area(part, near, far)
        for i in range(count):
            target[i] = (part[i] * _HALF) * near[i]


@scalar
def gelu_slope(grad: Array, x: Array, out: Array) -> None:
    """Float32 (n,) gradients and arguments to the gradients times the slopes of GELU."""
    near, far = np.empty(STRETCH, np.float32), np.empty(STRETCH, np.float32)
    for start in range(0, len(x), STRETCH):
        count = min(STRETCH, len(x) - start)
        given, part = grad[start : start + count], x[start : start + count]
        target = out[start : start + count]
        _twice_area(part, near, far)
        for i in range(count):
            value = part[i]
            density = _exp_below((value * value) * _MINUS_HALF) * _INVERSE_SQRT_TWO_PI
            target[i] = given[i] * (_HALF * near[i] + value * density)
