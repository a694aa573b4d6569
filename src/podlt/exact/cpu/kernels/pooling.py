"""Loops on the CPU for maximum pooling: comparisons forward, exact sums backward."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units


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
