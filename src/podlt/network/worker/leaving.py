"""How a worker leaves: it begins no other round, and goes once what it has done is in the log."""

from __future__ import annotations

import time

from podlt.network.worker import events
from podlt.network.worker.books import WorkerBooks

LEAVING = 60.0
"""Seconds that who leaves waits for the pay of what it has done: a manager forgets an answer of who is gone."""


class GracefulShutdown:
    """A worker process that may be about to leave.

    Args:
        journal: knows which rounds are in the log. tell: is told that there is something to wait for.

    Attributes:
        begun: whether it is about to leave.
    """

    def __init__(self, journal: WorkerBooks, tell: events.Teller) -> None:
        self._journal, self._tell = journal, tell
        self._last, self._until = -1, 0.0
        self.begun = False

    def begin(self, reason: str, done: int) -> None:
        """Begins no other round than `done`, the last in which something was done (-1: none)."""
        if self.begun:
            return
        self.begun, self._last, self._until = True, done, time.monotonic() + LEAVING
        if done > self._journal.settled:
            self._tell(events.Leaving(reason=reason, seconds=LEAVING))

    def is_over(self) -> bool:
        """Whether there is nothing (more) to wait for."""
        return self._last <= self._journal.settled or time.monotonic() > self._until

    def allows(self, round: int) -> bool:
        """Whether a task of this round is still worth beginning."""
        return not self.begun or round <= self._last
