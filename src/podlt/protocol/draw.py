"""Chance that anyone can re-derive: draws from the manager's hash chain and the workers' own commitments.

`draw = H(the round's secret, beacon)`. The secret's chain was fixed before the first worker joined, so the manager
cannot choose it; the beacon folds in every worker's signature on joining and every salt that was revealed so far,
which only the workers knew, so the manager cannot foresee it when it makes its chain. Nothing that the manager may
write in two ways is in it (times, the order of joining, how commitments are grouped into entries): a manager that
could turn a knob until the draw suits it would choose the draw. See docs/adr/0003, and docs/SPEC.md, 2.7.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.options import MILLION, Options
from podlt.protocol.roster import Roster

TRIES = 16
"""How often something is drawn before it is drawn from all that are left: so a draw costs as much as it is likely to,
and those are put in order only where most are barred."""


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
    barred, among = sorted(checked), set(checked)
    plain: dict[str | int, list[int]] | None = None  # operator -> its fragments that are not checked, ascending
    for spare, fragment in enumerate(checked, fragments):
        operator = roster.operator(workers[fragment])
        if roster.operator(workers[spare]) != operator:
            continue
        other = None
        for _ in range(TRIES):
            found = dice.below(fragments)
            if found not in among and roster.operator(workers[found]) != operator:
                other = found
                break
        if other is None:
            if plain is None:
                plain = _by_operator(roster, workers, [j for j in range(fragments) if j not in among])
            same = plain.get(operator, [])
            left = fragments - len(barred) - len(same)
            if left == 0:
                continue
            other = _nth(dice.below(left), fragments, barred, same)
        if plain is not None:
            plain[roster.operator(workers[other])].remove(other)
            insort(plain.setdefault(operator, []), other)
        workers[spare], workers[other] = workers[other], workers[spare]


def _by_operator(roster: Roster, workers: list[int], fragments: Iterable[int]) -> dict[str | int, list[int]]:
    found: dict[str | int, list[int]] = {}
    for fragment in fragments:
        found.setdefault(roster.operator(workers[fragment]), []).append(fragment)
    return found


def _nth(n: int, fragments: int, *barred: Sequence[int]) -> int:
    """The fragment that is number n, from 0, of those that are in none of some lists, each ascending."""

    def up_to(fragment: int) -> int:
        return fragment + 1 - sum(bisect_right(each, fragment) for each in barred)

    return bisect_right(range(fragments), n, key=up_to)


def pick(dice: Dice, lines: int, fragments: int, count: int) -> list[int]:
    """Draws fragments in proportion to their lines, none twice; in the order in which they were drawn."""
    size, longer = divmod(lines, fragments)
    found: dict[int, None] = {}
    order: list[int] | None = None
    while len(found) < count:
        for _ in range(TRIES):
            line = dice.below(lines)
            long = longer * (size + 1)
            fragment = line // (size + 1) if line < long else longer + (line - long) // size
            if fragment not in found:
                break
        else:
            order = sorted(found) if order is None else order
            fragment = _among_the_rest(dice, lines, fragments, order)
        found[fragment] = None
        if order is not None:
            insort(order, fragment)
    return list(found)


def _among_the_rest(dice: Dice, lines: int, fragments: int, taken: Sequence[int]) -> int:
    """One of the fragments that are not taken (ascending), in proportion to their lines."""
    size, longer = divmod(lines, fragments)

    def up_to(fragment: int) -> int:
        """How many lines those have that are not taken, this one included."""
        rest = fragment + 1 - bisect_right(taken, fragment)
        long = min(fragment + 1, longer) - bisect_right(taken, min(fragment, longer - 1))
        return rest * size + long

    return bisect_right(range(fragments), dice.below(up_to(fragments - 1)), key=up_to)
