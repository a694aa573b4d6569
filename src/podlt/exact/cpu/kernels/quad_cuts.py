"""Loops on the CPU that cut both sides of a convolution into words of digits of four channels, for `kernels.quads`.

A word holds the digits d of four channels at one place as unsigned bytes d + 64. Planes of words are padded, one for
each phase of the strides, so that whatever a tap sees of a row of results lies side by side.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.digits import NOT_FINITE, is_wide, power32, row_exponent
from podlt.exact.cpu.kernels.sums import is_finite, magnitude
from podlt.exact.cpu.kernels.vectors import copy, copy_every_second, fill

ZERO = np.int32(0x40404040)
"""Four digits that are 0."""

MARGIN = 128
"""Words after all planes, which are read and written and not looked at."""

_ROUND32 = np.float32(12582912.0)  # 1.5 * 2**23, as in `digits`
_ROUND32_BITS = np.int32(_ROUND32.view(np.int32))


@kernel
def cut_quads(
    x: Array, layout: Array, parts: Array, words: Array, room: Array, exponents: Array, wide: Array, digits: int
) -> int:
    """Cut float32 (b, c, h * w) with one exponent a sample into padded planes of words.

    Args:
        layout: int64 (6,): h, w, height and width of a plane, strides.
        parts: int64 (phases, 5): the first row of each phase's plane that has values, how many rows have them, the
            same of columns, and where the first value is in the image; with 0 phases, planes are the images.
        words: int32, flat: (b, ceil(c / 4), digits, phases, height * width), last digit first, and `MARGIN` and a row
            behind them; written.
        room: int32 (digits, at least h * w + `MARGIN`).
        exponents: int64 (b,), written.
        wide: uint8 (b,), written if `digits` is `ADAPTIVE`: which samples need four digits. All are cut into two.

    Returns:
        How many samples are wide, or `NOT_FINITE`.
    """
    samples, channels, length = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    size, as_is = layout[2] * layout[3] * max(1, len(parts)), len(parts) == 0
    worst, found, at = np.uint32(0), 0, 0
    nothing = np.zeros(length, np.float32)
    for b in range(samples):
        row = x[b].reshape(channels * length)
        top = np.uint32(0)
        for i in range(channels * length):
            top = max(top, magnitude(row[i]))
        worst = max(worst, top)
        exponents[b] = row_exponent(top)
        scale, balance = power32(7 * digits - 1 - exponents[b]), np.int32(0)
        for c in range(0, channels, 4):
            if as_is:
                low, high = words[at:][:length], words[at + (digits - 1) * size :][:length]
            else:
                low, high = room[0, :length], room[digits - 1, :length]
            if channels == 1:
                balance += _cut_singly(row, scale, digits, weighed, high, low)
            else:
                s0 = x[b, c]
                s1 = x[b, c + 1] if c + 1 < channels else nothing
                s2 = x[b, c + 2] if c + 2 < channels else nothing
                s3 = x[b, c + 3] if c + 3 < channels else nothing
                balance += _cut_words(s0, s1, s2, s3, scale, digits, weighed, high, low)
            for d in range(digits):
                if not as_is:
                    _pad(place(room[d]), layout, parts, place(words) + 4 * at)
                at += size
        if weighed:
            wide[b] = is_wide(row, top, balance)
            found += wide[b]
    return found if is_finite(worst) else NOT_FINITE


@scalar
def _copy_rows(source: int, step: int, count: int, rows: int, wide: int, line: int) -> int:
    """Copy `count` words of each of some rows, `step` bytes apart, to rows of `wide` words, zeros behind them.

    Returns:
        The address behind the last of these rows.
    """
    end = 4 * count
    for _ in range(rows):
        copy(source, line)
        for i in range(64, end, 64):
            copy(source + i, line + i)
        fill(ZERO, line + 4 * count)
        for i in range(4 * count + 64, 4 * wide, 64):
            fill(ZERO, line + i)
        source += step
        line += 4 * wide
    return line


@scalar
def _copy_halves(source: int, step: int, count: int, rows: int, wide: int, line: int) -> int:
    """As `_copy_rows`, of every second one."""
    end = 4 * count
    for _ in range(rows):
        copy_every_second(source, line)
        for i in range(64, end, 64):
            copy_every_second(source + 2 * i, line + i)
        fill(ZERO, line + 4 * count)
        for i in range(4 * count + 64, 4 * wide, 64):
            fill(ZERO, line + i)
        source += step
        line += 4 * wide
    return line


@scalar
def _copy_some(source: int, step: int, count: int, every: int, rows: int, wide: int, line: int) -> int:
    """As `_copy_rows`, of every `every`-th one."""
    for _ in range(rows):
        there, here = array_at(source, count * every, np.int32), array_at(line, wide, np.int32)
        for i in range(count):
            here[i] = there[i * every]
        for i in range(count, wide):
            here[i] = ZERO
        source += step
        line += 4 * wide
    return line


@scalar
def _pad(plane: int, layout: Array, parts: Array, to: int) -> None:
    """Copy the words of an image into its padded phases, all at addresses, upwards.

    What is written beyond a row is written again by the next.
    """
    w, tall, wide, sh, sw = layout[1], layout[2], layout[3], layout[4], layout[5]
    for part in range(len(parts)):
        first, rows, low, count, begin = parts[part]
        source, line, end = plane + 4 * begin, to + 4 * (first * wide + low), to + 4 * tall * wide
        for at in range(to, line, 64):
            fill(ZERO, at)
        if sw == 1:
            line = _copy_rows(source, 4 * sh * w, count, rows, wide, line)
        elif sw == 2:
            line = _copy_halves(source, 4 * sh * w, count, rows, wide, line)
        else:
            line = _copy_some(source, 4 * sh * w, count, sw, rows, wide, line)
        for at in range(line, end, 64):
            fill(ZERO, at)
        to = end


@scalar
def _cut_singly(row: Array, scale: np.float32, digits: int, weighed: bool, high: Array, low: Array) -> np.int32:
    """As `_cut_words`, of a single line: the other bytes of its words are not looked at."""
    balance = np.int32(0)
    for i in range(len(high)):
        u = np.float32(row[i] * scale + _ROUND32).view(np.uint32)
        if weighed:
            balance += _balance(row[i], u)
        u = u + np.uint32(64)
        if digits > 1:
            low[i] = u & np.uint32(127)
            u = (u >> 7) + np.uint32(64)
        high[i] = u & np.uint32(255)
    return balance


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
def pack_weight(
    cut: Array, channels: int, met: Array, phases: Array, joined: int, digits: int, out: Array, off: Array
) -> None:
    """Lay int8 (rows, digits * channels * taps), first digit first, out as words.

    Args:
        met: int64: which of the taps each phase's words are of, in their order.
        phases: as of `convolve`.
        joined: how many taps of one or two channels share a word; with 1, a word has four channels of one tap.
        out: int32, flat: for each phase (rows, digits, words), written; words are in the order of `offsets`.
        off: int32 (phases, rows), written: what the digits' 64 adds to the sum of all levels, in units of the last.
    """
    rows, length = cut.shape
    k, to = length // digits, 0
    taps = k // channels
    whole, rest = channels // 4 * 4, channels % 4
    for f in range(len(phases)):
        first, last = phases[f, 2], phases[f, 2] + phases[f, 3]
        for r in range(rows):
            line, extra = cut[r], np.int64(0)
            for d in range(digits):
                total = np.int32(0)
                for c in range(0, whole, 4):
                    at = d * k + c * taps
                    for t in range(first, last):
                        i = np.uint64(at + met[t])
                        word = np.uint32(0)
                        for j in range(4):
                            digit = line[i + np.uint64(j * taps)]
                            total += np.int32(digit)
                            word |= np.uint32(np.uint8(digit)) << np.uint32(8 * j)
                        out[to] = np.int32(word)
                        to += 1
                for t in range(first, last if rest else first, joined):
                    word = np.uint32(0)
                    for i in range(min(joined, last - t) * rest):
                        digit = line[d * k + (whole + i % rest) * taps + met[t + i // rest]]
                        total += np.int32(digit)
                        word |= np.uint32(np.uint8(digit)) << np.uint32(8 * i)
                    out[to] = np.int32(word)
                    to += 1
                for level in range(d, digits):
                    extra += np.int64(total) << (7 * (digits - 1 - level))
            off[f, r] = np.int32(64 * extra)
