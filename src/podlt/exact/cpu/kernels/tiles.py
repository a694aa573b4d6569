"""Products of packed operands in tiles that stay in registers, and panels that stay in the cache; rounded at once.

Operands lie as `kernels.panels` packs them.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel, scalar
from podlt.exact.cpu.kernels.digits import NARROW_TERMS, narrow_sum, power32, wide_sum
from podlt.exact.cpu.kernels.sums import power64
from podlt.exact.cpu.kernels.vnni import COLUMNS, LANES, LEVELS, ROWS, multiply_tile

SHIFT = 7 - 2 * 13
"""The unit of two digits' levels, as a power of two, for exponents of 0."""

BLOCK = 2**19
"""So many bytes of the right operand are used by all rows before the next: half of a usual second-level cache."""

_TILE = LEVELS * ROWS * COLUMNS


@scalar
def combine_tile(
    tile: Array, ea: Array, eb: Array, scale: Array, fits: bool, bias: Array, out: Array, at: int, n: int
) -> None:
    """Round the levels of a tile (2, `ROWS`, `COLUMNS`) once each, to as many rows and columns as there are exponents.

    Args:
        scale: 2**eb, where that is all that is needed (`fits`).
        bias: float32 (columns,), or (0,) for none.
        out: float32, flat: row i begins at `at` + i * `n`.
    """
    columns = len(eb)
    for i in range(len(ea)):
        high, low, row = tile[0, i], tile[1, i], out[at + i * n : at + i * n + columns]
        if fits:
            own = power32(ea[i] + SHIFT)
            for j in range(columns):
                row[j] = narrow_sum(high[j], low[j], 2) * (own * scale[j])
        else:
            factor = power64(ea[i] + SHIFT)
            for j in range(columns):
                total = wide_sum(np.float64(high[j]), np.float64(low[j]), np.float64(0), 2)
                row[j] = np.float32(total * (factor * power64(eb[j])))
        if len(bias) > 0:
            for j in range(columns):
                row[j] = row[j] + bias[j]


@scalar
def _multiply(
    left: int,
    row: int,
    low: int,
    step: int,
    ours: int,
    start: int,
    ea: Array,
    right: int,
    eb: Array,
    k: int,
    bias: Array,
    out: Array,
    tile: Array,
) -> None:
    """One product, of packed operands; `tile` is room for one, aligned to 64 bytes."""
    m, n = len(ea), len(eb)
    steps = (k + 3) // 4
    panel = steps * 2 * 4 * COLUMNS
    tile_at = tile.ctypes.data
    least, most = eb.min(), eb.max()
    fits = k <= NARROW_TERMS and most <= 127
    for i in range(m):
        fits = fits and ea[i] + SHIFT + least >= -126 and ea[i] + SHIFT + most <= 127
    scale = np.empty(n, np.float32)
    for j in range(n):
        scale[j] = power32(eb[j]) if fits else np.float32(0)
    panels, tiles = (n + COLUMNS - 1) // COLUMNS, (m + ROWS - 1) // ROWS
    several = max(1, BLOCK // panel)
    for begin in range(0, panels, several):
        end = min(begin + several, panels)
        for t in range(tiles):
            i = t * ROWS
            for p in range(begin, end):
                j = p * COLUMNS
                multiply_tile(
                    left + t * ours,
                    row,
                    low,
                    step,
                    right + p * panel,
                    start + t * 8 * ROWS,
                    steps,
                    tile_at,
                )
                e = min(j + COLUMNS, n)
                combine_tile(tile, ea[i : i + ROWS], eb[j:e], scale[j:e], fits, bias[j:e], out, i * n + j, n)


@kernel
def multiply_at(
    batches: int,
    m: int,
    k: int,
    n: int,
    left: int,
    row: int,
    low: int,
    step: int,
    tile: int,
    left_size: int,
    start: int,
    ea: int,
    right: int,
    right_size: int,
    eb: int,
    bias: int,
    out: int,
) -> None:
    """The products of packed operands, rounded once, `+ bias` of columns if there is one (not 0), to an address.

    Args:
        left: where the digits of the left operands lie, `left_size` bytes from one to the next and `tile` from a tile
            to the next; `row`, `low` and `step` as of `multiply_tile`.
        start: where their sums begin, int32 (batches, tiles, 2, `ROWS`).
        ea: where int64 (batches, m) exponents lie, and at `eb` (batches, n).
        right: where the panels of the right operands lie, `right_size` bytes from one to the next.
    """
    room = np.empty(_TILE + LANES, np.int32)
    first = -room.ctypes.data % 64 // 4
    tile_room = room[first : first + _TILE].reshape((LEVELS, ROWS, COLUMNS))
    starts = (m + ROWS - 1) // ROWS * LEVELS * ROWS * 4
    for b in range(batches):
        _multiply(
            left + b * left_size,
            row,
            low,
            step,
            tile,
            start + b * starts,
            array_at(ea + 8 * b * m, m, np.int64),
            right + b * right_size,
            array_at(eb + 8 * b * n, n, np.int64),
            k,
            array_at(bias, n if bias != 0 else 0, np.float32),
            array_at(out + 4 * b * m * n, m * n, np.float32),
            tile_room,
        )
