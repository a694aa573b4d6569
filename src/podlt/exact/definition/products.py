"""The definition of exact products and sums, in Python integers: slow, and read as the specification.

Nothing here is used to train. Every backend must return these bits, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from podlt.exact.constants import DIGIT_BITS, LEAST_EXPONENT, Array, NonFiniteError, sum_bits


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to an exact value: ties to even, subnormals and signs of zeros kept, may be infinite.

    Source: IEEE 754-2019, 4.3.1 (roundTiesToEven).
    """
    if value == 0:
        return np.float32(0.0)
    exponent = max(_floor_log2(abs(value)) - 23, -149)
    units = round(value / Fraction(2) ** exponent)
    if abs(units) * Fraction(2) ** exponent >= Fraction(2) ** 128:
        return np.float32(np.inf if units > 0 else -np.inf)
    return np.float32(np.copysign(np.ldexp(np.float64(units), exponent), -1.0 if value < 0 else 1.0))


def exponent_of(values: Array) -> int:
    """The e with 2**(e-1) <= max|values| < 2**e for normal maxima; -126 for subnormal ones and for zeros."""
    largest = np.max(np.abs(values.astype(np.float32)), initial=np.float32(0))
    return int(largest.view(np.uint32) >> 23) - 126


def digits_of(x: np.float32, exponent: int, digits: int) -> list[int]:
    """The balanced base-128 digits, most significant first, of round(x * 2**(7*digits - 1 - exponent)).

    The rounding is to the nearest integer, ties to even. Every digit lies in [-64, 64].
    """
    rest = round(Fraction(float(x)) * Fraction(2) ** (DIGIT_BITS * digits - 1 - exponent))
    out = []
    for _ in range(digits - 1):
        higher = (rest + 64) >> DIGIT_BITS
        out.append(rest - (higher << DIGIT_BITS))
        rest = higher
    return [rest, *reversed(out)]


def row_exponent(row: Array) -> int:
    """The exponent at which a row of a contracted dimension is cut."""
    return max(exponent_of(row), LEAST_EXPONENT)


def dot(a: Array, b: Array, digits: int, exponent_a: int | None = None, exponent_b: int | None = None) -> np.float32:
    """The product of two rows: digits i of `a` and j of `b` with i + j < `digits` only, summed exactly, rounded once.

    Args:
        a: float32 (k,).
        b: float32 (k,).
        digits: how many digits a value is cut into.
        exponent_a: of `a`, given where several rows share one (convolutions).
        exponent_b: of `b`.

    Raises:
        NonFiniteError: a value is an infinity or a NaN.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise NonFiniteError("mm")
    ea = row_exponent(a) if exponent_a is None else exponent_a
    eb = row_exponent(b) if exponent_b is None else exponent_b
    total = 0
    for x, y in zip(a, b, strict=True):
        dx, dy = digits_of(x, ea, digits), digits_of(y, eb, digits)
        for i in range(digits):
            for j in range(digits - i):
                total += dx[i] * dy[j] << DIGIT_BITS * (2 * (digits - 1) - i - j)
    return nearest_float32(total * Fraction(2) ** (ea + eb - 2 * (DIGIT_BITS * digits - 1)))


def mm(a: Array, b: Array, digits: int) -> Array:
    """The matrix product float32 (m, k) @ (k, n) -> (m, n), each element the `dot` of a row and a column."""
    out = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = dot(a[i], b[:, j], digits)
    return out


def exact_sum(values: Array | Sequence[float], exponent: int | None = None, terms: int | None = None) -> np.float32:
    """The sum of float32 values: each rounded to a multiple of 2**(e - bits), added exactly, rounded once.

    Args:
        values: float32, any shape.
        exponent: the e of max|x| < 2**e, given where several sums share one (scatter-add, cumulative sums).
        terms: the number of terms that `constants.sum_bits` takes, given where several sums share it.

    Raises:
        NonFiniteError: a value is an infinity or a NaN.
    """
    flat = np.asarray(values, np.float32).reshape(-1)
    if not np.isfinite(flat).all():
        raise NonFiniteError("sum")
    e = exponent_of(flat) if exponent is None else exponent
    bits = sum_bits(len(flat) if terms is None else terms)
    unit = Fraction(2) ** (e - bits)
    return nearest_float32(sum(round(Fraction(float(x)) / unit) for x in flat) * unit)


def _floor_log2(value: Fraction) -> int:
    """The largest n with 2**n <= value, for value > 0."""
    n = value.numerator.bit_length() - value.denominator.bit_length()
    return n if Fraction(2) ** n <= value else n - 1
