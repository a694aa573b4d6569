"""How a worker leaves: once its work was checked, so that it is paid for it, and what it has done is in the log."""

from __future__ import annotations

from collections.abc import Callable, Collection

from podlt.network.worker import events
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.identity import WorkerExit

LEAVE_SECONDS = 60.0
"""How long who leaves goes on until its work is checked: what was not is not paid for, unless it comes back."""


class GracefulShutdown:
    """A worker process that may be about to leave.

    Args:
        leaving: gives the reason to leave, if there is one.
        books: know which rounds are in the log, and what was checked.
        listener: gets the event that there is something to wait for.

    Attributes:
        begun: whether it is about to leave.
    """

    def __init__(self, leaving: Callable[[], str], books: WorkerBooks, listener: events.WorkerListener) -> None:
        self._leaving, self._books, self._emit = leaving, books, listener
        self._until = 0.0
        self.begun = False

    def check(self, last_round: int, connected: bool, keys: Collection[bytes], now: float) -> WorkerExit | None:
        """Begins to leave where there is a reason; says how it ended once there is nothing (more) to wait for.

        Args:
            last_round: in which a task was done, which may be worked on; -1 for none.
            connected: whether there is a connection; without one nothing is waited for.
            keys: of the identities that are left.
            now: seconds, monotonic.
        """
        reason = self._leaving()
        if not reason:
            return None
        waits = last_round > self._books.settled or any(map(self._books.is_unchecked, keys))
        if not self.begun:
            self.begun, self._until = True, now + LEAVE_SECONDS
            if waits:
                self._emit(events.Leaving(reason=reason, seconds=LEAVE_SECONDS))
        return WorkerExit("left", reason) if now > self._until or not connected or not waits else None

    def ready(self, last_round: int, keys: Collection[bytes]) -> list[bytes]:
        """The identities that may leave before the others: their work was checked, and all that was done is logged."""
        if not self.begun or last_round > self._books.settled:
            return []
        return [key for key in keys if not self._books.is_unchecked(key)]

    def allows(self, round: int) -> bool:
        """Whether a task of this round may begin: who leaves sees first whether the round before was its last."""
        return not self.begun or round <= self._books.settled + 1
