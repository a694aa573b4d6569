"""The definition of exact products and sums, in Python integers: slow, and read as the specification.

Nothing here is used to train. Every backend must return these bits, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from podlt.exact.constants import (
    ADAPTIVE,
    DIGIT_BITS,
    LEAST_EXPONENT,
    LOSS_BITS,
    NARROW_DIGITS,
    WIDE_DIGITS,
    Array,
    NonFiniteError,
    sum_bits,
)


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


def whole(x: np.float32, exponent: int, digits: int) -> int:
    """round(x * 2**(7*digits - 1 - exponent)), to the nearest integer, ties to even."""
    return round(Fraction(float(x)) * Fraction(2) ** (DIGIT_BITS * digits - 1 - exponent))


def digits_of(x: np.float32, exponent: int, digits: int) -> list[int]:
    """The balanced base-128 digits of `whole`, most significant first, each in [-64, 64]."""
    rest = whole(x, exponent, digits)
    out = []
    for _ in range(digits - 1):
        higher = (rest + 64) >> DIGIT_BITS
        out.append(rest - (higher << DIGIT_BITS))
        rest = higher
    return [rest, *reversed(out)]


@dataclass(frozen=True)
class Cut:
    """How a row of a contracted dimension is cut: at which exponent, and into how many digits."""

    exponent: int
    digits: int


def cut_of(row: Array, digits: int) -> Cut:
    """How the values that share an exponent are cut, into so many digits, or into as many as they need.

    `ADAPTIVE`: with e the row's exponent, X the four-digit integers of its values and q the two-digit ones, two digits
    lose L = sum |X - 2**14 q| of M = sum |X|. They are enough if 2**8 (L + n) <= M for the n values that are not zero
    (n bounds what X itself leaves out); else, and for every row below 2**-100, it takes four.

    Raises:
        NonFiniteError: a value is an infinity or a NaN.
    """
    if not np.isfinite(row).all():
        raise NonFiniteError("mm")
    e = exponent_of(row)
    floored = Cut(max(e, LEAST_EXPONENT), digits or NARROW_DIGITS)
    values = [x for x in row.reshape(-1) if x != 0]
    if digits != ADAPTIVE or not values:
        return floored
    apart = DIGIT_BITS * (WIDE_DIGITS - NARROW_DIGITS)
    fine = [whole(x, e, WIDE_DIGITS) for x in values]
    coarse = [whole(x, e, NARROW_DIGITS) for x in values]
    lost = sum(abs(f - (c << apart)) for f, c in zip(fine, coarse, strict=True))
    enough = e >= LEAST_EXPONENT and (lost + len(values)) << LOSS_BITS <= sum(map(abs, fine))
    return floored if enough else Cut(e, WIDE_DIGITS)


def dot(a: Array, b: Array, digits: int, cut_a: Cut | None = None, cut_b: Cut | None = None) -> np.float32:
    """The product of two rows: their digits i and j with i + j < S only, summed exactly, rounded once.

    S is the larger of the two rows' numbers of digits. Digit i of a row at exponent e counts 2**(e - 6 - 7 i).

    Args:
        a: float32 (k,).
        b: float32 (k,).
        digits: into how many a value is cut, or `ADAPTIVE`.
        cut_a: how `a` is cut, given where several rows are cut alike (convolutions).
        cut_b: how `b` is.

    Raises:
        NonFiniteError: a value is an infinity or a NaN.
    """
    ca, cb = cut_a or cut_of(a, digits), cut_b or cut_of(b, digits)
    most = max(ca.digits, cb.digits)
    total = 0
    for x, y in zip(a, b, strict=True):
        dx, dy = digits_of(x, ca.exponent, ca.digits), digits_of(y, cb.exponent, cb.digits)
        for i, p in enumerate(dx):
            for q, level in zip(dy, range(i, most), strict=False):
                total += p * q << DIGIT_BITS * (most - 1 - level)
    unit = ca.exponent + cb.exponent - 2 * (DIGIT_BITS - 1) - DIGIT_BITS * (most - 1)
    return nearest_float32(total * Fraction(2) ** unit)


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
