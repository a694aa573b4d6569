"""What the rules keep of the round in progress."""

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
    """What the run was before the round, so that a manager can forget a round of which nothing was written."""

    index: int
    at: int
    beacon: bytes
    joined: list[bytes]
    secret: bytes


class RoundState(msgspec.Struct):
    """The round in progress, filled as its entries come.

    Attributes:
        size: how many workers were active when it opened.
        beacon: what its draws rest on besides the secret.
        before: the run before the round.
        tasks: fragment -> its task and the task's digest, kept because each is asked for by every step of a round.
        moves: who left and what was dealt again, in the order of the log.
        departed: those who left.
        bound: workers that were committed to a result at some time.
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
    roles: Roles | None = None
    results: dict[int, bytes] = {}
    answers: dict[int, dict[int, bytes]] = {}
    verdicts: dict[int, e.Verdict] = {}
    applied: bool = False

    def holder(self, seat: int) -> int:
        """Who executes the task that was dealt to `seat`."""
        return self.holders.get(seat, seat)

    def reveal(self, roles: Roles, results: dict[int, bytes]) -> None:
        """Takes who had which task, and what each gave (origin -> digest of the update)."""
        self.roles, self.results = roles, results
        for seat, fragment in roles.seats.items():
            self.answers.setdefault(fragment, {})[self.holder(seat)] = results[seat]

    def fragment_results(self, fragment: int) -> dict[int, bytes]:
        """Who answered for a fragment -> the digest of its update."""
        return self.answers.get(fragment, {})

    def accepted(self, fragment: int) -> bytes:
        """The digest of the update that stands for a fragment."""
        if fragment in self.verdicts:
            return self.verdicts[fragment].accepted
        return next(iter(self.answers[fragment].values()))
