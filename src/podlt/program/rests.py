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
        self._numbers = torch.empty(whole.numel(), dtype=torch.int32)
        self._unit, self._largest, self._rounding, self._taken = 1.0, 0.0, 0.0, 0.0
        self._is_finite = True
        flat = whole.reshape(-1)
        self._look(_largest(flat))
        self._pack(lambda part: flat[part] / self._unit)

    def largest(self) -> float:
        """The largest magnitude of what is left."""
        return self._largest

    def take(self, part: torch.Tensor, *, is_last: bool) -> None:
        """Takes the output of a part away; after the last one it is known how much is left, but not where."""
        unit, flat = self._unit, part.reshape(-1)

        def left(some: slice) -> torch.Tensor:
            return self._numbers[some].double().mul_(unit).sub_(flat[some])

        self._taken += _largest(part)
        self._look(float(np.max([_largest(left(some)) for some in _parts(flat)])))  # NaN if one is
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
        for part in _parts(self._numbers) if self._is_finite else ():
            self._numbers[part] = units(part).round_()


def _parts(flat: torch.Tensor) -> list[slice]:
    return [slice(start, start + PART) for start in range(0, len(flat), PART)]


def _largest(value: torch.Tensor) -> float:
    if not value.numel():
        return 0.0
    low, high = torch.aminmax(value)
    return max(-float(low), float(high))


def own(value: torch.Tensor) -> torch.Tensor:
    """A copy, in float64 if it is a float."""
    return value.to(torch.float64, copy=True) if value.is_floating_point() else value.clone()
