"""A worker's side of receipts: takes what comes, asks for what it has missed, and ends when nothing is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping

from podlt.network import messages as m
from podlt.network.link import WorkerLink
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.identity import Identity, WorkerExit

END_SECONDS = 5.0
"""How long at a run's end a worker still asks for receipts that it has missed."""

NEVER = -1e9
"""Seconds on the monotonic clock, long ago."""


class CatchingUp:
    """The receipts of one process' identities.

    Args:
        link: to the manager.
        books: where receipts go.
        heartbeat: seconds between two heartbeats.
    """

    def __init__(self, link: WorkerLink, books: WorkerBooks, heartbeat: float) -> None:
        self._link, self._books, self._heartbeat = link, books, heartbeat
        self._asked = NEVER
        self._ending: tuple[WorkerExit, float] | None = None

    def paid(self, paid: m.Receipts) -> bool:
        """Takes what all workers get; returns whether it moved credits of an identity. Errors as `WorkerBooks.paid`."""
        return bool(self._books.paid(paid))

    def missed(self, identity: Identity, missed: m.MissedReceipts) -> None:
        """Takes what an identity has missed; errors as `WorkerBooks.missed`."""
        self._books.missed(identity.public, missed)
        self._asked = NEVER  # there may be more: ask at once

    def complete(self, finished: m.RunFinished) -> None:
        """The run is complete: ends soon."""
        self._books.expect(finished.entries)
        if self._ending is None:
            self._ending = WorkerExit("complete", finished.reason), time.monotonic() + END_SECONDS

    def ask(self, identities: Mapping[bytes, Identity]) -> WorkerExit | None:
        """Asks for receipts that were missed; where the run has ended and none is missing any more, says how."""
        now = time.monotonic()
        if now - self._asked < self._heartbeat / 2:
            return None
        self._asked = now
        behind = self._books.behind()
        for public, first in behind.items():
            identity = identities.get(public)
            if identity is not None and identity.worker is not None:
                self._link.send(public, m.record(m.GetReceipts(first=first)))
        if self._ending is None:
            return None
        outcome, until = self._ending
        return outcome if not behind or now > until else None
