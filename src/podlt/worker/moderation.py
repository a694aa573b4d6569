"""Fewer events than there were: a manager must not fill a worker's terminal or disk."""

from __future__ import annotations

from collections import Counter

from podlt.worker import events


class Moderator:
    """A listener that passes on so many events of a kind a minute.

    Args:
        listener: gets the events.
        most: of a kind, in a minute.
    """

    def __init__(self, listener: events.WorkerListener, most: int) -> None:
        self._listener, self._most = listener, most
        self._minute, self._counts = 0.0, Counter[type]()

    def __call__(self, event: events.WorkerEvent) -> None:
        """Takes an event."""
        self._counts[type(event)] += 1
        if self._counts[type(event)] <= self._most:
            self._listener(event)

    def tick(self, now: float) -> None:
        """It is `now` (seconds, monotonic)."""
        if now - self._minute >= 60.0:
            self._minute, self._counts = now, Counter()


MAX_WARNINGS = 5
"""How many useless messages of the manager are worth a warning."""


class Warnings:
    """Tells of the first few things that were wrong.

    Args:
        listener: gets them.
    """

    def __init__(self, listener: events.WorkerListener) -> None:
        self._listener, self._count = listener, 0

    def __call__(self, reason: str) -> None:
        """Something was wrong."""
        self._count += 1
        if self._count <= MAX_WARNINGS:
            self._listener(events.Warned(reason=reason))
