"""Exact sums at places of lines on the CPU, under one exponent. Definition: `definition.structure`."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel
from podlt.exact.cpu.kernels.sums import (
    FINE,
    NOT_FINITE,
    OUTSIDE,
    exponent,
    is_finite,
    magnitude,
    power64,
    rounded,
    units,
)


@kernel
def scatter_lines(base: Array, index: Array, x: Array, bits: int, out: Array) -> int:
    """out[i, r] = the exact sum of base[i, r] and of every x[i, j] with index[i, j] = r.

    Args:
        base: float32 (lines, n).
        index: int64 (lines, m).
        x: float32 (lines, m).
        bits: of a term.
        out: float32 (lines, n), written.

    Returns:
        `FINE`, `NOT_FINITE`, or `OUTSIDE`: an index is below 0 or too large.
    """
    lines, n = base.shape
    m = x.shape[1]
    top = np.uint32(0)
    for i in range(lines):
        own, added = base[i], x[i]
        for j in range(n):
            top = max(top, magnitude(own[j]))
        for j in range(m):
            top = max(top, magnitude(added[j]))
    if not is_finite(top):
        return NOT_FINITE
    e = exponent(top) - bits
    scale = power64(-e)
    total = np.empty(n, np.int64)
    for i in range(lines):
        own, places, added, target = base[i], index[i], x[i], out[i]
        for j in range(n):
            total[j] = units(own[j], scale)
        for j in range(m):
            r = places[j]
            if r < 0 or r >= n:
                return OUTSIDE
            total[r] += units(added[j], scale)
        for j in range(n):
            target[j] = rounded(total[j], e)
    return FINE
