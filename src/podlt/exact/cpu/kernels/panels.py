"""Loops on the CPU that cut operands into two digits and pack them for `kernels.vnni`, each in the order of its memory.

Four values that follow each other along the contracted dimension lie side by side. First digits are h, second l:

- a left operand in rows: h of a row, then l of it, signed, with zeros up to the next four;
- a left operand in columns: panels of 6 rows, of each four values those of h of all rows, then those of l;
- a right operand: panels of 32 columns, of each four values those of h of all columns, then those of l, with 64 added:
  the instruction wants one unsigned side. What that adds to a product is the left row's sum, and its sums begin with
  that much less.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.cuts import (
    VALUES,
    cut_left_fours,
    cut_left_row,
    cut_right_fours,
    cut_right_row,
    store_tile,
)
from podlt.exact.cpu.kernels.digits import NOT_FINITE, is_wide, power32, row_exponent
from podlt.exact.cpu.kernels.sums import is_finite, magnitude
from podlt.exact.cpu.kernels.vectors import LANES, transpose
from podlt.exact.cpu.kernels.vnni import COLUMNS, ROWS

_TOP = 13
STRIPE = 10 * LANES * ROWS
"""So many columns are looked at, and then cut: whole vectors and tiles, in rows long enough to be read ahead."""

LINE = STRIPE + LANES
"""A line of words of a stripe, of which a tile's vector may read beyond the last."""


def row_bytes(k: int) -> int:
    """The bytes from a left operand's row to its second digits: odd in cache lines, so that rows do not collide."""
    return (-(-k // 64) | 1) * 64


@scalar
def _added(lanes: Array) -> np.int32:
    """The sum of int32 (`LANES`,)."""
    total = np.int32(0)
    for j in range(LANES):
        total += lanes[j]
    return total


@scalar
def _top(row: Array) -> np.uint32:
    """The largest magnitude."""
    top = np.uint32(0)
    for j in range(len(row)):
        top = max(top, magnitude(row[j]))
    return top


@scalar
def _starts(high: np.int32, low: np.int32, i: int, start: Array) -> None:
    """Write what row i's sums begin with: 64 times its own digits' sums, less."""
    start[i // ROWS, 0, i % ROWS] = -(high << 6)
    start[i // ROWS, 1, i % ROWS] = -((high + low) << 6)


@kernel
def left_rows(x: Array, digits: Array, exponents: Array, wide: Array, weighed: bool, start: Array) -> int:
    """Cut and pack the rows of a left operand.

    Args:
        x: float32 (m, k), C order.
        digits: int8 (m, 2, `row_bytes`), written.
        exponents: int64 (m,), written.
        wide: uint8 (m,), written if `weighed`: which rows need four digits.
        start: int32 (tiles, 2, `ROWS`), written.

    Returns:
        How many rows are wide, or `NOT_FINITE`.
    """
    worst, found = np.uint32(0), 0
    scale, sums = np.empty(1, np.float32), np.empty((3, LANES), np.int32)
    for i in range(len(x)):
        row = x[i]
        top = _top(row)
        worst = max(worst, top)
        exponents[i] = row_exponent(top)
        scale[0] = power32(_TOP - exponents[i])
        cut_left_row(place(row), len(row), place(scale), place(digits[i, 0]), place(digits[i, 1]), place(sums))
        _starts(_added(sums[1]), _added(sums[2]), i, start)
        if weighed:
            wide[i] = is_wide(row, top, _added(sums[0]))
            found += wide[i]
    scale[0] = 0  # it is needed until here
    return found if is_finite(worst) else NOT_FINITE


@scalar
def _tops(x: Array, first: int, n: int, top: Array) -> None:
    """The largest magnitudes of some columns of float32 (k, all)."""
    top[:n] = 0
    for i in range(len(x)):
        row = x[i][first : first + n]
        for j in range(n):
            top[j] = max(top[j], magnitude(row[j]))


@scalar
def _scales(top: Array, n: int, exponents: Array, scale: Array) -> np.uint32:
    """The exponents and scales of lines by their largest magnitudes; the largest of all."""
    worst = np.uint32(0)
    for j in range(n):
        worst = max(worst, top[j])
        exponents[j] = row_exponent(top[j])
        scale[j] = power32(_TOP - exponents[j])
    return worst


@scalar
def _four_rows(x: Array, i: int, j: int, n: int, room: Array) -> tuple[int, int]:
    """Where rows i to i + 3 of columns j to j + 15 of float32 (k, all) lie, and how far apart: where they end before,
    at n columns or k rows, a copy in `room` (4, `LANES`) with zeros after the end."""
    k, width = x.shape
    if i + 4 <= k and j + LANES <= n:
        return x.ctypes.data + 4 * (i * width + j), 4 * width
    room[:] = np.float32(0)
    for r in range(min(4, k - i)):
        for c in range(min(LANES, n - j)):
            room[r, c] = x[i + r, j + c]
    return room.ctypes.data, 4 * LANES


@scalar
def _mark(x: Array, first: int, n: int, top: Array, balance: Array, wide: Array) -> int:
    """Mark those of some columns that need four digits; how many do."""
    found = 0
    for j in range(n):
        wide[first + j] = is_wide(x[:, first + j], top[j], balance[j])
        found += wide[first + j]
    return found


@kernel
def left_columns(x: Array, digits: Array, exponents: Array, wide: Array, weighed: bool, start: Array) -> int:
    """Cut and pack a left operand whose rows are the columns of float32 (k, m) in C order.

    Args:
        digits: uint32 (tiles, steps, 2, `ROWS`), written.

    Returns:
        As `left_rows`, and so for the other arguments.
    """
    m, steps, worst, found = x.shape[1], digits.shape[1], np.uint32(0), 0
    top, scale, room = np.empty(STRIPE, np.uint32), np.zeros(STRIPE, np.float32), np.empty((4, LANES), np.float32)
    words, sums = np.empty((2, LINE), np.uint32), np.empty((2, LINE), np.int32)
    balance = np.empty(STRIPE, np.int32)
    for first in range(0, m, STRIPE):
        n, tile = min(STRIPE, m - first), first // ROWS
        _tops(x, first, n, top)
        worst = max(worst, _scales(top, n, exponents[first:], scale))
        balance[:] = 0
        sums[:] = 0
        for s in range(steps):
            for j in range(0, n, LANES):
                at, row = _four_rows(x, 4 * s, first + j, first + n, room)
                to, of = words.ctypes.data + 4 * j, sums.ctypes.data + 4 * j
                scales, weights = scale.ctypes.data + 4 * j, balance.ctypes.data + 4 * j
                cut_left_fours(at, row, scales, weights, to, to + 4 * LINE, of, of + 4 * LINE)
            for t in range((n + ROWS - 1) // ROWS):
                ours = place(words) + 4 * t * ROWS
                store_tile(ours, ours + 4 * LINE, place(digits) + 8 * ROWS * ((tile + t) * steps + s))
        for j in range(n):
            _starts(sums[0, j], sums[1, j], first + j, start)
        found += _mark(x, first, n if weighed else 0, top, balance, wide)
    return found if is_finite(worst) else NOT_FINITE


@kernel
def right_columns(x: Array, panels: Array, exponents: Array, wide: Array, weighed: bool) -> int:
    """Cut and pack the columns of a right operand, float32 (k, n) in C order.

    Args:
        panels: uint32 (panels, steps, 2, `COLUMNS`), written.
        exponents: int64 (n,), written.
        wide: uint8 (n,), written if `weighed`.

    Returns:
        As `left_rows`.
    """
    n, steps, worst, found = x.shape[1], panels.shape[1], np.uint32(0), 0
    top, scale, room = np.empty(STRIPE, np.uint32), np.zeros(STRIPE, np.float32), np.empty((4, LANES), np.float32)
    balance = np.empty(STRIPE, np.int32)
    for first in range(0, n, STRIPE):
        count = min(STRIPE, n - first)
        _tops(x, first, count, top)
        worst = max(worst, _scales(top, count, exponents[first:], scale))
        balance[:] = 0
        for s in range(steps):
            for j in range(0, count, LANES):
                at, row = _four_rows(x, 4 * s, first + j, n, room)
                place = (first + j) // COLUMNS * steps + s
                to = panels.ctypes.data + 4 * (2 * COLUMNS * place + j % COLUMNS)
                scales, weights = scale.ctypes.data + 4 * j, balance.ctypes.data + 4 * j
                cut_right_fours(at, row, scales, weights, to, to + 4 * COLUMNS)
        found += _mark(x, first, count if weighed else 0, top, balance, wide)
    return found if is_finite(worst) else NOT_FINITE


@kernel
def right_rows(x: Array, panels: Array, exponents: Array, wide: Array, weighed: bool) -> int:
    """Cut and pack a right operand whose columns are the rows of float32 (n, k) in C order; else as `right_columns`."""
    n, steps, worst, found = len(x), panels.shape[1], np.uint32(0), 0
    words = (4 * steps + VALUES - 1) // VALUES * LANES
    scale, sums = np.empty(1, np.float32), np.empty(LANES, np.int32)
    high, low = np.zeros((COLUMNS, words + 1), np.uint32), np.zeros((COLUMNS, words + 1), np.uint32)
    apart, rest = 4 * (words + 1), np.empty((LANES, LANES), np.uint32)
    for p in range(panels.shape[0]):
        for j in range(min(COLUMNS, n - p * COLUMNS)):
            i = p * COLUMNS + j
            top = _top(x[i])
            worst = max(worst, top)
            exponents[i] = row_exponent(top)
            scale[0] = power32(_TOP - exponents[i])
            cut_right_row(place(x[i]), x.shape[1], place(scale), place(high[j]), place(low[j]), place(sums))
            if weighed:
                wide[i] = is_wide(x[i], top, _added(sums))
                found += wide[i]
        for s in range(0, steps, LANES):
            for half in range(0, COLUMNS, LANES):
                _deal(high[half:], s, apart, panels[p, :, 0, half:], rest)
                _deal(low[half:], s, apart, panels[p, :, 1, half:], rest)
    scale[0], rest[0, 0] = 0, 0  # they are needed until here
    return found if is_finite(worst) else NOT_FINITE


@scalar
def _deal(lines: Array, first: int, apart: int, to: Array, rest: Array) -> None:
    """Words `first` to `first` + 15 of 16 lines, `apart` bytes from one to the next, to so many rows of `to`, or those
    that it has."""
    step = 8 * COLUMNS
    if first + LANES <= len(to):
        transpose(place(lines) + 4 * first, apart, place(to) + first * step, step)
        return
    transpose(place(lines) + 4 * first, apart, place(rest), 4 * LANES)
    for i in range(len(to) - first):
        for j in range(LANES):
            to[first + i, j] = rest[i, j]


@kernel
def pack_at(
    x: int,
    is_left: bool,
    in_rows: bool,
    batches: int,
    lines: int,
    k: int,
    row: int,
    digits: int,
    size: int,
    exponents: int,
    wide: int,
    weighed: bool,
    start: int,
) -> int:
    """Cut and pack the float32 matrices at an address into what lies at others.

    Args:
        in_rows: whether `x` is (batches, lines, k), or else (batches, k, lines).
        row: `row_bytes` of k.
        digits: where the packed operands lie, `size` bytes from one to the next.

    Returns:
        How many lines are wide in all, or `NOT_FINITE`.
    """
    found, steps, tiles = 0, (k + 3) // 4, (lines + ROWS - 1) // ROWS
    panels = (lines + COLUMNS - 1) // COLUMNS
    for b in range(batches):
        values = array_at(x + 4 * b * lines * k, lines * k, np.float32)
        matrix = values.reshape((lines, k)) if in_rows else values.reshape((k, lines))
        own, marks = array_at(exponents + 8 * b * lines, lines, np.int64), array_at(wide + b * lines, lines, np.uint8)
        at = digits + b * size
        if is_left:
            begin = array_at(start + 8 * ROWS * b * tiles, 2 * ROWS * tiles, np.int32).reshape((tiles, 2, ROWS))
            if in_rows:
                planes = array_at(at, 2 * lines * row, np.int8).reshape((lines, 2, row))
                several = left_rows(matrix, planes, own, marks, weighed, begin)
            else:
                words = array_at(at, tiles * steps * 2 * ROWS, np.uint32).reshape((tiles, steps, 2, ROWS))
                several = left_columns(matrix, words, own, marks, weighed, begin)
        else:
            packed = array_at(at, panels * steps * 2 * COLUMNS, np.uint32).reshape((panels, steps, 2, COLUMNS))
            several = (
                right_rows(matrix, packed, own, marks, weighed)
                if in_rows
                else right_columns(matrix, packed, own, marks, weighed)
            )
        if several == NOT_FINITE:
            return NOT_FINITE
        found += several
    return found
