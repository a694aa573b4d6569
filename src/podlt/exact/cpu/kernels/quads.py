"""Loops on the CPU for convolutions by `kernels.dot`: digits of four channels in one word, laid out and multiplied.

What each tap sees of 64 places is copied into a line of words, and multiplied while the lines are in the cache.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.digits import power32
from podlt.exact.cpu.kernels.dot import tile_of
from podlt.exact.cpu.kernels.sums import power64
from podlt.exact.cpu.kernels.vectors import (
    LANES,
    copy,
    join_pairs,
    join_single,
    scale,
    scale_some,
    weave,
    weave_some,
)

PLACES = 64
"""So many places are multiplied at once: four vectors."""

PITCH = 80
"""Words from one line of laid out ones to the next: what is copied beyond the last place ends there."""

_tile6, _tile4, _tile2, _tile1 = tile_of(6, 4), tile_of(4, 4), tile_of(2, 4), tile_of(1, 4)


@scalar
def _lay_run(source: int, offsets: Array, count: int, out: int) -> None:
    """Lay out what `count` places of a row of results see: a line of words for each row of `offsets`, `PITCH` apart.

    Args:
        source: where the planes of the row's sample and group begin, moved to its first place.
        offsets: as of `convolve`.
        out: where the first line begins, written; up to 15 words after the last place of each line too.
    """
    joined = offsets.shape[1]
    for line in range(len(offsets)):
        at = source + offsets[line, 0]
        if joined == 1:
            for i in range(0, 4 * count, 64):
                copy(at + i, out + i)
        elif joined == 2:
            other = source + offsets[line, 1]
            for i in range(0, 4 * count, 64):
                join_pairs(at + i, other + i, out + i)
        else:
            b, c, d = source + offsets[line, 1], source + offsets[line, 2], source + offsets[line, 3]
            for i in range(0, 4 * count, 64):
                join_single(at + i, b + i, c + i, d + i, out + i)
        out += 4 * PITCH


@scalar
def _multiply(laid: int, kq: int, digits: int, weight: int, places: int, rows: int, out: int) -> None:
    """The sum of all levels of `rows` rows of a weight with what 64 places see, in units of the last, to `out`.

    Arguments are addresses; of each row's words, the first digit's come first, of each place's the last digit's.
    """
    step, line = 4 * PITCH, 4 * PITCH * kq
    for level in range(digits):
        left, count, shift = laid + (digits - 1 - level) * line, (level + 1) * kq, np.int32(7 if level else 0)
        if rows == 6:
            _tile6(left, step, weight, places, 1, 0, 1, 0, count, out, shift)
        elif rows == 4:
            _tile4(left, step, weight, places, 1, 0, 1, 0, count, out, shift)
        elif rows == 2:
            _tile2(left, step, weight, places, 1, 0, 1, 0, count, out, shift)
        else:
            _tile1(left, step, weight, places, 1, 0, 1, 0, count, out, shift)


@scalar
def _finish(sums: int, off: np.int32, e: int, bias: np.float32, biased: bool, count: int, out: int) -> None:
    """`count` int32 sums at an address, less `off`, times 2**e, rounded once, `+ bias`, to float32 at an address."""
    if e < -126 or e > 127:
        there, here = array_at(sums, count, np.int32), array_at(out, count, np.float32)
        for i in range(count):
            value = np.float32(np.float64(np.int32(there[i] - off)) * power64(e))
            here[i] = value + bias if biased else value
        return
    factor, whole = power32(e), count // LANES * LANES
    for i in range(0, 4 * whole, 64):
        if biased:
            scale(sums + i, off, factor, bias, out + i)
        else:
            scale(sums + i, off, factor, None, out + i)
    if whole < count:
        i, rest = 4 * whole, np.int32(count - whole)
        if biased:
            scale_some(sums + i, off, factor, bias, out + i, rest)
        else:
            scale_some(sums + i, off, factor, None, out + i, rest)


@kernel
def convolve(
    words: Array,
    size: int,
    shared: Array,
    offsets: Array,
    phases: Array,
    weight: Array,
    off: Array,
    rows: Array,
    bias: Array,
    digits: int,
    laid: Array,
    apart: Array,
    room: Array,
    out: Array,
) -> None:
    """As `cpu.convolution.convolve`, from words of both sides.

    Args:
        words: of `quad_cuts.cut_quads`, of all groups.
        size: how many of them a sample's group has.
        shared: int64 (n, groups): their exponents.
        offsets: int64 (lines, 1, 2 or 4): where the first place of a phase sees each line of words, in bytes from the
            sample's first; last digit first. Several are joined into one word, of which each has as many of the lower
            bytes as `quad_cuts.pack_weight` gave a tap.
        phases: int64 (phases, 9), of results that see the same taps: first line, lines, first of `pack_weight`'s,
            taps, height, width, words from a row of what is seen to the next, first row and first column of all.
        weight: int32, of `pack_weight`.
        off: int32 (phases, groups, o), of it.
        rows: int64 (groups, o): the exponents.
        bias: float32 (groups * o,) or (0,).
        laid: int32, flat, ((most lines + 1) * `PITCH`,): room.
        apart: int64 (2,): how far the results of a phase lie apart.
        room: float32, flat, for the results and 16 more; (0,) if there is one phase, of all results.
        out: float32 (n, groups * o, height, width), written where there is a phase.
    """
    n, groups = shared.shape
    per, whole, at, to = off.shape[2], len(room) == 0, 0, 0
    sums, parts = np.zeros((6, PLACES), np.int32), np.empty((PLACES, 4), np.int64)
    flat = out.reshape(out.size)
    for f in range(len(phases)):
        first, lines = phases[f, 0], phases[f, 1]
        seen, ours = offsets[first : first + lines], weight[to : to + groups * per * lines]
        target = flat if whole else room[at:]
        _convolve_phase(
            words, size, shared, seen, phases[f], ours, off[f], rows, bias, digits, laid, sums, parts, target
        )
        to += groups * per * lines
        at += n * groups * per * phases[f, 4] * phases[f, 5]
    if not whole:
        _weave(room, phases, apart, out.reshape(n * groups * per, out.shape[2], out.shape[3]))


@scalar
def _convolve_phase(
    words: Array,
    size: int,
    shared: Array,
    offsets: Array,
    phase: Array,
    weight: Array,
    off: Array,
    rows: Array,
    bias: Array,
    digits: int,
    laid: Array,
    sums: Array,
    parts: Array,
    out: Array,
) -> None:
    """The results of one phase (n, groups * o, height * width) to `out`, flat; the other arguments as `convolve`'s.

    Args:
        sums: int32 (6, `PLACES`): room.
        parts: int64 (`PLACES`, 4): room.
    """
    n, groups = shared.shape
    per, lines = off.shape[1], len(offsets)
    kq, height, width, pitch = lines // digits, phase[4], phase[5], phase[6]
    length, target = height * width, place(out)
    at, places, biased = place(sums), np.arange(6) * (lines * 4), len(bias) > 0
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    for g in range(groups):
        ours = place(weight) + g * per * lines * 4
        s, oy, ox = 0, 0, 0
        for start in range(0, n * length, PLACES):
            stop, p, some = min(start + PLACES, n * length), start, 0
            parts[0] = 0, 0, (s * groups * per + g * per) * length + oy * width + ox, shared[s, g] + shift
            while p < stop:
                count = min(width - ox, stop - p)
                source = place(words) + 4 * ((s * groups + g) * size + oy * pitch + ox)
                _lay_run(source, offsets, count, place(laid) + 4 * (p - start))
                p, ox = p + count, ox + count
                parts[some, 1] += count
                if ox == width:
                    oy, ox = oy + 1, 0
                    if oy == height:
                        s, oy = s + 1, 0
                        if p < stop:
                            some += 1
                            first = (s * groups * per + g * per) * length
                            parts[some] = p - start, 0, first, shared[s, g] + shift
            o = 0
            while o < per:
                left = per - o
                several = 6 if left >= 6 and left != 8 else 4 if left >= 4 else 2 if left >= 2 else 1
                sums[:several] = 0
                _multiply(place(laid), kq, digits, ours + o * lines * 4, place(places), several, at)
                for r in range(several):
                    added, own = bias[g * per + o + r] if biased else np.float32(0), off[g, o + r]
                    for i in range(some + 1):
                        begin, count, first, e = parts[i]
                        found, to = at + 4 * (r * PLACES + begin), target + 4 * (first + (o + r) * length)
                        _finish(found, own, rows[g, o + r] + e, added, biased, count, to)
                o += several


@scalar
def _weave(room: Array, phases: Array, apart: Array, out: Array) -> None:
    """Write the results of phases, flat, one after the other, to their places in float32 (planes, height, width)."""
    planes, height, width = out.shape
    down, right, at, f, last = apart[0], apart[1], place(room), 0, out.size - 2 * LANES
    while f < len(phases):
        tall, wide, y, x = phases[f, 4], phases[f, 5], phases[f, 7], phases[f, 8]
        paired = right == 2 and x == 0 and f + 1 < len(phases) and phases[f + 1, 7] == y
        other, second = at + 4 * planes * tall * wide, phases[f + 1, 5] if paired else 0
        for p in range(planes):
            for i in range(tall):
                begin, start = (p * height + y + i * down) * width, 0
                a, b = at + 4 * (p * tall + i) * wide, other + 4 * (p * tall + i) * second
                if paired and begin + width <= last:
                    for j in range(0, second // LANES * LANES, LANES):
                        weave(a + 4 * j, b + 4 * j, place(out) + 4 * (begin + 2 * j))
                    start = second // LANES * LANES
                    if start < wide and wide - start < LANES:
                        to = place(out) + 4 * (begin + 2 * start)
                        weave_some(a + 4 * start, b + 4 * start, to, np.int32(width - 2 * start))
                        continue
                ours, row = array_at(a, wide, np.float32), out[p, y + i * down]
                for j in range(start, wide):
                    row[np.uint64(x + j * right)] = ours[np.uint64(j)]
                if paired:
                    theirs = array_at(b, second, np.float32)
                    for j in range(start, second):
                        row[np.uint64(1 + j * right)] = theirs[np.uint64(j)]
        at = other + 4 * planes * tall * second
        f += 2 if paired else 1
