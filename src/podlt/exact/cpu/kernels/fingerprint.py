"""Loops on the CPU for sums of updates in whole units, and for polynomials over the field of p = 2**61 - 1.

A fingerprint is linear: the fingerprints of updates, given in the same units, add up to that of their sum.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, inlined, kernel
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

LANES = 16
"""So many polynomials in x**16 are worked out beside each other, as one would wait for its own last product. Updates
have a multiple of so many values."""

STRETCH = 4096
PRIME = np.uint64(2**61 - 1)
_LOW32, _LOW29 = np.uint64(2**32 - 1), np.uint64(2**29 - 1)
_29, _32, _61, _3 = np.uint64(29), np.uint64(32), np.uint64(61), np.uint64(3)


@inlined
def folded(value: np.uint64) -> np.uint64:
    """A number modulo p, below 2**61 + 8: 2**61 is 1."""
    return (value & PRIME) + (value >> _61)


@inlined
def times(a: np.uint64, b: np.uint64) -> np.uint64:
    """a * b modulo p, for two numbers below 2**61 + 8; below 2**61 + 8."""
    a1, a0, b1, b0 = a >> _32, a & _LOW32, b >> _32, b & _LOW32
    middle = a1 * b0 + a0 * b1
    high = ((a1 * b1) << _3) + (middle >> _29) + ((middle & _LOW29) << _32)
    return folded(high + folded(a0 * b0))


@inlined
def reduced(value: np.int64) -> np.uint64:
    """A whole number of less than 2**60 modulo p."""
    return np.uint64(value) if value >= 0 else np.uint64(value + np.int64(PRIME))


@kernel
def largest(addresses: Array, start: int, count: int) -> int:
    """The e with |x| < 2**e for all values of all updates between two places; 1000 where one is not finite."""
    top = np.uint32(0)
    for u in range(len(addresses)):
        x = array_at(addresses[u] + 4 * start, count, np.float32)
        for j in range(count):
            top = max(top, magnitude(x[j]))
    return exponent(top) if is_finite(top) else 1000


@kernel
def add_units(addresses: Array, start: int, e: int, out: Array) -> None:
    """out = the sum of the updates' values from `start` on, each rounded to a multiple of 2**e.

    Args:
        addresses: int64 (u,): where the float32 values of each update lie.
        out: int64 (n,).
    """
    scale = power64(-e)
    n = len(out)
    for first in range(0, n, STRETCH):
        part = out[first : first + STRETCH]
        count = len(part)
        part[:] = 0
        for u in range(len(addresses)):
            x = array_at(addresses[u] + 4 * (start + first), count, np.float32)
            for j in range(count):
                part[j] += units(x[j], scale)


@kernel
def divide(sums: Array, e: int, divisor: np.float32, out: Array) -> None:
    """out = sums * 2**e, rounded to float32 once, over `divisor`: what `average.mean` makes of the same sums."""
    for j in range(len(out)):
        out[j] = rounded(sums[j], e) / divisor


@kernel
def polynomials(values: Array, points: Array, found: Array) -> None:
    """found[k] = the sum of values[i] * points[k]**i modulo p.

    Args:
        values: int64 (n,), n a multiple of `LANES`, each of less than 2**60.
        points: uint64 (k,), below p.
        found: uint64 (k,), written; below p.
    """
    for k in range(len(points)):
        x = points[k]
        step = x
        for _ in range(4):  # x**16
            step = times(step, step)
        lanes = np.zeros(LANES, np.uint64)
        for first in range(len(values) - LANES, -1, -LANES):
            block = values[first : first + LANES]
            for j in range(LANES):
                lanes[j] = folded(times(lanes[j], step) + reduced(block[j]))
        total = np.uint64(0)
        for j in range(LANES - 1, -1, -1):
            total = folded(times(total, x) + lanes[j])
        found[k] = total % PRIME
