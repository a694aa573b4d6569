"""Who takes over a task whose holder is gone, or late: drawn, and the same for whoever replays the round.

A fixed choice would tell its neighbours who is checked, and a free one would let the manager choose who sits in
judgement. So it is drawn from the round's secret, and checked when that is revealed. docs/SPEC.md, 2.9.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.draw import Roles
from podlt.protocol.roster import Roster
from podlt.protocol.shares import worker_of

TRIES = 16
"""How often a place is drawn before a worker of the same operator is taken as well: so a draw costs little, whatever
the log says, and who has a rare operator does not get everything."""


class Redealer:
    """Replays who left a round and which tasks were dealt again, in the order of the log.

    Args:
        secret: the round's.
        roles: who was dealt what.
        roster: as it was when the round opened.
    """

    def __init__(self, secret: bytes, roles: Roles, roster: Roster) -> None:
        self._secret, self._roles, self._roster = secret, roles, roster
        self._gone: set[int] = set()
        self._left: list[bytes] | None = None
        self._dealt: dict[int, set[int]] = {}
        """Shard -> those who have a task of it, and are still there."""

        self._own: dict[int, list[int]] = {}
        """Worker -> the shards of the tasks that were dealt to it at first."""

        for seat, shard in roles.seats.items():
            self._dealt.setdefault(shard, set()).add(worker_of(seat))
            self._own.setdefault(worker_of(seat), []).append(shard)
        self._more: dict[int, list[int]] = {}
        """Worker -> the shards of the tasks that were dealt again to it."""

        self._times: Counter[int] = Counter()

    def leave(self, worker: int) -> None:
        """A worker of the round withdrew."""
        self._gone.add(worker)
        for shard in (*self._own.get(worker, ()), *self._more.get(worker, ())):
            self._dealt[shard].discard(worker)
        if self._left is not None and (place := self._place(worker)) is not None:
            del self._left[place]

    def deal(self, seat: int) -> int | None:
        """Deals the task of `seat` again; returns its new holder, or None if nobody is left who may take it."""
        number = self._times[seat].to_bytes(8, "big")
        dice = Dice(digest("redeal/1", self._secret, seat.to_bytes(8, "big"), number))
        shard = self._roles.seats[seat]
        dealt = self._dealt[shard]
        operators = {self._roster.operator(worker) for worker in dealt}
        first = self._draw(dice, dealt, operators)
        if first is None:
            return None
        second = self._draw(dice, dealt, operators)
        assert second is not None
        load, weight = self._tasks, self._roster.weight
        holder = second if load(second) * weight(first) < load(first) * weight(second) else first
        self._times[seat] += 1  # only what was dealt again is in the log, and is counted by who replays it
        self._more.setdefault(holder, []).append(shard)
        dealt.add(holder)
        return holder

    def _tasks(self, worker: int) -> int:
        return len(self._own.get(worker, ())) + len(self._more.get(worker, ()))

    def _draw(self, dice: Dice, dealt: set[int], operators: set[str | int]) -> int | None:
        """A worker of the round that is still there and has no task of the shard; of another operator if it can."""
        roster, second_best = self._roster, None
        for _ in range(TRIES):
            worker = worker_of(roster.seat_at(dice.below(roster.weights.total)))
            if worker in self._gone or worker in dealt:
                continue
            if roster.operator(worker) not in operators:
                return worker
            second_best = worker if second_best is None else second_best
        if second_best is not None:
            return second_best
        if self._left is None:
            self._left = [key for key in roster.order if roster.number(key) not in self._gone]
        barred = {place for worker in dealt if (place := self._place(worker)) is not None}
        free = len(self._left) - len(barred)
        if free == 0:
            return None
        place = dice.below(free)
        for each in sorted(barred):
            place += place >= each
        return roster.number(self._left[place])

    def _place(self, worker: int) -> int | None:
        assert self._left is not None
        key = self._roster.workers[worker].key
        place = bisect_left(self._left, key)
        return place if place < len(self._left) and self._left[place] == key else None
