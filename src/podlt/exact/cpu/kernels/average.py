"""The loop on the CPU over all updates of an average: each is read from memory once, and nothing but the mean written.

All terms share the exponent of the largest, which is known at the end only. So a stretch of values is added up under
the largest exponent met so far, while it is in the cache, and again at the end if a larger one was met after it.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels.sums import exponent, is_finite, magnitude, power64, rounded, units

STRETCH = 4096
"""Values of each update that are added up together: their sums lie in the first cache, their terms in the second."""


@kernel
def _largest(addresses: Array, start: int, count: int) -> np.uint32:
    top = np.uint32(0)
    for u in range(len(addresses)):
        x = array_at(addresses[u] + 4 * start, count, np.float32)
        for j in range(count):
            top = max(top, magnitude(x[j]))
    return top


@kernel
def _add(addresses: Array, weights: Array, start: int, e: int, divisor: np.float32, total: Array, out: Array) -> None:
    """The sum of a stretch in units of 2**e, rounded and divided, into `out`, which is as long as the stretch."""
    count = len(out)
    scale = power64(-e)
    total[:count] = 0
    for u in range(len(addresses)):
        x = array_at(addresses[u] + 4 * start, count, np.float32)
        weight = weights[u]
        if weight == 1:
            for j in range(count):
                total[j] += units(x[j], scale)
        else:
            for j in range(count):
                total[j] += weight * units(x[j], scale)
    for j in range(count):
        out[j] = rounded(total[j], e) / divisor


@kernel
def mean(addresses: Array, weights: Array, bits: int, divisor: np.float32, out: Array) -> bool:
    """The weighted sum of updates in units of 2**(e - bits), rounded once, over `divisor`; whether all was finite.

    Args:
        addresses: int64 (u,): where the float32 values of each update lie, as many as `out` has.
        weights: int64 (u,).
        bits: so few that the sum of the weights, times 2**bits, is below 2**63.
        out: float32 (n,), written; of no use where not all was finite.
    """
    n = len(out)
    stretches = (n + STRETCH - 1) // STRETCH
    met = np.empty(stretches, np.int64)
    total = np.empty(STRETCH, np.int64)
    top = np.uint32(0)
    for s in range(stretches):
        start = s * STRETCH
        part = out[start : start + STRETCH]
        top = max(top, _largest(addresses, start, len(part)))
        if not is_finite(top):
            return False
        met[s] = exponent(top)
        _add(addresses, weights, start, met[s] - bits, divisor, total, part)
    for s in range(stretches):
        if met[s] != exponent(top):
            start = s * STRETCH
            _add(addresses, weights, start, exponent(top) - bits, divisor, total, out[start : start + STRETCH])
    return True
