"""Who a worker process is: several identities, each with a key of its own."""

from __future__ import annotations

import msgspec

from podlt.crypto import SigningKey
from podlt.execution.adversary import Execute
from podlt.protocol.messages import JoinTerms
from podlt.protocol.worker import Worker


class Identity:
    """One of the identities: its key, and what it is in the run.

    Attributes:
        worker: its side of the protocol, once it was admitted. signed: the terms that it signed last.
        returns: not to join before then (seconds, monotonic).
    """

    def __init__(self, key: SigningKey) -> None:
        self.key, self.public = key, key.public
        self.worker: Worker | None = None
        self.execute: Execute
        self.signed: JoinTerms | None = None
        self.returns = 0.0

    def new_run(self) -> None:
        """Is nobody yet in the run that it is asked to work for now."""
        self.worker = self.signed = None


class WorkerExit(msgspec.Struct, frozen=True):
    """How a worker process ended: "complete", "left" (by itself), "refused" (by the manager) or "declined".

    Who declined did so on its owner's conditions, before anything was signed.
    """

    how: str
    reason: str
