"""Loops on the CPU for pooling: comparisons of maxima, exact sums of averages and of gradients."""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import ACCUMULATOR_BITS, SUM_BITS, Array
from podlt.exact.cpu.jit import array_at, kernel, scalar
from podlt.exact.cpu.kernels.sums import (
    FINE,
    NOT_FINITE,
    OUTSIDE,
    RAW,
    exponent,
    is_finite,
    magnitude,
    power64,
    raw_units,
    rounded,
    units,
)


@kernel
def max_pool(x: Array, window: Array, out: Array, index: Array) -> None:
    """The first largest value of each window, in row-major order, and where it is in its plane; NaN is the largest.

    Args:
        x: float32 (b, h, w).
        window: as in `convolution.patches`.
        out: float32 (b, oh, ow), written.
        index: int64 (b, oh, ow), written.
    """
    planes, h, w = x.shape
    kh, kw, sh, sw, ph, pw, dh, dw = window
    halves = kh == 2 and kw == 2 and sh == 2 and sw == 2 and ph == 0 and pw == 0 and dh == 1 and dw == 1
    if halves and 2 * out.shape[1] <= h and 2 * out.shape[2] <= w:
        _max_pool_halves(x, out, index)
        return
    for b in range(planes):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                best = np.float32(-np.inf)
                place = -1
                for ky in range(kh):
                    y = i * sh - ph + ky * dh
                    if y < 0 or y >= h:
                        continue
                    for kx in range(kw):
                        z = j * sw - pw + kx * dw
                        if z >= 0 and z < w:
                            v = x[b, y, z]
                            if place < 0 or v > best or v != v:
                                best = v
                                place = y * w + z
                out[b, i, j] = best
                index[b, i, j] = place


@kernel
def _max_pool_halves(x: Array, out: Array, index: Array) -> None:
    """`max_pool` by windows of 2 x 2 that touch: the larger of each line, then of both, by choices without branches."""
    w = x.shape[2]
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            upper, lower, best, place = x[b, 2 * i], x[b, 2 * i + 1], out[b, i], index[b, i]
            start = 2 * i * w
            for j in range(len(best)):
                p, q, r, s = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
                second = (q > p) | (q != q)
                v = q if second else p
                fourth = (s > r) | (s != s)
                u = s if fourth else r
                below = (u > v) | (u != u)
                best[j] = u if below else v
                place[j] = start + 2 * j + (w + np.int64(fourth) if below else np.int64(second))


@scalar
def _bits_of_terms(terms: int) -> int:
    """`constants.sum_bits`."""
    length, rest = 0, terms - 1
    while rest > 0:
        length, rest = length + 1, rest >> 1
    return min(SUM_BITS, ACCUMULATOR_BITS - length)


@kernel
def average_pool(
    x: int, planes: int, h: int, w: int, rows: Array, columns: Array, area: int, single: bool, out: int
) -> bool:
    """The exact sum of each window of the float32 (planes, h, w) at an address over its area; whether all was finite.

    Args:
        rows: int64 (2, oh): each window's first row, and the first below it; both within the plane.
        columns: int64 (2, ow): as `rows`.
        area: where float32 (oh * ow,) lies, or (1,) if it is a `single` one.
        out: where float32 (planes, oh, ow) lies, written.
    """
    oh, ow = rows.shape[1], columns.shape[1]
    size, count = h * w, oh * ow
    source, target = array_at(x, planes * size, np.float32), array_at(out, planes * count, np.float32)
    divisors = array_at(area, 1 if single else count, np.float32)
    worst = np.uint32(0)
    for p in range(planes):
        plane, found = source[p * size : (p + 1) * size], target[p * count : (p + 1) * count]
        if oh == 1 and ow == 1 and rows[1, 0] - rows[0, 0] == h and columns[1, 0] - columns[0, 0] == w:
            top, total, bits = np.uint32(0), -np.int64(size) * RAW, _bits_of_terms(size)
            for i in range(size):
                top = max(top, magnitude(plane[i]))
            scale = power64(bits - exponent(top))
            for i in range(size):
                total += raw_units(plane[i], scale)
            worst = max(worst, top)
            found[0] = rounded(total, exponent(top) - bits) / divisors[0]
            continue
        for i in range(oh):
            for j in range(ow):
                top = np.uint32(0)
                bits = _bits_of_terms((rows[1, i] - rows[0, i]) * (columns[1, j] - columns[0, j]))
                for y in range(rows[0, i], rows[1, i]):
                    for z in range(columns[0, j], columns[1, j]):
                        top = max(top, magnitude(plane[y * w + z]))
                scale, total = power64(bits - exponent(top)), np.int64(0)
                for y in range(rows[0, i], rows[1, i]):
                    for z in range(columns[0, j], columns[1, j]):
                        total += units(plane[y * w + z], scale)
                worst = max(worst, top)
                found[i * ow + j] = rounded(total, exponent(top) - bits) / divisors[0 if single else i * ow + j]
    return is_finite(worst)


@kernel
def average_pool_backward(
    grad: int, planes: int, h: int, w: int, rows: Array, columns: Array, area: int, single: bool, bits: int, out: int
) -> bool:
    """The exact sums of the windows' shares at each cell of the float32 (planes, h, w) at an address, written.

    One exponent serves them all. Arguments as of `average_pool`.
    """
    oh, ow = rows.shape[1], columns.shape[1]
    size, count = h * w, oh * ow
    source, target = array_at(grad, planes * count, np.float32), array_at(out, planes * size, np.float32)
    divisors = array_at(area, 1 if single else count, np.float32)
    shares, top = np.empty(count, np.float32), np.uint32(0)
    for p in range(planes):
        given = source[p * count : (p + 1) * count]
        for k in range(count):
            top = max(top, magnitude(given[k] / divisors[0 if single else k]))
    e = exponent(top) - bits
    scale = power64(-e)
    total = np.empty(size, np.int64)
    for p in range(planes):
        given, cells = source[p * count : (p + 1) * count], target[p * size : (p + 1) * size]
        if oh == 1 and ow == 1 and rows[1, 0] - rows[0, 0] == h and columns[1, 0] - columns[0, 0] == w:
            cells[:] = rounded(units(given[0] / divisors[0], scale), e)
            continue
        for k in range(count):
            shares[k] = given[k] / divisors[0 if single else k]
        total[:] = 0
        for i in range(oh):
            for y in range(rows[0, i], rows[1, i]):
                line = total[y * w : (y + 1) * w]
                for j in range(ow):
                    share = units(shares[i * ow + j], scale)
                    for z in range(columns[0, j], columns[1, j]):
                        line[z] += share
        for k in range(size):
            cells[k] = rounded(total[k], e)
    return is_finite(top)


@kernel
def max_pool_backward_apart(grad: int, index: int, planes: int, length: int, area: int, bits: int, out: int) -> int:
    """`max_pool_backward` where no two windows share a cell: each sum has one term.

    Args:
        grad: where float32 (planes, length) lies.
        index: where int64 (planes, length) lies.
        out: where float32 (planes, area) lies, written.

    Returns:
        As `sums.scatter_rows`.
    """
    given, places = array_at(grad, planes * length, np.float32), array_at(index, planes * length, np.int64)
    found = array_at(out, planes * area, np.float32)
    worst, values = np.uint32(0), np.empty(length, np.float32)
    for b in range(planes):
        row, part = found[b * area : (b + 1) * area], given[b * length : (b + 1) * length]
        top = np.uint32(0)
        for i in range(length):
            top = max(top, magnitude(part[i]))
        worst = max(worst, top)
        e = exponent(top) - bits
        scale = power64(-e)
        for i in range(length):
            values[i] = rounded(units(part[i], scale), e)
        row[:] = 0
        for i in range(length):
            place = places[b * length + i]
            if place < 0 or place >= area:
                return OUTSIDE
            row[place] = values[i]
    return FINE if is_finite(worst) else NOT_FINITE


@kernel
def max_pool_backward(grad: Array, index: Array, bits: int, out: Array) -> bool:
    """Each plane's exact sums of `grad` (b, l) at `index`, with one exponent a plane, in float32 (b, h * w)."""
    planes, length = grad.shape
    total = np.empty(out.shape[1], np.int64)
    worst = np.uint32(0)
    for b in range(planes):
        top = np.uint32(0)
        for i in range(length):
            top = max(top, magnitude(grad[b, i]))
        worst = max(worst, top)
        e = exponent(top) - bits
        scale = power64(-e)
        total[:] = 0
        for i in range(length):
            total[index[b, i]] += units(grad[b, i], scale)
        row = out[b]
        for i in range(len(row)):
            row[i] = rounded(total[i], e)
    return is_finite(worst)
