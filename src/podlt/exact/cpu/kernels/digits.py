"""Loops on the CPU for exact products: find each row's exponent and cut it in one pass; combine and round once.

A float32 `t = x * scale + 1.5 * 2**23` has round_half_even(x * scale) in its low bits while that is below 2**22:
integer work on those bits vectorises for every processor, where a conversion does not.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import (
    ADAPTIVE,
    LEAST_EXPONENT,
    LOSS_BITS,
    NARROW_DIGITS,
    Array,
)
from podlt.exact.cpu.jit import array_at, inlined, kernel, scalar
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

_ROUND32 = np.float32(12582912.0)  # 1.5 * 2**23; its bits are a multiple of 2**21, so digits come out of them unharmed
_128 = np.float64(128.0)
_U7, _U64, _U127 = np.uint32(7), np.uint32(64), np.uint32(127)
_ROUND32_BITS = np.int32(_ROUND32.view(np.int32))
_LEAST = LEAST_EXPONENT
_ENOUGH = np.int32(129)

LONG = 2**17
"""Of longer rows the quick sum of `cut_line` could overflow: all are looked at."""

NOT_FINITE = -1
"""What a cut returns of infinities and NaNs, instead of how many lines are wide."""

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
def cut_line(
    row: Array, scale: np.float32, digits: int, weighed: bool, high: Array, middle: Array, low: Array
) -> np.int32:
    """Cut float32 (k,) times `scale` into int8 (k,) digits; of one or two there is no middle, and of one no low.

    Returns:
        If `weighed`: the sum of |q| less 129 for each value that is not zero, for rows of at most 2**17 values. While
        it is not below 0, two digits lose at most half a unit of 129, which `is_wide` would let pass.
    """
    balance = np.int32(0)
    for j in range(len(row)):
        u = np.float32(row[j] * scale + _ROUND32).view(np.uint32)
        if weighed:
            balance += abs(np.int32(u) - _ROUND32_BITS) - _ENOUGH * np.int32(magnitude(row[j]) != 0)
        if digits > 1:
            u = u + _U64
            low[j] = np.int8((u & _U127) - _U64)
            u = u >> _U7
        if digits > 2:
            u = u + _U64
            middle[j] = np.int8((u & _U127) - _U64)
            u = u >> _U7
        high[j] = np.int8(u)
    return balance


@scalar
def add_losses(row: Array, e: int, sums: Array) -> None:
    """Add what two digits lose of float32 (k,) at exponent `e` to sums[0], and the whole to sums[1].

    In units of the fourth digit; a value that is not zero loses one more (`definition.cut_of`).
    """
    fine, coarse = power64(27 - e), power64(13 - e)
    for j in range(len(row)):
        x = units(row[j], fine)
        sums[0] += abs(x - (units(row[j], coarse) << 14)) + np.int64(magnitude(row[j]) != 0)
        sums[1] += abs(x)


@scalar
def exceeds(sums: Array, top: np.uint32) -> bool:
    """Whether two digits lose too much of a row with these `add_losses`, whose largest magnitude is `top`."""
    return top != 0 and (exponent(top) < _LEAST or (sums[0] << LOSS_BITS) > sums[1])


@scalar
def is_wide(row: Array, top: np.uint32, balance: np.int32) -> bool:
    """Whether a row needs four digits, decided as `definition.cut_of` does; `balance` is `cut_line`'s."""
    if not is_finite(top) or (balance >= 0 and len(row) <= LONG):
        return bool(top != 0 and exponent(top) < _LEAST)
    sums = np.zeros(2, np.int64)  # only here: memory of its own for each row takes as long as cutting 200 values
    add_losses(row, exponent(top), sums)
    return exceeds(sums, top)


@kernel
def cut_rows(x: Array, planes: Array, exponents: Array, wide: Array, digits: int, reverse: bool) -> int:
    """Cut each row of `x` into digits that lie side by side in the same row of `planes`.

    Args:
        x: float32 (m, k), C order.
        planes: int8 (m, digits * k), written: most significant first, or last when `reverse`.
        exponents: int64 (m,), written.
        wide: uint8 (m,), written if `digits` is `ADAPTIVE`: which rows need four digits. All are cut into two.

    Returns:
        How many rows are wide, or `NOT_FINITE`.
    """
    m, k = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    worst, found = np.uint32(0), 0
    for i in range(m):
        top = np.uint32(0)
        for j in range(k):
            top = max(top, magnitude(x[i, j]))
        worst = max(worst, top)
        exponents[i] = row_exponent(top)
        first, last = planes[i, :k], planes[i, (digits - 1) * k :]
        high, low = (last, first) if reverse else (first, last)
        scale = power32(7 * digits - 1 - exponents[i])
        balance = cut_line(x[i], scale, digits, weighed, high, planes[i, k : 2 * k], low)
        if weighed:
            wide[i] = is_wide(x[i], top, balance)
            found += wide[i]
    return found if is_finite(worst) else NOT_FINITE


@kernel
def cut_columns(x: Array, planes: Array, exponents: Array, wide: Array, digits: int, reverse: bool) -> int:
    """Cut each column of each matrix of `x`; the digits' planes lie below each other.

    Args:
        x: float32 (b, k, n), C order.
        planes: int8 (b, digits * k, n), written: most significant first, or last when `reverse`.
        exponents: int64 (b, n), written.
        wide: uint8 (b, n), as for `cut_rows`.

    Returns:
        As `cut_rows`.
    """
    batches, k, n = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    top, balance = np.empty(n, np.uint32), np.empty(n, np.int32)
    scale, scaled, one = np.empty(n, np.float32), np.empty(n, np.float32), np.float32(1.0)
    worst, found = np.uint32(0), 0
    for b in range(batches):
        top[:] = 0
        balance[:] = 0
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
            if weighed:
                for j in range(n):
                    u = np.float32(scaled[j] + _ROUND32).view(np.uint32)
                    balance[j] += abs(np.int32(u) - _ROUND32_BITS) - _ENOUGH * np.int32(magnitude(row[j]) != 0)
            cut_line(scaled, one, digits, False, high, middle, low)
        if weighed:
            for j in range(n):
                wide[b, j] = is_wide(x[b, :, j], top[j], balance[j])
                found += wide[b, j]
    return found if is_finite(worst) else NOT_FINITE


@kernel
def cut_wide(x: Array, planes: Array, exponents: Array, reverse: bool) -> None:
    """Cut each row of finite float32 (m, k) into four digits, as `cut_rows` lays them, at its own exponent."""
    m, k = x.shape
    for i in range(m):
        top = np.uint32(0)
        for j in range(k):
            top = max(top, magnitude(x[i, j]))
        exponents[i] = exponent(top)
        scale = power64(27 - exponents[i])
        for j in range(k):
            rest = np.int32(units(x[i, j], scale))
            for place in range(3, 0, -1):
                higher = (rest + np.int32(64)) >> 7
                planes[i, (3 - place if reverse else place) * k + j] = np.int8(rest - (higher << 7))
                rest = higher
            planes[i, (3 if reverse else 0) * k + j] = np.int8(rest)


@kernel
def cut_at(
    x: int,
    along_rows: bool,
    batches: int,
    rows: int,
    columns: int,
    planes: int,
    exponents: int,
    wide: int,
    digits: int,
    reverse: bool,
) -> int:
    """`cut_rows`, or `cut_columns`, of the float32 (batches, rows, columns) at an address, into what lies at others.

    Addresses, because a small operand is cut sooner than an array is handed over.
    """
    size, count = batches * rows * columns, digits if digits != ADAPTIVE else NARROW_DIGITS
    values, cut = array_at(x, size, np.float32), array_at(planes, count * size, np.int8)
    lines = batches * (rows if along_rows else columns)
    found, marks = array_at(exponents, lines, np.int64), array_at(wide, lines, np.uint8)
    if along_rows:
        return cut_rows(
            values.reshape((lines, columns)), cut.reshape((lines, count * columns)), found, marks, digits, reverse
        )
    shape = (batches, columns)
    below, blocks = cut.reshape((batches, count * rows, columns)), values.reshape((batches, rows, columns))
    return cut_columns(blocks, below, found.reshape(shape), marks.reshape(shape), digits, reverse)


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


@kernel
def combine_wide(levels: Array, ea: Array, eb: Array, bias: Array, out: Array) -> None:
    """As `combine`, of four levels, by whole numbers: their sum may be beyond 2**53.

    Args:
        levels: int32, or whole float64, (4, m, n).
    """
    _, m, n = levels.shape
    for i in range(m):
        for j in range(n):
            total = np.int64(0)
            for level in range(4):
                total = (total << 7) + np.int64(levels[level, i, j])
            value = rounded(total, ea[i] + eb[j] - 33)
            out[i, j] = value + bias[j] if len(bias) > 0 else value
