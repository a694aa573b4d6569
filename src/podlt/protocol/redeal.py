"""Who takes over a task whose holder is gone: drawn, and the same for whoever replays the round.

A fixed choice would tell its neighbours who is checked, and a free one would let the manager choose who sits in
judgement. So it is drawn from the round's secret, and checked when that is revealed.
"""

from __future__ import annotations

from bisect import bisect_left

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.draw import Roles
from podlt.protocol.roster import Roster

TRIES = 16
"""How often a place is drawn before the list of all who are left is made: so a draw costs as much as it is likely to,
and a list is made only where most of the round's workers left, which the log says of each."""


class Redealer:
    """Replays who left a round and which tasks were dealt again, in the order of the log.

    Args:
        secret: the round's.
        roles: who was dealt what.
        roster: as it was when the round opened.
    """

    def __init__(self, secret: bytes, roles: Roles, roster: Roster) -> None:
        self._secret, self._roles, self._roster = secret, roles, roster
        self._holders: dict[int, int] = {}
        self._extra: dict[int, int] = {}
        self._gone: set[int] = set()
        self._left: list[bytes] | None = None
        self._origins: dict[int, list[int]] = {}
        for seat, fragment in roles.seats.items():
            self._origins.setdefault(fragment, []).append(seat)
        self._count = 0

    def leave(self, worker: int) -> None:
        """A worker of the round withdrew."""
        self._gone.add(worker)
        if self._left is not None:
            key = self._roster.workers[worker].key
            place = bisect_left(self._left, key)
            if place < len(self._left) and self._left[place] == key:
                del self._left[place]

    def deal(self, seat: int) -> int | None:
        """Deals the task of `seat` again; returns its new holder, or None if nobody is left who may take it."""
        dice = Dice(digest("redeal/1", self._secret, self._count.to_bytes(8, "big")))
        self._count += 1
        same = self._origins[self._roles.seats[seat]]
        taken = {self._holders.get(o, o) for o in same if o != seat}
        first = self._draw(dice, taken)
        if first is None:
            return None
        second = self._draw(dice, taken)
        assert second is not None
        holder = second if self._tasks(second) < self._tasks(first) else first
        previous = self._holders.get(seat, seat)
        self._extra[previous] = self._extra.get(previous, 0) - 1
        self._extra[holder] = self._extra.get(holder, 0) + 1
        self._holders[seat] = holder
        return holder

    def _tasks(self, worker: int) -> int:
        return (worker in self._roles.seats) + self._extra.get(worker, 0)

    def _draw(self, dice: Dice, taken: set[int]) -> int | None:
        """A worker of the round that is still there and has no other task of the same fragment."""
        roster = self._roster
        for _ in range(TRIES):
            worker = roster.at(dice.below(len(roster.order)))
            if worker not in self._gone and worker not in taken:
                return worker
        if self._left is None:
            self._left = [key for key in roster.order if roster.number(key) not in self._gone]
        barred = {place for worker in taken if (place := self._place(worker)) is not None}
        free = len(self._left) - len(barred)
        if free == 0:
            return None
        place = dice.below(free)
        for each in sorted(barred):
            place += place >= each
        number = roster.number(self._left[place])
        assert number is not None
        return number

    def _place(self, worker: int) -> int | None:
        assert self._left is not None
        key = self._roster.workers[worker].key
        place = bisect_left(self._left, key)
        return place if place < len(self._left) and self._left[place] == key else None
