"""A worker's side of receipts: takes what comes, asks for what it has missed, and ends when nothing is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping

from podlt.network import messages as m
from podlt.network.link import WorkerLink
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.identity import Identity, WorkerExit

ENDING = 5.0
"""Seconds at a run's end in which a worker still asks for receipts that it has missed."""


class CatchingUp:
    """The receipts of one process' identities.

    Args:
        link: to the manager. journal: where receipts are kept. every: seconds between two signs of life.
    """

    def __init__(self, link: WorkerLink, journal: WorkerBooks, every: float) -> None:
        self._link, self._journal, self._every = link, journal, every
        self._asked = -1e9
        self._ending: tuple[WorkerExit, float] | None = None

    def paid(self, said: m.Receipts) -> bool:
        """Takes what all workers are told; returns whether it moved credits of an identity. Errors as `WorkerBooks`."""
        return bool(self._journal.paid(said))

    def missed(self, identity: Identity, said: m.MissedReceipts) -> None:
        """Takes what an identity has missed; errors as `WorkerBooks.missed`."""
        self._journal.missed(identity.public, said)
        self._asked = -1e9  # there may be more: ask at once

    def complete(self, said: m.RunFinished) -> None:
        """The run is complete: ends soon."""
        self._journal.expect(said.entries)
        if self._ending is None:
            self._ending = WorkerExit("complete", said.reason), time.monotonic() + ENDING

    def ask(self, identities: Mapping[bytes, Identity]) -> WorkerExit | None:
        """Asks for receipts that were missed; where the run has ended and none is missing any more, says how."""
        now = time.monotonic()
        if now - self._asked < self._every / 2:
            return None
        self._asked = now
        behind = self._journal.behind()
        for public, first in behind.items():
            identity = identities.get(public)
            if identity is not None and identity.worker is not None:
                self._link.send(public, m.record(m.GetReceipts(first=first)))
        ended = self._ending is not None and (not behind or now > self._ending[1])
        return self._ending[0] if ended and self._ending is not None else None
