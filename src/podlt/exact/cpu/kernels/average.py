"""The loop on the CPU over all updates of an average: each is read from memory once, and nothing but the mean written.

All terms share the exponent of the largest, which is known at the end only. So a stretch of values is added up under
the largest exponent met so far, and at once again if it has a larger one; at the end, those that a larger one was met
after are added up anew.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars are reinterpreted.
# mypy: disable-error-code="return-value"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels.sums import RAW, exponent, is_finite, magnitude, power64, raw_units, rounded

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
def _add(addresses: Array, weights: Array, start: int, scale: np.float64, total: Array) -> np.uint32:
    """The sum of a stretch in units of 1 / scale, into `total`, which is as long; returns the largest magnitude.

    Of no use where a value times `scale` is not below 2**51. Four updates at a time, as sums are read and written then.
    """
    count, n, u = len(total), len(addresses), 0
    top = np.uint32(0)
    total[:] = -weights.sum() * RAW  # modulo 2**64, as what follows
    while u + 4 <= n:
        a = array_at(addresses[u] + 4 * start, count, np.float32)
        b = array_at(addresses[u + 1] + 4 * start, count, np.float32)
        c = array_at(addresses[u + 2] + 4 * start, count, np.float32)
        d = array_at(addresses[u + 3] + 4 * start, count, np.float32)
        i, j, k, m = weights[u], weights[u + 1], weights[u + 2], weights[u + 3]
        if i == 1 and j == 1 and k == 1 and m == 1:
            for v in range(count):
                first = raw_units(a[v], scale) + raw_units(b[v], scale)
                total[v] += first + raw_units(c[v], scale) + raw_units(d[v], scale)
        else:
            for v in range(count):
                first = i * raw_units(a[v], scale) + j * raw_units(b[v], scale)
                total[v] += first + k * raw_units(c[v], scale) + m * raw_units(d[v], scale)
        for v in range(count):
            top = max(top, max(max(magnitude(a[v]), magnitude(b[v])), max(magnitude(c[v]), magnitude(d[v]))))
        u += 4
    while u < n:
        x, weight = array_at(addresses[u] + 4 * start, count, np.float32), weights[u]
        for v in range(count):
            total[v] += weight * raw_units(x[v], scale)
            top = max(top, magnitude(x[v]))
        u += 1
    return top


@kernel
def _round(total: Array, e: int, divisor: np.float32, out: Array) -> None:
    """Sums in units of 2**e, rounded and divided."""
    for j in range(len(out)):
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
    sums = np.empty(STRETCH, np.int64)
    top = _largest(addresses, 0, min(STRETCH, n))
    for s in range(stretches):
        start = s * STRETCH
        part = out[start : start + STRETCH]
        total = sums[: len(part)]
        while is_finite(top):
            met[s] = exponent(top)
            found = _add(addresses, weights, start, power64(bits - met[s]), total)
            if found <= top or (is_finite(found) and exponent(found) == met[s]):
                break
            top = found
        if not is_finite(top):
            return False
        _round(total, met[s] - bits, divisor, part)
    e = exponent(top)
    for s in range(stretches):
        if met[s] != e:
            start = s * STRETCH
            part = out[start : start + STRETCH]
            total = sums[: len(part)]
            _add(addresses, weights, start, power64(bits - e), total)
            _round(total, e - bits, divisor, part)
    return True
