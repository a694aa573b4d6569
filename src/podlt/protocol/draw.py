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

TRIES = 64
"""How often a worker of another operator is looked for: so a draw costs little, whatever the log says."""


def mix_beacon(beacon: bytes, *parts: bytes) -> bytes:
    """The beacon after it took in what workers signed or revealed."""
    return digest("beacon/1", beacon, *parts)


class Roles(msgspec.Struct, frozen=True):
    """Who holds which task in a round, before anything is dealt again.

    Args:
        seats: worker -> fragment number; a worker without a seat has no task this round.
        checked: the fragments that more than one worker executes, ascending.
        own: those that the manager executes itself, ascending.
    """

    seats: dict[int, int]
    checked: list[int]
    own: list[int]

    def group(self, fragment: int) -> list[int]:
        """The seats of a fragment, ascending."""
        return sorted(worker for worker, held in self.seats.items() if held == fragment)


def round_dice(secret: bytes, beacon: bytes) -> Dice:
    """What a round's roles are drawn with."""
    return Dice(digest("draw/1", secret, beacon))


def deal(dice: Dice, options: RuleOptions, roster: Roster, spares: int, fragments: int) -> Roles:
    """A fragment each to drawn workers, and the checked ones to spares as well.

    Args:
        dice: `round_dice`.
        options: of the run.
        roster: its order is that of the keys (numbers are the manager's choice), as it was when the round opened.
        spares: how many workers repeat a fragment.
        fragments: how many there are.
    """
    places = dice.sample(len(roster.order), fragments + spares)
    workers = [roster.at(place) for place in places]
    if options.votes:
        checked = dice.below(fragments)
        seats = dict(zip(workers, [*range(fragments), *[checked] * spares], strict=True))
        return Roles(seats, [checked], [])
    picked = dice.sample(fragments, min(spares, fragments))
    _separate(dice, roster, workers, fragments, picked)
    seats = dict(zip(workers, [*range(fragments), *picked], strict=False))
    want = fragments * options.own
    more = dice.below(MILLION) < want % MILLION
    own = dice.sample(fragments, min(options.own_most, fragments, want // MILLION + more))
    return Roles(seats, sorted(picked), sorted(own))


def _separate(dice: Dice, roster: Roster, workers: list[int], fragments: int, checked: Sequence[int]) -> None:
    """Has a spare change places where it has the operator of its fragment's worker, and there is another.

    Args:
        dice: after the fragments were drawn.
        roster: knows the operators.
        workers: those of the fragments, then the spares; changed in place.
        fragments: how many there are.
        checked: those that have a spare, in the order of the spares.
    """
    barred = set(checked)
    for spare, fragment in enumerate(checked, fragments):
        operator = roster.operator(workers[fragment])
        if roster.operator(workers[spare]) != operator:
            continue
        for _ in range(TRIES):
            other = dice.below(fragments)
            if other not in barred and roster.operator(workers[other]) != operator:
                workers[spare], workers[other] = workers[other], workers[spare]
                break
