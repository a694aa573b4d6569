"""What the rules keep of the round in progress: a type for each of its two phases, before and after the reveal."""

from __future__ import annotations

import msgspec

from podlt.protocol import entries as e
from podlt.protocol.draw import Roles
from podlt.protocol.messages import Task


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


class RoundState(msgspec.Struct):
    """The round in progress, filled as its entries come. Who has which task is the manager's secret until the reveal.

    Attributes:
        open: the entry with which it began.
        size: how many workers were active then.
        beacon: what its draws rest on besides the secret.
        before: the run before the round.
        tasks: fragment -> its task and the task's digest: each is asked for by every step of a round.
        holders: seat -> worker to whom its task was dealt again.
        moves: who left and what was dealt again, in the order of the log.
        departed: those who left.
        bound: workers that were committed to a result at some time.
        commitments: seat -> the commitment to its task.
    """

    open: e.Open
    size: int
    beacon: bytes
    before: Before
    tasks: dict[int, tuple[Task, bytes]] = {}
    holders: dict[int, int] = {}
    moves: list[Left | Redealt] = []
    departed: set[int] = set()
    bound: set[int] = set()
    commitments: dict[int, e.Commitment] = {}

    def holder(self, seat: int) -> int:
        """Who executes the task that was dealt to `seat`."""
        return self.holders.get(seat, seat)

    def revealed(self, roles: Roles, results: dict[int, bytes]) -> RevealedRound:
        """The same round after its reveal.

        Args:
            roles: who had which task.
            results: seat -> digest of the update that its task gave.
        """
        answers: dict[int, dict[int, bytes]] = {}
        for seat, fragment in roles.seats.items():
            answers.setdefault(fragment, {})[self.holder(seat)] = results[seat]
        return RevealedRound(**msgspec.structs.asdict(self), roles=roles, results=results, answers=answers)


class RevealedRound(RoundState, kw_only=True):
    """The round in progress after its secret and its results were revealed: it can be judged, applied and paid.

    Attributes:
        roles: who had which task.
        results: seat -> digest of the update that its task gave.
        answers: fragment -> worker -> digest of its update.
        verdicts: fragment -> the verdict on it.
        applied: whether the round's average was applied.
    """

    roles: Roles
    results: dict[int, bytes]
    answers: dict[int, dict[int, bytes]]
    verdicts: dict[int, e.Verdict] = {}
    applied: bool = False

    def fragment_results(self, fragment: int) -> dict[int, bytes]:
        """Who answered for a fragment -> the digest of its update."""
        return self.answers.get(fragment, {})

    def accepted(self, fragment: int) -> bytes:
        """The digest of the update that stands for a fragment."""
        if fragment in self.verdicts:
            return self.verdicts[fragment].accepted
        return next(iter(self.answers[fragment].values()))

    def evicted(self) -> list[int]:
        """The workers that the round's verdicts evict, ascending."""
        return sorted({worker for verdict in self.verdicts.values() for worker in verdict.evicted})

    def passed(self) -> list[int]:
        """The workers that were compared and not evicted, ascending."""
        return sorted(set(self.fragment_results(self.roles.checked)) - set(self.evicted()))

    def uploads(self) -> list[int | None]:
        """For each fragment, in order, the seat whose upload is to be applied; None for the referee's."""
        fragments = range(len(self.open.fragments))
        accepted = [self.accepted(fragment) for fragment in fragments]
        chosen: dict[int, int] = {}
        for seat, fragment in sorted(self.roles.seats.items()):
            if self.results[seat] == accepted[fragment]:
                chosen.setdefault(fragment, seat)
        return [chosen.get(fragment) for fragment in fragments]
