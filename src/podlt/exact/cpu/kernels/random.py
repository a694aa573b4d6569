"""The loop on the CPU that draws random numbers: Philox 4x32, whose constants `program.philox` holds."""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.cpu.jit import array_at, kernel

_LOW, _SHIFT, _EIGHT = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(8)
_UNIT = np.float32(2.0**-24)
BLOCK = 256
"""Counters that are turned together, so that a round is a loop over vectors."""


@kernel
def uniform_at(
    key: tuple[int, int], draw: int, multiply: tuple[int, int], weyl: tuple[int, int], rounds: int, n: int, to: int
) -> None:
    """Write `program.philox.uniform`'s n numbers to an address.

    Args:
        key: two 32-bit words.
        draw: the third word of each counter; the first two are its number.
        multiply: what the first and the third word are multiplied with in each round.
        weyl: what is added to the key after each round.
    """
    out = array_at(to, n, np.float32)
    times, others = np.uint64(multiply[0]), np.uint64(multiply[1])
    a, b = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    c, d = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    for start in range(0, (n + 3) // 4, BLOCK):
        for i in range(BLOCK):
            number = np.uint64(start + i)
            a[i], b[i], c[i], d[i] = number & _LOW, number >> _SHIFT, np.uint64(draw), np.uint64(0)
        first, second = np.uint64(key[0]), np.uint64(key[1])
        for _ in range(rounds):
            for i in range(BLOCK):
                p, q = a[i] * times, c[i] * others
                a[i], b[i] = (q >> _SHIFT) ^ b[i] ^ first, q & _LOW
                c[i], d[i] = (p >> _SHIFT) ^ d[i] ^ second, p & _LOW
            first, second = (first + np.uint64(weyl[0])) & _LOW, (second + np.uint64(weyl[1])) & _LOW
        count = min(BLOCK, n // 4 - start)
        part = out[4 * start :]
        for i in range(count):
            part[4 * i] = np.float32(np.int32(a[i] >> _EIGHT)) * _UNIT
            part[4 * i + 1] = np.float32(np.int32(b[i] >> _EIGHT)) * _UNIT
            part[4 * i + 2] = np.float32(np.int32(c[i] >> _EIGHT)) * _UNIT
            part[4 * i + 3] = np.float32(np.int32(d[i] >> _EIGHT)) * _UNIT
        if count < BLOCK:  # the last counter gives what is left
            for j in range(n - 4 * (start + count)):
                word = a[count] if j == 0 else b[count] if j == 1 else c[count]
                part[4 * count + j] = np.float32(np.int32(word >> _EIGHT)) * _UNIT
