"""Chance that anyone can re-derive: draws from the manager's hash chain and the workers' own commitments.

`draw = H(the round's secret, beacon)`. The secret's chain was fixed before the first worker joined, so the manager
cannot choose it; the beacon folds in every worker's signature on joining and every salt that was revealed so far,
which only the workers knew, so the manager cannot foresee it when it makes its chain. Nothing that the manager may
write in two ways is in it (times, the order of joining, how commitments are grouped into entries): a manager that
could turn a knob until the draw suits it would choose the draw. See docs/adr/0003, and docs/SPEC.md, 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.options import MILLION, RuleOptions
from podlt.protocol.roster import Roster
from podlt.protocol.shares import worker_of

TRIES = 64
"""How often a worker of another operator is looked for: so a draw costs little, whatever the log says."""


def mix_beacon(beacon: bytes, *parts: bytes) -> bytes:
    """The beacon after it took in what workers signed or revealed."""
    return digest("beacon/1", beacon, *parts)


class Roles(msgspec.Struct, frozen=True):
    """Who holds which task in a round, before anything is dealt again.

    Args:
        seats: seat -> shard number; a seat that is not among them has no task this round.
        checked: the shards that more than one worker executes, ascending.
        own: those that the manager executes itself, ascending.
    """

    seats: dict[int, int]
    checked: list[int]
    own: list[int]

    def group(self, shard: int) -> list[int]:
        """The seats of a shard, ascending."""
        return sorted(seat for seat, held in self.seats.items() if held == shard)


def round_dice(secret: bytes, beacon: bytes) -> Dice:
    """What a round's roles are drawn with."""
    return Dice(digest("draw/1", secret, beacon))


def deal(dice: Dice, options: RuleOptions, roster: Roster, spares: int, shards: int) -> Roles:
    """A shard each to drawn seats, and the checked ones to spares as well.

    Args:
        dice: `round_dice`.
        options: of the run.
        roster: its order is that of the keys (numbers are the manager's choice), as it was when the round opened.
        spares: how many seats repeat a shard, if there are so many shards.
        shards: how many there are.
    """
    spares = spares if options.votes else min(spares, shards)
    seats = [roster.seat_at(place) for place in dice.sample(roster.weights.total, shards + spares)]
    if options.votes:
        checked = dice.below(shards)
        return Roles(dict(zip(seats, [*range(shards), *[checked] * spares], strict=True)), [checked], [])
    picked = dice.sample(shards, spares)
    idle = _separate(dice, roster, seats, shards, picked)
    dealt = [(seat, j) for j, seat in zip([*range(shards), *picked], seats, strict=True)]
    want, most = shards * options.own, options.own_most * (roster.weights.total // len(roster.order))
    more = dice.below(MILLION) < want % MILLION
    own = dice.sample(shards, min(most, shards, want // MILLION + more))
    held = dict(dealt[:shards] + [one for one in dealt[shards:] if one[1] not in idle])
    return Roles(held, sorted(set(picked) - idle), sorted(own))


def _separate(dice: Dice, roster: Roster, seats: list[int], shards: int, checked: Sequence[int]) -> set[int]:
    """Has a spare change places where it has the operator of its shard's worker, and there is another.

    Args:
        dice: after the shards were drawn.
        roster: knows the operators.
        seats: those of the shards, then the spares; changed in place.
        shards: how many there are.
        checked: those that have a spare, in the order of the spares.

    Returns:
        The checked shards whose spare would be another seat of the same worker, and nobody can change with it: they
        are not compared.
    """
    barred, idle = set(checked), set()
    for spare, shard in enumerate(checked, shards):
        worker = worker_of(seats[shard])
        operator, fellow = roster.operator(worker), None
        if roster.operator(worker_of(seats[spare])) != operator:
            continue
        for _ in range(TRIES):
            other = dice.below(shards)
            if other in barred:
                continue
            if roster.operator(worker_of(seats[other])) != operator:
                fellow = other
                break
        else:
            if worker_of(seats[spare]) != worker:
                continue
            anybody = (j for j in range(shards) if j not in barred and worker_of(seats[j]) != worker)
            fellow = next(anybody, None)
        if fellow is None:
            idle.add(shard)
        else:
            seats[spare], seats[fellow] = seats[fellow], seats[spare]
    return idle
