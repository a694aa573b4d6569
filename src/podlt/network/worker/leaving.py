"""How a worker leaves: it begins no other round, and goes once what it has done is in the log."""

from __future__ import annotations

import time
from collections.abc import Callable

from podlt.network.worker import events
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.identity import WorkerExit

LEAVE_SECONDS = 60.0
"""How long who leaves waits for the pay of what it has done: a manager forgets the reply of a worker that is gone."""


class GracefulShutdown:
    """A worker process that may be about to leave.

    Args:
        leaving: gives the reason to leave, if there is one.
        books: know which rounds are in the log.
        listener: gets the event that there is something to wait for.

    Attributes:
        begun: whether it is about to leave.
    """

    def __init__(self, leaving: Callable[[], str], books: WorkerBooks, listener: events.WorkerListener) -> None:
        self._leaving, self._books, self._emit = leaving, books, listener
        self._last, self._until = -1, 0.0
        self.begun = False

    def check(self, last_round: int, connected: bool) -> WorkerExit | None:
        """Begins to leave where there is a reason; says how it ended once there is nothing (more) to wait for.

        Args:
            last_round: in which a task was done, which may be worked on; -1 for none.
            connected: whether there is a connection; without one nothing is waited for.
        """
        reason = self._leaving()
        if not reason:
            return None
        if not self.begun:
            self.begun, self._last, self._until = True, last_round, time.monotonic() + LEAVE_SECONDS
            if last_round > self._books.settled:
                self._emit(events.Leaving(reason=reason, seconds=LEAVE_SECONDS))
        is_paid = self._last <= self._books.settled
        return WorkerExit("left", reason) if is_paid or time.monotonic() > self._until or not connected else None

    def allows(self, round: int) -> bool:
        """Whether a task of this round is still worth beginning."""
        return not self.begun or round <= self._last
