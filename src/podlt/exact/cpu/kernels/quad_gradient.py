"""Loops on the CPU for the gradient of a convolution's weight by `kernels.dot`: four places in one word.

Of the input's padded bytes every tap reads words wherever they begin, so that nothing of it is laid out twice.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel, place, scalar
from podlt.exact.cpu.kernels.digits import wide_sum
from podlt.exact.cpu.kernels.dot import dots_of, sum_bytes, tile_of
from podlt.exact.cpu.kernels.sums import power64
from podlt.exact.cpu.kernels.vectors import LANES

TERMS = 2**17
"""So many products of two levels of digits sum to less than 2**31."""

CACHED = 2**17
"""Bytes of a digit of the gradient that are multiplied with one channel after the other."""

LINES = 2**15
"""So many times 64 products of a signed and an unsigned byte are added to 16 int32."""

_tile9, _tile8, _tile3, _tile1 = (tile_of(rows, 2, unsigned_rows=True) for rows in (9, 8, 3, 1))
_dots9, _dots3, _dots1 = dots_of(9), dots_of(3), dots_of(1)
_half9, _half8, _half3, _half1 = (tile_of(rows, 1, unsigned_rows=True) for rows in (9, 8, 3, 1))


@scalar
def _multiply(
    left: int,
    lanes: int,
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
    """A tile of so many rows and 16 or 32 lanes; the other arguments are those of `dot.tile_of`."""
    none = np.int32(0)
    if lanes == 2 * LANES:
        if rows == 9:
            _tile9(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, none)
        elif rows == 8:
            _tile8(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, none)
        elif rows == 3:
            _tile3(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, none)
        else:
            _tile1(left, 128, right, places, samples, block_gap, lines, line_gap, words, out, none)
    elif rows == 9:
        _half9(left, 64, right, places, samples, block_gap, lines, line_gap, words, out, none)
    elif rows == 8:
        _half8(left, 64, right, places, samples, block_gap, lines, line_gap, words, out, none)
    elif rows == 3:
        _half3(left, 64, right, places, samples, block_gap, lines, line_gap, words, out, none)
    else:
        _half1(left, 64, right, places, samples, block_gap, lines, line_gap, words, out, none)


@scalar
def _add_levels(
    left: int, start: int, count: int, right: int, offsets: int, loops: Array, digits: int, sums: Array, total: Array
) -> None:
    """Add to the levels of the products of 16 or 32 channels of the gradient with what each tap saw in some samples.

    Args:
        left: where the digits of the channels begin.
        start: the first of the samples.
        count: how many, over whose places `TERMS` are summed at most.
        right: where the planes of the first digit of the group's first channel begin.
        offsets: the address of int64 (k,), as of `gradient`.
        loops: as of `gradient`.
        sums: int32 (digits + k, lanes): room.
        total: float64 (digits, k, lanes), added to: whole numbers.
    """
    lines, words, line_gap, block_gap, plane, ours_apart, theirs_apart = loops
    k, lanes = total.shape[1:]
    size = lines * words * lanes * 4
    some, own, out = max(1, CACHED // size), sums[:digits], place(sums[digits])
    own[:] = 0
    for d in range(digits):
        for half in range(0, lanes, LANES):
            sum_bytes(
                left + d * ours_apart + start * size + 4 * half, 4 * lanes, count * lines * words, place(own[d, half:])
            )
    for level in range(digits):
        sums[digits:] = 0
        for s in range(start, start + count, some):
            several, at = min(some, start + count - s), 0
            while at < k:
                rest = k - at
                rows = 9 if rest >= 9 and (rest % 9 == 0 or rest > 16) else 8 if rest >= 8 else 3 if rest >= 3 else 1
                for i in range(level + 1):
                    one = left + i * ours_apart + s * size
                    other = right + (level - i) * theirs_apart + s * plane
                    to, places = out + at * lanes * 4, offsets + 8 * at
                    _multiply(one, lanes, other, places, several, block_gap, lines, line_gap, words, rows, to)
                at += rows
        for t in range(k):
            found, line = total[level, t], sums[digits + t]
            for j in range(lanes):
                off = own[0, j]
                for i in range(1, level + 1):
                    off += own[i, j]
                found[j] += np.float64(np.int32(line[j] - np.int32(64) * off))


@kernel
def gradient(
    left: Array,
    right: Array,
    offsets: Array,
    loops: Array,
    lanes: int,
    some: int,
    n: int,
    ea: Array,
    eb: Array,
    digits: int,
    out: Array,
) -> None:
    """The gradient of a weight, rounded once.

    Args:
        left: of `gradient_cuts.cut_gradient`.
        right: of `gradient_cuts.cut_planes`.
        offsets: int64 (k,): where each of a group's channels' taps begin to read, in bytes from the first channel.
        loops: int64 (7,): of a plane, how many lines of how many words are multiplied; bytes of the input from the end
            of a line to the next one, and more to the next plane; its bytes; bytes from a digit to the next, of the
            gradient, and of the input.
        some: how many samples' products are added before they are made float64.
        n: samples.
        ea: int64 (groups, o): exponents of the gradient's channels.
        eb: int64 (groups, c).
        out: float32 (groups * o, k), written.
    """
    groups, per = ea.shape
    k, channels = len(offsets), eb.shape[1]
    taps, parts, ours, theirs = k // channels, (per + lanes - 1) // lanes, loops[5], loops[6] // (groups * channels)
    total, sums = np.empty((digits, k, lanes), np.float64), np.empty((digits + k, lanes), np.int32)
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    for g in range(groups):
        other = place(right) + g * channels * theirs
        for part in range(parts):
            total[:] = 0
            one = place(left) + (g * parts + part) * digits * ours
            for s in range(0, n, some):
                _add_levels(one, s, min(some, n - s), other, place(offsets), loops, digits, sums, total)
            for j in range(min(lanes, per - part * lanes)):
                own, row = power64(ea[g, part * lanes + j] + shift), out[g * per + part * lanes + j]
                for t in range(k):
                    high, low = total[0, t, j], total[digits - 1, t, j]
                    row[t] = np.float32(wide_sum(high, low, low, digits) * (own * power64(eb[g, t // taps])))
    sums[:1], total[:1] = 0, 0  # they are needed until here


@scalar
def _dot_taps(line: int, others: int, places: int, taps: int, count: int, sums: int) -> None:
    """`dots_of` so many taps."""
    t = 0
    while t < taps:
        rest = taps - t
        rows = 9 if rest >= 9 else 3 if rest >= 3 else 1
        if rows == 9:
            _dots9(line, others, places + 8 * t, count, sums + 64 * t)
        elif rows == 3:
            _dots3(line, others, places + 8 * t, count, sums + 64 * t)
        else:
            _dots1(line, others, places + 8 * t, count, sums + 64 * t)
        t += rows


@kernel
def gradient_of_few(
    left: Array, right: Array, offsets: Array, size: int, blocks: Array, ea: Array, eb: Array, digits: int, out: Array
) -> None:
    """The gradient of a weight with few output channels a group: each tap's products are one long line of bytes.

    Args:
        left: of `gradient_cuts.cut_planes`, the gradient in planes as large as the input's, signed.
        right: of it, the input, unsigned, readable a plane beyond its end.
        offsets: int64 (k,): as of `gradient`.
        size: bytes of all samples' planes.
        blocks: int64 (4,): bytes from a channel to the next and from a digit to the next, of the gradient, then the
            same of the input.
        ea: int64 (groups, o): exponents of the gradient's channels.
        eb: int64 (groups, c).
        out: float32 (groups * o, k), written.
    """
    groups, per = ea.shape
    k, channels = len(offsets), eb.shape[1]
    taps, all_lines = k // channels, (size + 63) // 64
    sums, own = np.empty((2, k, LANES), np.int32), np.empty((2, LANES), np.int32)
    total, seen = np.empty((2, k), np.int64), np.empty(2, np.int64)
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    for g in range(groups):
        for o in range(per):
            line = place(left) + (g * per + o) * blocks[0]
            total[:] = 0
            seen[:] = 0
            for first in range(0, all_lines, LINES):
                count = min(LINES, all_lines - first)
                sums[:] = 0
                own[:] = 0
                for d in range(digits):
                    sum_bytes(line + d * blocks[1] + 64 * first, 64, count, place(own[d]))
                for level in range(digits):
                    for i in range(level + 1):
                        ours = line + i * blocks[1] + 64 * first
                        others = place(right) + g * channels * blocks[2] + (level - i) * blocks[3] + 64 * first
                        _dot_taps(ours, others, place(offsets), k, count, place(sums[level]))
                for level in range(digits):
                    for j in range(LANES):
                        seen[level] += own[level, j]
                        for t in range(k):
                            total[level, t] += sums[level, t, j]
            for t in range(k):
                high = np.float64(total[0, t] - 64 * seen[0])
                low = np.float64(total[digits - 1, t] - 64 * (seen[0] + (seen[1] if digits > 1 else 0)))
                scale = power64(ea[g, o] + shift) * power64(eb[g, t // taps])
                out[g * per + o, t] = np.float32(wide_sum(high, low, low, digits) * scale)
    sums[:1], own[:1] = 0, 0  # they are needed until here
