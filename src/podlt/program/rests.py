"""What is left of an update when those of its parts are taken from it: nothing, if it is their sum."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

TOLERANCE = 1e-8

NOISE = 1e-13
"""What float64 leaves of a gradient that is zero, as a key's bias has in attention: by the update's largest value."""

PACKED = 2**18
"""From so many elements on an output of a large update is kept in 32 bits an element."""

PART = 2**16
"""How many elements are made wide at once: they stay near the processor."""

_MOST = 2**31 - 1


class Rest:
    """What is left of an output of some examples when those of their parts are taken from it.

    Args:
        whole: the output of these examples; changed.
    """

    def __init__(self, whole: torch.Tensor) -> None:
        self._left, self._taken, self._same = whole, 0.0, True

    def largest(self) -> float:
        """The largest magnitude of what is left."""
        return _largest(self._left) if self._left.is_floating_point() else 0.0

    def take(self, part: torch.Tensor, *, is_last: bool) -> None:
        """Takes the output of a part away; whole numbers must be the same in all."""
        if part.is_floating_point():
            self._left.sub_(part)
            self._taken += _largest(part)
        else:
            self._same &= torch.equal(self._left, part)

    def is_something(self, noise: float) -> bool:
        """Whether more is left than float64 leaves of nothing."""
        return not self._same or not self.largest() <= TOLERANCE * self._taken + noise + 1e-300


class PackedRest:
    """As `Rest`, in half the memory: whole numbers of 32 bits, in units of the largest value.

    They are rounded by 2**-32 of it each time, which counts as left over.

    Args:
        whole: the output of some examples, float64.
    """

    def __init__(self, whole: torch.Tensor) -> None:
        self._numbers = torch.empty(whole.shape or (1,), dtype=torch.int32)
        self._unit, self._largest, self._rounding, self._taken = 1.0, 0.0, 0.0, 0.0
        self._is_finite = True
        rows = rows_of(whole)
        self._look(_largest(whole))
        self._pack(lambda some: rows[some] / self._unit)

    def largest(self) -> float:
        """The largest magnitude of what is left."""
        return self._largest

    def take(self, part: torch.Tensor, *, is_last: bool) -> None:
        """Takes the output of a part away; after the last one it is known how much is left, but not where."""
        unit, rows = self._unit, rows_of(part)

        def left(some: slice) -> torch.Tensor:
            return self._numbers[some].double().mul_(unit).sub_(rows[some])

        self._taken += _largest(part)
        self._look(float(np.max([_largest(left(some)) for some in some_rows(rows)])))  # NaN if one is
        if is_last:
            self._numbers = torch.empty(0, dtype=torch.int32)
        else:
            self._pack(lambda some: left(some).div_(self._unit))

    def is_something(self, noise: float) -> bool:
        """Whether more is left than float64 and the rounding leave of nothing."""
        left = self._largest + self._rounding
        return not self._is_finite or not left <= TOLERANCE * self._taken + noise + 1e-300

    def _look(self, largest: float) -> None:
        self._largest = largest
        self._is_finite &= math.isfinite(largest)
        self._unit = largest / _MOST or 1.0

    def _pack(self, units: Callable[[slice], torch.Tensor]) -> None:
        """Keeps new values, as they are in units, part by part."""
        self._rounding += self._largest / _MOST
        for some in some_rows(self._numbers) if self._is_finite else ():
            self._numbers[some] = units(some).round_()


def rows_of(value: torch.Tensor) -> torch.Tensor:
    """A tensor that has rows, in the memory of the given one: a gradient is often a matrix that is turned, and to put
    it in order takes as much memory again."""
    return value if value.ndim > 1 else value.reshape(-1)


def some_rows(rows: torch.Tensor) -> list[slice]:
    """A tensor's rows, as many at once as have about `PART` elements."""
    size = max(1, PART * len(rows) // max(1, rows.numel()))
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _largest(value: torch.Tensor) -> float:
    if not value.numel():
        return 0.0
    low, high = torch.aminmax(value)
    return max(-float(low), float(high))


def own(value: torch.Tensor) -> torch.Tensor:
    """A copy, in float64 if it is a float."""
    return value.to(torch.float64, copy=True) if value.is_floating_point() else value.clone()
