"""Means and deviations of many columns at once, the same bits on every machine, with memory for one chunk.

Sums are made of elementwise additions in a fixed order (halves onto halves), so that no library's choice of an order
shows in them. The second pass sums what is left of the values beside the first mean, and corrects it: no difference of
large squares is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
_EPSILON = float(np.finfo(np.float64).eps)


class Moments(NamedTuple):
    """Of each column.

    Attributes:
        means: in the column's own unit.
        deviations: the standard deviations; 1 for a constant.
        counts: how many values there are.
        constant: whether all values are the same.
    """

    means: Float64
    deviations: Float64
    counts: npt.NDArray[np.int64]
    constant: npt.NDArray[np.bool_]


def moments(chunks: Callable[[], Iterator[Float64]], width: int) -> Moments:
    """The moments of the columns of some chunks, float64[n, width] each; a NaN is no value.

    A column is constant if its values differ by no more than the rounding of their own size: to divide by that would
    make numbers of nothing.

    Args:
        chunks: gives all chunks, once for each call.
        width: how many columns there are.
    """
    lowest, highest = np.full(width, np.inf), np.full(width, -np.inf)
    totals: list[Float64] = []
    counts = np.zeros(width, np.int64)
    for chunk in chunks():
        lowest = np.fmin(lowest, np.fmin.reduce(chunk, axis=0, initial=np.inf))
        highest = np.fmax(highest, np.fmax.reduce(chunk, axis=0, initial=-np.inf))
        totals.append(_summed(np.nan_to_num(chunk, nan=0.0)))
        counts += (~np.isnan(chunk)).sum(axis=0)
    divisor = np.maximum(counts, 1)
    center = _added(totals, width) / divisor
    ones: list[Float64] = []
    squares: list[Float64] = []
    for chunk in chunks():
        rest = np.nan_to_num(chunk - center, nan=0.0)
        ones.append(_summed(rest))
        squares.append(_summed(rest * rest))
    shift = _added(ones, width) / divisor
    means = center + shift
    deviations = np.sqrt(np.maximum(_added(squares, width) / divisor - shift * shift, 0.0))
    size = np.where(counts > 0, np.maximum(np.abs(lowest), np.abs(highest)), 0.0)
    constant = (deviations <= 4 * _EPSILON * size) | (counts == 0)
    same = (lowest == highest) & (counts > 0)
    means[same] = lowest[same]
    deviations[constant] = 1.0
    return Moments(means, deviations, counts, constant)


def _summed(values: Float64) -> Float64:
    """The sum of each column of [n, k]."""
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        if len(rest):
            values[0] += rest[0]
    return values[0] if len(values) else np.zeros(values.shape[1])


def _added(sums: list[Float64], width: int) -> Float64:
    return np.array([math.fsum(part[place] for part in sums) for place in range(width)], np.float64)
