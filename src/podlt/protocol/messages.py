"""What travels between manager and workers, apart from blobs.

A task's message is the same for useful work and for a check: no worker can tell one from the other.
"""

from __future__ import annotations

import msgspec

from podlt.crypto import digest
from podlt.units import Digest, Round, Salt, Signature, WorkerId


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fragment's work: a pure function of what these digests name. `randomness` seeds dropout and the like."""

    run: Digest
    round: Round
    program: Digest
    parameters: Digest
    fragment: Digest
    randomness: Digest

    def digest(self) -> bytes:
        """What a commitment to this task's result is bound to."""
        number = self.round.to_bytes(8, "big")
        return digest("task/1", self.run, number, self.program, self.parameters, self.fragment, self.randomness)


def randomness(seed: bytes, round: int, fragment: bytes) -> bytes:
    """The seed of a task's random draws: the same for every worker that executes it, and in a repeated run."""
    return digest("randomness/1", seed, round.to_bytes(8, "big"), fragment)


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`holder` is to execute the task that was dealt to `origin`; `fragment` is its number in the round."""

    origin: WorkerId
    holder: WorkerId
    fragment: int
    task: Task


class Committed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A worker's first answer: bound, but not shown."""

    origin: WorkerId
    holder: WorkerId
    commitment: Digest
    signature: Signature


class Opened(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A worker's second answer: what its commitment hid."""

    origin: WorkerId
    holder: WorkerId
    update: Digest
    salt: Salt
