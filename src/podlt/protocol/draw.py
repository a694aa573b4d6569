"""Chance that anyone can re-derive: draws from the manager's hash chain and the workers' own commitments.

`draw = H(the round's secret, beacon)`. The secret's chain was fixed before the first worker joined, so the manager
cannot choose it; the beacon folds in every worker's signature on joining and every salt that was revealed so far,
which only the workers knew, so the manager cannot foresee it when it makes its chain. Nothing that the manager may
write in two ways is in it (times, the order of joining, how commitments are grouped into entries): a manager that
could turn a knob until the draw suits it would choose the draw. See docs/adr/0003, and docs/SPEC.md, 2.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.options import MILLION, Options
from podlt.protocol.plan import fragment_bounds
from podlt.protocol.roster import Roster

TRIES = 16
"""How often something is drawn before the list of all that are left is made: so a draw costs as much as it is likely
to, and the list is made only where most are barred."""


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


def draw_spares(dice: Dice, options: Options, active: int) -> int:
    """How many spares a round of so many workers has: the first draw of a guarded round."""
    if options.votes:
        return options.spares
    whole = MILLION + options.checked
    share = active * options.checked
    return min(active // 2, share // whole + (dice.below(whole) < share % whole))


def deal(dice: Dice, options: Options, roster: Roster, spares: int, lines: int, fragments: int) -> Roles:
    """A fragment each to drawn workers, and the checked ones to spares as well.

    Args:
        dice: after `draw_spares`.
        options: of the run.
        roster: its order is that of the keys (numbers are the manager's choice), as it was when the round opened.
        spares: how many workers repeat a fragment.
        lines: of the round.
        fragments: how many there are.
    """
    places = dice.sample(len(roster.order), fragments + spares)
    workers = [roster.at(place) for place in places]
    if options.votes:
        checked = dice.below(fragments)
        seats = dict(zip(workers, [*range(fragments), *[checked] * spares], strict=True))
        return Roles(seats, [checked], [])
    picked = pick(dice, lines, fragments, min(spares, fragments))
    _separate(dice, roster, workers, fragments, picked)
    seats = dict(zip(workers, [*range(fragments), *picked], strict=False))
    want = fragments * options.own
    more = dice.below(MILLION) < want % MILLION
    own = pick(dice, lines, fragments, min(options.own_most, fragments, want // MILLION + more))
    return Roles(seats, sorted(picked), sorted(own))


def _separate(dice: Dice, roster: Roster, workers: list[int], fragments: int, checked: Sequence[int]) -> None:
    """Has a spare change places where it has the operator of its fragment's worker, and there is another.

    Args:
        dice: after the fragments were picked.
        roster: knows the operators.
        workers: those of the fragments, then the spares; changed in place.
        fragments: how many there are.
        checked: those that have a spare, in the order of the spares.
    """
    barred, alone = set(checked), set[str | int]()
    for spare, fragment in enumerate(checked, fragments):
        operator = roster.operator(workers[fragment])
        if roster.operator(workers[spare]) != operator:
            continue

        def fits(j: int, operator: str | int = operator) -> bool:
            return j not in barred and roster.operator(workers[j]) != operator

        other = draw_one(dice, range(fragments), fits, hopeless=operator in alone)
        if other is None:
            alone.add(operator)  # and it stays so: no change of places brings another operator to a fragment
        else:
            workers[spare], workers[other] = workers[other], workers[spare]


def draw_one(
    dice: Dice, among: Sequence[int], allowed: Callable[[int], bool], *, hopeless: bool = False
) -> int | None:
    """One of those that are allowed, each as likely as any other; None if there is none.

    Args:
        dice: what it is drawn with.
        among: at least one.
        allowed: which of them may be drawn.
        hopeless: whether it is known that there is none: the dice are thrown nonetheless.
    """
    for _ in range(TRIES):
        found = among[dice.below(len(among))]
        if allowed(found):
            return found
    left = [] if hopeless else [each for each in among if allowed(each)]
    return left[dice.below(len(left))] if left else None


def pick(dice: Dice, lines: int, fragments: int, count: int) -> list[int]:
    """Draws fragments in proportion to their lines, none twice; in the order in which they were drawn."""
    size, longer = divmod(lines, fragments)
    found: dict[int, None] = {}
    while len(found) < count:
        for _ in range(TRIES):
            line = dice.below(lines)
            long = longer * (size + 1)
            fragment = line // (size + 1) if line < long else longer + (line - long) // size
            if fragment not in found:
                break
        else:
            fragment = _among_the_rest(dice, fragment_bounds(lines, fragments), found)
        found[fragment] = None
    return list(found)


def _among_the_rest(dice: Dice, bounds: Sequence[tuple[int, int]], found: Iterable[int]) -> int:
    taken = set(found)
    rest = [j for j in range(len(bounds)) if j not in taken]
    ends = list(accumulate(bounds[j][1] - bounds[j][0] for j in rest))
    line = dice.below(ends[-1])
    return next(j for j, end in zip(rest, ends, strict=True) if line < end)
