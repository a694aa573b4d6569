"""The definition of the elementary functions: written sequences of IEEE 754 operations, in NumPy.

Each line of arithmetic is one binary32 operation an element (binary64 in `sin`, `cos`, `erfc`, `power`), rounded to
nearest, ties to even. The machine's own libm is never asked. Relative errors against the true value are tested: below
3e-7.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podlt.exact import coefficients as c
from podlt.exact.constants import Array

_1 = np.float32(1.0)
_2 = np.float32(2.0)
_HALF = np.float32(0.5)


def horner(coefficients: Sequence[np.floating], x: Array) -> Array:
    """The polynomial with these coefficients, highest power first: one product and one sum a step, each rounded."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def exp(x: Array) -> Array:
    """e**x: x = n ln 2 + r, a polynomial in r, then two exact scalings by powers of two (the last may round)."""
    bounded = np.where(x < c.EXP_LARGEST, x, c.EXP_LARGEST)
    bounded = np.where(bounded > c.EXP_LEAST, bounded, c.EXP_LEAST)
    n = np.rint(bounded * c.LOG2_E)
    r = (bounded - n * c.LN2_HIGH) - n * c.LN2_LOW
    p = ((horner(c.EXP, r) * (r * r)) + r) + _1
    half = np.floor(n * _HALF).astype(np.int32)
    rest = n.astype(np.int32) - half
    scaled = (p * _power_of_two(half)) * _power_of_two(rest)
    return np.where(np.isnan(x), x, scaled)


def log(x: Array) -> Array:
    """ln x: x = m 2**n with sqrt(1/2) <= m < sqrt(2), a polynomial in f = m - 1. -inf at 0, NaN below."""
    n, f, z, t = _fraction(x)
    t = t + n * c.LN2_LOW
    t = t - _HALF * z
    return _log_edges(x, (f + t) + n * c.LN2_HIGH)


def log2(x: Array) -> Array:
    """log2 x by the parts of `log`: n + ln(m) log2(e), the largest addends last."""
    n, f, z, t = _fraction(x)
    t = t - _HALF * z
    out = t * c.LOG2_E_FRACTION + f * c.LOG2_E_FRACTION
    return _log_edges(x, ((out + t) + f) + n)


def tanh(x: Array) -> Array:
    """x + x z P(z) with z = x*x for |x| < 0.625, else 1 - 2 / (exp(2|x|) + 1) with the sign of x."""
    size = np.abs(x)
    z = x * x
    near = (horner(c.TANH, z) * z) * x + x
    far = np.copysign(_1 - _2 / (exp(size + size) + _1), x)
    return np.where(np.isnan(x), x, np.where(size < c.TANH_SMALL, near, far))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return _1 / (_1 + exp(-x))


def erf(x: Array) -> Array:
    """The error function: x + x P(x*x) up to 0.93, else 1 - exp(Q(|x|) |x| - |x|) with the sign of x."""
    size = np.abs(x)
    near = horner(c.ERF_NEAR, x * x) * x + x
    bounded = np.where(size < np.float32(4.0), size, np.float32(4.0))
    far = np.copysign(_1 - exp(horner(c.ERF_FAR, bounded) * bounded - bounded), x)
    return np.where(np.isnan(x), x, np.where(size <= c.ERF_SMALL, near, far))


def erfc(x: Array) -> Array:
    """1 - erf(x), in binary64 and rounded once: P(q) / (1 + 2|x|) exp(-x*x) with q = (|x| - 2) / (|x| + 2)."""
    wide = x.astype(np.float64)
    size = np.abs(wide)
    size = np.where(size < c.ERFC_LARGEST, size, c.ERFC_LARGEST)
    p = horner([np.float64(v) for v in c.ERFC], (size - 2.0) / (size + 2.0))
    tail = (p / (1.0 + size * 2.0)) * _exp64(-(size * size))
    return np.where(np.isnan(x), x, np.where(wide < 0, 2.0 - tail, tail).astype(np.float32))


def atan(x: Array) -> Array:
    """The inverse tangent: |x| as b, or by (|x| - 1) / (|x| + 1) or -1 / |x| from pi/4 or pi/2; then b + b z P(z)."""
    size = np.abs(x)
    large, middle = size > c.ATAN_LARGE, size > c.ATAN_MIDDLE
    start = np.where(large, c.HALF_PI, np.where(middle, c.QUARTER_PI, np.float32(0.0)))
    b = np.where(large, -_1 / size, np.where(middle, (size - _1) / (size + _1), size))
    z = b * b
    out = start + ((horner(c.ATAN, z) * z) * b + b)
    return np.where(np.isnan(x), x, np.copysign(out, x))


def rsqrt(x: Array) -> Array:
    """1 / sqrt(x), each rounded."""
    return _1 / np.sqrt(x)


def gelu(x: Array, approximate: str = "none") -> Array:
    """(x / 2) (1 + erf(x sqrt(1/2))), or `gelu_tanh`."""
    return gelu_tanh(x) if approximate == "tanh" else (x * _HALF) * (_1 + erf(x * c.SQRT_HALF))


def gelu_slope(x: Array, approximate: str = "none") -> Array:
    """The derivative of `gelu`: Phi(x) + x phi(x)."""
    if approximate == "tanh":
        return gelu_tanh_slope(x)
    area = _HALF * (_1 + erf(x * c.SQRT_HALF))
    density = exp((x * x) * -_HALF) * c.INVERSE_SQRT_TWO_PI
    return area + x * density


def gelu_tanh(x: Array) -> Array:
    """(x / 2) (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))."""
    return (x * _HALF) * (_1 + tanh(_gelu_argument(x)))


def gelu_tanh_slope(x: Array) -> Array:
    """The derivative of `gelu_tanh`."""
    t = tanh(_gelu_argument(x))
    left = _HALF * (_1 + t)
    inner = c.SQRT_TWO_OVER_PI * (_1 + (np.float32(3.0) * c.GELU_CUBIC) * (x * x))
    return left + ((_HALF * x) * (_1 - t * t)) * inner


def sin(x: Array) -> Array:
    """The sine, for |x| < 2**19, in binary64 and rounded once."""
    return _wave(x, 0)


def cos(x: Array) -> Array:
    """The cosine, for |x| < 2**19, in binary64 and rounded once."""
    return _wave(x, 1)


def power(x: Array, y: Array) -> Array:
    """x**y in binary64, rounded once: by squaring for whole |y| <= 64, a root for +-1/2, else exp(y ln x)."""
    out = np.empty(x.shape, np.float32)
    for index in np.ndindex(x.shape):
        with np.errstate(all="ignore"):
            out[index] = np.float32(_power(np.float64(x[index]), np.float64(y[index])))
    return out


def raised(x: Array | float, y: Array | float) -> Array:
    """aten::pow: `power` of floats, and what integers give where both are."""
    given = [np.asarray(value) for value in (x, y)]
    if all(value.dtype.kind == "i" for value in given):
        return np.asarray(np.power(*given))
    return power(*np.broadcast_arrays(*[value.astype(np.float32) for value in given]))


def log1p(x: Array) -> Array:
    """ln(1 + x): with u = 1 + x, log(u) (x / (u - 1)), where u is not 1; else x. -inf at -1, NaN below.

    Source: D. Goldberg, What every computer scientist should know about floating-point arithmetic, theorem 4.
    """
    u = x + _1
    d = u - _1
    out = log(u) * (x / np.where(d == 0, _1, d))
    return np.where((d == 0) | (x == np.inf), x, out)


def expm1(x: Array) -> Array:
    """e**x - 1: q 2**n + (2**n - 1) with n and q = exp(r) - 1 as in `exp`, for x in [-20, 20]; else exp(x) or -1."""
    bounded = np.where(x < c.EXPM1_BOUND, x, c.EXPM1_BOUND)
    bounded = np.where(bounded > -c.EXPM1_BOUND, bounded, -c.EXPM1_BOUND)
    n = np.rint(bounded * c.LOG2_E)
    r = (bounded - n * c.LN2_HIGH) - n * c.LN2_LOW
    q = horner(c.EXP, r) * (r * r) + r
    power = _power_of_two(n.astype(np.int32))
    near = q * power + (power - _1)
    out = np.where(x > c.EXPM1_BOUND, exp(x), near)
    return np.where((x == 0) | np.isnan(x), x, out)


def softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    """log1p(exp(x beta)) / beta, or x where x beta > threshold."""
    t = x * np.float32(beta)
    return np.where(t > np.float32(threshold), x, log1p(exp(t)) / np.float32(beta))


def softplus_slope(x: Array, beta: float, threshold: float) -> Array:
    """The derivative of `softplus`: sigmoid(x beta), or 1."""
    t = x * np.float32(beta)
    return np.where(t > np.float32(threshold), _1, sigmoid(t))


def log_sigmoid(x: Array) -> tuple[Array, Array]:
    """ln sigmoid(x) = min(x, 0) - log1p(exp(-|x|)); and that exponential."""
    z = exp(-np.abs(x))
    return np.where(x > 0, np.float32(0.0), x) - log1p(z), z


def log_sigmoid_slope(x: Array) -> Array:
    """The derivative of `log_sigmoid`: sigmoid(-x)."""
    return sigmoid(-x)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def silu_slope(x: Array) -> Array:
    """The derivative of `silu`: s (1 + x (1 - s)) with s = sigmoid(x)."""
    s = sigmoid(x)
    out: Array = s * (_1 + x * (_1 - s))
    return out


def elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    """(alpha scale) expm1(x input_scale) where x <= 0, else x scale."""
    below = expm1(x * np.float32(input_scale)) * (np.float32(alpha) * np.float32(scale))
    return np.where(x <= 0, below, x * np.float32(scale))


def elu_backward(grad: Array, alpha: float, scale: float, input_scale: float, is_result: bool, value: Array) -> Array:
    """The gradient of `elu`'s argument, from its result or from the argument itself."""
    negative = np.float32(alpha) * np.float32(scale)
    scaled = grad * np.float32(input_scale)
    from_argument = (scaled * negative) * exp(value * np.float32(input_scale))
    below = scaled * (value + negative) if is_result else from_argument
    return np.where(value <= 0, below, grad * np.float32(scale))


def _fraction(x: Array) -> tuple[Array, Array, Array, Array]:
    """n, f = m - 1, f*f, and the polynomial's part of ln m, where x = m 2**n with sqrt(1/2) <= m < sqrt(2)."""
    subnormal = x < np.float32(2.0**-126)
    bits = np.where(subnormal, x * np.float32(2.0**23), x).view(np.int32)
    n = (bits >> 23) - 126 - np.where(subnormal, 23, 0)
    m = ((bits & 0x7FFFFF) | 0x3F000000).astype(np.int32).view(np.float32)
    small = m < c.SQRT_HALF
    f = np.where(small, m + m, m) - _1
    z = f * f
    return (n - small).astype(np.float32), f, z, (horner(c.LOG, f) * f) * z


def _log_edges(x: Array, out: Array) -> Array:
    """Logarithms of infinity, of 0, and of what has none."""
    out = np.where(x == np.inf, x, out)
    out = np.where(x == 0, np.float32(-np.inf), out)
    return np.where((x < 0) | np.isnan(x), np.float32(np.nan), out)


def _gelu_argument(x: Array) -> Array:
    return c.SQRT_TWO_OVER_PI * (x + c.GELU_CUBIC * ((x * x) * x))


def _power_of_two(n: Array) -> Array:
    return ((n + 127) << 23).astype(np.int32).view(np.float32)


def _wave(x: Array, quarters: int) -> Array:
    """sin(x + quarters pi/2): x = n pi/2 + r, and a polynomial in r chosen by n mod 4."""
    wide = x.astype(np.float64)
    n = np.rint(wide * c.TWO_OVER_PI)
    r = (wide - n * c.HALF_PI_HIGH) - n * c.HALF_PI_LOW
    z = r * r
    sine = r + (r * z) * horner([np.float64(v) for v in c.SIN], z)
    cosine = 1.0 + z * horner([np.float64(v) for v in c.COS], z)
    quadrant = (n.astype(np.int64) + quarters) & 3
    value = np.where(quadrant & 1 == 1, cosine, sine)
    return np.where(quadrant >= 2, -value, value).astype(np.float32)


def _power(x: np.float64, y: np.float64) -> np.float64:
    one = np.float64(1.0)
    if y == np.rint(y) and abs(y) <= c.LARGEST_INTEGER_POWER:
        n, total, square = int(abs(y)), one, x
        while n:
            if n & 1:
                total = total * square
            square = square * square
            n >>= 1
        return one / total if y < 0 else total
    if y == 0.5:
        return np.float64(np.sqrt(x))
    if y == -0.5:
        return np.float64(one / np.sqrt(x))
    if np.isnan(x) or np.isnan(y) or x < 0 or np.isinf(y):
        return np.float64(np.nan)
    if x == 0 or np.isinf(x):
        return np.float64(0.0) if (x == 0) == (y > 0) else np.float64(np.inf)
    return np.float64(_exp64(np.asarray(y * _log64(x))))


def _log64(x: np.float64) -> np.float64:
    """ln x for a positive binary64 that was a float32: 2 atanh((m - 1) / (m + 1)) + n ln 2."""
    m, n = np.frexp(x)
    if m < 0.70710678118654752:
        m, n = m + m, n - 1
    s = (m - 1.0) / (m + 1.0)
    series = horner([np.float64(1.0) / np.float64(k) for k in (17, 15, 13, 11, 9, 7, 5, 3, 1)], np.asarray(s * s))
    return np.float64(n * c.LN2 + (s + s) * series)


def _exp64(x: Array) -> Array:
    """e**x in binary64, bounded to what a float32 can tell apart from 0 and infinity."""
    x = np.minimum(np.maximum(x, -120.0), 100.0)
    n = np.rint(x * c.INVERSE_LN2)
    r = x - n * c.LN2
    total = np.ones_like(x)
    for k in range(12, 0, -1):
        total = total * r / np.float64(k) + 1.0
    return np.ldexp(total, n.astype(np.int32))
