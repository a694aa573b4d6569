"""Unequal machines: how often the results of a worker with several seats are compared, and with whose.

A pair of seats that are compared is drawn so: the first is any of the S seats; the other is any of those that are not
of the same worker (docs/SPEC.md, 2.7). So of a worker with s seats, each is the first of a pair with 1/S, and the other
one with the sum of (s_w / S) / (S - s_w) over all workers w but itself. Where all have as many, that is 1/S as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podlt.protocol.shares import SeatWeights


class Seating(msgspec.Struct, frozen=True):
    """How the seats of a round are spread over its workers, as those who cheat see it.

    Attributes:
        friends: the seats of each worker that cheats, at least one worker.
        others: the seats of each other worker.
    """

    friends: tuple[int, ...]
    others: tuple[int, ...] = ()

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self.friends) + len(self.others)

    @property
    def members(self) -> int:
        """How many seats the friends have."""
        return sum(self.friends)

    @property
    def total(self) -> int:
        """How many seats there are."""
        return sum(self.friends) + sum(self.others)

    @property
    def pairing(self) -> float:
        """How many times as often a friend's seat is compared as seats are in the mean."""
        return self._meeting(self.total, self._second(self.friends) + self._second(self.others))

    @property
    def strangers(self) -> float:
        """The chance that the other seat of a shard is a stranger's, seen from a friend's that is compared."""
        met = self._meeting(self.total - self.members, self._second(self.others), itself=0)
        return met / self.pairing if self.pairing else 0.0

    def alone(self, seats: int) -> Seating:
        """The same round for a worker of so many seats that has no friends."""
        everybody = [*self.friends, *self.others]
        everybody.remove(seats)
        return Seating((seats,), tuple(everybody))

    def _second(self, seats: Iterable[int]) -> float:
        """How often those with so many seats are first in a pair, over the seats that may be the other."""
        return sum(each / (self.total - each) for each in seats if each < self.total)

    def _meeting(self, seconds: int, firsts: float, itself: int = 1) -> float:
        """Half of a friend's meetings with some: as the first with so many seats, and as the other with these firsts.

        Args:
            seconds: seats, the friend's own among them if `itself`.
            firsts: as `_second`, likewise.
            itself: whether the friend is one of them.
        """
        found = 0.0
        for each in self.friends:
            rest = self.total - each
            if rest:
                found += each * ((seconds - itself * each) / rest + firsts - itself * each / rest) / 2
        return found / self.members


def seating_of(levels: Mapping[int, int], share: float) -> Seating:
    """A coalition with a share of the workers of each level, rounded; of at least one worker.

    Args:
        levels: level -> how many workers have it.
        share: of them, below 1.
    """
    weights = SeatWeights(levels)
    friends: list[int] = []
    others: list[int] = []
    for level, count in sorted(levels.items()):
        members = round(share * count)
        friends += [weights.of(level)] * members
        others += [weights.of(level)] * (count - members)
    if not friends:
        friends.append(others.pop(0))
    return Seating(tuple(friends), tuple(others))
