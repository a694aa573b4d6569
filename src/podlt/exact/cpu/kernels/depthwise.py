"""Loops on the CPU for convolutions with few channels a group: digits are multiplied where they lie, without a matrix.

Padded planes of some samples are kept as one line, of which a tap reads a shifted stretch; with strides, as one line
for each phase, so that every tap's stretch is contiguous. What stands between the rows is computed, and not looked at.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel, scalar
from podlt.exact.cpu.kernels.digits import power32
from podlt.exact.cpu.kernels.sums import power64

TERMS = 6
"""So many taps are added in one pass: LLVM vectorises a loop over no more than eight lines that might overlap."""

DOT_TERMS = 4000
"""So many products of a digit and two digits (each <= 64 * 8256) sum to less than 2**31."""

LANES = 4
"""Rows are copied by so many values at once: so much room must be behind the last."""


@scalar
def _lay_row(source: Array, at: int, step: int, count: int, out: Array, to: int) -> None:
    """out[to + q] = source[at + q * step] for q < `count`; the `LANES` values after them become 0.

    By four at once, since rows are short: loaded before any is stored, lest LLVM ask whether both lines overlap, and by
    unsigned indices, because the check for negative ones costs as much.
    """
    s, o, one = np.uint64(at), np.uint64(to), np.uint64(step)
    two, three, four = one + one, one + one + one, np.uint64(4) * one
    if at + (count + LANES) * step > len(source):
        for q in range(np.uint64(count)):
            out[o + q] = source[s + q * one]
    elif step == 1:
        for _ in range(0, count, LANES):
            a, b, c, d = source[s], source[s + np.uint64(1)], source[s + np.uint64(2)], source[s + np.uint64(3)]
            out[o], out[o + np.uint64(1)], out[o + np.uint64(2)], out[o + np.uint64(3)] = a, b, c, d
            s, o = s + np.uint64(4), o + np.uint64(4)
    else:
        for _ in range(0, count, LANES):
            a, b, c, d = source[s], source[s + one], source[s + two], source[s + three]
            out[o], out[o + np.uint64(1)], out[o + np.uint64(2)], out[o + np.uint64(3)] = a, b, c, d
            s, o = s + four, o + np.uint64(4)
    o = np.uint64(to + count)
    out[o], out[o + np.uint64(1)], out[o + np.uint64(2)], out[o + np.uint64(3)] = 0, 0, 0, 0


@scalar
def _lay(
    source: Array, at: int, apart: int, samples: int, h: int, w: int, window: Array, lines: Array, out: Array, to: int
) -> None:
    """Lay a plane (h, w) of some samples out as (sh, sw, batch, tall, wide), whose borders are 0 already.

    Rows are written upwards, as each spills zeros into the next.

    Args:
        source: int8, flat.
        at: where the first sample's plane begins.
        apart: how far the next sample's is.
        window: as in `convolution.patches`.
        lines: int64 (batch, tall, wide).
        to: where the first phase begins in `out`.
    """
    _, _, sh, sw, ph, pw, _, _ = window
    batch, tall, wide = lines
    for a in range(sh):
        for b in range(sw):
            low = min(wide, max(0, (pw - b + sw - 1) // sw))
            high = max(low, min(wide, (w - 1 + pw - b) // sw + 1))
            first = min(tall, max(0, (ph - a + sh - 1) // sh))
            last = max(first, min(tall, (h - 1 + ph - a) // sh + 1)) if high > low else first
            for s in range(samples):
                line = to + ((a * sw + b) * batch + s) * tall * wide + low
                start = at + s * apart + (a - ph) * w + low * sw + b - pw
                for r in range(first, last):
                    _lay_row(source, start + r * sh * w, sw, high - low, out, line + r * wide)


@scalar
def _offsets(window: Array, lines: Array, offsets: Array) -> None:
    """Where each tap of each plane begins to read, int64 (planes * taps,)."""
    kh, kw, sh, sw, _, _, dh, dw = window
    batch, tall, wide = lines
    for t in range(len(offsets)):
        plane, tap = t // (kh * kw), t % (kh * kw)
        y, x = (tap // kw) * dh, (tap % kw) * dw
        phase = (plane * sh + y % sh) * sw + x % sw
        offsets[t] = (phase * batch * tall + y // sh) * wide + x // sw


@scalar
def _add_terms(line: Array, offsets: Array, weights: Array, first: int, total: Array) -> None:
    """total[p] += the sum of line[offsets[t] + p] * weights[t] over `TERMS` terms from `first` on: whole and exact."""
    n = len(total)
    a, b, c = line[offsets[first] :][:n], line[offsets[first + 1] :][:n], line[offsets[first + 2] :][:n]
    d, e, f = line[offsets[first + 3] :][:n], line[offsets[first + 4] :][:n], line[offsets[first + 5] :][:n]
    u, v, w = weights[first], weights[first + 1], weights[first + 2]
    x, y, z = weights[first + 3], weights[first + 4], weights[first + 5]
    if first == 0:
        for p in range(n):
            total[p] = 0 + a[p] * u + b[p] * v + c[p] * w + d[p] * x + e[p] * y + f[p] * z
    else:
        for p in range(n):
            total[p] = total[p] + a[p] * u + b[p] * v + c[p] * w + d[p] * x + e[p] * y + f[p] * z


@scalar
def _weigh(cut: Array, digits: int, k: int, weights: Array) -> None:
    """What each digit of the other side is multiplied with, last digit first, in units of the last level."""
    for i in range(digits):
        for t in range(k):
            total = np.int64(0)
            for j in range(digits - i):
                total += np.int64(cut[j * k + t]) << (7 * (digits - 1 - i - j))
            weights[(digits - 1 - i) * k + t] = total


@scalar
def _round_rows(total: Array, at: int, wide: int, e: int, shared: int, fits: bool, out: Array) -> None:
    """The rows of a plane out of a line, scaled by 2**(e + shared), rounded once."""
    narrow = fits and e + shared >= -126 and e + shared <= 127
    factor, scale = power32(e + shared if narrow else 0), power64(e) * power64(shared)
    for i in range(out.shape[0]):
        row = out[i]
        found = total[at + i * wide :][: len(row)]
        if narrow:
            for j in range(len(row)):
                row[j] = np.float32(found[j]) * factor
        else:
            for j in range(len(row)):
                row[j] = np.float32(np.float64(found[j]) * scale)


@kernel
def convolve(
    source: Array,
    shared: Array,
    cut: Array,
    rows: Array,
    window: Array,
    bias: Array,
    lines: Array,
    laid: Array,
    total: Array,
    fits: bool,
    out: Array,
) -> None:
    """As `cpu.convolution.convolve`, from digits of both sides.

    Args:
        source: int8 (n, groups, digits, c, h, w), last digit first.
        shared: int64 (n, groups): their exponents.
        cut: int8 (groups, o, digits * k), first digit first.
        rows: int64 (groups, o): their exponents.
        window: as in `convolution.patches`.
        bias: float32 (groups * o,) or (0,).
        lines: int64 (batch, tall, wide): samples that are laid out together, height and width of a phase.
        laid: zeros for the phases of one group of so many samples, and `LANES` more, of the type of `total`.
        total: (batch * tall * wide,) of a type that holds every sum of products exactly.
        fits: whether converting a sum to float32 rounds once, if it is not subnormal.
        out: float32 (n, groups * o, height, width), written.
    """
    n, groups, digits, c, h, w = source.shape
    per, k = cut.shape[1], cut.shape[2] // digits
    batch, tall, wide = lines
    every = window[2] * window[3] * batch * tall * wide
    padded = -(-digits * k // TERMS) * TERMS
    offsets, weights = np.zeros(padded, np.int64), np.zeros((per, padded), total.dtype)
    _offsets(window, lines, offsets[: digits * k])
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    flat = source.reshape(source.size)
    for g in range(groups):
        for o in range(per):
            _weigh(cut[g, o], digits, k, weights[o])
        for start in range(0, n, batch):
            samples = min(batch, n - start)
            for d in range(digits * c):
                at = ((start * groups + g) * digits * c + d) * h * w
                _lay(flat, at, groups * digits * c * h * w, samples, h, w, window, lines, laid, d * every)
            found = total[: ((samples - 1) * tall + out.shape[2] - 1) * wide + out.shape[3]]
            for o in range(per):
                for first in range(0, padded, TERMS):
                    _add_terms(laid, offsets, weights[o], first, found)
                for s in range(samples):
                    target, e = out[start + s, g * per + o], rows[g, o] + shift
                    _round_rows(found, s * tall * wide, wide, e, shared[start + s, g], fits, target)
                    if len(bias) > 0:
                        for y in range(target.shape[0]):
                            for x in range(target.shape[1]):
                                target[y, x] = target[y, x] + bias[g * per + o]


@scalar
def _dot(a: Array, at: int, b: Array, to: int, count: int) -> np.int64:
    """The sum of the products of `count` int16 values of two lines, whole: by stretches that fit an int32."""
    total = np.int64(0)
    for start in range(0, count, DOT_TERMS):
        length = min(DOT_TERMS, count - start)
        x, y = a[at + start :][:length], b[to + start :][:length]
        part = np.int32(0)
        for i in range(length):
            part = np.int32(part + np.int32(np.int32(x[i]) * np.int32(y[i])))
        total += np.int64(part)
    return total


@scalar
def _products(left: Array, right: Array, digits: int, tap: int, every: int, count: int) -> np.int64:
    """All levels of the products of one output and one input channel at one tap, in units of the last level.

    Args:
        left: int16 (digits, l).
        right: int16, flat: two digits in one from each even one on, then the even ones, each `every` values.
        tap: where its stretch begins.
        count: values of a stretch.
    """
    total, pairs = np.int64(0), digits // 2
    for i in range(digits):
        for j in range(0, digits - i, 2):
            both = j + 1 < digits - i
            plane = j // 2 if both else pairs + j // 2
            found = _dot(left[i], 0, right, plane * every + tap, count)
            total += found << (7 * (digits - (2 if both else 1) - i - j))
    return total


@scalar
def _lay_pairs(digit: Array, digits: int, every: int, out: Array) -> None:
    """The planes that `_products` takes on its right, from those of single digits."""
    for p in range(digits // 2):
        target, high, low = out[p * every :][:every], digit[2 * p], digit[2 * p + 1]
        for q in range(every):
            target[q] = np.int16((high[q] << 7) + low[q])
    for p in range((digits + 1) // 2):
        target, high = out[(digits // 2 + p) * every :][:every], digit[2 * p]
        for q in range(every):
            target[q] = high[q]


@kernel
def weight_gradient(left: Array, ea: Array, right: Array, eb: Array, window: Array, lines: Array, out: Array) -> None:
    """As `cpu.convolution.weight_gradient`, from digits of both sides.

    Args:
        left: int8 (n, digits, o, height, width), first digit first.
        ea: int64 (o,): their exponents.
        right: int8 (n, digits, c, h, w), last digit first.
        eb: int64 (c,): their exponents.
        window: as in `convolution.patches`.
        lines: int64 (batch, tall, wide), as of `convolve`.
        out: float32 (o, c / groups, taps), written.
    """
    n, digits, c, h, w = right.shape
    height, width = left.shape[3:]
    o, per_c, taps = out.shape
    per_o = o * per_c // c
    batch, tall, wide = lines
    size = batch * tall * wide
    every = window[2] * window[3] * size
    plain = np.array([1, 1, 1, 1, 0, 0, 1, 1])
    digit = np.zeros((digits, every + LANES), np.int16)
    laid = np.zeros((per_c, (digits // 2 + (digits + 1) // 2) * every), np.int16)
    grad = np.zeros((digits, size + LANES), np.int16)
    offsets = np.empty(taps, np.int64)
    _offsets(window, lines, offsets)
    total = np.empty((per_o, per_c, taps), np.int64)
    shift = 7 * (digits - 1) - 2 * (7 * digits - 1)
    ours, theirs = left.reshape(left.size), right.reshape(right.size)
    for g in range(c // per_c):
        total[:] = 0
        for start in range(0, n, batch):
            samples = min(batch, n - start)
            count = ((samples - 1) * tall + height - 1) * wide + width
            for j in range(per_c):
                for d in range(digits):
                    at = ((start * digits + digits - 1 - d) * c + g * per_c + j) * h * w
                    _lay(theirs, at, digits * c * h * w, samples, h, w, window, lines, digit[d], 0)
                _lay_pairs(digit, digits, every, laid[j])
            for i in range(per_o):
                for d in range(digits):
                    at = ((start * digits + d) * o + g * per_o + i) * height * width
                    _lay(ours, at, digits * o * height * width, samples, height, width, plain, lines, grad[d], 0)
                for j in range(per_c):
                    for t in range(taps):
                        total[i, j, t] += _products(grad, laid[j], digits, offsets[t], every, count)
        for i in range(per_o):
            scale = power64(ea[g * per_o + i] + shift)
            for j in range(per_c):
                factor = scale * power64(eb[g * per_c + j])
                for t in range(taps):
                    out[g * per_o + i, j, t] = np.float32(np.float64(total[i, j, t]) * factor)
