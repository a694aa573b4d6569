"""What travels between manager and workers, apart from blobs.

A task's message is the same for useful work and for a check: no worker can tell one from the other.
"""

from __future__ import annotations

import msgspec

from podlt.crypto import digest
from podlt.protocol.entries import Join
from podlt.units import Count, Credits, Digest, Operator, Round, Salt, Seat, Signature, WorkerId


class TreeSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tree head's content: `size` entries under `root`."""

    size: Count
    root: Digest


class JoinTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker signs when it joins a run, besides the run's identity.

    Attributes:
        worker: its number.
        deposit: credits that the manager holds for it from now on, besides what it held before.
        seen: size of the last tree head that it saw, in entries.
        root: root of that tree head.
        operator: who runs it, as its invitation says.
    """

    worker: WorkerId
    deposit: Credits
    seen: Count
    root: Digest
    operator: Operator = ""

    @classmethod
    def of(cls, entry: Join) -> JoinTerms:
        """The terms that an entry says were signed."""
        return cls(entry.worker, entry.deposit, entry.seen, entry.root, entry.operator)

    def message(self, run: bytes) -> bytes:
        """What is signed: identity, number, deposit and size (8 bytes each, big-endian), root, operator."""
        numbers = (self.worker, self.deposit, self.seen)
        return run + b"".join(number.to_bytes(8, "big") for number in numbers) + self.root + self.operator.encode()


class JoinSignatures(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a worker gives when it joins: its signature over the terms, and its share of the draws."""

    terms: Signature
    share: Signature

    @classmethod
    def of(cls, entry: Join) -> JoinSignatures:
        """The signatures that an entry has."""
        return cls(entry.signature, entry.share)


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shard's work: a pure function of what these digests name. `randomness` seeds dropout and the like."""

    run: Digest
    round: Round
    program: Digest
    parameters: Digest
    shard: Digest
    randomness: Digest

    def digest(self) -> bytes:
        """What a commitment to this task's result is bound to."""
        number = self.round.to_bytes(8, "big")
        return digest("task/1", self.run, number, self.program, self.parameters, self.shard, self.randomness)


def randomness(seed: bytes, round: int, shard: bytes) -> bytes:
    """The seed of a task's random draws: the same for every worker that executes it, and in a repeated run."""
    return digest("randomness/1", seed, round.to_bytes(8, "big"), shard)


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`holder` is to execute the task that was dealt to `seat`; `shard` is its number in the round."""

    seat: Seat
    holder: WorkerId
    shard: int
    task: Task


class Committed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A worker's first answer: bound, but not shown."""

    seat: Seat
    holder: WorkerId
    commitment: Digest
    signature: Signature


class Opened(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A worker's second answer: what its commitment hid."""

    seat: Seat
    holder: WorkerId
    update: Digest
    salt: Salt
