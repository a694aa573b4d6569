"""Loops on the CPU for exact sums: integers added in any order, rounded once. Definition: `definition.exact_sum`.

A float64 `t = x * scale + 1.5 * 2**52` has round_half_even(x * scale) in its low bits while that is below 2**51:
adding those bits as integers vectorises for every processor.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, inlined, kernel, scalar

ROUND64 = np.float64(6755399441055744.0)
_ROUND64_BITS = np.int64(ROUND64.view(np.int64))
MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_EXACT = np.int64(1 << 53)
_LOW = np.int64(0x7FF)
_STICKY = np.int64(0x400)


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
def units(x: np.float32, scale: np.float64) -> np.int64:
    """round_half_even(x * scale) for a power of two `scale`, below 2**51."""
    return np.float64(np.float64(x) * scale + ROUND64).view(np.int64) - _ROUND64_BITS


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
    scale, total = power64(bits - exponent(top)), np.int64(0)
    for i in range(n):
        row = x[i, j]
        for k in range(length):
            total += units(row[k], scale)
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
    """out[o, i] = the exact sum of x[o, :, i] for float32 (o, n, i), C order; whether all was finite."""
    outer, n, inner = x.shape
    top = np.empty(inner, np.uint32)
    scale = np.empty(inner, np.float64)
    total = np.empty(inner, np.int64)
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
        for i in range(n):
            row = x[o, i]
            for j in range(inner):
                total[j] += units(row[j], scale[j])
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
    total = np.empty(inner, np.int64)
    worst = np.uint32(0)
    for o in range(outer):
        top[:] = 0
        total[:] = 0
        for i in range(n):
            for j in range(inner):
                top[j] = max(top[j], magnitude(x[o, i, j]))
        for j in range(inner):
            worst = max(worst, top[j])
        for i in range(n):
            for j in range(inner):
                e = exponent(top[j]) - bits
                total[j] += units(x[o, i, j], power64(-e))
                out[o, i, j] = rounded(total[j], e)
    return is_finite(worst)


@kernel
def scatter_rows(base: Array, index: Array, x: Array, bits: int, out: Array) -> bool:
    """out[r] = the exact sum of base[r] and of every x[i] with index[i] = r, under one exponent; whether all finite.

    Args:
        base: float32 (rows, width), or (0, 0) for zeros.
        index: int64 (n,), each in [0, rows), or < 0: left out.
        x: float32 (n, width).
        out: float32 (rows, width), written.
    """
    rows, width = out.shape
    top = np.uint32(0)
    for i in range(len(index)):
        for j in range(width):
            top = max(top, magnitude(x[i, j]))
    for i in range(base.shape[0]):
        for j in range(width):
            top = max(top, magnitude(base[i, j]))
    e = exponent(top) - bits
    scale = power64(-e)
    total = np.zeros((rows, width), np.int64)
    for i in range(base.shape[0]):
        for j in range(width):
            total[i, j] = units(base[i, j], scale)
    for i in range(len(index)):
        if index[i] >= 0:
            row = total[index[i]]
            for j in range(width):
                row[j] += units(x[i, j], scale)
    for i in range(rows):
        for j in range(width):
            out[i, j] = rounded(total[i, j], e)
    return is_finite(top)
