"""The elementary functions, line for line as `definition.elementary` writes them, one torch kernel an operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from podlt.exact import coefficients as c
from podlt.exact.aten.tensors import number
from podlt.exact.portable.bits import Tensor, power32, power64


def horner(coefficients: Sequence[float | np.floating], x: Tensor) -> Tensor:
    """The polynomial with these coefficients, highest power first: one product and one sum a step, each rounded."""
    total = torch.full_like(x, float(coefficients[0]))
    for coefficient in coefficients[1:]:
        total = total * x
        total = total + float(coefficient)
    return total


def divided(a: Tensor | float, b: Tensor | float, like: Tensor) -> Tensor:
    """a / b, one IEEE division in the type of `like`: numbers become tensors on its device."""
    x, y = (v if isinstance(v, Tensor) else torch.full((), v, dtype=like.dtype, device=like.device) for v in (a, b))
    return torch.div(x, y)


def exp(x: Tensor) -> Tensor:
    """e**x; see `definition.elementary.exp`."""
    bounded = torch.where(x < float(c.EXP_LARGEST), x, float(c.EXP_LARGEST))
    bounded = torch.where(bounded > float(c.EXP_LEAST), bounded, float(c.EXP_LEAST))
    n = torch.round(bounded * float(c.LOG2_E))
    r = bounded - n * float(c.LN2_HIGH)
    r = r - n * float(c.LN2_LOW)
    p = horner(c.EXP, r) * (r * r)
    p = (p + r) + 1.0
    half = torch.floor(n * 0.5).to(torch.int32)
    rest = n.to(torch.int32) - half
    scaled = (p * power32(half)) * power32(rest)
    return torch.where(torch.isnan(x), x, scaled)


def log(x: Tensor) -> Tensor:
    """ln x; see `definition.elementary.log`."""
    n, f, z, t = _fraction(x)
    t = t + n * float(c.LN2_LOW)
    t = t - z * 0.5
    return _log_edges(x, (f + t) + n * float(c.LN2_HIGH))


def log2(x: Tensor) -> Tensor:
    """log2 x; see `definition.elementary.log2`."""
    n, f, z, t = _fraction(x)
    t = t - z * 0.5
    out = t * float(c.LOG2_E_FRACTION) + f * float(c.LOG2_E_FRACTION)
    return _log_edges(x, ((out + t) + f) + n)


def _fraction(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As in `definition.elementary`."""
    subnormal = x < 2.0**-126
    y = torch.where(subnormal, x * 2.0**23, x)
    word = y.view(torch.int32)
    n = (word >> 23) - 126 - torch.where(subnormal, 23, 0)
    m = ((word & 0x7FFFFF) | 0x3F000000).view(torch.float32)
    small = m < float(c.SQRT_HALF)
    f = torch.where(small, m + m, m) - 1.0
    z = f * f
    return (n - torch.where(small, 1, 0)).float(), f, z, (horner(c.LOG, f) * f) * z


def _log_edges(x: Tensor, out: Tensor) -> Tensor:
    out = torch.where(x == np.inf, x, out)
    out = torch.where(x == 0, -np.inf, out)
    return torch.where((x < 0) | torch.isnan(x), np.nan, out)


def log1p(x: Tensor) -> Tensor:
    """ln(1 + x); see `definition.elementary.log1p`."""
    u = x + 1.0
    d = u - 1.0
    out = log(u) * torch.div(x, torch.where(d == 0, 1.0, d))
    return torch.where((d == 0) | (x == np.inf), x, out)


def expm1(x: Tensor) -> Tensor:
    """e**x - 1; see `definition.elementary.expm1`."""
    bound = float(c.EXPM1_BOUND)
    bounded = torch.where(x < bound, x, bound)
    bounded = torch.where(bounded > -bound, bounded, -bound)
    n = torch.round(bounded * float(c.LOG2_E))
    r = bounded - n * float(c.LN2_HIGH)
    r = r - n * float(c.LN2_LOW)
    q = horner(c.EXP, r) * (r * r)
    q = q + r
    scale = power32(n.to(torch.int32))
    near = q * scale + (scale - 1.0)
    out = torch.where(x > bound, exp(x), near)
    return torch.where((x == 0) | torch.isnan(x), x, out)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent; see `definition.elementary.tanh`."""
    size = x.abs()
    z = x * x
    near = (horner(c.TANH, z) * z) * x
    near = near + x
    far = 1.0 - divided(2.0, exp(size + size) + 1.0, x)
    out = torch.where(size < float(c.TANH_SMALL), near, torch.copysign(far, x))
    return torch.where(torch.isnan(x), x, out)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return divided(1.0, exp(-x) + 1.0, x)


def erf(x: Tensor) -> Tensor:
    """The error function; see `definition.elementary.erf`."""
    size = x.abs()
    near = horner(c.ERF_NEAR, x * x) * x
    near = near + x
    bounded = torch.where(size < 4.0, size, 4.0)
    argument = horner(c.ERF_FAR, bounded) * bounded
    far = torch.copysign(1.0 - exp(argument - bounded), x)
    return torch.where(torch.isnan(x), x, torch.where(size <= float(c.ERF_SMALL), near, far))


def sqrt(x: Tensor) -> Tensor:
    """The IEEE square root of float32.

    By float64: a root that is no float32 lies more than 2**-50 of itself from the middle of two, so that even a
    float64 root with an error of its last bit rounds to the right one. The CPU's float32 vector roots do not.
    """
    return torch.sqrt(x.double()).float()


def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x), each rounded."""
    return divided(1.0, sqrt(x), x)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def silu_slope(x: Tensor) -> Tensor:
    """The derivative of `silu`: s (1 + x (1 - s))."""
    s = sigmoid(x)
    inner = x * (1.0 - s)
    return s * (inner + 1.0)


def gelu(x: Tensor) -> Tensor:
    """See `definition.elementary.gelu`."""
    return (x * 0.5) * (erf(x * float(c.SQRT_HALF)) + 1.0)


def gelu_slope(x: Tensor) -> Tensor:
    """See `definition.elementary.gelu_slope`."""
    area = (erf(x * float(c.SQRT_HALF)) + 1.0) * 0.5
    density = exp((x * x) * -0.5) * float(c.INVERSE_SQRT_TWO_PI)
    return area + x * density


def gelu_tanh(x: Tensor) -> Tensor:
    """See `definition.elementary.gelu_tanh`."""
    return (x * 0.5) * (tanh(_gelu_argument(x)) + 1.0)


def gelu_tanh_slope(x: Tensor) -> Tensor:
    """See `definition.elementary.gelu_tanh_slope`."""
    t = tanh(_gelu_argument(x))
    left = (t + 1.0) * 0.5
    cubic = float(np.float32(3.0) * c.GELU_CUBIC)
    inner = ((x * x) * cubic + 1.0) * float(c.SQRT_TWO_OVER_PI)
    return left + ((x * 0.5) * (1.0 - t * t)) * inner


def _gelu_argument(x: Tensor) -> Tensor:
    return (((x * x) * x) * float(c.GELU_CUBIC) + x) * float(c.SQRT_TWO_OVER_PI)


def wave(x: Tensor, quarters: int) -> Tensor:
    """sin(x + quarters pi/2), for |x| < 2**19; see `definition.elementary.sin`."""
    wide = x.double()
    n = torch.round(wide * c.TWO_OVER_PI)
    r = wide - n * c.HALF_PI_HIGH
    r = r - n * c.HALF_PI_LOW
    z = r * r
    sine = r + (r * z) * horner(c.SIN, z)
    cosine = z * horner(c.COS, z) + 1.0
    quadrant = (n.long() + quarters) & 3
    value = torch.where((quadrant & 1) == 1, cosine, sine)
    return torch.where(quadrant >= 2, -value, value).float()


sin, cos = partial(wave, quarters=0), partial(wave, quarters=1)


def power(x: Tensor, y: Tensor | float) -> Tensor:
    """`Elementwise.power`, in binary64 and rounded once; see `definition.elementary.power`."""
    y = y if isinstance(y, Tensor) else number(y, x)
    shape = np.broadcast_shapes(x.shape, y.shape)
    a, b = x.double().expand(shape), y.double().expand(shape)
    whole = (b == torch.round(b)) & (b.abs() <= float(c.LARGEST_INTEGER_POWER))
    out = torch.where(whole, _whole_power(a, torch.where(whole, b, 1.0)), _real_power(a, b))
    root = torch.sqrt(a)
    out = torch.where(b == 0.5, root, out)
    return torch.where(b == -0.5, divided(1.0, root, a), out).float()


def _whole_power(x: Tensor, y: Tensor) -> Tensor:
    """x**y by squaring, for whole |y| <= 64."""
    n = y.abs().long()
    total, square = torch.ones_like(x), x
    for _ in range(c.LARGEST_INTEGER_POWER.bit_length()):
        total = torch.where((n & 1) == 1, total * square, total)
        square = square * square
        n = n >> 1
    return torch.where(y < 0, divided(1.0, total, x), total)


def _real_power(x: Tensor, y: Tensor) -> Tensor:
    """exp(y ln x), and what powers of zeros, infinities and negative numbers are."""
    usual = (x > 0) & torch.isfinite(x) & torch.isfinite(y)
    out = _exp64(torch.where(usual, y, 1.0) * _log64(torch.where(usual, x, 1.0)))
    edge = torch.where((x == 0) == (y > 0), 0.0, np.inf).double()
    out = torch.where((x == 0) | (x == np.inf), edge, out)
    refused = torch.isnan(x) | torch.isnan(y) | (x < 0) | (y.abs() == np.inf)
    return torch.where(refused, np.nan, out)


def _log64(x: Tensor) -> Tensor:
    word = x.view(torch.int64)
    n = (word >> 52) - 1022
    m = ((word & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000).view(torch.float64)
    small = m < 0.70710678118654752
    m = torch.where(small, m + m, m)
    n = n - torch.where(small, 1, 0)
    s = torch.div(m - 1.0, m + 1.0)
    series = horner([1.0 / k for k in (17, 15, 13, 11, 9, 7, 5, 3, 1)], s * s)
    return n.double() * c.LN2 + (s + s) * series


def _exp64(x: Tensor) -> Tensor:
    x = torch.where(x > -120.0, x, -120.0)
    x = torch.where(x < 100.0, x, 100.0)
    n = torch.round(x * c.INVERSE_LN2)
    r = x - n * c.LN2
    total = torch.ones_like(x)
    for k in range(12, 0, -1):
        total = divided(total * r, float(k), x) + 1.0
    return total * power64(n.long())


def erfc(x: Tensor) -> Tensor:
    """1 - erf(x); see `definition.elementary.erfc`."""
    wide = x.double()
    size = wide.abs()
    size = torch.where(size < c.ERFC_LARGEST, size, c.ERFC_LARGEST)
    p = horner(c.ERFC, torch.div(size - 2.0, size + 2.0))
    tail = torch.div(p, size * 2.0 + 1.0) * _exp64(-(size * size))
    return torch.where(torch.isnan(x), x, torch.where(wide < 0, 2.0 - tail, tail).float())


def atan(x: Tensor) -> Tensor:
    """The inverse tangent; see `definition.elementary.atan`."""
    size = x.abs()
    large, middle = size > float(c.ATAN_LARGE), size > float(c.ATAN_MIDDLE)
    start = torch.where(large, float(c.HALF_PI), torch.where(middle, float(c.QUARTER_PI), 0.0)).float()
    b = torch.where(middle, torch.div(size - 1.0, size + 1.0), size)
    b = torch.where(large, divided(-1.0, size, x), b)
    z = b * b
    out = (horner(c.ATAN, z) * z) * b
    out = start + (out + b)
    return torch.where(torch.isnan(x), x, torch.copysign(out, x))


def fmod(a: Tensor, b: Tensor) -> Tensor:
    """`Elementwise.fmod`, as long division of whole mantissas."""
    x, y = a.abs(), b.abs()
    (mx, ex), (my, ey) = _mantissa(x), _mantissa(y)
    low = torch.minimum(ex, ey)
    divisor = my << (ey - low).clamp(max=24)  # shifted by more, y is larger than x
    divisor = torch.where(divisor == 0, 1, divisor)
    r, left = mx % divisor, ex - low
    for _ in range(7):  # 7 * 39 bits are more than the exponents' range
        step = left.clamp(max=39)
        r, left = (r << step) % divisor, left - step
    out = (r.double() * power64(low - 150)).float()
    out = torch.where(x < y, x, out)
    refused = torch.isnan(a) | torch.isnan(b) | (x == np.inf) | (y == 0)
    return torch.where(refused, np.nan, torch.copysign(out, a))


def _mantissa(x: Tensor) -> tuple[Tensor, Tensor]:
    """Int64 m and e with x = m 2**(e - 150), for x >= 0."""
    word = x.view(torch.int32).long()
    e = word >> 23
    return torch.where(e == 0, word, (word & 0x7FFFFF) | 0x800000), e.clamp(min=1)
