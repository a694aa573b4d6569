"""Loops on the CPU for convolutions by `kernels.dot`: digits of four channels in one word, laid out and multiplied.

A word holds the digits d of four channels at one place as unsigned bytes d + 64, so that a plane of words is laid out
as what each tap sees by copying vectors, and 64 places at a time are multiplied while they are in the cache.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.digits import NOT_FINITE, is_wide, power32, row_exponent
from podlt.exact.cpu.kernels.dot import tile_of
from podlt.exact.cpu.kernels.sums import is_finite, magnitude, power64
from podlt.exact.cpu.kernels.vectors import LANES, copy, copy_every_second, fill, interleave, scale

ZERO = np.int32(0x40404040)
"""Four digits that are 0."""

PLACES = 64
"""So many places are multiplied at once: four vectors."""

PITCH = 80
"""Words from one line of laid out ones to the next: what is copied beyond the last place ends there."""

MARGIN = 512
"""Words before and after all planes, which are read and not looked at."""

_ROUND32 = np.float32(12582912.0)  # 1.5 * 2**23, as in `digits`
_ROUND32_BITS = np.int32(_ROUND32.view(np.int32))
_tile6, _tile4, _tile2, _tile1 = tile_of(6, 4), tile_of(4, 4), tile_of(2, 4), tile_of(1, 4)


@kernel
def cut_quads(x: Array, words: Array, exponents: Array, wide: Array, digits: int) -> int:
    """Cut float32 (b, c, l) with one exponent a sample into words, last digit first.

    Args:
        words: int32, flat: (b, digits, ceil(c / 4), l) after `MARGIN`, written.
        exponents: int64 (b,), written.
        wide: uint8 (b,), written if `digits` is `ADAPTIVE`: which samples need four digits. All are cut into two.

    Returns:
        How many samples are wide, or `NOT_FINITE`.
    """
    samples, channels, length = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    quads = (channels + 3) // 4
    low, high = words[MARGIN:], words[MARGIN + (digits - 1) * quads * length :]
    worst, found = np.uint32(0), 0
    nothing = np.zeros(length, np.float32)
    for b in range(samples):
        row = x[b].reshape(channels * length)
        top = np.uint32(0)
        for i in range(channels * length):
            top = max(top, magnitude(row[i]))
        worst = max(worst, top)
        exponents[b] = row_exponent(top)
        scale, balance = power32(7 * digits - 1 - exponents[b]), np.int32(0)
        for q in range(quads):
            at = (b * digits * quads + q) * length
            first, last = high[at:][:length], low[at:][:length]
            s0 = x[b, 4 * q]
            s1 = x[b, 4 * q + 1] if 4 * q + 1 < channels else nothing
            s2 = x[b, 4 * q + 2] if 4 * q + 2 < channels else nothing
            s3 = x[b, 4 * q + 3] if 4 * q + 3 < channels else nothing
            balance += _cut_words(s0, s1, s2, s3, scale, digits, weighed, first, last)
        if weighed:
            wide[b] = is_wide(row, top, balance)
            found += wide[b]
    return found if is_finite(worst) else NOT_FINITE


@scalar
def _balance(x: np.float32, u: np.uint32) -> np.int32:
    """What `digits.cut_line` adds for a value."""
    return abs(np.int32(u) - _ROUND32_BITS) - np.int32(129) * np.int32(magnitude(x) != 0)


@scalar
def _cut_words(
    s0: Array, s1: Array, s2: Array, s3: Array, scale: np.float32, digits: int, weighed: bool, high: Array, low: Array
) -> np.int32:
    """Cut four lines of float32 times `scale` into words; returns what `digits.cut_line` does."""
    balance = np.int32(0)
    for i in range(len(high)):
        a = np.float32(s0[i] * scale + _ROUND32).view(np.uint32)
        b = np.float32(s1[i] * scale + _ROUND32).view(np.uint32)
        c = np.float32(s2[i] * scale + _ROUND32).view(np.uint32)
        d = np.float32(s3[i] * scale + _ROUND32).view(np.uint32)
        if weighed:
            balance += _balance(s0[i], a) + _balance(s1[i], b) + _balance(s2[i], c) + _balance(s3[i], d)
        a, b, c, d = a + np.uint32(64), b + np.uint32(64), c + np.uint32(64), d + np.uint32(64)
        if digits > 1:
            m = np.uint32(127)
            low[i] = (a & m) | ((b & m) << 8) | ((c & m) << 16) | ((d & m) << 24)
            a, b, c, d = (
                (a >> 7) + np.uint32(64),
                (b >> 7) + np.uint32(64),
                (c >> 7) + np.uint32(64),
                (d >> 7) + np.uint32(64),
            )
        m = np.uint32(255)
        high[i] = (a & m) | ((b & m) << 8) | ((c & m) << 16) | (d << 24)
    return balance


@kernel
def pack_weight(cut: Array, channels: int, taps: int, out: Array, off: Array) -> None:
    """Lay int8 (rows, digits * channels * taps), first digit first, out as words of four channels, tap by tap.

    Args:
        cut: readable 15 bytes beyond its end.
        out: int32, flat: (rows, digits, ceil(channels / 4), taps), and room for 15 more; written.
        off: int32 (rows,), written: what the digits' 64 adds to the sum of all levels, in units of the last.
    """
    rows, length = cut.shape
    k = channels * taps
    digits, to = length // k, 0
    for r in range(rows):
        extra = np.int64(0)
        for d in range(digits):
            line = cut[r, d * k : (d + 1) * k]
            total = np.int32(0)
            for i in range(k):
                total += np.int32(line[i])
            for level in range(d, digits):
                extra += np.int64(total) << (7 * (digits - 1 - level))
            for q in range(channels // 4):
                for t in range(0, taps, LANES):
                    interleave(place(line) + 4 * q * taps + t, taps, place(out) + 4 * (to + t))
                to += taps
            if channels % 4:
                for t in range(taps):
                    word = np.uint32(0)
                    for i in range(channels % 4):
                        word |= np.uint32(np.uint8(line[(channels // 4 * 4 + i) * taps + t])) << (8 * i)
                    out[to + t] = np.int32(word)
                to += taps
        off[r] = np.int32(64 * extra)


@scalar
def _lay_run(source: int, planes: int, h: int, w: int, window: Array, oy: int, ox: int, count: int, out: int) -> None:
    """Lay out what `count` places of an output row from (oy, ox) on see: a line a plane and tap, `PITCH` apart.

    Args:
        source: where the first plane of words begins.
        planes: how many follow each other.
        window: as in `convolution.patches`.
        out: where the first line begins, written; up to 15 words after the last place of each line too.
    """
    kh, kw, sh, sw, ph, pw, dh, dw = window
    below, plane = 4 * PITCH * kh * kw, 4 * h * w
    for ky in range(kh):
        y = oy * sh - ph + ky * dh
        for kx in range(kw):
            x = ox * sw - pw + kx * dw
            to, at = out + (ky * kw + kx) * 4 * PITCH, source + 4 * (y * w + x)
            low = min(count, max(0, -(x // sw))) if y >= 0 and y < h else count
            high = max(low, min(count, (w - x + sw - 1) // sw))
            for _ in range(planes):
                if high == low:
                    for i in range(0, 4 * count, 64):
                        fill(ZERO, to + i)
                elif sw == 1:
                    for i in range(0, 4 * count, 64):
                        copy(at + i, to + i)
                elif sw == 2:
                    for i in range(0, 4 * count, 64):
                        copy_every_second(at + 2 * i, to + i)
                else:
                    there, here = array_at(at, count * sw, np.int32), array_at(to, count, np.int32)
                    for i in range(low, high):
                        here[i] = there[i * sw]
                if high > low and (low > 0 or high < count):
                    line = array_at(to, count, np.int32)
                    for i in range(low):
                        line[i] = ZERO
                    for i in range(high, count):
                        line[i] = ZERO
                to, at = to + below, at + plane


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
def _finish(sums: int, off: np.int32, e: int, bias: np.float32, biased: bool, out: Array) -> None:
    """The int32 sums at an address, less `off`, times 2**e, rounded once, `+ bias`."""
    whole = 0
    if e >= -126 and e <= 127:
        factor, whole = power32(e), len(out) // LANES * LANES
        for i in range(0, 4 * whole, 64):
            if biased:
                scale(sums + i, off, factor, bias, place(out) + i)
            else:
                scale(sums + i, off, factor, None, place(out) + i)
    rest = array_at(sums, len(out), np.int32)
    for i in range(whole, len(out)):
        value = np.float32(np.float64(np.int32(rest[i] - off)) * power64(e))
        out[i] = value + bias if biased else value


@kernel
def convolve(
    words: Array,
    shared: Array,
    weight: Array,
    off: Array,
    rows: Array,
    window: Array,
    bias: Array,
    size: Array,
    width: int,
    digits: int,
    quads: int,
    laid: Array,
    out: Array,
) -> None:
    """As `cpu.convolution.convolve`, for one group, from words of both sides.

    Args:
        words: of `cut_quads`, of all groups.
        shared: int64 (n, groups): their exponents.
        weight: int32 (groups, o, digits, quads, taps), of `pack_weight`.
        off: int32 (groups, o), of it.
        rows: int64 (groups, o): the exponents.
        window: as in `convolution.patches`.
        bias: float32 (groups * o,) or (0,).
        size: int64 (2,): height and width of the input.
        width: of the output.
        laid: int32 (digits * quads * taps * `PITCH` + `PITCH`,): room.
        out: float32 (n, groups * o, l), written.
    """
    n, groups = shared.shape
    per, length, planes = off.shape[1], out.shape[2], digits * quads
    kq = quads * window[0] * window[1]
    h, w = size
    sums = np.zeros((6, PLACES), np.int32)
    at, places, biased = place(sums), np.arange(6) * (digits * kq * 4), len(bias) > 0
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    for g in range(groups):
        ours = place(weight) + g * per * digits * kq * 4
        for start in range(0, n * length, PLACES):
            stop = min(start + PLACES, n * length)
            p = start
            while p < stop:
                s, inside = p // length, p % length
                oy, ox = inside // width, inside % width
                count = min(width - ox, stop - p)
                source = place(words) + 4 * (MARGIN + (s * groups + g) * planes * h * w)
                _lay_run(source, planes, h, w, window, oy, ox, count, place(laid) + 4 * (p - start))
                p += count
            o = 0
            while o < per:
                left = per - o
                some = 6 if left >= 6 and left != 8 else 4 if left >= 4 else 2 if left >= 2 else 1
                sums[:some] = 0
                theirs = ours + o * digits * kq * 4
                _multiply(place(laid), kq, digits, theirs, place(places), some, at)
                for r in range(some):
                    channel = g * per + o + r
                    added = bias[channel] if biased else np.float32(0)
                    p = start
                    while p < stop:
                        s, inside = p // length, p % length
                        count = min(length - inside, stop - p)
                        e = rows[g, o + r] + shared[s, g] + shift
                        target = out[s, channel, inside : inside + count]
                        _finish(at + 4 * (r * PLACES + p - start), off[g, o + r], e, added, biased, target)
                        p += count
                o += some
