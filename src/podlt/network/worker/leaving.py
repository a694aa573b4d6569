"""How a worker leaves: it begins no other round, and goes once what it has done is in the log."""

from __future__ import annotations

import time

from podlt.network.worker import events
from podlt.network.worker.books import WorkerBooks

LEAVE_SECONDS = 60.0
"""How long who leaves waits for the pay of what it has done: a manager forgets the reply of a worker that is gone."""


class GracefulShutdown:
    """A worker process that may be about to leave.

    Args:
        books: know which rounds are in the log.
        listener: gets the event that there is something to wait for.

    Attributes:
        begun: whether it is about to leave.
    """

    def __init__(self, books: WorkerBooks, listener: events.WorkerListener) -> None:
        self._books, self._emit = books, listener
        self._last, self._until = -1, 0.0
        self.begun = False

    def begin(self, reason: str, done: int) -> None:
        """Begins no other round.

        Args:
            reason: for the owner.
            done: the last round in which a task was done, which may be worked on; -1 for none.
        """
        if self.begun:
            return
        self.begun, self._last, self._until = True, done, time.monotonic() + LEAVE_SECONDS
        if done > self._books.settled:
            self._emit(events.Leaving(reason=reason, seconds=LEAVE_SECONDS))

    def is_over(self) -> bool:
        """Whether there is nothing (more) to wait for."""
        return self._last <= self._books.settled or time.monotonic() > self._until

    def allows(self, round: int) -> bool:
        """Whether a task of this round is still worth beginning."""
        return not self.begun or round <= self._last
