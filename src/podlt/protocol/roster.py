"""Who works in a run: by number, by key, and in the order of their keys. Each change costs its own bytes, no more."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from podlt.protocol.shares import SeatTable, SeatWeights, seat_of

FEW = 300
"""Up to so many changes are made one by one: each moves what comes after it, which is cheaper than sorting anew."""


class WorkerState(msgspec.Struct):
    """A worker as the log knows it.

    Attributes:
        key: its public key.
        operator: who runs it, as its invitation says; "" for nobody else.
        joined: index of the entry with which it joined last.
        status: "suspended" and "withdrawn" may join again.
        left: the round before or in which it left last.
        left_bound: how often it left a round in which it had been committed to a result.
        convictions: how often a verdict named it.
        checks_passed: how often its result was compared with another's, or the manager's own, and agreed.
        level: how fast it is, in steps of two; it keeps it while it is away.
    """

    key: bytes
    operator: str = ""
    joined: int = 0
    status: Literal["active", "withdrawn", "suspended", "evicted"] = "active"
    left: int = 0
    left_bound: int = 0
    convictions: int = 0
    checks_passed: int = 0
    level: int = 0


class Roster:
    """The workers of a run.

    Between rounds `order` holds the keys of the active workers, ascending. Within a round it stays as it was when the
    round opened, so that the round's draws can be worked out; who left meanwhile is known to the round.
    """

    def __init__(self) -> None:
        self.workers: dict[int, WorkerState] = {}
        self._numbers: dict[bytes, int] = {}
        self._order: list[bytes] = []
        self._added: set[bytes] = set()
        self._removed: set[bytes] = set()
        self._levels: Counter[int] = Counter()
        self._weights: SeatWeights | None = None
        self._table: SeatTable | None = None

    @property
    def order(self) -> list[bytes]:
        """The keys in order."""
        if self._added or self._removed:
            self._settle()
        return self._order

    def _settle(self) -> None:
        """Puts who came and went since the order was last asked for into its place, all at once."""
        if len(self._removed) > FEW:
            self._order = [key for key in self._order if key not in self._removed]
        else:
            for key in self._removed:
                del self._order[bisect_left(self._order, key)]
        if len(self._added) > FEW:
            self._order = sorted([*self._order, *self._added])
        else:
            for key in self._added:
                insort(self._order, key)
        self._added.clear()
        self._removed.clear()

    def __len__(self) -> int:
        return len(self._order) + len(self._added) - len(self._removed)

    def number(self, key: bytes) -> int | None:
        """The number of the worker with this key, whatever its status."""
        return self._numbers.get(key)

    def at(self, place: int) -> int:
        """The number of the worker at a place of the order."""
        return self._numbers[self.order[place]]

    @property
    def weights(self) -> SeatWeights:
        """How many seats of a round each level has."""
        if self._weights is None:
            self._weights = SeatWeights(self._levels)
        return self._weights

    def weights_with(self, levels: Mapping[int, int]) -> SeatWeights:
        """As `weights`, if those of these workers that are active had these levels."""
        counts = self._levels.copy()
        for number, level in levels.items():
            if (known := self.workers[number]).status == "active":
                counts[known.level] -= 1
                counts[level] += 1
        return SeatWeights(counts)

    def weight(self, number: int) -> int:
        """How many seats a worker has."""
        return self.weights.of(self.workers[number].level)

    def seat_at(self, place: int) -> int:
        """The seat at a place of all seats, in the order of the workers' keys."""
        if self.weights.total == len(self):
            return self.at(place)
        if self._table is None:
            self._table = SeatTable([self.weight(self._numbers[key]) for key in self.order])
        worker, slot = self._table.at(place)
        return seat_of(self.at(worker), slot)

    def is_usual(self, levels: Mapping[int, int]) -> bool:
        """Whether at least half of the workers would have a level of 0 or more, if some had these."""
        usual = sum(count for level, count in self._levels.items() if level >= 0)
        usual += sum((level >= 0) - (self.workers[number].level >= 0) for number, level in levels.items())
        return 2 * usual >= len(self)

    def set_level(self, number: int, level: int) -> None:
        """A worker has another level from now on, whether it is in the order or not."""
        known = self.workers[number]
        if known.status == "active":
            self._count(known.level, -1)
            self._count(level, 1)
        known.level = level

    def _count(self, level: int, change: int) -> None:
        self._levels[level] += change
        self._weights = self._table = None

    def operator(self, number: int) -> str | int:
        """Who runs a worker: a name, or the worker's number where it has none, and is nobody else's."""
        return self.workers[number].operator or number

    def add(self, number: int, key: bytes, operator: str, entry: int) -> None:
        """A worker joins, for the first time or again, with the log's entry of that index."""
        known = self.workers.get(number)
        if known is None:
            known = self.workers[number] = WorkerState(key, operator)
            self._numbers[key] = number
        known.status, known.joined = "active", entry
        self._count(known.level, 1)
        if key in self._removed:
            self._removed.remove(key)
        else:
            self._added.add(key)

    def remove(self, numbers: Iterable[int]) -> None:
        """Workers that are in the order leave it; their status is set elsewhere."""
        for number in numbers:
            key = self.workers[number].key
            self._count(self.workers[number].level, -1)
            if key in self._added:
                self._added.remove(key)
            else:
                self._removed.add(key)

    def active(self) -> list[int]:
        """The numbers of the active workers, ascending."""
        workers = self.workers
        return sorted(number for key in self.order if workers[number := self._numbers[key]].status == "active")
