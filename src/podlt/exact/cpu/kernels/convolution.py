"""Loops on the CPU that lay digits out for convolutions as matrix products."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, Array
from podlt.exact.cpu.jit import kernel, scalar
from podlt.exact.cpu.kernels.digits import (
    LONG,
    NOT_FINITE,
    add_losses,
    cut_line,
    exceeds,
    narrow_sum,
    power32,
    row_exponent,
    wide_sum,
)
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64


@kernel
def cut_channels(x: Array, planes: Array, exponents: Array, wide: Array, digits: int, reverse: bool) -> int:
    """Cut float32 (n, c, l) with one exponent a channel into int8 (n, digits, c, l).

    Args:
        wide: uint8 (c,), written if `digits` is `ADAPTIVE`: which channels need four digits. All are cut into two.

    Returns:
        How many channels are wide, or `NOT_FINITE`.
    """
    n, c, length = x.shape
    weighed = digits == ADAPTIVE
    digits = NARROW_DIGITS if weighed else digits
    top = np.zeros(c, np.uint32)
    for i in range(n):
        for j in range(c):
            row = x[i, j]
            most = np.uint32(0)
            for k in range(length):
                most = max(most, magnitude(row[k]))
            top[j] = max(top[j], most)
    for j in range(c):
        exponents[j] = row_exponent(top[j])
    first, last = (digits - 1, 0) if reverse else (0, digits - 1)
    balance = np.zeros(c, np.int64)
    for i in range(n):
        for j in range(c):
            scale, middle = power32(7 * digits - 1 - exponents[j]), planes[i, min(1, digits - 1), j]
            high, low = planes[i, first, j], planes[i, last, j]
            balance[j] += cut_line(x[i, j], scale, digits, weighed, high, middle, low)
    if not is_finite(top.max()):
        return NOT_FINITE
    found = 0
    if weighed:
        for j in range(c):
            sums = np.zeros(2, np.int64)
            if top[j] != 0 and (balance[j] < 0 or length > LONG):
                for i in range(n):
                    add_losses(x[i, j], exponent(top[j]), sums)
            wide[j] = exceeds(sums, top[j])
            found += wide[j]
    return found


@scalar
def _copy(out: Array, to: int, source: Array, at: int, count: int) -> None:
    """out[to + i] = source[at + i]; unsigned indices, because the check for negative ones keeps bytes from vectors."""
    target, start = np.uint64(to), np.uint64(at)
    for i in range(np.uint64(count)):
        out[target + i] = source[start + i]


@scalar
def _zero(out: Array, begin: int, end: int) -> None:
    start = np.uint64(begin)
    for i in range(np.uint64(end - begin)):
        out[start + i] = 0


@scalar
def _shifted_plane(source: Array, at: int, size: int, delta: int, begin: int, end: int, out: Array, to: int) -> None:
    """out[to + i] = source[at + i + delta] for begin <= i < end, as far as that lies in a plane of `size`."""
    first = min(max(begin, -delta), end)
    last = max(min(end, size - delta), first)
    _copy(out, to + first, source, at + delta + first, last - first)


@kernel
def patches(
    source: Array, first: int, count: int, every: int, window: Array, height: int, width: int, places: Array, out: Array
) -> None:
    """Lay out what each output position sees: one row a tap and channel, zeros outside the image.

    A tap sees values of one phase of the strides, in which they are neighbours. Where the width is that of the phase,
    it is a shifted copy of the whole plane with its side columns zeroed: rows of a dozen bytes cost more to start than
    to copy. Indices are spelled out: views cost as much again.

    Args:
        source: int8 (b, s, c * sh * sw, h, w), C order: each channel's phases, zeros where one is shorter than the
            first. Samples first, first + every, ... are taken, `count` of them.
        window: int64 (kh, kw, sh, sw, ph, pw, dh, dw): taps, strides, paddings (may be negative), dilations.
        height: of the output.
        width: of the output.
        places: int64 (3,): how far apart in `out` two planes, two rows and two samples lie.
        out: int8, flat, written.
    """
    _, planes, parts, h, w = source.shape
    kh, kw, sh, sw, ph, pw, dh, dw = window
    flat = source.reshape(source.size)
    size = h * w
    for s in range(planes):
        for c in range(parts // (sh * sw)):
            for tap in range(kh * kw):
                y, x = (tap // kw) * dh - ph, (tap % kw) * dw - pw
                down, right = y // sh, x // sw
                part = (c * sh + y % sh) * sw + x % sw
                row = s * places[0] + (c * kh * kw + tap) * places[1]
                low = min(max(0, -right), width)
                high = max(min(width, w - right), low)
                begin = min(max(0, -down), height)
                end = max(min(height, h - down), begin)
                for i in range(count):
                    at = (((first + i * every) * planes + s) * parts + part) * size
                    to = row + i * places[2]
                    _zero(out, to, to + begin * width)
                    _zero(out, to + end * width, to + height * width)
                    if width == w:
                        _shifted_plane(flat, at, size, down * w + right, begin * w, end * w, out, to)
                        for j in range(low):
                            for oy in range(begin, end):
                                out[to + oy * w + j] = 0
                        for j in range(high, w):
                            for oy in range(begin, end):
                                out[to + oy * w + j] = 0
                        continue
                    for oy in range(begin, end):
                        line = to + oy * width
                        _zero(out, line, line + low)
                        _copy(out, line + low, flat, at + (oy + down) * w + right + low, high - low)
                        _zero(out, line + high, line + width)


@kernel
def combine_samples(
    levels: Array,
    ea: Array,
    eb: Array,
    digits: int,
    narrow: bool,
    bias: Array,
    out: Array,
    first: int,
    channel: int,
) -> None:
    """As `kernels.digits.combine`, into samples and channels of a larger tensor.

    Args:
        levels: int32 or float64 (digits, o, count * l).
        ea: int64 (o,).
        eb: int64 (count,), one a sample.
        narrow: whether there are one or two levels, which fit an int32 together: unless a result could lie below the
            normal float32, converting them rounds once, and scaling is exact.
        bias: float32 (o,) or (0,).
        out: float32 (n, channels, l), written from sample `first` and `channel` on.
    """
    rows, length = levels.shape[1], out.shape[2]
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    for o in range(rows):
        for i in range(len(eb)):
            narrow = narrow and -126 <= ea[o] + eb[i] + shift <= 127
    for o in range(rows):
        for i in range(len(eb)):
            target = out[first + i, channel + o]
            p0 = levels[0, o, i * length : (i + 1) * length]
            p1 = levels[min(1, digits - 1), o, i * length : (i + 1) * length]
            p2 = levels[digits - 1, o, i * length : (i + 1) * length]
            if narrow:
                factor = power32(ea[o] + eb[i] + shift)
                for k in range(length):
                    target[k] = narrow_sum(np.int32(p0[k]), np.int32(p2[k]), digits) * factor
            else:
                scale = power64(ea[o] + shift) * power64(eb[i])
                for k in range(length):
                    target[k] = np.float32(wide_sum(p0[k], p1[k], p2[k], digits) * scale)
            if len(bias) > 0:
                for k in range(length):
                    target[k] = target[k] + bias[o]
