"""Who a worker process is: several identities, each with a key of its own."""

from __future__ import annotations

import time

import msgspec

from podlt.crypto import SigningKey
from podlt.engine.adversary import Execute
from podlt.network import checks
from podlt.network import messages as m
from podlt.protocol.worker import Worker


class Identity:
    """One of the identities: its key, and what it is in the run.

    Attributes:
        worker: its side of the protocol, once it was admitted; returns: not to join before then (seconds, monotonic).
    """

    def __init__(self, key: SigningKey) -> None:
        self.key, self.public = key, key.public
        self.worker: Worker | None = None
        self.execute: Execute
        self.returns = 0.0

    def join(self, run: bytes, process: bytes, arithmetic: checks.Arithmetic) -> m.Join | None:
        """What it says to be admitted to a run; None while it was let go for a time.

        Args:
            process: a nonce of the process; arithmetic: what this machine computes.
        """
        if time.monotonic() < self.returns:
            return None
        return m.Join(
            run=run,
            signature=Worker(0, self.key, run).join(),
            process=process,
            arithmetic=arithmetic.digest,
            differing=arithmetic.differing,
        )


class Outcome(msgspec.Struct, frozen=True):
    """How a worker process ended: "complete", "stopped" (by the manager), "left" (by itself) or "refused"."""

    how: str
    reason: str
