"""Loops on the CPU for the likelihood of one class a line, which every classifier and language model ends with."""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

FINITE, NOT_FINITE, OUTSIDE = range(3)
"""What a loop found: all well; a term that is an infinity or a NaN; a class that is none of the columns."""


@kernel
def picked_at(x: int, target: int, m: int, n: int, ignore: int, bits: int, loss: int, count: int) -> int:
    """loss = the exact sum of -x[i, target[i]] over the lines whose target is not `ignore`; count = how many they are.

    Args:
        x: where float32 (m, n) lies.
        target: where int64 (m,) lies.
        bits: `constants.sum_bits`.
        loss: where the sum lies, float32 (1,), written.
        count: where the number of terms lies, float32 (1,), written.
    """
    rows, classes = array_at(x, m * n, np.float32).reshape((m, n)), array_at(target, m, np.int64)
    top = np.uint32(0)
    for i in range(m):
        c = classes[i]
        if c != ignore:
            if c < 0 or c >= n:
                return OUTSIDE
            top = max(top, magnitude(rows[i, c]))
    if not is_finite(top):
        return NOT_FINITE
    scale = power64(bits - exponent(top))
    total, counted = np.int64(0), np.int64(0)
    for i in range(m):
        c = classes[i]
        if c != ignore:
            total += units(-rows[i, c], scale)
            counted += 1
    array_at(loss, 1, np.float32)[0] = rounded(total, exponent(top) - bits)
    array_at(count, 1, np.float32)[0] = np.float32(counted)
    return FINITE


@kernel
def spread_at(values: int, each: bool, target: int, m: int, n: int, ignore: int, out: int) -> int:
    """out[i, target[i]] = values[i] (or values[0] if not `each`) where the target is not `ignore`; 0 elsewhere.

    Args:
        values: where float32 (m,) or (1,) lies.
        target: where int64 (m,) lies.
        out: where float32 (m, n) lies, written.
    """
    given, classes = array_at(values, m if each else 1, np.float32), array_at(target, m, np.int64)
    rows = array_at(out, m * n, np.float32).reshape((m, n))
    for i in range(m):
        row, c = rows[i], classes[i]
        row[:] = np.float32(0.0)
        if c != ignore:
            if c < 0 or c >= n:
                return OUTSIDE
            row[c] = given[i if each else 0]
    return FINITE
