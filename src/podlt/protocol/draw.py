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
        seats: seat -> fragment number; a seat that is not among them has no task this round.
        checked: the fragments that more than one worker executes, ascending.
        own: those that the manager executes itself, ascending.
    """

    seats: dict[int, int]
    checked: list[int]
    own: list[int]

    def group(self, fragment: int) -> list[int]:
        """The seats of a fragment, ascending."""
        return sorted(seat for seat, held in self.seats.items() if held == fragment)


def round_dice(secret: bytes, beacon: bytes) -> Dice:
    """What a round's roles are drawn with."""
    return Dice(digest("draw/1", secret, beacon))


def deal(dice: Dice, options: RuleOptions, roster: Roster, spares: int, fragments: int) -> Roles:
    """A fragment each to drawn seats, and the checked ones to spares as well.

    Args:
        dice: `round_dice`.
        options: of the run.
        roster: its order is that of the keys (numbers are the manager's choice), as it was when the round opened.
        spares: how many seats repeat a fragment.
        fragments: how many there are.
    """
    seats = [roster.seat_at(place) for place in dice.sample(roster.weights.total, fragments + spares)]
    if options.votes:
        checked = dice.below(fragments)
        return Roles(dict(zip(seats, [*range(fragments), *[checked] * spares], strict=True)), [checked], [])
    picked = dice.sample(fragments, min(spares, fragments))
    idle = _separate(dice, roster, seats, fragments, picked)
    dealt = [(seat, j) for j, seat in zip([*range(fragments), *picked], seats, strict=False)]
    want, most = fragments * options.own, options.own_most * (roster.weights.total // len(roster.order))
    more = dice.below(MILLION) < want % MILLION
    own = dice.sample(fragments, min(most, fragments, want // MILLION + more))
    held = dict(dealt[:fragments] + [one for one in dealt[fragments:] if one[1] not in idle])
    return Roles(held, sorted(set(picked) - idle), sorted(own))


def _separate(dice: Dice, roster: Roster, seats: list[int], fragments: int, checked: Sequence[int]) -> set[int]:
    """Has a spare change places where it has the operator of its fragment's worker, and there is another.

    Args:
        dice: after the fragments were drawn.
        roster: knows the operators.
        seats: those of the fragments, then the spares; changed in place.
        fragments: how many there are.
        checked: those that have a spare, in the order of the spares.

    Returns:
        The checked fragments whose spare would be another seat of the same worker, and nobody can change with it: they
        are not compared.
    """
    barred, idle = set(checked), set()
    for spare, fragment in enumerate(checked, fragments):
        worker = worker_of(seats[fragment])
        operator, fellow = roster.operator(worker), None
        if roster.operator(worker_of(seats[spare])) != operator:
            continue
        for _ in range(TRIES):
            other = dice.below(fragments)
            if other in barred:
                continue
            if roster.operator(worker_of(seats[other])) != operator:
                fellow = other
                break
        else:
            if worker_of(seats[spare]) != worker:
                continue
            anybody = (j for j in range(fragments) if j not in barred and worker_of(seats[j]) != worker)
            fellow = next(anybody, None)
        if fellow is None:
            idle.add(fragment)
        else:
            seats[spare], seats[fellow] = seats[fellow], seats[spare]
    return idle
