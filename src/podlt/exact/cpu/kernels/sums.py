"""Loops on the CPU for exact sums: integers added in any order, rounded once. Definition: `definition.exact_sum`.

A float64 `t = x * scale + 1.5 * 2**52` has round_half_even(x * scale) in its low bits while that is below 2**51:
adding those bits as integers vectorises for every processor.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, call-arg"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, exact_product_and, inlined, kernel, scalar

ROUND64 = np.float64(6755399441055744.0)
RAW = np.int64(ROUND64.view(np.int64))
MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_EXACT = np.int64(1 << 53)
_LOW = np.int64(0x7FF)
_STICKY = np.int64(0x400)

FINE, NOT_FINITE, OUTSIDE = range(3)
"""What a loop found: all well; an infinity or a NaN; an index that is too large."""


@inlined
def power64(e: int) -> np.float64:
    """2**e as a float64, for a normal result, from its bits."""
    return np.int64((e + 1023) << 52).view(np.float64)


@inlined
def magnitude(x: np.float32) -> np.uint32:
    """The bits of |x|: they order like the magnitudes, and infinities and NaNs come last."""
    return np.uint32(np.float32(x).view(np.uint32) & MAGNITUDE)


@inlined
def is_finite(top: np.uint32) -> bool:
    """Whether the largest of the `magnitude`s is that of a finite value."""
    return bool(top < _INFINITY)


@inlined
def exponent(top: np.uint32) -> int:
    """The e with max|x| < 2**e, from the largest of the `magnitude`s."""
    return (np.int64(top) >> 23) - 126


@inlined
def raw_units(x: np.float32, scale: np.float64) -> np.int64:
    """`units`, and `RAW` more: what is added up n times is n * `RAW` too much, modulo 2**64."""
    return np.float64(exact_product_and(np.float64(x), scale, ROUND64)).view(np.int64)


@inlined
def units(x: np.float32, scale: np.float64) -> np.int64:
    """round_half_even(x * scale) for a power of two `scale`, below 2**51."""
    return raw_units(x, scale) - RAW


@inlined
def rounded(total: np.int64, e: int) -> np.float32:
    """total * 2**e, rounded to float32 once: beyond 2**53 the lowest bits become one sticky bit first."""
    sticky = _STICKY if total & _LOW else np.int64(0)
    large = (total >= _EXACT) | (total <= -_EXACT)
    high = (total & ~_LOW) | sticky if large else total  # choices, not branches: loops over this vectorise
    return np.float32(np.float64(high) * power64(e))


@scalar
def channel_sum(x: Array, j: int, bits: int) -> tuple[np.float32, np.uint32]:
    """The exact sum of x[:, j, :] for float32 (n, c, l), and its largest magnitude."""
    n, _, length = x.shape
    top = np.uint32(0)
    for i in range(n):
        row = x[i, j]
        for k in range(length):
            top = max(top, magnitude(row[k]))
    scale, total = power64(bits - exponent(top)), -np.int64(n * length) * RAW
    for i in range(n):
        row = x[i, j]
        for k in range(length):
            total += raw_units(row[k], scale)
    return rounded(total, exponent(top) - bits), top


@kernel
def sum_blocks(x: Array, bits: int, out: Array) -> bool:
    """out[c] = the exact sum of x[:, c, :] for float32 (n, c, l), C order; whether all was finite."""
    c = x.shape[1]
    worst = np.uint32(0)
    for j in range(c):
        out[j], top = channel_sum(x, j, bits)
        worst = max(worst, top)
    return is_finite(worst)


@kernel
def sum_columns(x: Array, bits: int, out: Array) -> bool:
    """out[o, i] = the exact sum of x[o, :, i] for float32 (o, n, i), C order; whether all was finite.

    Four rows at a time: what is known of a column so far is read and written once for them.
    """
    outer, n, inner = x.shape
    top = np.empty(inner, np.uint32)
    scale = np.empty(inner, np.float64)
    total = np.empty(inner, np.int64)
    worst, fours = np.uint32(0), n - n % 4
    for o in range(outer):
        top[:] = 0
        for i in range(0, fours, 4):
            a, b, c, d = x[o, i], x[o, i + 1], x[o, i + 2], x[o, i + 3]
            for j in range(inner):
                ab, cd = max(magnitude(a[j]), magnitude(b[j])), max(magnitude(c[j]), magnitude(d[j]))
                top[j] = max(top[j], max(ab, cd))
        for i in range(fours, n):
            a = x[o, i]
            for j in range(inner):
                top[j] = max(top[j], magnitude(a[j]))
        for j in range(inner):
            worst = max(worst, top[j])
            scale[j] = power64(bits - exponent(top[j]))
            total[j] = -np.int64(n) * RAW
        for i in range(0, fours, 4):
            a, b, c, d = x[o, i], x[o, i + 1], x[o, i + 2], x[o, i + 3]
            for j in range(inner):
                s = scale[j]
                total[j] += raw_units(a[j], s) + raw_units(b[j], s) + raw_units(c[j], s) + raw_units(d[j], s)
        for i in range(fours, n):
            a = x[o, i]
            for j in range(inner):
                total[j] += raw_units(a[j], scale[j])
        for j in range(inner):
            out[o, j] = rounded(total[j], exponent(top[j]) - bits)
    return is_finite(worst)


@kernel
def sum_at(x: int, columns: bool, outer: int, middle: int, inner: int, bits: int, out: int) -> bool:
    """`sum_columns`, or else `sum_blocks`, of the float32 (outer, middle, inner) at an address, to another."""
    values = array_at(x, outer * middle * inner, np.float32).reshape((outer, middle, inner))
    if columns:
        return sum_columns(values, bits, array_at(out, outer * inner, np.float32).reshape((outer, inner)))
    return sum_blocks(values, bits, array_at(out, middle, np.float32))


@kernel
def sum_prefixes(x: Array, bits: int, out: Array) -> bool:
    """out[o, :, i] = the exact sums of the prefixes of x[o, :, i], float32 (o, n, i); whether all was finite."""
    outer, n, inner = x.shape
    top = np.empty(inner, np.uint32)
    scale, total = np.empty(inner, np.float64), np.empty(inner, np.int64)
    line = np.empty(n if inner == 1 else 0, np.int64)
    worst = np.uint32(0)
    for o in range(outer):
        top[:] = 0
        total[:] = 0
        for i in range(n):
            row = x[o, i]
            for j in range(inner):
                top[j] = max(top[j], magnitude(row[j]))
        for j in range(inner):
            worst = max(worst, top[j])
            scale[j] = power64(bits - exponent(top[j]))
        if inner == 1:  # the sums one after the other, then all roundings together, as vectors
            own, target = x[o, :, 0], out[o, :, 0]
            for i in range(n):
                line[i] = units(own[i], scale[0])
            sum_of = np.int64(0)
            for i in range(n):
                sum_of += line[i]
                line[i] = sum_of
            for i in range(n):
                target[i] = rounded(line[i], exponent(top[0]) - bits)
            continue
        for i in range(n):
            row, below = x[o, i], out[o, i]
            for j in range(inner):
                total[j] += units(row[j], scale[j])
                below[j] = rounded(total[j], exponent(top[j]) - bits)
    return is_finite(worst)


@scalar
def _largest(x: Array) -> np.uint32:
    """The largest magnitude of a flat array."""
    top = np.uint32(0)
    for i in range(len(x)):
        top = max(top, magnitude(x[i]))
    return top


@kernel
def scatter_rows(base: int, index: int, n: int, x: int, rows: int, width: int, bits: int, out: int) -> int:
    """out[r] = the exact sum of base[r] and of every x[i] with index[i] = r, under one exponent.

    Where there are many more rows than values, sums are kept for those that occur: a table of words has 50,000, and a
    batch some hundred. The others are those of `base`, rounded to the same units.

    Args:
        base: where float32 (rows, width) lies, or 0 for zeros.
        index: where int64 (n,) lies, each in [0, rows), or < 0: left out.
        x: where float32 (n, width) lies.
        out: where float32 (rows, width) lies, written.

    Returns:
        `FINE`, `NOT_FINITE`, or `OUTSIDE`: an index is too large.
    """
    places, values = array_at(index, n, np.int64), array_at(x, n * width, np.float32)
    start, target = (
        array_at(base, rows * width if base != 0 else 0, np.float32),
        array_at(out, rows * width, np.float32),
    )
    dense = rows <= 2 * n
    slot = np.empty(0 if dense else rows, np.int64)
    slot[:] = -1
    back = np.empty(rows if dense else n, np.int64)
    count = rows if dense else 0
    for k in range(count):
        back[k] = k
    for i in range(n):
        r = places[i]
        if r >= rows:
            return OUTSIDE
        if not dense and r >= 0 and slot[r] < 0:
            slot[r] = count
            back[count] = r
            count += 1
    top = max(_largest(values), _largest(start))
    if not is_finite(top):
        return NOT_FINITE
    e = exponent(top) - bits
    scale = power64(-e)
    if not dense:
        for i in range(len(start)):
            target[i] = rounded(units(start[i], scale), e)
        if base == 0:
            target[:] = 0
    total = np.zeros(count * width, np.int64)
    if base != 0:
        for k in range(count):
            row, at = total[k * width : (k + 1) * width], back[k] * width
            for j in range(width):
                row[j] = units(start[at + j], scale)
    if width == 1:
        for i in range(n):
            if places[i] >= 0:
                total[places[i] if dense else slot[places[i]]] += units(values[i], scale)
        for k in range(count):
            target[back[k]] = rounded(total[k], e)
        return FINE
    for i in range(n):
        if places[i] >= 0:
            k = places[i] if dense else slot[places[i]]
            row, added = total[k * width :][:width], values[i * width : (i + 1) * width]
            for j in range(width):
                row[j] += units(added[j], scale)
    for k in range(count):
        row, sums_of = total[k * width : (k + 1) * width], target[back[k] * width :][:width]
        for j in range(width):
            sums_of[j] = rounded(row[j], e)
    return FINE
