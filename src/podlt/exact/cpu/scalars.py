"""The elementary functions of one float32, for kernels to call: each the sequence of `definition.elementary`.

Every constant is a float32 object: a Python literal would lift the whole expression to binary64.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, arg-type, assignment"

from __future__ import annotations

import math

import numpy as np

from podlt.exact import coefficients as c
from podlt.exact.cpu.jit import inlined, scalar

_ROUND32 = np.float32(12582912.0)
_ROUND64 = np.float64(6755399441055744.0)  # 1.5 * 2**52
_ROUND64_BITS = np.int64(np.float64(6755399441055744.0).view(np.int64))
_0, _1, _2, _HALF, _3, _4 = (np.float32(v) for v in (0.0, 1.0, 2.0, 0.5, 3.0, 4.0))
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)
_LOG2_E_FRACTION = c.LOG2_E_FRACTION
_ATAN_LARGE, _ATAN_MIDDLE, _HALF_PI, _QUARTER_PI = c.ATAN_LARGE, c.ATAN_MIDDLE, c.HALF_PI, c.QUARTER_PI
_EXP, _LOG, _TANH, _ERF_NEAR, _ERF_FAR, _ERFC = c.EXP, c.LOG, c.TANH, c.ERF_NEAR, c.ERF_FAR, c.ERFC
_SIN, _COS, _ATAN = c.SIN, c.COS, c.ATAN
_LOG2_E, _LN2_HIGH, _LN2_LOW = c.LOG2_E, c.LN2_HIGH, c.LN2_LOW
_EXP_LARGEST, _EXP_LEAST, _SQRT_HALF = c.EXP_LARGEST, c.EXP_LEAST, c.SQRT_HALF
_EXPM1_BOUND = c.EXPM1_BOUND
_TANH_SMALL, _ERF_SMALL = c.TANH_SMALL, c.ERF_SMALL
_SQRT_TWO_OVER_PI, _GELU_CUBIC = c.SQRT_TWO_OVER_PI, c.GELU_CUBIC
_GELU_CUBIC_3 = np.float32(_3 * c.GELU_CUBIC)
_SMALLEST_NORMAL, _TWO_23 = np.float32(2.0**-126), np.float32(2.0**23)
_U23, _U127 = np.uint32(23), np.uint32(127)
_I64_1, _I64_2, _I64_3 = np.int64(1), np.int64(2), np.int64(3)


@inlined
def either(condition: bool, a: np.float32, b: np.float32) -> np.float32:
    """`a` if `condition` else `b`, without a branch, which would keep loops from vectorising."""
    mask = np.int32(-np.int32(condition))
    return np.int32((np.float32(a).view(np.int32) & mask) | (np.float32(b).view(np.int32) & ~mask)).view(np.float32)


@inlined
def signed(size: np.float32, x: np.float32) -> np.float32:
    """`size` >= 0 with the sign of `x`."""
    sign = np.float32(x).view(np.int32) & np.int32(-0x80000000)
    return np.int32(np.float32(size).view(np.int32) | sign).view(np.float32)


@scalar
def horner(coefficients: tuple[np.float32, ...], x: np.float32) -> np.float32:
    """The polynomial with these coefficients, highest power first: one product and one sum a step, each rounded."""
    total = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


@scalar
def exp(x: np.float32) -> np.float32:
    """e**x; see `definition.elementary.exp`."""
    b = x if x < _EXP_LARGEST else _EXP_LARGEST
    b = b if b > _EXP_LEAST else _EXP_LEAST
    n = (b * _LOG2_E + _ROUND32) - _ROUND32
    r = (b - n * _LN2_HIGH) - n * _LN2_LOW
    p = horner(_EXP, r)
    p = (p * (r * r) + r) + _1
    whole = np.int32(n)
    half = whole >> 1
    first = np.int32((half + 127) << 23).view(np.float32)
    second = np.int32((whole - half + 127) << 23).view(np.float32)
    scaled = (p * first) * second
    return either(x == x, scaled, x)


@scalar
def log(x: np.float32) -> np.float32:
    """ln x; see `definition.elementary.log`."""
    return _logarithm(x, False)


@scalar
def log2(x: np.float32) -> np.float32:
    """log2 x; see `definition.elementary.log2`."""
    return _logarithm(x, True)


@scalar
def _logarithm(x: np.float32, base_2: bool) -> np.float32:
    subnormal = x < _SMALLEST_NORMAL
    y = np.float32(x * _TWO_23 if subnormal else x)
    bits = y.view(np.int32)
    n = np.int32((bits >> 23) - 126 - (23 if subnormal else 0))
    m = np.int32((bits & 0x7FFFFF) | 0x3F000000).view(np.float32)
    small = m < _SQRT_HALF
    f = (m + m if small else m) - _1
    nf = np.float32(np.int32(n - (1 if small else 0)))
    z = f * f
    t = horner(_LOG, f)
    t = (t * f) * z
    if base_2:
        t = t - _HALF * z
        out = ((t * _LOG2_E_FRACTION + f * _LOG2_E_FRACTION) + t + f) + nf
    else:
        t = t + nf * _LN2_LOW
        t = t - _HALF * z
        out = (f + t) + nf * _LN2_HIGH
    out = x if x == _INF else out
    out = -_INF if x == _0 else out
    return out if x >= _0 else _NAN


@scalar
def tanh(x: np.float32) -> np.float32:
    """The hyperbolic tangent; see `definition.elementary.tanh`."""
    size = abs(x)
    z = x * x
    near = (horner(_TANH, z) * z) * x + x
    far = _1 - _2 / (exp(size + size) + _1)
    out = either(size < _TANH_SMALL, near, signed(far, x))
    return either(x == x, out, x)


@scalar
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + exp(-x))."""
    return _1 / (_1 + exp(-x))


@scalar
def erf(x: np.float32) -> np.float32:
    """The error function; see `definition.elementary.erf`."""
    size = abs(x)
    s = x * x
    near = horner(_ERF_NEAR, s) * x + x
    b = size if size < _4 else _4
    q = horner(_ERF_FAR, b)
    far = _1 - exp(q * b - b)
    out = either(size <= _ERF_SMALL, near, signed(far, x))
    return either(x == x, out, x)


@scalar
def log1p(x: np.float32) -> np.float32:
    """ln(1 + x); see `definition.elementary.log1p`."""
    u = x + _1
    d = u - _1
    exact = d == _0
    out = log(u) * (x / either(exact, _1, d))
    return either(exact or x == _INF, x, out)


@scalar
def expm1(x: np.float32) -> np.float32:
    """e**x - 1; see `definition.elementary.expm1`."""
    b = x if x < _EXPM1_BOUND else _EXPM1_BOUND
    b = b if b > -_EXPM1_BOUND else -_EXPM1_BOUND
    n = (b * _LOG2_E + _ROUND32) - _ROUND32
    r = (b - n * _LN2_HIGH) - n * _LN2_LOW
    q = horner(_EXP, r)
    q = q * (r * r) + r
    power = np.int32((np.int32(n) + 127) << 23).view(np.float32)
    near = q * power + (power - _1)
    out = either(x > _EXPM1_BOUND, exp(x), near)
    return either(x == _0 or x != x, x, out)


@scalar
def rsqrt(x: np.float32) -> np.float32:
    """1 / sqrt(x), each rounded."""
    return _1 / np.float32(math.sqrt(x))


@inlined
def _gelu_argument(x: np.float32) -> np.float32:
    return _SQRT_TWO_OVER_PI * (x + _GELU_CUBIC * ((x * x) * x))


@scalar
def gelu_tanh(x: np.float32) -> np.float32:
    """See `definition.elementary.gelu_tanh`."""
    return (x * _HALF) * (_1 + tanh(_gelu_argument(x)))


@scalar
def gelu_tanh_slope(x: np.float32) -> np.float32:
    """See `definition.elementary.gelu_tanh_slope`."""
    t = tanh(_gelu_argument(x))
    left = _HALF * (_1 + t)
    inner = _SQRT_TWO_OVER_PI * (_1 + _GELU_CUBIC_3 * (x * x))
    return left + ((_HALF * x) * (_1 - t * t)) * inner


@scalar
def wave(x: np.float32, quarters: int) -> np.float32:
    """sin(x + quarters pi/2), for |x| < 2**19; see `definition.elementary.sin`."""
    wide = np.float64(x)
    n = (wide * c.TWO_OVER_PI + _ROUND64) - _ROUND64
    r = (wide - n * c.HALF_PI_HIGH) - n * c.HALF_PI_LOW
    z = r * r
    sine = r + (r * z) * horner(_SIN, z)
    cosine = 1.0 + z * horner(_COS, z)
    quadrant = (np.float64(n + _ROUND64).view(np.int64) - _ROUND64_BITS + quarters) & _I64_3
    value = cosine if quadrant & _I64_1 == _I64_1 else sine
    return np.float32(-value if quadrant >= _I64_2 else value)


@scalar
def power(x: np.float64, y: np.float64) -> np.float64:
    """x**y before its one rounding to float32; see `definition.elementary.power`."""
    if abs(y) <= c.LARGEST_INTEGER_POWER and y == np.rint(y):
        n = int(abs(y))
        total = 1.0
        square = x
        while n:
            if n & 1:
                total = total * square
            square = square * square
            n >>= 1
        return 1.0 / total if y < 0 else total
    if y == 0.5:
        return math.sqrt(x)
    if y == -0.5:
        return 1.0 / math.sqrt(x)
    if x != x or y != y or x < 0 or abs(y) == np.inf:
        return np.nan
    if x == 0 or x == np.inf:
        return 0.0 if (x == 0) == (y > 0) else np.inf
    return _exp64(y * _log64(x))


@scalar
def _log64(x: np.float64) -> np.float64:
    bits = np.float64(x).view(np.int64)
    n = (bits >> 52) - 1022
    m = np.int64((bits & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000).view(np.float64)
    if m < 0.70710678118654752:
        m, n = m + m, n - 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = 1.0 / 17.0
    for k in range(15, 0, -2):
        series = series * z + 1.0 / np.float64(k)
    return np.float64(n) * c.LN2 + (s + s) * series


@scalar
def _exp64(x: np.float64) -> np.float64:
    x = min(max(x, -120.0), 100.0)
    n = np.rint(x * c.INVERSE_LN2)
    r = x - n * c.LN2
    total = 1.0
    for k in range(12, 0, -1):
        total = total * r / np.float64(k) + 1.0
    return total * np.int64((np.int64(n) + 1023) << 52).view(np.float64)


@scalar
def erfc(x: np.float32) -> np.float32:
    """1 - erf(x); see `definition.elementary.erfc`."""
    size = abs(np.float64(x))
    size = size if size < c.ERFC_LARGEST else c.ERFC_LARGEST
    q = (size - 2.0) / (size + 2.0)
    tail = (horner(_ERFC, q) / (1.0 + size * 2.0)) * _exp64(-(size * size))
    return x if x != x else np.float32(2.0 - tail if x < _0 else tail)


@scalar
def atan(x: np.float32) -> np.float32:
    """The inverse tangent; see `definition.elementary.atan`."""
    size = abs(x)
    large, middle = size > _ATAN_LARGE, size > _ATAN_MIDDLE
    start = either(large, _HALF_PI, either(middle, _QUARTER_PI, _0))
    b = either(large, -_1, either(middle, size - _1, size)) / either(large, size, either(middle, size + _1, _1))
    z = b * b
    out = start + ((horner(_ATAN, z) * z) * b + b)
    return either(x == x, signed(out, x), x)
