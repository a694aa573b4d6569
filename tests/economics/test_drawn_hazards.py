"""The draw of the rules against the formulas: what is found is inside the 95 % interval, with and without operators."""

from __future__ import annotations

from collections import Counter

import pytest

from podlt.crypto import digest
from podlt.economics.formulas import guarded, likely_count, round_kinds
from podlt.protocol.draw import deal, round_dice
from podlt.protocol.options import GUARDED, MILLION
from podlt.protocol.roster import Roster

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
