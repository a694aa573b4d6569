"""Draws: nothing that the manager may write in two ways decides one, and everybody is as likely to be checked."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import permutations, product

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from scripted import scripted, scripted_world

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol import draw
from podlt.protocol.draw import Roles, deal, round_dice
from podlt.protocol.options import CLASSIC, MILLION, RuleOptions
from podlt.protocol.roster import Roster
from podlt.recipe import ProtocolSpec
from podlt.sim.world import Scenario, World

from .steps_of_a_round import HIDDEN, SCENARIO, answered, finished, fresh, joining, opened

Preset = pytest.mark.parametrize("scenario", [SCENARIO, HIDDEN], ids=["classic", "guarded"])


def next_seats(world: World) -> tuple[int, Roles]:
    opened(world)
    return world.state.roles(world.chain.secret(world.state.round))


@Preset
def test_how_commitments_are_grouped_does_not_change_the_next_draw(scenario: Scenario) -> None:
    seats = []
    for groups in (1, 2, 5):
        world = fresh(6, scenario)
        answered(world, groups=groups)
        finished(world)
        seats.append(next_seats(world))
    assert seats[0] == seats[1] == seats[2]


@Preset
def test_times_do_not_change_the_next_draw(scenario: Scenario) -> None:
    worlds = [fresh(6, scenario), fresh(6, scenario)]
    worlds[1]._now += 10**9
    for world in worlds:
        answered(world)
        finished(world)
    assert next_seats(worlds[0]) == next_seats(worlds[1])


@Preset
def test_the_order_of_joining_does_not_change_who_sits_where(scenario: Scenario) -> None:
    seats = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        world = World(scenario, lambda gossip: [], fresh().seed, scripted_world(scenario, 0)[1])
        world.begin()
        for number in order:  # each signs the number that it was offered: only the log's order is the manager's
            world.state.apply(joining(world, scripted(number, world.gossip)))
        seats.append(next_seats(world))
    assert seats[0] == seats[1]


@Preset
def test_a_worker_that_leaves_and_comes_back_does_not_change_the_next_draw(scenario: Scenario) -> None:
    steady, toggled = fresh(6, scenario), fresh(6, scenario)
    for _ in range(3):
        toggled.manager.withdraw(2, "toggled")
        toggled.admit(toggled.players[2])
    assert next_seats(steady) == next_seats(toggled)


@Preset
def test_another_worker_changes_the_next_draw(scenario: Scenario) -> None:
    base, more = fresh(6, scenario), fresh(6, scenario)
    more.players.append(scripted(6, more.gossip))
    more.admit(more.players[6])
    assert next_seats(base) != next_seats(more)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 200))
def test_dice_are_uniform_integers_below_their_bound(seed: bytes, n: int) -> None:
    dice = Dice(seed)
    assert all(0 <= dice.below(n) < n for _ in range(20))
    assert sorted(dice.shuffle(range(n))) == list(range(n))


def test_dice_follow_the_specification() -> None:
    words = digest("dice/1", bytes(32), (0).to_bytes(8, "big"))
    dice = Dice(bytes(32))
    assert [dice.below(2**64) for _ in range(4)] == [int.from_bytes(words[i : i + 8], "big") for i in (0, 8, 16, 24)]


@given(st.binary(min_size=32, max_size=32))
def test_words_above_the_last_multiple_are_skipped(seed: bytes) -> None:
    bound = 3 * 2**62  # a quarter of all words is above it
    dice = Dice(seed)
    words = [dice.below(2**64) for _ in range(40)]
    again = Dice(seed)
    kept = [word for word in words if word < bound]
    assert [again.below(bound) for _ in kept] == kept


class Row(Dice):
    """Gives a row of words, and keeps what each was to be below."""

    def __init__(self, row: Iterable[int]) -> None:
        self.row, self.bounds = iter(row), []

    def below(self, n: int) -> int:
        self.bounds.append(n)
        return next(self.row)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (3, 2), (4, 2), (4, 4), (5, 3)])
def test_a_sample_is_every_arrangement_equally_often(n: int, count: int) -> None:
    """Exhaustive over what the dice can give: each row of words is as likely, and gives another arrangement."""

    found = []
    for row in product(*(range(n - i) for i in range(count))):
        dice = Row(row)
        found.append(tuple(dice.sample(n, count)))
        assert dice.bounds == [n - i for i in range(count)]
    assert sorted(found) == sorted(permutations(range(n), count))


def test_a_sample_costs_what_it_draws_however_many_there_are() -> None:
    class Counting(Dice):
        words = 0

        def _word(self) -> int:
            self.words += 1
            return super()._word()

    dice = Counting(bytes(32))
    tracemalloc.start()
    drawn = dice.sample(2**40, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(drawn)) == 100 and max(drawn) < 2**40
    assert dice.words < 120 and peak < 100_000


@given(st.binary(min_size=32, max_size=32), st.integers(1, 40), st.data())
def test_a_sample_is_the_beginning_of_the_whole_permutation(seed: bytes, n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    whole = Dice(seed).sample(n, n)
    assert sorted(whole) == list(range(n)) and Dice(seed).sample(n, count) == whole[:count]


def roster_of(workers: int, operators: Sequence[str] = ()) -> Roster:
    """Numbers with gaps, whose order is not that of the keys."""
    roster = Roster()
    for i in range(workers):
        roster.add(7 * i + 3, digest("test-key/1", i.to_bytes(8, "big")), operators[i] if operators else "", i)
    return roster


def dealt(options: RuleOptions, roster: Roster, shards: int, seed: bytes = b"", spares: int | None = None) -> Roles:
    """A round of all workers; as many spares as are drawn, if none are given."""
    dice = round_dice(digest("test-round/1", seed), b"beacon")
    drawn = options.spares_of(seed, 0, len(roster))
    return deal(dice, options, roster, drawn if spares is None else spares, shards)


def guarded(checked: float, own: float = 0.0, own_most: int = 1) -> RuleOptions:
    return ProtocolSpec(checked=checked, own=own, own_most=own_most).options


@given(st.binary(max_size=8), st.integers(3, 40))
def test_a_classic_deal_gives_each_shard_to_one_and_the_drawn_one_to_three(seed: bytes, workers: int) -> None:
    roster = roster_of(workers)
    roles = dealt(CLASSIC, roster, workers - 2, seed)
    counts = [list(roles.seats.values()).count(f) for f in range(workers - 2)]
    assert counts == [3 if f in roles.checked else 1 for f in range(workers - 2)]
    assert set(roles.seats) == set(roster.workers) and len(roles.group(roles.checked[0])) == 3 and not roles.own


@given(st.data())
def test_a_guarded_deal_gives_a_second_worker_to_as_many_shards_as_there_are_spares(data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, 30))
    roster = roster_of(workers, data.draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=30, max_size=30)))
    options = guarded(*data.draw(st.tuples(SHARES, SHARES, st.integers(0, 40))))
    spares = data.draw(st.integers(options.least_spares(workers), options.most_spares(workers)))
    shards = data.draw(st.integers(1, workers - spares))
    roles = dealt(options, roster, shards, data.draw(st.binary(max_size=4)), spares)
    counts = Counter(roles.seats.values())
    assert counts == {f: 1 + (f in roles.checked) for f in range(shards)}
    assert len(roles.checked) == min(spares, shards) and set(roles.seats) <= set(roster.workers)
    for picked in (roles.checked, roles.own):
        assert picked == sorted(set(picked)) and set(picked) <= set(range(shards))
    want = shards * options.own / MILLION
    least, most = (min(options.own_most, shards, n) for n in (math.floor(want), math.ceil(want)))
    assert least <= len(roles.own) <= most


SHARES = st.one_of(st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.floats(0, 1))


@given(st.integers(1, 400), st.integers(0, MILLION), st.binary(min_size=32, max_size=32))
def test_the_number_of_spares_is_the_share_of_the_shards_rounded_by_the_seed_and_one_at_least(
    workers: int, checked: int, seed: bytes
) -> None:
    options = msgspec.structs.replace(guarded(0.0), checked=checked)
    exact = Fraction(workers * checked, MILLION + checked)  # of n workers k are spares, if checked = k / (n - k)
    low, high = (min(workers // 2, max(checked > 0, n)) for n in (math.floor(exact), math.ceil(exact)))
    assert (options.least_spares(workers), options.most_spares(workers)) == (low, high)
    found = [options.spares_of(seed, round, workers) for round in range(8)]
    assert set(found) <= {low, high} and found == [options.spares_of(seed, round, workers) for round in range(8)]


def test_the_mean_number_of_spares_is_the_share() -> None:
    rounds = 20_000
    mean = sum(guarded(0.03).spares_of(bytes(32), round, 50) for round in range(rounds)) / rounds
    share = 50 * 0.03 / 1.03
    assert abs(mean - share) < 4 * math.sqrt((share - 1) * (2 - share) / rounds)
    assert {guarded(0.03).spares_of(bytes(32), round, 10) for round in range(99)} == {1}


@given(st.data())
def test_a_spare_is_of_another_operator_wherever_there_is_one(data: st.DataObject) -> None:
    """With so many tries that one which fits is found; with 64 it is missed by who has a few of very many.

    Spares take their turns: one of another operator may come to an unchecked shard when the turn is over of a spare
    that found none. So of the others those count that are where they were dealt.
    """
    workers = data.draw(st.integers(2, 12))
    roster = roster_of(workers, data.draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=12, max_size=12)))
    spares = data.draw(st.integers(1, workers // 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "TRIES", 2000)
        seed = data.draw(st.binary(max_size=4))
        roles = dealt(guarded(0.5), roster, workers - spares, seed, spares)
    places = round_dice(digest("test-round/1", seed), b"beacon").sample(workers, workers)
    same = {f for f in roles.checked if len({roster.operator(w) for w in roles.group(f)}) == 1}
    for shard in same:
        operator = roster.operator(roles.group(shard)[0])
        others = [(w, f) for w, f in roles.seats.items() if f not in roles.checked]
        rest = [roster.operator(w) for w, f in others if w == roster.at(places[f])]
        assert set(rest) <= {operator}


def test_with_no_other_operator_there_is_a_spare_all_the_same() -> None:
    roles = dealt(guarded(0.5), roster_of(9, ["a"] * 9), 6, spares=3)
    assert len(roles.checked) == 3 and len(roles.seats) == 9


def test_of_two_that_change_places_each_has_one_task() -> None:
    """Row by row: b's worker is dealt shard 0, and the spare of b's shard 1 is b's too: the two change places."""
    roster = roster_of(4)
    a, b, c, d = (roster.at(place) for place in range(4))
    for worker, operator in zip((a, b, c, d), "xbbb", strict=True):
        roster.workers[worker].operator = operator
    # Places: a, b, c, with d the spare; checked: shard 1; the first try is checked, the second has the operator.
    row = [0, 0, 0, 0, 1, 1, 2, 0, MILLION - 1]
    roles = deal(Row(row), guarded(0.5), roster, 1, 3)
    assert roles.seats == {d: 0, b: 1, c: 2, a: 1} and roles.checked == [1]


def test_each_arrangement_of_a_small_round_is_as_likely() -> None:
    """Exhaustive: three workers, two shards, one spare and one own shard."""
    roster, options, found = roster_of(3), guarded(0.5, own=0.5), Counter[object]()
    for row in product(range(3), range(2), range(1), range(2), [0], range(2)):
        dice = Row(row)
        roles = deal(dice, options, roster, 1, 2)
        assert dice.bounds == [3, 2, 1, 2, MILLION, 2]
        found[frozenset(roles.seats.items()), *roles.checked, *roles.own] += 1
    assert len(found) == 12 and set(found.values()) == {2}  # the two of a checked shard are alike


@pytest.mark.parametrize("options", [CLASSIC, guarded(0.5, own=0.5)], ids=["classic", "guarded"])
def test_everybody_is_checked_equally_often(options: RuleOptions) -> None:
    roster, checked, own = roster_of(9), Counter[int](), Counter[int]()
    rounds, seats = 3000, 0
    for i in range(rounds):
        roles = dealt(options, roster, 4, i.to_bytes(8, "big"), 2)
        checked.update(worker for shard in roles.checked for worker in roles.group(shard))
        own.update(worker for shard in roles.own for worker in roles.group(shard))
        seats += sum(len(roles.group(shard)) for shard in roles.own)
    assert near(checked, roster.workers, checked.total()) and checked.total() == rounds * (3 if options.votes else 4)
    assert near(own, roster.workers, seats) and bool(own) != options.votes


@pytest.mark.parametrize("spares", [1, 2])
def test_whether_a_shard_is_checked_says_nothing_of_whether_it_is_the_managers_own(spares: int) -> None:
    roster, both, rounds = roster_of(9), Counter[tuple[bool, bool]](), 4000
    for i in range(rounds):
        roles = dealt(guarded(0.5, own=0.5), roster, 4, i.to_bytes(8, "big"), spares)
        both[0 in roles.checked, 0 in roles.own] += 1
    for checked, own in product((True, False), repeat=2):
        chance = (spares / 4 if checked else 1 - spares / 4) * (1 / 4 if own else 3 / 4)
        assert abs(both[checked, own] - rounds * chance) < 5 * math.sqrt(rounds * chance)


def test_an_operators_own_workers_seldom_check_each_other() -> None:
    roster, seen = roster_of(40, ["a"] * 13 + [""] * 27), 0
    for i in range(500):
        roles = dealt(guarded(0.1), roster, 36, i.to_bytes(8, "big"), 4)
        seen += sum(len({roster.operator(w) for w in roles.group(f)}) == 1 for f in roles.checked)
    assert seen == 0


def near(times: Counter[int], among: Iterable[int], throws: int) -> bool:
    """Whether each came up as often as a uniform choice would let it, within 5 sigma, and nobody else did."""
    expected = throws / len(among := list(among))
    return set(times) <= set(among) and all(abs(times[w] - expected) <= 5 * math.sqrt(expected) for w in among)
