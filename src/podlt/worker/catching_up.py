"""A worker's side of receipts: takes what comes, asks for what it has missed, and ends when nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping

from podlt.wire import messages as m
from podlt.worker.books import WorkerBooks
from podlt.worker.effects import Perform, SendMessage
from podlt.worker.identity import NEVER, Identity, WorkerExit

END_SECONDS = 5.0
"""How long at a run's end a worker still asks for receipts that it has missed."""


class CatchingUp:
    """The receipts of one process' identities.

    Args:
        perform: takes effects.
        books: where receipts go.
        heartbeat: seconds between two heartbeats.
    """

    def __init__(self, perform: Perform, books: WorkerBooks, heartbeat: float) -> None:
        self._perform, self._books, self._heartbeat = perform, books, heartbeat
        self._asked = NEVER
        self._ending: tuple[WorkerExit, float] | None = None

    def missed(self, identity: Identity, missed: m.MissedReceipts, now: float) -> None:
        """Takes what an identity has missed; errors as `WorkerBooks.missed`."""
        self._books.missed(identity.public, missed)
        self._asked = NEVER  # there may be more: ask at once

    def complete(self, finished: m.RunFinished, now: float) -> None:
        """The run is complete: ends soon."""
        self._books.expect(finished.entries)
        if self._ending is None:
            self._ending = WorkerExit("complete", finished.reason), now + END_SECONDS

    def ask(self, identities: Mapping[bytes, Identity], now: float) -> WorkerExit | None:
        """Asks for receipts that were missed; where the run has ended and none is missing any more, says how."""
        if now - self._asked < self._heartbeat / 2:
            return None
        self._asked = now
        if self._books.ended and self._ending is None:  # the manager's last word may be lost, and the manager gone
            self._ending = WorkerExit("complete", ""), now + END_SECONDS
        behind = self._books.behind()
        for public, first in behind.items():
            identity = identities.get(public)
            if identity is not None and identity.worker is not None:
                self._perform(SendMessage(public, m.record(m.GetReceipts(first=first))))
        if self._ending is None:
            return None
        outcome, until = self._ending
        return outcome if not behind or now > until else None
