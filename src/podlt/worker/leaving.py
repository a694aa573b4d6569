"""How a worker leaves: once what it has done is in the log, so that it is paid for it. What is pending vests later."""

from __future__ import annotations

from collections.abc import Callable

from podlt.worker import events
from podlt.worker.books import WorkerBooks
from podlt.worker.identity import WorkerExit

LEAVE_SECONDS = 60.0
"""How long who leaves waits at most for the round that it has worked in: what is not in the log is not paid."""


class GracefulShutdown:
    """A worker process that may be about to leave.

    Args:
        leaving: gives the reason to leave, if there is one.
        books: know which rounds are in the log, and what is pending.
        listener: gets the event that it leaves, and what becomes of its pay.

    Attributes:
        begun: whether it is about to leave.
    """

    def __init__(self, leaving: Callable[[], str], books: WorkerBooks, listener: events.WorkerListener) -> None:
        self._leaving, self._books, self._emit = leaving, books, listener
        self._until = 0.0
        self.begun = False

    def check(self, last_round: int, connected: bool, escrow: int, now: float) -> WorkerExit | None:
        """Begins to leave where there is a reason; says how it ended once there is nothing (more) to wait for.

        Args:
            last_round: in which a task was done, which may be worked on; -1 for none.
            connected: whether there is a connection; without one nothing is waited for.
            escrow: how many rounds after it left all that is pending vests.
            now: seconds, monotonic.
        """
        reason = self._leaving()
        if not reason:
            return None
        waits = last_round > self._books.settled
        if not self.begun:
            self.begun, self._until = True, now + LEAVE_SECONDS
            pending = self._books.totals()[0]
            if waits or pending:
                seconds = LEAVE_SECONDS if waits else 0.0
                self._emit(events.Leaving(reason=reason, seconds=seconds, pending=pending, rounds=escrow))
        return WorkerExit("left", reason) if now > self._until or not connected or not waits else None

    def allows(self, round: int, last_round: int) -> bool:
        """Whether a task of this round may begin: who leaves ends what it is in, and begins no other round.

        Args:
            round: of the task.
            last_round: as of `check`.
        """
        return not self.begun or round <= self._books.settled + 1 <= last_round
