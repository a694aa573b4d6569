"""What kernels call: exact scaling, whole numbers rounded once, and the elementary functions line for line.

Each line of arithmetic is one IEEE operation, as in `definition.elementary`.
"""

from __future__ import annotations

import triton.language as tl

from podlt.exact import coefficients as c
from podlt.exact.triton.jit import kernel

ROUND32 = tl.constexpr(12582912.0)  # 1.5 * 2**23: adding and subtracting it rounds |x| < 2**22 to whole numbers
ROUND64 = tl.constexpr(6755399441055744.0)  # 1.5 * 2**52
INFINITY = tl.constexpr(0x7F800000)
MAGNITUDE = tl.constexpr(0x7FFFFFFF)

LOG2_E = tl.constexpr(float(c.LOG2_E))
LN2_HIGH = tl.constexpr(float(c.LN2_HIGH))
LN2_LOW = tl.constexpr(float(c.LN2_LOW))
EXP_LARGEST = tl.constexpr(float(c.EXP_LARGEST))
EXP_LEAST = tl.constexpr(float(c.EXP_LEAST))
EXPM1_BOUND = tl.constexpr(float(c.EXPM1_BOUND))
EXPM1_LEAST = tl.constexpr(-float(c.EXPM1_BOUND))
SQRT_HALF = tl.constexpr(float(c.SQRT_HALF))
LOG2_E_FRACTION = tl.constexpr(float(c.LOG2_E_FRACTION))
TANH_SMALL = tl.constexpr(float(c.TANH_SMALL))
ERF_SMALL = tl.constexpr(float(c.ERF_SMALL))
ATAN_LARGE = tl.constexpr(float(c.ATAN_LARGE))
ATAN_MIDDLE = tl.constexpr(float(c.ATAN_MIDDLE))
HALF_PI = tl.constexpr(float(c.HALF_PI))
QUARTER_PI = tl.constexpr(float(c.QUARTER_PI))
SQRT_TWO_OVER_PI = tl.constexpr(float(c.SQRT_TWO_OVER_PI))
INVERSE_SQRT_TWO_PI = tl.constexpr(float(c.INVERSE_SQRT_TWO_PI))
GELU_CUBIC = tl.constexpr(float(c.GELU_CUBIC))
GELU_CUBIC_3 = tl.constexpr(float(c.GELU_CUBIC.dtype.type(3.0) * c.GELU_CUBIC))
EXP = tl.constexpr(tuple(float(v) for v in c.EXP))
LOG = tl.constexpr(tuple(float(v) for v in c.LOG))
TANH = tl.constexpr(tuple(float(v) for v in c.TANH))
ERF_NEAR = tl.constexpr(tuple(float(v) for v in c.ERF_NEAR))
ERF_FAR = tl.constexpr(tuple(float(v) for v in c.ERF_FAR))
ATAN = tl.constexpr(tuple(float(v) for v in c.ATAN))


# -- bits ------------------------------------------------------------------------------------------------------------


@kernel
def magnitude(x):
    """The bits of |x|, int32."""
    return x.to(tl.int32, bitcast=True) & MAGNITUDE


@kernel
def order_key(x):
    """Int32 that orders as the values do, -0 below +0; its own inverse on bits."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & MAGNITUDE)


@kernel
def from_order_key(key):
    """The value of an `order_key`."""
    return (key ^ ((key >> 31) & MAGNITUDE)).to(tl.float32, bitcast=True)


@kernel
def power32(e):
    """2**e as float32 for int32 e with a normal result."""
    return ((e + 127) << 23).to(tl.float32, bitcast=True)


@kernel
def power64(e):
    """2**e as float64 for whole e with a normal result."""
    return ((e.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@kernel
def units(x, e):
    """round_half_even(x / 2**e) as int64, below 2**51."""
    return ((x.to(tl.float64) * power64(0 - e) + ROUND64) - ROUND64).to(tl.int64)


@kernel
def rounded(total, e):
    """total * 2**e for int64 `total`, rounded to float32 once: beyond 2**53 the lowest bits become one sticky bit."""
    sticky = (total & -2048) | tl.where((total & 2047) != 0, 1024, 0).to(tl.int64)
    bounded = tl.where(tl.abs(total) >= 9007199254740992, sticky, total)
    return (bounded.to(tl.float64) * power64(e)).to(tl.float32)


@kernel
def copysign(size, sign):
    """The magnitude of one value with the sign of another."""
    bits = sign.to(tl.int32, bitcast=True)
    return (magnitude(size) | (bits ^ (bits & MAGNITUDE))).to(tl.float32, bitcast=True)


@kernel
def divided(a, b):
    """a / b rounded once; a number stands for a tensor of it."""
    return tl.div_rn(tl.full(b.shape, a, tl.float32), b)


# -- functions -------------------------------------------------------------------------------------------------------


@kernel
def horner(coefficients: tl.constexpr, count: tl.constexpr, x):
    """The polynomial, highest power first: one product and one sum a step, each rounded."""
    total = tl.full(x.shape, coefficients[0], tl.float32)
    for i in tl.static_range(1, count):
        total = total * x
        total = total + coefficients[i]
    return total


@kernel
def _powers_of_two(x, least, largest):
    """n and e**r - 1 for x = n ln 2 + r, x put between the bounds."""
    bounded = tl.where(x < largest, x, largest)
    bounded = tl.where(bounded > least, bounded, least)
    n = (bounded * LOG2_E + ROUND32) - ROUND32
    r = bounded - n * LN2_HIGH
    r = r - n * LN2_LOW
    p = horner(EXP, 6, r) * (r * r)
    return n, p + r


@kernel
def exp(x):
    """See `definition.elementary.exp`."""
    n, p = _powers_of_two(x, EXP_LEAST, EXP_LARGEST)
    p = p + 1.0
    whole = n.to(tl.int32)
    half = whole >> 1  # tl.floor would flush subnormals on the way
    rest = whole - half
    scaled = (p * power32(half)) * power32(rest)
    return tl.where(x != x, x, scaled)


@kernel
def _fraction(x):
    subnormal = x < 1.1754943508222875e-38
    word = tl.where(subnormal, x * 8388608.0, x).to(tl.int32, bitcast=True)
    n = (word >> 23) - 126 - tl.where(subnormal, 23, 0)
    m = ((word & 0x7FFFFF) | 0x3F000000).to(tl.float32, bitcast=True)
    small = m < SQRT_HALF
    f = tl.where(small, m + m, m) - 1.0
    z = f * f
    return (n - tl.where(small, 1, 0)).to(tl.float32), f, z, (horner(LOG, 9, f) * f) * z


@kernel
def _log_edges(x, out):
    out = tl.where(x == float("inf"), x, out)
    out = tl.where(x == 0.0, float("-inf"), out)
    return tl.where((x < 0.0) | (x != x), float("nan"), out)


@kernel
def log(x):
    """See `definition.elementary.log`."""
    n, f, z, t = _fraction(x)
    t = t + n * LN2_LOW
    t = t - z * 0.5
    return _log_edges(x, (f + t) + n * LN2_HIGH)


@kernel
def log2(x):
    """See `definition.elementary.log2`."""
    n, f, z, t = _fraction(x)
    t = t - z * 0.5
    out = t * LOG2_E_FRACTION + f * LOG2_E_FRACTION
    return _log_edges(x, ((out + t) + f) + n)


@kernel
def log1p(x):
    """See `definition.elementary.log1p`."""
    u = x + 1.0
    d = u - 1.0
    out = log(u) * tl.div_rn(x, tl.where(d == 0.0, 1.0, d))
    return tl.where((d == 0.0) | (x == float("inf")), x, out)


@kernel
def expm1(x):
    """See `definition.elementary.expm1`."""
    n, q = _powers_of_two(x, EXPM1_LEAST, EXPM1_BOUND)
    scale = power32(n.to(tl.int32))
    near = q * scale + (scale - 1.0)
    out = tl.where(x > EXPM1_BOUND, exp(x), near)
    return tl.where((x == 0.0) | (x != x), x, out)


@kernel
def tanh(x):
    """See `definition.elementary.tanh`."""
    size = tl.abs(x)
    z = x * x
    near = (horner(TANH, 5, z) * z) * x
    near = near + x
    far = 1.0 - divided(2.0, exp(size + size) + 1.0)
    out = tl.where(size < TANH_SMALL, near, copysign(far, x))
    return tl.where(x != x, x, out)


@kernel
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return divided(1.0, exp(x * -1.0) + 1.0)


@kernel
def erf(x):
    """See `definition.elementary.erf`."""
    size = tl.abs(x)
    near = horner(ERF_NEAR, 6, x * x) * x
    near = near + x
    bounded = tl.where(size < 4.0, size, 4.0)
    argument = horner(ERF_FAR, 7, bounded) * bounded
    far = copysign(1.0 - exp(argument - bounded), x)
    return tl.where(x != x, x, tl.where(size <= ERF_SMALL, near, far))


@kernel
def atan(x):
    """See `definition.elementary.atan`."""
    size = tl.abs(x)
    large = size > ATAN_LARGE
    middle = size > ATAN_MIDDLE
    start = tl.where(large, HALF_PI, tl.where(middle, QUARTER_PI, 0.0))
    b = tl.where(middle, tl.div_rn(size - 1.0, size + 1.0), size)
    b = tl.where(large, divided(-1.0, size), b)
    z = b * b
    out = (horner(ATAN, 4, z) * z) * b
    out = start + (out + b)
    return tl.where(x != x, x, copysign(out, x))


@kernel
def sqrt(x):
    """The IEEE square root."""
    return tl.sqrt_rn(x)


@kernel
def rsqrt(x):
    """1 / sqrt(x), each rounded."""
    return divided(1.0, tl.sqrt_rn(x))


@kernel
def silu(x):
    """x sigmoid(x)."""
    return x * sigmoid(x)


@kernel
def silu_slope(x):
    """s (1 + x (1 - s))."""
    s = sigmoid(x)
    inner = x * (1.0 - s)
    return s * (inner + 1.0)


@kernel
def gelu(x):
    """See `definition.elementary.gelu`."""
    return (x * 0.5) * (erf(x * SQRT_HALF) + 1.0)


@kernel
def gelu_slope(x):
    """See `definition.elementary.gelu_slope`."""
    area = (erf(x * SQRT_HALF) + 1.0) * 0.5
    density = exp((x * x) * -0.5) * INVERSE_SQRT_TWO_PI
    return area + x * density


@kernel
def _gelu_argument(x):
    return (((x * x) * x) * GELU_CUBIC + x) * SQRT_TWO_OVER_PI


@kernel
def gelu_tanh(x):
    """See `definition.elementary.gelu_tanh`."""
    return (x * 0.5) * (tanh(_gelu_argument(x)) + 1.0)


@kernel
def gelu_tanh_slope(x):
    """See `definition.elementary.gelu_tanh_slope`."""
    t = tanh(_gelu_argument(x))
    left = (t + 1.0) * 0.5
    inner = ((x * x) * GELU_CUBIC_3 + 1.0) * SQRT_TWO_OVER_PI
    return left + ((x * 0.5) * (1.0 - t * t)) * inner
