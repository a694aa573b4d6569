"""The sum of the squares of float32 values: 64 sums in binary64, alike on any machine, as none is contracted."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel

LANES = 64


@kernel
def add_squares(values: Array, sums: Array) -> None:
    """Adds the square of value i (float32) to sum i mod 64 (float64, changed in place), in order."""
    whole = len(values) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            value = np.float64(values[start + lane])
            sums[lane] += value * value
    for lane in range(len(values) - whole):
        value = np.float64(values[whole + lane])
        sums[lane] += value * value
