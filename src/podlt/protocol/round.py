"""What the rules keep of the round in progress: a type for each of its two phases, before and after the reveal."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podlt import crypto
from podlt.protocol import entries as e
from podlt.protocol.draw import Roles
from podlt.protocol.messages import Task
from podlt.protocol.plan import shard_bounds
from podlt.protocol.shares import worker_of

Copy = tuple[int, int]
"""A seat, and one of those who hold its task."""


class Left(msgspec.Struct, frozen=True):
    """A worker withdrew within the round."""

    worker: int


class Redealt(msgspec.Struct, frozen=True):
    """A task was dealt again within the round."""

    seat: int
    holder: int


class Before(msgspec.Struct, frozen=True):
    """What the run was before the round, so that a manager can roll back a round of which nothing was written."""

    index: int
    at: int
    beacon: bytes
    joined: list[bytes]
    secret: bytes
    leavers: int


class RoundState(msgspec.Struct):
    """The round in progress, filled as its entries come. Who has which task is the manager's secret until the reveal.

    Attributes:
        open: the entry with which it began.
        size: how many workers were active then.
        seats: how many seats they had.
        beacon: what its draws rest on besides the secret.
        before: the run before the round.
        tasks: shard -> its task and the task's digest: each is asked for by every step of a round.
        again: seat -> those to whom its task was dealt again and who have not left, in order.
        taken: worker -> the seats whose tasks were dealt again to it.
        moves: who left and what was dealt again, in the order of the log.
        departed: those who left.
        bound: workers that were committed to a result at some time.
        commitments: (seat, holder) -> the commitment to that task.
        committed: holder -> the seats to whose tasks it is committed.
        drawn: a secret, and the roles that follow from it: both who deals and the rules ask for them.
        promises: what `promise` gave: both who takes openings and the rules ask for it.
    """

    open: e.Open
    size: int
    seats: int
    beacon: bytes
    before: Before
    tasks: dict[int, tuple[Task, bytes]] = {}
    again: dict[int, list[int]] = {}
    taken: dict[int, list[int]] = {}
    moves: list[Left | Redealt] = []
    departed: set[int] = set()
    bound: set[int] = set()
    commitments: dict[Copy, e.Commitment] = {}
    committed: dict[int, list[int]] = {}
    drawn: tuple[bytes, Roles] | None = None
    promises: dict[tuple[bytes, bytes, bytes, bytes], bytes] = {}

    def promise(self, task: bytes, key: bytes, update: bytes, salt: bytes) -> bytes:
        """`crypto.commitment`, worked out once."""
        opening = task, key, update, salt
        if opening not in self.promises:
            self.promises[opening] = crypto.commitment(*opening)
        return self.promises[opening]

    def holders(self, seat: int) -> list[int]:
        """Who holds the task that was dealt to `seat`, and has not left; the first to whom it was dealt first."""
        first = worker_of(seat)
        return [*(() if first in self.departed else (first,)), *self.again.get(seat, ())]

    def is_committed(self, seat: int) -> bool:
        """Whether somebody is committed to a result of the seat's task."""
        return any((seat, holder) in self.commitments for holder in self.holders(seat))

    def deal_again(self, seat: int, holder: int) -> None:
        """The task of a seat has one more holder."""
        self.moves.append(Redealt(seat, holder))
        self.again.setdefault(seat, []).append(holder)
        self.taken.setdefault(holder, []).append(seat)

    def commit(self, commitment: e.Commitment) -> None:
        """Takes a commitment."""
        seat, holder = commitment.seat, commitment.holder
        self.commitments[seat, holder] = commitment
        self.committed.setdefault(holder, []).append(seat)
        self.bound.add(holder)

    def leave(self, worker: int) -> None:
        """A worker withdraws: its commitments are dropped."""
        self.moves.append(Left(worker))
        self.departed.add(worker)
        for seat in self.taken.pop(worker, ()):
            self.again[seat].remove(worker)
        for seat in self.committed.pop(worker, ()):
            del self.commitments[seat, worker]

    def revealed(self, roles: Roles, results: dict[Copy, bytes]) -> RevealedRound:
        """The same round after its reveal.

        Args:
            roles: who had which task.
            results: (seat, holder) -> digest of the update that the task gave.
        """
        answers: dict[int, dict[int, bytes]] = {}
        for (seat, holder), update in sorted(results.items()):
            answers.setdefault(roles.seats[seat], {})[holder] = update
        several = {shard for shard, found in answers.items() if len(found) > 1}
        return RevealedRound(
            **msgspec.structs.asdict(self),
            roles=roles,
            results=results,
            answers=answers,
            own=frozenset(roles.own),
            to_judge=frozenset(several.union(roles.checked, roles.own)),
        )


class RevealedRound(RoundState, kw_only=True):
    """The round in progress after its secret and its results were revealed: it can be judged, applied and paid.

    Attributes:
        roles: who had which task.
        results: (seat, holder) -> digest of the update that the task gave.
        answers: shard -> worker -> digest of its update.
        own: the shards that the manager executes itself.
        to_judge: the shards on which there must be a verdict.
        verdicts: shard -> the verdict on it.
        applied: whether the round's average was applied.
        due_at: how many entries the log had when `dues` was worked out.
        dues: the credits of the round by worker, and the transfers with which it must end: both who pays and the rules
            ask for them.
    """

    roles: Roles
    results: dict[Copy, bytes]
    answers: dict[int, dict[int, bytes]]
    own: frozenset[int]
    to_judge: frozenset[int]
    verdicts: dict[int, e.Verdict] = {}
    applied: bool = False
    due_at: int = -1
    dues: tuple[dict[int, list[int]], list[e.Transfer]] = ({}, [])

    def due(self) -> list[int]:
        """The shards on which there must be a verdict, ascending."""
        return sorted(self.to_judge)

    def accepted(self, shard: int) -> bytes:
        """The digest of the update that stands for a shard."""
        if shard in self.verdicts:
            return self.verdicts[shard].accepted
        return next(iter(self.answers[shard].values()))

    def convicted(self) -> set[int]:
        """The workers that the round's verdicts convict."""
        return {worker for verdict in self.verdicts.values() for worker in verdict.convicted}

    def passed(self) -> list[int]:
        """The workers whose results were compared, and that were not convicted, ascending."""
        compared = {worker for shard in self.due() for worker in self.answers[shard]}
        return sorted(compared - self.convicted())

    def uploads(self) -> list[Copy | None]:
        """For each shard, in order, whose upload is to be applied: a seat and a holder; None for the manager's."""
        chosen: dict[int, Copy] = {}
        for copy, update in sorted(self.results.items()):
            shard = self.roles.seats[copy[0]]
            if shard not in chosen and update == self.accepted(shard):
                chosen[shard] = copy
        return [chosen.get(shard) for shard in range(len(self.open.shards))]

    def examples_of(self, shards: Iterable[int]) -> dict[int, int]:
        """Shard -> how many examples it has."""
        bounds = shard_bounds(self.open.examples, len(self.open.shards))
        return {shard: bounds[shard][1] - bounds[shard][0] for shard in shards}
