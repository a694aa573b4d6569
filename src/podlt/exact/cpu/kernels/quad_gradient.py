"""Loops on the CPU for the gradient of a convolution's weight by `kernels.dot`: four places in one word.

The gradient's digits are laid out as words of four places of 16 channels, unsigned; of the input's bytes, signed and
padded, every tap reads words wherever they begin, so that nothing of it is laid out twice.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.digits import wide_sum
from podlt.exact.cpu.kernels.dot import tile_of
from podlt.exact.cpu.kernels.sums import power64
from podlt.exact.cpu.kernels.vectors import (
    LANES,
    clear_bytes,
    copy_bytes,
    copy_every_second_byte,
    fill,
    transpose_digits,
)

MARGIN = 64
"""Bytes after all planes, which are read or written and not looked at."""

TERMS = 2**17
"""So many products of two levels of digits sum to less than 2**31."""

CACHED = 2**17
"""Bytes of a digit of the gradient that are multiplied with one channel after the other."""

_ZERO = np.int32(0x40404040)
_tile9, _tile8, _tile3, _tile1 = tile_of(9, 2), tile_of(8, 2), tile_of(3, 2), tile_of(1, 2)


@kernel
def lay_gradient(planes: Array, first: int, count: int, width: int, rows: Array, out: Array) -> None:
    """Lay channels out as words of four places, unsigned.

    Args:
        planes: int8 (n, digits, o, l), readable `MARGIN` bytes beyond its end.
        first: of the channels.
        count: how many are laid out, at most 32.
        width: of the planes' rows.
        rows: int8 (16, l / width * ceil(width / 4) * 4), and `MARGIN` more behind it, of 0: room where words end
            within rows.
        out: int32 (digits, n, l / width, ceil(width / 4), 32), and 16 more places behind it; written.
    """
    digits, n, height, words, lanes = out.shape
    length, size, apart = planes.shape[3], height * words, rows.shape[1]
    whole = width % 4 == 0
    for d in range(digits):
        for s in range(n):
            to = place(out[d, s])
            for part in range(0, lanes, LANES):
                some = min(LANES, count - part)
                if some <= 0:
                    for i in range(size):
                        fill(_ZERO, to + 4 * (i * lanes + part))
                    continue
                source = place(planes[s, d, first + part])
                distance = length
                if some < LANES or not whole:
                    if some < LANES:
                        rows[:] = 0
                    for c in range(some):
                        line = planes[s, d, first + part + c]
                        for y in range(height):
                            row = rows[c, 4 * y * words :]
                            for i in range(width):
                                row[i] = line[y * width + i]
                    source, distance = place(rows), apart
                for i in range(0, size, LANES):
                    transpose_digits(source + 4 * i, distance, to + 4 * (i * lanes + part), 4 * lanes)


@kernel
def lay_input(planes: Array, size: Array, window: Array, first: int, out: Array) -> None:
    """Lay channels out as padded planes, one for each phase of the strides.

    Rows are written upwards: what is copied or cleared beyond one is written again by the next.

    Args:
        planes: int8 (n, digits, c, l), last digit first, readable `MARGIN` bytes beyond its end.
        size: int64 (2,): height and width of its planes.
        window: as in `convolution.patches`.
        first: of the channels.
        out: int8 (digits, channels, sh * sw, n, tall, wide), first digit first, and a row and `MARGIN` more behind it;
            written.
    """
    h, w = size
    _, _, sh, sw, ph, pw, _, _ = window
    digits, channels, _, n, tall, wide = out.shape
    to = place(out)
    for d in range(digits):
        for c in range(channels):
            for a in range(sh):
                top = min(tall, max(0, (ph - a + sh - 1) // sh))
                bottom = max(top, min(tall, (h - 1 + ph - a) // sh + 1))
                for b in range(sw):
                    low = min(wide, max(0, (pw - b + sw - 1) // sw))
                    count = max(0, min(wide, (w - 1 + pw - b) // sw + 1) - low)
                    start = (top * sh + a - ph) * w + low * sw + b - pw
                    for s in range(n):
                        source = place(planes[s, digits - 1 - d, first + c]) + start
                        for i in range(0, top * wide + low, LANES):
                            clear_bytes(to + i)
                        for r in range(top, bottom):
                            line = to + r * wide + low
                            if sw == 1:
                                for i in range(0, count, LANES):
                                    copy_bytes(source + i, line + i)
                            elif sw == 2:
                                for i in range(0, count, LANES):
                                    copy_every_second_byte(source + 2 * i, line + i)
                            else:
                                there = array_at(source, count * sw, np.int8)
                                here = array_at(line, count, np.int8)
                                for i in range(count):
                                    here[i] = there[i * sw]
                            clear_bytes(line + count)
                            for i in range(count + LANES, wide, LANES):
                                clear_bytes(line + i)
                            source += sh * w
                        for i in range(bottom * wide, tall * wide, LANES):
                            clear_bytes(to + i)
                        to += tall * wide


@kernel
def sum_seen(planes: Array, offsets: Array, height: int, width: int, out: Array) -> None:
    """The sum of what each tap sees of each digit.

    Args:
        planes: of `lay_input`.
        offsets: int64 (k,): as of `add_levels`.
        height: of what a tap sees.
        width: of it.
        out: int64 (digits, k), written.
    """
    digits, channels, phases, n, tall, wide = planes.shape
    size = tall * wide
    total, apart = np.empty(size, np.int32), n * size
    taps = len(offsets) // channels
    for d in range(digits):
        for c in range(channels):
            for part in range(phases):
                begin = (c * phases + part) * apart
                total[:] = 0
                for s in range(n):
                    plane = planes[d, c, part, s].reshape(size)
                    for i in range(size):
                        total[i] += np.int32(plane[i])
                for t in range(c * taps, (c + 1) * taps):
                    at = offsets[t] - begin
                    if at >= 0 and at < size:
                        found = np.int32(0)
                        for y in range(height):
                            row = total[at + y * wide :][:width]
                            for i in range(width):
                                found += row[i]
                        out[d, t] = found


@scalar
def _multiply(
    left: int,
    right: int,
    places: int,
    samples: int,
    block_gap: int,
    lines: int,
    line_gap: int,
    words: int,
    rows: int,
    out: int,
) -> None:
    """A tile of so many rows; the other arguments are those of `dot.tile_of`."""
    if rows == 9:
        _tile9(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, np.int32(0))
    elif rows == 8:
        _tile8(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, np.int32(0))
    elif rows == 3:
        _tile3(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, np.int32(0))
    else:
        _tile1(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, np.int32(0))


@kernel
def add_levels(left: Array, right: Array, offsets: Array, seen: Array, sums: Array, total: Array) -> None:
    """The levels of the products of 32 channels of the gradient with what each tap of each channel saw.

    Args:
        left: of `lay_gradient`, first digit first.
        right: of `lay_input`, first digit first; every sample's planes follow each other.
        offsets: int64 (k,): where each channel's taps begin to read in the planes of one digit.
        seen: int64 (digits, k), of `sum_seen`.
        sums: int32 (k, 32): room.
        total: float64 (digits, k, 32), written: whole numbers.
    """
    digits, n, height, words, lanes = left.shape
    _, channels, phases, _, tall, wide = right.shape
    k, size, line_gap = len(offsets), tall * wide, wide - 4 * words
    digit, block_gap = channels * phases * n * size, (tall - height) * wide
    some = max(1, CACHED // (height * words * lanes * 4))
    ours, theirs, places, out = place(left), place(right), place(offsets), place(sums)
    for level in range(digits):
        sums[:] = 0
        for s in range(0, n, some):
            count = min(some, n - s)
            at = 0
            while at < k:
                rest = k - at
                rows = 9 if rest >= 9 and (rest % 9 == 0 or rest > 16) else 8 if rest >= 8 else 3 if rest >= 3 else 1
                for i in range(level + 1):
                    one = ours + (i * n + s) * height * words * lanes * 4
                    other = theirs + (level - i) * digit + s * size
                    to = out + at * lanes * 4
                    _multiply(one, other, places + 8 * at, count, block_gap, height, line_gap, words, rows, to)
                at += rows
        for t in range(k):
            extra = np.int64(0)
            for i in range(level + 1):
                extra += seen[i, t]
            off, found, line = np.int32(64 * extra), total[level, t], sums[t]
            for j in range(lanes):
                found[j] = np.float64(np.int32(line[j] - off))


@kernel
def finish(total: Array, ea: Array, eb: Array, taps: int, out: Array) -> None:
    """Round the sums of all levels once.

    Args:
        total: float64 (digits, k, lanes): whole numbers.
        ea: int64 (lanes,): exponents of the gradient's channels.
        eb: int64 (c,): of the input's.
        taps: of each of them.
        out: float32 (k, lanes), written.
    """
    digits, k, lanes = total.shape
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    own = np.empty(lanes, np.float64)
    for j in range(lanes):
        own[j] = power64(ea[j] + shift)
    for t in range(k):
        theirs, row, high, low = power64(eb[t // taps]), out[t], total[0, t], total[digits - 1, t]
        for j in range(lanes):
            row[j] = np.float32(wide_sum(high[j], low[j], low[j], digits) * (own[j] * theirs))
