"""Who a worker process is: several identities, each with a key of its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podlt.crypto import SigningKey
from podlt.protocol.messages import JoinTerms
from podlt.protocol.worker import Worker

NEVER = -1e9
"""Seconds on the monotonic clock, long ago."""


class Identity:
    """One of the identities: its key, and what it is in the run.

    Args:
        key: its private key.

    Attributes:
        public: its public key.
        worker: its side of the protocol, once it was admitted.
        signed: the terms that it signed last.
        returns: not to join before then (seconds, monotonic).
    """

    def __init__(self, key: SigningKey) -> None:
        self.key, self.public = key, key.public
        self.worker: Worker | None = None
        self.signed: JoinTerms | None = None
        self.returns = 0.0

    def new_run(self) -> None:
        """Is nobody yet in the run that it is asked to work for now."""
        self.worker = self.signed = None


class Identities(dict[bytes, Identity]):
    """The identities that may still work for the manager, by public key.

    Args:
        keys: their private keys.
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        super().__init__({key.public: Identity(key) for key in keys})

    def any_key(self, failures: int = 0) -> bytes:
        """The key of one of them, for what is for all: of one that was admitted, if any was.

        Args:
            failures: another one for another number of failures.
        """
        admitted = [key for key, identity in self.items() if identity.worker is not None]
        among = admitted or list(self)
        return among[failures % len(among)]


class OwnerSettings(msgspec.Struct, frozen=True):
    """What a worker's owner gives, and asks for.

    Attributes:
        memory: the most bytes that the process which executes tasks may take; 0 for no bound but this machine's.
        threads: how many PyTorch may use, where the arithmetic allows it.
        least_reward: credits an example below which it does not join.
        cheat: what all identities do instead of working (tests and demonstrations).
        device: where tasks are computed, as `exact.portable.devices` names it.
    """

    memory: int = 0
    threads: int = 1
    least_reward: int = 0
    cheat: str = ""
    device: str = "cpu"


class WorkerExit(msgspec.Struct, frozen=True):
    """How a worker process ended.

    Attributes:
        how: "complete", "left" (by itself), "refused" (by the manager) or "declined" (on its owner's conditions, before
            anything was signed).
        reason: in words; may be empty.
    """

    how: str
    reason: str
