"""Unequal machines: a worker's level, the seats of a round that follow from it, and how a seat is numbered.

A level of n says that a worker is about 2^n times as fast as is usual in the run. Whoever is faster has more tasks of a
round, all of the same size: a longer task would say by its length whose it is. docs/SPEC.md, 2.10, and
docs/adr/0030-shares.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

SPREAD = 5
"""The fastest worker has at most 2^SPREAD seats of a round for each of the slowest's."""

SHARES_EVERY = 8
"""So many rounds are between two entries that change levels, at least."""

_SLOT = 20


def seat_of(worker: int, slot: int) -> int:
    """The number of a worker's seat; its first is its own number."""
    return slot << _SLOT | worker


def worker_of(seat: int) -> int:
    """Whose seat it is."""
    return seat & (1 << _SLOT) - 1


def slot_of(seat: int) -> int:
    """Which of its worker's seats it is, from 0."""
    return seat >> _SLOT


class SeatWeights:
    """How many seats the workers of each level have in a round.

    Args:
        counts: level -> how many workers have it.

    Attributes:
        total: how many seats there are.
        usual: how many a worker of level 0 has, or would have.
    """

    def __init__(self, counts: Mapping[int, int]) -> None:
        present = [level for level, count in counts.items() if count]
        self._base = max(min(present), max(present) - SPREAD) if present else 0
        self.total = sum(count * self.of(level) for level, count in counts.items())
        self.usual = self.of(0)

    def of(self, level: int) -> int:
        """How many seats a worker of this level has."""
        return 1 << max(0, level - self._base)


class SeatTable:
    """All seats of a round: worker after worker, and each worker's in order.

    Args:
        weights: how many each worker has, in the order of the workers.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        self._ends = list(accumulate(weights))

    def at(self, place: int) -> tuple[int, int]:
        """The place of a seat's worker in the order, and which of its seats it is."""
        worker = bisect_right(self._ends, place)
        return worker, place - (self._ends[worker - 1] if worker else 0)
