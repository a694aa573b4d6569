"""Products of packed operands in tiles that stay in registers, and panels that stay in the cache; rounded at once.

Operands lie as `kernels.panels` packs them.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel, scalar
from podlt.exact.cpu.kernels.digits import NARROW_TERMS, power32, wide_sum
from podlt.exact.cpu.kernels.sums import power64
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.exact.cpu.kernels.vnni import COLUMNS, LEVELS, ROWS, multiply_tile, round_tile

SHIFT = 7 - 2 * 13
"""The unit of two digits' levels, as a power of two, for exponents of 0."""

BLOCK = 2**19
"""So many bytes of the right operand are used by all rows before the next: half of a usual second-level cache."""

_TILE = LEVELS * ROWS * COLUMNS
_ROOM = _TILE + ROWS * COLUMNS
"""The int32 that a tile's levels and results take, where they do not go to their place at once."""


@scalar
def _combine(tile: Array, ea: Array, eb: Array, bias: Array, out: Array) -> None:
    """Round the levels of a tile (2, `ROWS`, `COLUMNS`) by binary64, once each, to float32 (`ROWS`, `COLUMNS`).

    Args:
        bias: float32 (`COLUMNS`,), or (0,) for none.
    """
    for i in range(len(ea)):
        high, low, row, factor = tile[0, i], tile[1, i], out[i], power64(ea[i] + SHIFT)
        for j in range(len(eb)):
            total = wide_sum(np.float64(high[j]), np.float64(low[j]), np.float64(0), 2)
            row[j] = np.float32(total * (factor * power64(eb[j])))
        for j in range(min(len(eb), len(bias))):
            row[j] = row[j] + bias[j]


@scalar
def _fits(ea: Array, eb: Array, k: int) -> bool:
    """Whether an int32 holds both levels of all results, and no result is below the normal float32."""
    least, most = eb.min(), eb.max()
    fits = k <= NARROW_TERMS and most <= 127
    for i in range(len(ea)):
        fits = fits and ea[i] + SHIFT + least >= -126 and ea[i] + SHIFT + most <= 127
    return bool(fits)


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
    room: Array,
) -> None:
    """One product, of packed operands; `room` is int32 (`_ROOM`,), aligned to 64 bytes."""
    m, n, steps = len(ea), len(eb), (k + 3) // 4
    panels, tiles = (n + COLUMNS - 1) // COLUMNS, (m + ROWS - 1) // ROWS
    panel = steps * 2 * 4 * COLUMNS
    levels = room[:_TILE].reshape((LEVELS, ROWS, COLUMNS))
    rounded = room[_TILE : _TILE + ROWS * COLUMNS].view(np.float32).reshape((ROWS, COLUMNS))
    fits = _fits(ea, eb, k)
    own, scale = np.zeros(tiles * ROWS, np.float32), np.zeros(panels * COLUMNS, np.float32)
    added = np.zeros(panels * COLUMNS if len(bias) > 0 else 0, np.float32)
    for i in range(m if fits else 0):
        own[i] = power32(ea[i] + SHIFT)
    for j in range(n if fits else 0):
        scale[j] = power32(eb[j])
    for j in range(len(bias)):
        added[j] = bias[j]
    several = max(1, BLOCK // panel)
    for begin in range(0, panels, several):
        for t in range(tiles):
            i, a, s = t * ROWS, left + t * ours, start + t * 8 * ROWS
            for p in range(begin, min(begin + several, panels)):
                j, b = p * COLUMNS, right + p * panel
                whole = fits and i + ROWS <= m and j + COLUMNS <= n
                to = out.ctypes.data + 4 * (i * n + j) if whole else rounded.ctypes.data
                if fits:
                    plus = added.ctypes.data + 4 * j if len(added) > 0 else 0
                    ours_at, theirs_at = own.ctypes.data + 4 * i, scale.ctypes.data + 4 * j
                    apart = 4 * n if whole else 4 * COLUMNS
                    round_tile(a, row, low, step, b, s, steps, ours_at, theirs_at, plus, to, apart)
                else:
                    multiply_tile(a, row, low, step, b, s, steps, levels.ctypes.data)
                    _combine(levels, ea[i : i + ROWS], eb[j : j + COLUMNS], added[j : j + COLUMNS], rounded)
                if not whole:
                    _put(rounded, out, i, j, m, n)
    room[0] = 0  # it is needed until here, and so are those below
    own[:1], scale[:1], added[:1] = 0, 0, 0


@scalar
def _put(rounded: Array, out: Array, i: int, j: int, m: int, n: int) -> None:
    """Copy what there is of a tile whose first result is row i, column j of flat (m, n)."""
    columns = min(COLUMNS, n - j)
    for r in range(min(ROWS, m - i)):
        at = (i + r) * n + j
        row, target = rounded[r], out[at : at + columns]
        for c in range(columns):
            target[c] = row[c]


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
    room = np.empty(_ROOM + LANES, np.int32)
    first = -room.ctypes.data % 64 // 4
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
            room[first : first + _ROOM],
        )
