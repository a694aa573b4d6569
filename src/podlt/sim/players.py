"""Who takes part in a simulated run: the honest worker, and workers that fail without fraud.

A player is the real `Worker` with something else than execution behind it. What it may override is what a worker can
do in the protocol: which result it finds (`result`), what it sends first (`commit`), and what it shows (`open`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from podlt.crypto import SigningKey, digest
from podlt.dice import Dice
from podlt.protocol.messages import Assignment, Committed, JoinSignatures, JoinTerms, Opened, Task
from podlt.protocol.worker import Worker


def honest_update(task: Task) -> bytes:
    """The digest of the one right update of a task: in the simulation, a pure function of the task's digest."""
    return digest("sim-update/1", task.digest())


def forged_update(task: Task, forger: bytes, kind: str) -> bytes:
    """A false update to a task: another for each forger and kind."""
    return digest("sim-fake/1", forger, kind.encode(), task.digest())


class Gossip(msgspec.Struct):
    """What players could learn out of band: cheaters tell each other their tasks, and overhear messages.

    Attributes:
        shared: for each task's digest, how many cheaters were dealt it this round.
        commitments: those sent so far in this round.
        revealed: the updates that were opened in the rounds before.
        left: how many rounds there will be, this one included, if nobody leaves.
        execute: the digest of a task's one right update.
        forge: the digest of a false update to a task, by who makes it and the kind of fake.
    """

    shared: dict[bytes, int] = {}
    commitments: list[Committed] = []
    revealed: list[bytes] = []
    left: int = 0
    execute: Callable[[Task], bytes] = honest_update
    forge: Callable[[Task, bytes, str], bytes] = forged_update


class Player:
    """An honest worker.

    Args:
        number: its number in the run.
        key: its private key.
        dice: its own chance, for what it does at a rate.
        gossip: what it could learn out of band.
        rate: how often it does what its class is named for.
    """

    cheats = False
    returns = True
    """Whether it joins again after it withdrew."""

    operator = ""
    """Who runs it, as its invitation says."""

    default_rate = 1.0

    def __init__(self, number: int, key: SigningKey, dice: Dice, gossip: Gossip, rate: float | None = None) -> None:
        self.number = number
        self.key = key
        self.dice = dice
        self.gossip = gossip
        self.rate = self.default_rate if rate is None else rate
        self.worker: Worker | None = None
        self.executed = 0
        """How many tasks it executed: what its work cost it."""

    def execute(self, task: Task) -> bytes:
        """Does the work: the digest of the task's one right update."""
        self.executed += 1
        return self.gossip.execute(task)

    def join(self, run: bytes, terms: JoinTerms) -> JoinSignatures:
        """The signatures with which it joins the run, whose identity it learns here, on these terms."""
        if self.worker is None:
            self.worker = Worker(self.number, self.key, run)
        return self.worker.join(terms)

    def result(self, task: Task) -> bytes:
        """The digest of the update that it stands for."""
        return self.execute(task)

    def commit(self, assignment: Assignment) -> list[Committed]:
        """Its first answer to a task: one commitment, if it is well."""
        return [self.bind(assignment, self.result(assignment.task))]

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        """Its second answer: each opening, with the digest of what it uploads."""
        assert self.worker is not None
        return [(opened, opened.update) for opened in self.worker.open(round)]

    def strikes(self) -> bool:
        """Whether it does this time what its class is named for: true at its rate."""
        return self.dice.below(10**6) < self.rate * 10**6

    def bind(self, assignment: Assignment, update: bytes) -> Committed:
        """The real worker's commitment to an update."""
        assert self.worker is not None
        return self.worker.commit(assignment.seat, assignment.task, update)


class Silent(Player):
    """A lost link: at its rate, it answers nothing."""

    default_rate = 0.05

    def commit(self, assignment: Assignment) -> list[Committed]:
        """Nothing, at the rate."""
        return [] if self.strikes() else super().commit(assignment)


class Crashing(Player):
    """A machine that dies after it committed, at its rate, and comes back with the same key."""

    default_rate = 0.05

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        """Nothing, at the rate: its commitment stays in the log, unopened."""
        return [] if self.strikes() else super().open(round)


class LeavingPlayer(Silent):
    """A machine that is switched off for good, at its rate a round."""

    returns = False
    default_rate = 0.01
