"""What an audit found."""

from __future__ import annotations

import msgspec

from podlt.protocol.claims import Checked
from podlt.verify import Verification


class Mismatch(msgspec.Struct, frozen=True):
    """A worker's logged result is not what executing its task gives.

    Attributes:
        convicted: whether the run found out by itself, at whatever time.
        executed: the digest of what executing gives; empty where it gives nothing finite.
    """

    round: int
    shard: int
    worker: int
    convicted: bool
    logged: bytes
    executed: bytes


class FalseConviction(msgspec.Struct, frozen=True):
    """A verdict that executing its task does not bear out.

    Attributes:
        outcome: by what rule: "vote", "referee" or "agree".
        accepted: the result that the verdict names.
        executed: what executing gives.
        innocent: who was convicted although its result was the task's.
    """

    round: int
    shard: int
    outcome: str
    accepted: bytes
    executed: bytes
    innocent: list[int]


class Fake(msgspec.Struct, frozen=True):
    """A result that went into the model and is not what its task gives; `workers` gave it."""

    round: int
    shard: int
    workers: list[int]


class NotAveraged(msgspec.Struct, frozen=True):
    """A round all of whose tasks were to be executed, but whose average could not be worked out."""

    round: int
    why: str


class AuditReport(Checked, frozen=True):
    """What an audit found.

    Attributes:
        findings: one for each claim, in order, those of `verify` included.
        verification: what verifying came to, before anything was executed.
        fraction: of the tasks, as it was asked for.
        seed: repeats the same draw.
        tasks: how many there are.
        executed: how many were executed again.
        rounds: how many updates were applied again.
        averaged: the rounds whose average was worked out again from all of their tasks.
        not_averaged: those whose average could not be.
        mismatches: results that are not what their tasks give.
        false_convictions: verdicts that executing does not bear out.
        fakes: accepted results that are fakes, in rounds that were applied.
    """

    verification: Verification
    fraction: float
    seed: int
    tasks: int = 0
    executed: int = 0
    rounds: int = 0
    averaged: list[int] = msgspec.field(default_factory=list)
    not_averaged: list[NotAveraged] = msgspec.field(default_factory=list)
    mismatches: list[Mismatch] = msgspec.field(default_factory=list)
    false_convictions: list[FalseConviction] = msgspec.field(default_factory=list)
    fakes: list[Fake] = msgspec.field(default_factory=list)
