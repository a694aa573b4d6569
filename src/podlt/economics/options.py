"""What a plan is made from: the proof's options, and what is assumed of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from podlt.economics.seats import Seating, seating_of
from podlt.errors import UsageError

Share = Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[int, Meta(ge=0)]


class ProofOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The proof's options that cost and gain depend on; names are those of a recipe's `[protocol]`.

    Attributes:
        preset: whose rules hold.
        checked: guarded: spares for each shard.
        own: guarded: tasks that the manager executes itself, for each shard.
        own_most: guarded: the most that it executes in a round; None for no limit.
        clip: guarded: the largest update that is applied as it is, in medians of the round's updates.
        escrow: how many younger credits (in tasks) a credit waits for.
        deposit: credits that a worker brings.
        first_fault: whether the first conviction suspends or evicts.
        reward: credits a task.
    """

    preset: Literal["guarded", "classic"] = "guarded"
    checked: Share = 0.03
    own: Share = 0.02
    own_most: Number | None = 1
    clip: Annotated[int, Meta(ge=0)] = 8
    escrow: Number = 50
    deposit: Number = 0
    first_fault: Literal["suspend", "evict"] = "suspend"
    reward: Number = 1

    @property
    def convictions(self) -> int:
        """How many of a worker's convictions evict it."""
        return 2 if self.preset == "guarded" and self.first_fault == "suspend" else 1


class Assumptions(msgspec.Struct, frozen=True, kw_only=True):
    """The run, and what is assumed of its workers.

    Attributes:
        workers: each has a task a round.
        rounds: of the run: the tasks of a worker that is there from the start.
        cost: what a true result costs a worker, for each credit of its reward.
        coalition: the share of workers that work together against the run.
        operators: how many there are, of equal size; None if every worker is its own.
        keys: whether keys are by invitation, so that who was evicted cannot come back, or free.
        new_key: what a new key costs besides the deposit where keys are free, in credits.
        levels: of unequal machines: level -> how many workers have it, all of them together; else each has a seat.
    """

    workers: Annotated[int, Meta(ge=2)] = 50
    rounds: Annotated[int, Meta(ge=1)] = 300
    cost: Annotated[float, Meta(ge=0)] = 0.9
    coalition: Share = 0.2
    operators: Annotated[int, Meta(ge=1)] | None = None
    keys: Literal["invited", "free"] = "invited"
    new_key: Annotated[float, Meta(ge=0)] = 0.0
    levels: Mapping[int, int] = {}

    @property
    def members(self) -> int:
        """How many workers the coalition has: as large a share of each level, where there are several."""
        if self.levels:
            return sum(round(self.coalition * count) for count in self.levels.values())
        return round(self.coalition * self.workers)

    @property
    def seating(self) -> Seating | None:
        """Who has how many seats, where that is not one each; the coalition, or a worker of the lowest level, apart."""
        return seating_of(self.levels, self.coalition) if len(self.levels) > 1 else None

    @property
    def seats(self) -> int:
        """How many tasks are dealt a round."""
        seating = self.seating
        return self.workers if seating is None else seating.total


def check_assumptions(assumed: Assumptions) -> None:
    """Refuses what no run could do.

    Raises:
        UsageError: more operators than workers, or no worker that is honest.
    """
    if assumed.operators is not None and assumed.operators > assumed.workers:
        raise UsageError(f"expected at most as many operators as workers ({assumed.workers}), got {assumed.operators}")
    if assumed.members >= assumed.workers:
        raise UsageError(f"a coalition of {assumed.coalition:.0%} of {assumed.workers} workers leaves nobody honest")
    counted = sum(assumed.levels.values())
    if assumed.levels and (counted != assumed.workers or min(assumed.levels.values()) < 1):
        raise UsageError(f"expected levels of all {assumed.workers} workers, got those of {counted}")
    if assumed.levels and assumed.operators is not None:
        raise UsageError("expected levels or operators, and not both: no formula has two workers of unequal share")
