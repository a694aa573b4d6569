"""Loops on the CPU that cut both sides of the gradient of a convolution's weight, for `kernels.quad_gradient`.

The gradient's digits are laid out as words of four places of 16 channels, signed; the input's as bytes, unsigned and
padded, one plane for each phase of the strides.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment, arg-type, return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, Array
from podlt.exact.cpu.jit import array_at, kernel, place, scalar
from podlt.exact.cpu.kernels.digits import (
    LONG,
    NOT_FINITE,
    add_losses,
    cut_line,
    exceeds,
    power32,
    row_exponent,
)
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude
from podlt.exact.cpu.kernels.vectors import LANES, copy_bytes, copy_every_second_byte, fill, fill_bytes, transpose

MARGIN = 64
"""Bytes after all planes of a digit, channel and phase that are read or written and not looked at, and a row."""

_ROUND32 = np.float32(12582912.0)  # 1.5 * 2**23, as in `digits`
_ROUND32_BITS = np.int32(_ROUND32.view(np.int32))


@scalar
def _find_exponents(x: Array, top: Array, exponents: Array) -> bool:
    """The largest magnitude and the exponent of each channel of float32 (n, c, l); whether all are finite."""
    n, c, length = x.shape
    for s in range(n):
        for j in range(c):
            row, most = x[s, j], top[j]
            for i in range(length):
                most = max(most, magnitude(row[i]))
            top[j] = most
    for j in range(c):
        exponents[j] = row_exponent(top[j])
    return is_finite(top.max())


@scalar
def _weigh(x: Array, top: Array, balance: Array, wide: Array) -> int:
    """Mark the channels of float32 (n, c, l) that need four digits, from their sums of `cut_line`; how many do."""
    n, c, length = x.shape
    found, sums = 0, np.zeros(2, np.int64)
    for j in range(c):
        sums[:] = 0
        if top[j] != 0 and (balance[j] < 0 or length > LONG):
            for s in range(n):
                add_losses(x[s, j], exponent(top[j]), sums)
        wide[j] = exceeds(sums, top[j])
        found += wide[j]
    return found


@kernel
def cut_planes(
    x: Array,
    layout: Array,
    parts: Array,
    zero: int,
    out: Array,
    room: Array,
    exponents: Array,
    wide: Array,
    digits: int,
) -> int:
    """Cut float32 (n, c, h * w) with one exponent a channel into padded planes of bytes.

    Args:
        layout: int64 (7,): h, w, height and width of a plane, strides, bytes from a phase's planes to the next one's.
        parts: as of `quad_cuts.cut_quads`, at least one.
        zero: what is added to each digit: 64 makes them unsigned. Padding has that much.
        out: int8, flat: (digits, c, phases, n, height * width), first digit first, `MARGIN` and a row behind each
            phase; written, the first 64 bytes behind a phase as padding.
        room: int8 (digits, at least n * h * w + `MARGIN`).
        exponents: int64 (c,), written.
        wide: uint8 (c,), written: which channels need four digits, if `digits` is `ADAPTIVE`. All are cut into two.

    Returns:
        How many channels are wide, or `NOT_FINITE`.
    """
    n, c, length = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    plane, block = layout[2] * layout[3], layout[6]
    top, balance = np.zeros(c, np.uint32), np.zeros(c, np.int64)
    if not _find_exponents(x, top, exponents):
        return NOT_FINITE
    for j in range(c):
        scale, to = power32(7 * digits - 1 - exponents[j]), place(out) + j * len(parts) * block
        for s in range(n):
            high, low = room[0, s * length :], room[digits - 1, s * length :]
            balance[j] += _cut_line(x[s, j], scale, digits, weighed, np.int8(zero - 64), high, low)
        for d in range(digits):
            for s in range(n):
                at = to + d * c * len(parts) * block + s * plane
                _pad(place(room[d]) + s * length, layout, parts, np.int8(zero), at)
            for part in range(len(parts)):
                end = to + (d * c * len(parts) + part) * block + n * plane
                for i in range(0, 64, LANES):
                    fill_bytes(np.int8(zero), end + i)
    room[0, 0] = 0  # it is needed until here
    return _weigh(x, top, balance, wide) if weighed else 0


@scalar
def _cut_line(
    row: Array, scale: np.float32, digits: int, weighed: bool, less: np.int8, high: Array, low: Array
) -> np.int32:
    """As `cut_line`, each digit plus 64 and `less`; of one digit there is no low one."""
    balance = np.int32(0)
    for i in range(len(row)):
        u = np.float32(row[i] * scale + _ROUND32).view(np.uint32)
        if weighed:
            balance += abs(np.int32(u) - _ROUND32_BITS) - np.int32(129) * np.int32(magnitude(row[i]) != 0)
        u = u + np.uint32(64)
        if digits > 1:
            low[i] = np.int8(u & np.uint32(127)) + less
            u = (u >> 7) + np.uint32(64)
        high[i] = np.int8(u) + less
    return balance


@scalar
def _copy_rows(source: int, step: int, count: int, rows: int, wide: int, zero: np.int8, line: int) -> int:
    """Copy `count` bytes of each of some rows, `step` bytes apart, to rows of `wide` bytes, `zero` behind them.

    Returns:
        The address behind the last of these rows.
    """
    end = count
    for _ in range(rows):
        copy_bytes(source, line)
        for i in range(16, end, 16):
            copy_bytes(source + i, line + i)
        fill_bytes(zero, line + count)
        for i in range(count + 16, wide, 16):
            fill_bytes(zero, line + i)
        source += step
        line += wide
    return line


@scalar
def _copy_halves(source: int, step: int, count: int, rows: int, wide: int, zero: np.int8, line: int) -> int:
    """As `_copy_rows`, of every second one."""
    end = count
    for _ in range(rows):
        copy_every_second_byte(source, line)
        for i in range(16, end, 16):
            copy_every_second_byte(source + 2 * i, line + i)
        fill_bytes(zero, line + count)
        for i in range(count + 16, wide, 16):
            fill_bytes(zero, line + i)
        source += step
        line += wide
    return line


@scalar
def _copy_some(source: int, step: int, count: int, every: int, rows: int, wide: int, zero: np.int8, line: int) -> int:
    """As `_copy_rows`, of every `every`-th one."""
    for _ in range(rows):
        there, here = array_at(source, count * every, np.int8), array_at(line, wide, np.int8)
        for i in range(count):
            here[i] = there[i * every]
        for i in range(count, wide):
            here[i] = zero
        source += step
        line += wide
    return line


@scalar
def _pad(plane: int, layout: Array, parts: Array, zero: np.int8, to: int) -> None:
    """Copy the bytes of an image into its padded phases, as `quad_cuts` copies words."""
    w, tall, wide, sh, sw, block = layout[1], layout[2], layout[3], layout[4], layout[5], layout[6]
    for part in range(len(parts)):
        first, rows, low, count, begin = parts[part]
        source, line, end = plane + begin, to + first * wide + low, to + tall * wide
        for at in range(to, line, LANES):
            fill_bytes(zero, at)
        if sw == 1:
            line = _copy_rows(source, sh * w, count, rows, wide, zero, line)
        elif sw == 2:
            line = _copy_halves(source, sh * w, count, rows, wide, zero, line)
        else:
            line = _copy_some(source, sh * w, count, sw, rows, wide, zero, line)
        for at in range(line, end, LANES):
            fill_bytes(zero, at)
        to += block


@kernel
def cut_gradient(
    x: Array, groups: int, layout: Array, out: Array, room: Array, exponents: Array, wide: Array, digits: int
) -> int:
    """Cut float32 (n, o, l) with one exponent a channel, and lay it out as words of four places, signed.

    Args:
        layout: int64 (5,): width of the planes' rows, bytes from a row to the next, words of a plane, lanes (16 or 32),
            words from a digit to the next.
        out: int32, flat: (groups, parts of a group, digits, n, words, lanes), and 16 places more behind each digit;
            written, zeros where there is no channel.
        room: int8 (digits + 1, 16, bytes of a plane and `MARGIN`).
        exponents: int64 (o,), written.
        wide: as of `cut_planes`.

    Returns:
        As `cut_planes`.
    """
    n, o, length = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    width, pitch, words, lanes, block = layout
    top, balance = np.zeros(o, np.uint32), np.zeros(o, np.int64)
    if not _find_exponents(x, top, exponents):
        return NOT_FINITE
    per, apart = o // groups, room.shape[2]
    parts, height, cut = (per + lanes - 1) // lanes, length // width, room[digits]
    for g in range(groups):
        for first in range(0, parts * lanes, LANES):
            to = place(out) + 4 * ((g * parts + first // lanes) * digits * block + first % lanes)
            count = max(0, min(LANES, per - first))
            room[:digits, count:] = 0
            for s in range(n if count > 0 else 0):
                for i in range(count):
                    j = g * per + first + i
                    scale = power32(7 * digits - 1 - exponents[j])
                    high, low = cut[0, :length], cut[1, :length]
                    balance[j] += cut_line(x[s, j], scale, digits, weighed, high, low, low)
                    for d in range(digits):
                        _space(place(cut[d]), width, pitch, height, place(room[d, i]))
                for d in range(digits):
                    at = to + 4 * (d * block + s * words * lanes)
                    for i in range(0, words, LANES):
                        transpose(place(room[d]) + 4 * i, apart, at + 4 * i * lanes, 4 * lanes)
            for d in range(digits if count == 0 else 0):
                for i in range(n * words):
                    fill(np.int32(0), to + 4 * (d * block + i * lanes))
    room[0, 0, 0] = 0  # it is needed until here
    return _weigh(x, top, balance, wide) if weighed else 0


@scalar
def _space(source: int, width: int, pitch: int, height: int, to: int) -> None:
    """Copy rows of bytes at an address so that they begin `pitch` bytes apart, zeros in between and behind."""
    if width == pitch:
        for i in range(0, width * height, LANES):
            copy_bytes(source + i, to + i)
        for i in range(0, MARGIN, LANES):
            fill_bytes(np.int8(0), to + width * height + i)
        return
    for _ in range(height):
        for i in range(0, width, LANES):
            copy_bytes(source + i, to + i)
        for i in range(width, pitch, LANES):
            fill_bytes(np.int8(0), to + i)
        source += width
        to += pitch
    for i in range(0, MARGIN - LANES, LANES):
        fill_bytes(np.int8(0), to + i)
