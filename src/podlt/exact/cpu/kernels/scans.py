"""Products on the CPU, in the order that their definitions write. Definition: `definition.selection`."""

from __future__ import annotations

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
