"""Which unusually large updates the manager looks at, and how its budget bounds what that costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.program.outliers import MOST_SAVED, ROUNDS, OutlierBudget, left_by_the_false

ORDINARY = [1.0, 1.2, 0.8, 1.1, 0.9]


def looks(budget: OutlierBudget, squares: list[float], *, false: bool = False) -> list[int]:
    """One round: what is executed, in order, if whatever is executed turns out to be true, or false."""
    budget.begin_round()
    executed: list[int] = []
    while (shard := budget.choose(squares, executed)) is not None:
        executed.append(shard)
        budget.convicted(int(false))
    return executed


def test_the_largest_is_looked_at_first_and_each_conviction_pays_for_the_next_look() -> None:
    squares = [*ORDINARY, 500.0, 900.0, 700.0]
    assert looks(OutlierBudget(8), squares, false=True) == [6, 7, 5]


def test_a_round_of_fakes_beyond_the_saved_looks_is_found_whole() -> None:
    squares = [*[1.0] * 35, *[60.0 + i for i in range(15)]]
    assert sorted(looks(OutlierBudget(8), squares, false=True)) == list(range(35, 50))


def test_honest_outliers_cost_what_was_saved_and_no_more() -> None:
    budget, squares = OutlierBudget(8), [*ORDINARY, 500.0, 900.0, 700.0]
    found = [len(looks(budget, squares)) for _ in range(5 * ROUNDS)]
    assert found[0] == MOST_SAVED and sum(found) == MOST_SAVED + 5 - 1


def test_a_modest_outlier_is_looked_at_where_looks_are_to_spare_or_a_fake_was_found() -> None:
    modest = [*ORDINARY, 20.0]
    assert looks(OutlierBudget(8), modest) == [5]
    spent = OutlierBudget(8)
    looks(spent, modest)
    assert looks(spent, modest) == []
    spent.convicted(1)
    assert spent.choose(modest, []) == 5


def test_nothing_is_looked_at_without_a_clip_or_where_nothing_stands_out() -> None:
    assert looks(OutlierBudget(0), [*ORDINARY, 1e9]) == [] and looks(OutlierBudget(8), ORDINARY) == []
    assert looks(OutlierBudget(8), [0.0, 0.0]) == [] and looks(OutlierBudget(8), []) == []


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_is_left_to_who_executes_it_anyway(value: float) -> None:
    assert looks(OutlierBudget(8), [*ORDINARY, value]) == []


@given(st.lists(st.lists(st.floats(0, 1e9), min_size=1, max_size=9), max_size=200), st.integers(1, 100))
def test_without_a_conviction_looks_are_bounded_by_the_rounds(rounds: list[list[float]], clip: int) -> None:
    budget = OutlierBudget(clip)
    assert sum(len(looks(budget, squares)) for squares in rounds) <= MOST_SAVED + len(rounds) / ROUNDS


def test_what_else_a_liar_gave_alone_is_executed_and_what_an_honest_worker_gave_as_well_is_not() -> None:
    answers = {0: {1: b"false"}, 1: {1: b"x"}, 2: {1: b"y", 2: b"y"}, 3: {2: b"z"}, 4: {1: b"w", 3: b"w"}, 5: {3: b"u"}}
    assert left_by_the_false(answers, {0: b"true"}) == [1]
    assert left_by_the_false(answers, {0: b"true", 5: b"v"}) == [1, 4]
    assert left_by_the_false(answers, {0: b"false", 3: b"z"}) == []
