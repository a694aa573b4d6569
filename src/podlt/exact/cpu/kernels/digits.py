"""Loops on the CPU for exact products: find each row's exponent and cut it in one pass; combine and round once.

A float32 `t = x * scale + 1.5 * 2**23` has round_half_even(x * scale) in its low bits while that is below 2**22:
integer work on those bits vectorises for every processor, where a conversion does not.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import LEAST_EXPONENT, Array
from podlt.exact.cpu.jit import array_at, inlined, kernel, scalar
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64

_ROUND32 = np.float32(12582912.0)  # 1.5 * 2**23; its bits are a multiple of 2**21, so digits come out of them unharmed
_128 = np.float64(128.0)
_U7, _U64, _U127 = np.uint32(7), np.uint32(64), np.uint32(127)
_LEAST = LEAST_EXPONENT

NARROW_TERMS = 4031
"""So many terms of two digits, both levels together, sum to less than 2**31: k * (2**19 + 2**13)."""


@inlined
def power32(e: int) -> np.float32:
    """2**e as a float32, for a normal result, from its bits."""
    return np.int32((e + 127) << 23).view(np.float32)


@inlined
def row_exponent(top: np.uint32) -> int:
    """The exponent at which a row is cut, from the bits of its largest magnitude."""
    return max(exponent(top), _LEAST)


@scalar
def cut_line(row: Array, scale: np.float32, digits: int, high: Array, middle: Array, low: Array) -> None:
    """Cut float32 (k,) times `scale` into int8 (k,) digits; of one or two there is no middle, and of one no low."""
    for j in range(len(row)):
        u = np.float32(row[j] * scale + _ROUND32).view(np.uint32)
        if digits > 1:
            u = u + _U64
            low[j] = np.int8((u & _U127) - _U64)
            u = u >> _U7
        if digits > 2:
            u = u + _U64
            middle[j] = np.int8((u & _U127) - _U64)
            u = u >> _U7
        high[j] = np.int8(u)


@kernel
def cut_rows(x: Array, planes: Array, exponents: Array, digits: int, reverse: bool) -> bool:
    """Cut each row of `x` into digits that lie side by side in the same row of `planes`; whether all was finite.

    Args:
        x: float32 (m, k), C order.
        planes: int8 (m, digits * k), written: most significant first, or last when `reverse`.
        exponents: int64 (m,), written.
    """
    m, k = x.shape
    worst = np.uint32(0)
    for i in range(m):
        top = np.uint32(0)
        for j in range(k):
            top = max(top, magnitude(x[i, j]))
        worst = max(worst, top)
        exponents[i] = row_exponent(top)
        first, last = planes[i, :k], planes[i, (digits - 1) * k :]
        high, low = (last, first) if reverse else (first, last)
        cut_line(x[i], power32(7 * digits - 1 - exponents[i]), digits, high, planes[i, k : 2 * k], low)
    return is_finite(worst)


@kernel
def cut_columns(x: Array, planes: Array, exponents: Array, digits: int, reverse: bool) -> bool:
    """Cut each column of each matrix of `x`; the digits' planes lie below each other. Whether all was finite.

    Args:
        x: float32 (b, k, n), C order.
        planes: int8 (b, digits * k, n), written: most significant first, or last when `reverse`.
        exponents: int64 (b, n), written.
    """
    batches, k, n = x.shape
    top = np.empty(n, np.uint32)
    scale, scaled, one = np.empty(n, np.float32), np.empty(n, np.float32), np.float32(1.0)
    worst = np.uint32(0)
    for b in range(batches):
        top[:] = 0
        for i in range(k):
            for j in range(n):
                top[j] = max(top[j], magnitude(x[b, i, j]))
        for j in range(n):
            worst = max(worst, top[j])
            e = row_exponent(top[j])
            exponents[b, j] = e
            scale[j] = power32(7 * digits - 1 - e)
        for i in range(k):
            row = x[b, i]
            high = planes[b, (digits - 1) * k + i if reverse else i]
            low = planes[b, i if reverse else (digits - 1) * k + i]
            middle = planes[b, min(k, (digits - 1) * k) + i]
            for j in range(n):
                scaled[j] = row[j] * scale[j]
            cut_line(scaled, one, digits, high, middle, low)
    return is_finite(worst)


@kernel
def cut_at(
    x: int,
    along_rows: bool,
    batches: int,
    rows: int,
    columns: int,
    planes: int,
    exponents: int,
    digits: int,
    reverse: bool,
) -> bool:
    """`cut_rows`, or `cut_columns`, of the float32 (batches, rows, columns) at an address, into what lies at others.

    Addresses, because a small operand is cut sooner than an array is handed over.
    """
    size = batches * rows * columns
    values, cut = array_at(x, size, np.float32), array_at(planes, digits * size, np.int8)
    if along_rows:
        lines = batches * rows
        digit_rows, found = cut.reshape((lines, digits * columns)), array_at(exponents, lines, np.int64)
        return cut_rows(values.reshape((lines, columns)), digit_rows, found, digits, reverse)
    below, found = cut.reshape((batches, digits * rows, columns)), array_at(exponents, batches * columns, np.int64)
    return cut_columns(
        values.reshape((batches, rows, columns)), below, found.reshape((batches, columns)), digits, reverse
    )


@scalar
def narrow_sum(high: np.int32, low: np.int32, digits: int) -> np.float32:
    """The levels of one or two digits in units of the last, where they fit an int32 together."""
    return np.float32(high if digits == 1 else np.int32((high << 7) + low))


@scalar
def wide_sum(first: np.float64, second: np.float64, third: np.float64, digits: int) -> np.float64:
    """The levels in units of the last: whole, exact below 2**53."""
    total = np.float64(first)
    if digits > 1:
        total = total * _128 + np.float64(second)
    return total * _128 + np.float64(third) if digits > 2 else total


@kernel
def combine_at(levels: int, m: int, n: int, k: int, ea: int, eb: int, digits: int, bias: int, out: int) -> None:
    """`combine` of int32 levels over k terms, at addresses; the bias, if there is any (not 0), is that of columns.

    While the integers of all levels fit an int32 together, and no result can be below the normal float32, converting
    them rounds once, and scaling them is exact: a quarter of the time of binary64.
    """
    p = array_at(levels, digits * m * n, np.int32).reshape((digits, m, n))
    rows, columns = array_at(ea, m, np.int64), array_at(eb, n, np.int64)
    target = array_at(out, m * n, np.float32).reshape((m, n))
    added = array_at(bias, n if bias != 0 else 0, np.float32)
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    least, most = np.int64(0), np.int64(0)
    if n > 0:
        least, most = columns.min(), columns.max()
    fits = digits == 1 or (digits == 2 and k <= NARROW_TERMS)
    for i in range(m):
        fits = fits and rows[i] + shift + least >= -126 and rows[i] + shift + most <= 127
    if not (fits and most <= 127):
        combine(p, rows, columns, digits, added, target)
        return
    scale = np.empty(n, np.float32)
    for j in range(n):
        scale[j] = power32(columns[j])
    for i in range(m):
        own = power32(rows[i] + shift)
        row, high, low = target[i], p[0, i], p[digits - 1, i]
        for j in range(n):
            row[j] = narrow_sum(high[j], low[j], digits) * (own * scale[j])
        if bias != 0:
            for j in range(n):
                row[j] = row[j] + added[j]


@kernel
def combine(levels: Array, ea: Array, eb: Array, digits: int, bias: Array, out: Array) -> None:
    """out = float32(sum of levels * powers of 2**7, scaled by both exponents), rounded once, then `+ bias`.

    Args:
        levels: int32 or float64 (digits, m, n): level l is the sum of the products of digits i and j with i + j = l.
        ea: int64 (m,).
        eb: int64 (n,).
        bias: float32 (n,), or (0,) for none: added as one float32 operation.
        out: float32 (m, n), written.
    """
    _, m, n = levels.shape
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    column = np.empty(n, np.float64)
    for j in range(n):
        column[j] = power64(eb[j])
    for i in range(m):
        scale = power64(ea[i] + shift)
        row = out[i]
        p0 = levels[0, i]
        p1 = levels[min(1, digits - 1), i]
        p2 = levels[digits - 1, i]
        for j in range(n):
            row[j] = np.float32(wide_sum(p0[j], p1[j], p2[j], digits) * (scale * column[j]))
        if len(bias) > 0:
            for j in range(n):
                row[j] = row[j] + bias[j]
