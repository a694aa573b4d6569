"""Each formula against the round that it describes, drawn in every way; and the figures that the design promised."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import pytest
from drawn_rounds import counted
from hypothesis import given
from hypothesis import strategies as st

from podlt.economics.formulas import (
    Detection,
    caught_within,
    classic,
    drawn,
    fakes_applied,
    guarded,
    likely_count,
    round_kinds,
    strangers,
    tasks_until,
)


def detection_of(workers: int, checked: float, own: float, members: int = 1, operators: int | None = None) -> Detection:
    return guarded(round_kinds(workers, checked, own), members, operators)


# -- against the draw ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "checked", "own", "members", "operator_of"),
    [
        (5, Fraction(1, 4), Fraction(1, 10), 2, None),  # one spare in each round
        (5, Fraction(3, 100), Fraction(2, 100), 3, None),  # hardly ever one
        (5, Fraction(2, 5), Fraction(1, 3), 2, None),  # one or two; the manager's seat at its limit
        (6, Fraction(1, 4), Fraction(1, 20), 4, [0, 0, 1, 1, 2, 2]),  # two operators of three are friends
        (4, Fraction(1, 4), Fraction(1, 20), 2, [0, 0, 1, 1]),  # one operator: it never meets itself
        (4, Fraction(1), Fraction(0), 2, None),  # every shard twice, and no own seat
    ],
)
def test_guarded_finds_what_counting_all_draws_finds(
    workers: int, checked: Fraction, own: Fraction, members: int, operator_of: list[int] | None
) -> None:
    exact = counted(workers, checked, own, members, operator_of)
    operators = len(set(operator_of)) if operator_of else None
    found = detection_of(workers, float(checked), float(own), members, operators)
    assert found.cost.spares == pytest.approx(float(exact.pop("spares")))
    assert found.cost.own == pytest.approx(float(exact.pop("own")))
    if not exact["paired_a_round"]:
        del exact["paired"]
    for name, value in exact.items():
        assert getattr(found, name) == pytest.approx(float(value)), name


@pytest.mark.parametrize(("workers", "members"), [(5, 2), (7, 3), (6, 4)])
def test_classic_finds_what_counting_all_groups_finds(workers: int, members: int) -> None:
    found = classic(workers, members)
    groups = list(combinations(range(workers), 3))
    share = Fraction(1, len(groups))
    friends = [sum(worker < members for worker in group) for group in groups]
    assert found.lone == pytest.approx(sum(share for group in groups if 0 in group))
    alone = sum(share for count in friends if count == 1)
    assert found.everything == pytest.approx(alone / members)
    unshared = Fraction(members) - sum(share * count for count in friends if count > 1)
    assert found.comparing == pytest.approx(alone / unshared)
    assert found.paired_a_round == pytest.approx(sum(share for count in friends if count > 1))
    assert found.framed_a_round == pytest.approx(sum(share for count in friends if count == 2))


@pytest.mark.parametrize(("hazard", "tasks", "convictions"), [(0.3, 7, 1), (0.3, 7, 2), (0.5, 4, 3), (0.9, 2, 2)])
def test_fakes_applied_are_what_walking_all_outcomes_counts(hazard: float, tasks: int, convictions: int) -> None:
    def walk(left: int, lives: int) -> float:
        if not left or not lives:
            return 0.0
        return hazard * walk(left - 1, lives - 1) + (1 - hazard) * (1 + walk(left - 1, lives))

    assert fakes_applied(hazard, tasks, convictions) == pytest.approx(walk(tasks, convictions))


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_likely_count_leaves_at_most_half_of_the_rest_on_each_side(trials: int, chance: float, share: float) -> None:
    low, high = likely_count(trials, chance, share)
    weights = [math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(trials + 1)]
    half = (1 - share) / 2 + 1e-9
    assert sum(weights[:low]) <= half and sum(weights[high + 1 :]) <= half
    assert sum(weights[: low + 1]) >= half - 2e-9 and sum(weights[high:]) >= half - 2e-9


def test_a_likely_count_of_a_million_is_near_its_mean_and_of_what_is_certain_is_exact() -> None:
    assert likely_count(10**6, 0.3) == (299_102, 300_898)
    assert likely_count(10, 0.0) == (0, 0) and likely_count(10, 1.0) == (10, 10) and likely_count(0, 0.5) == (0, 0)


# -- the figures of the design ---------------------------------------------------------------------------------------


def test_fifty_workers_cost_under_five_percent_and_a_fake_is_found_with_seven_point_seven() -> None:
    found = detection_of(50, 0.03, 0.02, members=10)
    assert found.cost.total == pytest.approx(0.0485, abs=5e-5)  # 0.03/1.03 + 0.02/1.03: the design's 4.86 was drawn
    assert found.lone == pytest.approx(0.077, abs=5e-4)
    assert found.comparing == pytest.approx(0.067, abs=5e-4)
    assert found.paired == pytest.approx(0.02)
    assert found.paired_a_round == pytest.approx(0.05, abs=5e-3)
    assert tasks_until(found.lone) == 87
    assert fakes_applied(found.lone, 10_000) == pytest.approx(1 / found.lone - 1)


def test_classic_costs_four_percent_at_fifty_workers_and_finds_a_fake_with_six() -> None:
    found = classic(50, members=10)
    assert (found.cost.total, found.lone) == (0.04, 0.06)
    assert tasks_until(found.lone) == 112 and tasks_until(0.1 * found.lone) == 1148
    assert fakes_applied(found.lone, 10_000) == pytest.approx((50 - 3) / 3)
    assert found.framed_a_round == pytest.approx(math.comb(10, 2) * 40 / math.comb(50, 3))
    assert found.paired == 0  # a majority is never caught


def test_the_managers_seat_is_one_task_a_round_however_many_workers_there_are() -> None:
    assert detection_of(1000, 0.03, 0.02).cost.own == pytest.approx(0.001)
    assert guarded(round_kinds(1000, 0.03, 0.02, own_most=None)).cost.own == pytest.approx(0.02 / 1.03)


def test_a_worker_that_knows_of_a_round_without_spare_fears_the_managers_seat_only() -> None:
    kinds = round_kinds(10, 0.03, 0.02)
    assert [kind.spares for kind in kinds] == [0, 1]
    assert kinds[0].hazard == pytest.approx(0.02) and kinds[0].chance == pytest.approx(1 - 0.3 / 1.03)


def test_a_spare_in_every_round_costs_five_workers_a_fifth_and_leaves_nothing_to_know() -> None:
    found = guarded(round_kinds(5, 0.03, 0.02, least_spares=1))
    assert found.cost.spares == pytest.approx(0.2) and found.lone == pytest.approx(1 - (1 - 2 / 5) * (1 - 0.02))
    assert round_kinds(50, 0.03, 0.02, least_spares=1) == round_kinds(50, 0.03, 0.02)


# -- what must hold everywhere -------------------------------------------------------------------------------------

shares = st.integers(0, 1000).map(lambda number: number / 1000)


@given(st.integers(2, 300), shares, shares, shares)
def test_more_checks_never_find_less_and_never_cost_less(workers: int, own: float, one: float, other: float) -> None:
    less, more = (detection_of(workers, checked, own) for checked in sorted((one, other)))
    assert less.lone <= more.lone + 1e-12 and less.cost.spares <= more.cost.spares + 1e-12


@given(st.integers(2, 300), shares, shares, shares)
def test_more_of_the_managers_own_work_never_finds_less(workers: int, checked: float, one: float, other: float) -> None:
    less, more = (detection_of(workers, checked, own, members=2) for own in sorted((one, other)))
    for name in ("lone", "everything", "comparing", "paired"):
        assert getattr(less, name) <= getattr(more, name) + 1e-12, name


@given(st.integers(4, 300), shares, shares, st.data())
def test_friends_are_found_less_often_and_never_less_often_than_the_managers_seat(
    workers: int, checked: float, own: float, data: st.DataObject
) -> None:
    members = data.draw(st.integers(1, workers - 1))
    found = guarded(round_kinds(workers, checked, own, own_most=None), members)
    assert 0 <= found.everything <= found.comparing + 1e-12 <= found.lone + 2e-12 <= 1 + 3e-12
    assert found.paired <= found.everything + 1e-9
    assert found.everything == pytest.approx(
        found.paired_share * found.paired + (1 - found.paired_share) * found.comparing
    )


@given(st.floats(0, 1000), st.integers(0, 1000))
def test_what_is_drawn_is_whole_and_the_expected_number_in_the_mean(expected: float, most: int) -> None:
    ways = drawn(expected, most)
    assert sum(chance for _, chance in ways) == pytest.approx(1)
    assert sum(number * chance for number, chance in ways) == pytest.approx(min(expected, most), abs=1e-9)
    assert max(number for number, _ in ways) <= most


@given(st.floats(1e-6, 0.999))
def test_the_tasks_until_a_conviction_are_the_fewest_that_give_its_chance(hazard: float) -> None:
    tasks = tasks_until(hazard)
    assert tasks is not None
    assert caught_within(hazard, tasks) >= 0.999 - 1e-9
    assert tasks == 1 or caught_within(hazard, tasks - 1) < 0.999 + 1e-9


def test_without_a_hazard_nobody_is_ever_caught() -> None:
    assert tasks_until(0) is None and caught_within(0, 10**9) == 0 and fakes_applied(0, 300) == 300


def test_one_operators_identities_never_share_a_shard() -> None:
    assert strangers(50, members=10, operators=5) == 1
    assert strangers(50, members=20, operators=5) == pytest.approx(30 / 40)
    assert strangers(50, members=10, operators=1) == strangers(50, members=10) == pytest.approx(40 / 49)
