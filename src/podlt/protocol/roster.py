"""Who works in a run: by number, by key, and in the order of their keys. Each change costs its own bytes, no more."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping

import msgspec


class WorkerState(msgspec.Struct):
    """A worker as the log knows it; `status` is "active", "withdrawn" or "evicted".

    Attributes:
        joined: index of the entry with which it joined last. checks_passed: how often it was compared, and agreed.
    """

    key: bytes
    joined: int = 0
    status: str = "active"
    checks_passed: int = 0


class Roster:
    """The workers of a run.

    Between rounds `order` holds the keys of the active workers, ascending. Within a round it stays as it was when the
    round opened, so that the round's draws can be worked out; who left meanwhile is known to the round.
    """

    def __init__(self) -> None:
        self.workers: dict[int, WorkerState] = {}
        self.order: list[bytes] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, key: bytes) -> int | None:
        """The number of the worker with this key, whatever its status."""
        return self._numbers.get(key)

    def at(self, place: int) -> int:
        """The number of the worker at a place of the order."""
        return self._numbers[self.order[place]]

    def add(self, number: int, key: bytes, entry: int) -> None:
        """A worker joins, for the first time or again, with the log's entry of that index."""
        known = self.workers.get(number)
        if known is None:
            known = self.workers[number] = WorkerState(key)
            self._numbers[key] = number
        known.status, known.joined = "active", entry
        insort(self.order, key)

    def remove(self, numbers: Iterable[int]) -> None:
        """Workers leave the order; their status is set elsewhere."""
        for number in numbers:
            key = self.workers[number].key
            place = bisect_left(self.order, key)
            if place < len(self.order) and self.order[place] == key:
                del self.order[place]

    def active(self) -> list[int]:
        """The numbers of the active workers, ascending."""
        workers = self.workers
        return sorted(number for key in self.order if workers[number := self._numbers[key]].status == "active")

    def view(self) -> Mapping[int, WorkerState]:
        """The workers by number."""
        return self.workers
