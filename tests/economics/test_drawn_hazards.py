"""The draw of the rules against the formulas: what is found is inside the 95 % interval, with and without operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from podlt.crypto import digest
from podlt.economics.formulas import guarded, likely_count, round_kinds
from podlt.economics.seats import Seating, seating_of
from podlt.protocol.draw import deal, round_dice
from podlt.protocol.options import GUARDED, MILLION
from podlt.protocol.roster import Roster
from podlt.protocol.shares import worker_of

ROUNDS = 3000


@pytest.mark.parametrize(("workers", "members", "operators"), [(20, 8, None), (10, 4, None), (12, 4, 6), (20, 8, 5)])
def test_the_draw_finds_what_the_formulas_say(workers: int, members: int, operators: int | None) -> None:
    roster, counts = Roster(), Counter[str]()
    for number in range(workers):
        operator = "" if operators is None else str(number * operators // workers)
        roster.add(number, digest("key", bytes([number])), operator, number)
    for number in range(ROUNDS):
        dice = round_dice(digest("secret", number.to_bytes(4, "big")), bytes(32))
        spares = GUARDED.spares_of(bytes(32), number, workers)
        roles = deal(dice, GUARDED, roster, spares, workers - spares)
        for shard in range(workers - spares):
            group = roles.group(shard)
            friends, own = sum(worker < members for worker in group), shard in roles.own
            found = friends < len(group) or own
            counts.update(
                seats=len(group),
                lone=len(group) * (len(group) > 1 or own),
                tasks=friends,
                everything=friends * found,
                alone=friends == 1,
                comparing=friends == 1 and found,
            )
    kinds = round_kinds(workers, GUARDED.checked / MILLION, GUARDED.own / MILLION, GUARDED.own_most, 1)
    formulas = guarded(kinds, members, operators)
    for name, trials in (("lone", "seats"), ("everything", "tasks"), ("comparing", "alone")):
        low, high = likely_count(counts[trials], getattr(formulas, name))
        assert low <= counts[name] <= high, name


@pytest.mark.parametrize(
    ("levels", "members"),
    [([0, 0, 1, 2] * 4, [0, 3, 7]), ([0] * 9 + [3], [9]), ([-2, 0, 0, 0, 0, 0, 0, 1], [1, 7]), ([0, 2], [1])],
)
def test_the_draw_finds_what_the_formulas_say_of_unequal_seats(levels: Sequence[int], members: Sequence[int]) -> None:
    roster, counts = Roster(), Counter[str]()
    for number, level in enumerate(levels):
        roster.add(number, digest("key", bytes([number])), "", number)
        roster.set_level(number, level)
    total, weights = roster.weights.total, [roster.weight(number) for number in range(len(levels))]
    for number in range(ROUNDS):
        dice = round_dice(digest("secret", number.to_bytes(4, "big")), bytes(32))
        spares = GUARDED.spares_of(bytes(32), number, total)
        roles = deal(dice, GUARDED, roster, spares, total - spares)
        for shard in range(total - spares):
            group = [worker_of(seat) for seat in roles.group(shard)]
            friends, own = sum(worker in members for worker in group), shard in roles.own
            found = friends < len(group) or own
            counts.update(
                tasks=friends,
                lone=friends * (len(group) > 1 or own),
                everything=friends * found,
                alone=friends == 1,
                comparing=friends == 1 and found,
            )
    most = GUARDED.own_most * (total // len(levels))
    kinds = round_kinds(total, GUARDED.checked / MILLION, GUARDED.own / MILLION, most, 1)
    friends_of = tuple(weights[number] for number in members)
    others = tuple(weight for number, weight in enumerate(weights) if number not in members)
    formulas = guarded(kinds, seating=Seating(friends_of, others))
    for name, trials in (("lone", "tasks"), ("everything", "tasks"), ("comparing", "alone")):
        low, high = likely_count(counts[trials], getattr(formulas, name), 0.99)
        assert low <= counts[name] <= high, name


def test_equal_seats_are_as_if_nobody_had_counted_them() -> None:
    kinds, seating = round_kinds(20, 0.03, 0.02, 1, 1), seating_of({0: 20}, 0.25)
    counted, plain = guarded(kinds, seating=seating), guarded(kinds, members=5)
    for name in ("lone", "everything", "comparing", "paired_a_round", "paired_share"):
        assert getattr(counted, name) == pytest.approx(getattr(plain, name)), name
