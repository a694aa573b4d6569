"""Products on the CPU, in the order that their definitions write. Definition: `definition.selection`."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel


@kernel
def multiply_prefixes(x: Array, out: Array) -> None:
    """out[o, :, i] = the products of the prefixes of x[o, :, i], each by one product more, for (o, n, i) of one type.

    Lines beside each other are gone through together: a line's products wait for one another.
    """
    outer, n, inner = x.shape
    for o in range(outer):
        for j in range(inner):
            out[o, 0, j] = x[o, 0, j]
    if inner > 1:
        for o in range(outer):
            for i in range(1, n):
                for j in range(inner):
                    out[o, i, j] = out[o, i - 1, j] * x[o, i, j]
        return
    for first in range(0, outer - 3, 4):
        a, b, c, d = out[first, 0, 0], out[first + 1, 0, 0], out[first + 2, 0, 0], out[first + 3, 0, 0]
        for i in range(1, n):
            a, b = a * x[first, i, 0], b * x[first + 1, i, 0]
            c, d = c * x[first + 2, i, 0], d * x[first + 3, i, 0]
            out[first, i, 0], out[first + 1, i, 0], out[first + 2, i, 0], out[first + 3, i, 0] = a, b, c, d
    for o in range(outer - outer % 4, outer):
        for i in range(1, n):
            out[o, i, 0] = out[o, i - 1, 0] * x[o, i, 0]


@kernel
def multiply_halves(x: Array, work: Array) -> None:
    """work[0] = the product of x (n,), n > 1: ones are appended up to a power of two, then the first half is multiplied
    with the second until one value is left.

    Args:
        x: of one type.
        work: of this type, half of the power of two, overwritten.
    """
    half = len(work)
    whole = len(x) - half
    for i in range(whole):
        work[i] = x[i] * x[half + i]
    for i in range(whole, half):
        work[i] = x[i]
    while half > 1:
        half //= 2
        for i in range(half):
            work[i] = work[i] * work[half + i]


STRIPE = 1024
"""So many values of a long line are multiplied at a time."""


@kernel
def multiply_stripes(x: Array, work: Array) -> None:
    """As `multiply_halves`, of more than `STRIPE` values; the product is the first value of the last row of `work`.

    The first half times the second, again and again, makes a tree: the values are read once, stripe by stripe, if it is
    followed from its leaves on, and what waits for a second half stays in the cache.

    Args:
        work: (levels + 1, `STRIPE`), for at most 2**levels stripes, overwritten.
    """
    n, levels = len(x), len(work) - 1
    held, first = np.zeros(levels + 1, np.int64), 0
    for k in range(1 << levels):
        number = 0
        for bit in range(levels):
            number = number << 1 | (k >> bit & 1)
        at = number * STRIPE
        count, source, level = min(STRIPE, max(0, n - at)), x[min(at, n) : at + STRIPE], 0
        if k & 1 == 0:
            first, held[0] = at, count
        while k >> level & 1:
            left = x[first : first + held[0]] if level == 0 else work[level]
            target = work[level] if k >> level + 1 & 1 else work[level + 1]
            for i in range(count):
                target[i] = left[i] * source[i]
            for i in range(count, held[level]):  # times one
                target[i] = left[i]
            count, source, level = held[level], target, level + 1
            held[level] = count if k >> level & 1 == 0 else held[level]
    total, half = work[levels], STRIPE
    while half > 1:
        half //= 2
        for i in range(half):
            total[i] = total[i] * total[half + i]
