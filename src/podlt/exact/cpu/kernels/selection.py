"""The first few of an order on the CPU. Definition: `definition.selection.topk`."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel

STRETCH = 16
"""So many values are compared with the last of the best at once: nearly always none of them is better."""


@kernel
def top(x: Array, largest: bool, values: Array, index: Array) -> bool:
    """The best `k` of each line in order, of equal ones the earlier first; whether no value was a NaN.

    A value goes before the best ones that it is better than, so each line is read once.

    Args:
        x: float32 (lines, n), C order.
        largest: whether larger is better.
        values: float32 (lines, k), k from 1 to n, written.
        index: int64 (lines, k), written: where they stand.
    """
    lines, n = x.shape
    k = values.shape[1]
    is_ordered = True
    for i in range(lines):
        row, best, at = x[i], values[i], index[i]
        taken = 0
        for start in range(0, n, STRETCH):
            stop = min(start + STRETCH, n)
            none = taken == k
            if none:
                last, found = best[k - 1], 0
                for j in range(start, stop):
                    v = row[j]
                    found |= (v > last if largest else v < last) | (v != v)
                none = found == 0
            if none:
                continue
            for j in range(start, stop):
                v = row[j]
                if v != v:
                    is_ordered = False
                if taken == k:
                    if not (v > best[k - 1] if largest else v < best[k - 1]):
                        continue
                    place = k - 1
                else:
                    place = taken
                    taken += 1
                while place > 0 and (v > best[place - 1] if largest else v < best[place - 1]):
                    best[place], at[place] = best[place - 1], at[place - 1]
                    place -= 1
                best[place], at[place] = v, np.int64(j)
    return is_ordered
