"""The best response: against a search of all policies, and against what the design says of escrow and deposits."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.economics.deterrence import deposit_for_all, deposit_from_the_start, escrow_from_the_start
from podlt.economics.response import BestResponse, Situation, Stakes

LONE = 0.0771
COST = 0.9
TASKS = 300


def worked_out(stakes: Stakes, hazard: float = LONE, tasks: int = TASKS) -> BestResponse:
    return BestResponse(stakes, [Situation(1.0, hazard, COST)], tasks).work_out()


def value_by_search(stakes: Stakes, situations: list[Situation], tasks: int) -> float:
    """The best response by recursion over a queue of credits, first in first out, as the rules have it."""

    @cache
    def begin(left: int, lives: int, held: int = 0) -> float:
        return best(left, held, lives) - stakes.deposit

    @cache
    def best(left: int, held: int, lives: int, moved: bool = False) -> float:
        whole = max(0, held) * stakes.reward + stakes.deposit
        if not left:
            return whole
        ways = [sum(each.chance * max(work(left, held, lives, each)) for each in situations)]
        if stakes.may_leave:
            ways.append(whole)
            if left > stakes.escrow > 0:
                ways.append(whole + begin(left - stakes.escrow, lives, min(0, held)))
            if stakes.new_key is not None and not moved:  # twice in a row gains nothing
                fresh = best(left, 0, stakes.convictions, True) - stakes.deposit
                ways.append(whole + fresh - stakes.new_key)
        return max(ways)

    def work(left: int, held: int, lives: int, each: Situation) -> tuple[float, float]:
        vests = held == stakes.escrow
        paid = best(left - 1, held if vests else held + 1, lives) + (stakes.reward if vests else 0.0)
        after = [0.0]
        if lives > 1:
            after.append(begin(left - 1, lives - 1, max(0, held) - stakes.escrow))
        if stakes.new_key is not None:
            after.append(begin(left - 1, stakes.convictions) - stakes.new_key)
        return paid - each.cost, (1 - each.hazard) * paid + each.hazard * max(after)

    return begin(tasks, stakes.convictions)


stakes_drawn = st.builds(
    Stakes,
    reward=st.just(1.0),
    escrow=st.integers(0, 6),
    deposit=st.integers(0, 12).map(float),
    convictions=st.integers(1, 2),
    new_key=st.none() | st.integers(0, 5).map(float),
    may_leave=st.booleans(),
)
situations_drawn = st.builds(
    lambda chance, one, other, cost: [Situation(chance, one, cost), Situation(1 - chance, other, cost / 2)],
    st.floats(0.1, 0.9),
    st.just(0.0) | st.floats(0.01, 0.5),
    st.just(0.0) | st.floats(0.01, 0.5),
    st.floats(0, 1.2),
)


@given(stakes_drawn, situations_drawn, st.integers(1, 14))
def test_the_programme_finds_what_a_search_of_all_policies_finds(
    stakes: Stakes, situations: list[Situation], tasks: int
) -> None:
    found = BestResponse(stakes, situations, tasks).work_out()
    assert found.values[tasks] == pytest.approx(value_by_search(stakes, situations, tasks), abs=1e-6)


@given(stakes_drawn, situations_drawn, st.integers(1, 14), st.integers(0, 5))
def test_more_escrow_or_deposit_never_makes_cheating_pay_more(
    stakes: Stakes, situations: list[Situation], tasks: int, more: int
) -> None:
    before = BestResponse(stakes, situations, tasks).work_out()
    for name in ("escrow", "deposit"):
        harder = msgspec.structs.replace(stakes, **{name: getattr(stakes, name) + more})
        assert BestResponse(harder, situations, tasks).work_out().values[tasks] <= before.values[tasks] + 1e-6


@given(stakes_drawn, situations_drawn, st.integers(1, 14))
def test_what_is_said_to_deter_does_and_one_credit_less_does_not(
    stakes: Stakes, situations: list[Situation], tasks: int
) -> None:
    def gain(**changed: float) -> float:
        return BestResponse(msgspec.structs.replace(stakes, **changed), situations, tasks).work_out().gain()

    deposit = deposit_from_the_start(stakes, situations, tasks)
    if deposit is not None:
        assert gain(deposit=float(deposit)) == 0
        assert not deposit or gain(deposit=deposit - 1.0) > 0
    escrow = escrow_from_the_start(stakes, situations, tasks)
    if escrow is not None:
        assert gain(deposit=0.0, escrow=escrow) == 0
        assert not escrow or gain(deposit=0.0, escrow=escrow - 1) > 0
    else:
        assert gain(deposit=0.0, escrow=tasks) > 0
    for_all = deposit_for_all(stakes, situations)
    if for_all is not None:
        safe = BestResponse(msgspec.structs.replace(stakes, deposit=float(for_all)), situations, tasks).work_out()
        assert all(safe.gain(left) == 0 for left in range(1, tasks + 1))


# -- the figures of the design: 300 tasks, reward 1, cost 0.9, so that honest work gains 30 ---------------------------


@pytest.mark.parametrize(
    ("hazard", "escrow", "deposit", "value"),
    [(0.077, 50, 0, 47), (0.05, 50, 0, 56), (0.077, 25, 25, 30), (0.05, 25, 25, 30), (0.077, 0, 0, 277)],
)
def test_free_keys_gain_what_the_design_says_if_nobody_may_leave(
    hazard: float, escrow: int, deposit: float, value: int
) -> None:
    stakes = Stakes(escrow=escrow, deposit=deposit, new_key=0.0, may_leave=False)
    assert round(worked_out(stakes, hazard).values[TASKS]) == value


@pytest.mark.parametrize("escrow", [10, 25, 50, 300])
def test_free_keys_make_any_escrow_worthless_as_who_leaves_is_paid(escrow: int) -> None:
    """The design has 277 for pay at once only. But what is paid later to who has left cannot be lost meanwhile."""
    stakes = Stakes(escrow=escrow, new_key=0.0)
    assert round(worked_out(stakes, 0.077).values[TASKS]) == 277
    assert escrow_from_the_start(stakes, [Situation(1.0, 0.077, COST)], TASKS) is None
    assert deposit_from_the_start(stakes, [Situation(1.0, 0.077, COST)], TASKS) == 11  # 0.9/0.077 - 1


@pytest.mark.parametrize(("escrow", "value"), [(10, 30.2), (25, 30.0), (50, 30.0)])
def test_keys_by_invitation_need_no_deposit_if_nobody_may_leave(escrow: int, value: float) -> None:
    assert worked_out(Stakes(escrow=escrow, may_leave=False), 0.077).values[TASKS] == pytest.approx(value, abs=0.05)


def test_keys_by_invitation_need_thirty_five_tasks_of_escrow_if_who_left_may_return_once_paid() -> None:
    assert worked_out(Stakes(escrow=10)).values[TASKS] == pytest.approx(32.9, abs=0.05)
    assert worked_out(Stakes(escrow=25)).values[TASKS] == pytest.approx(31.0, abs=0.05)
    assert worked_out(Stakes(escrow=50)).gain() == 0
    assert escrow_from_the_start(Stakes(), [Situation(1.0, LONE, COST)], TASKS) == 35


def test_a_first_conviction_that_only_suspends_costs_what_an_escrow_holds_and_deters_as_eviction_does() -> None:
    stakes = Stakes(convictions=2)
    assert worked_out(stakes).gain() == 0
    assert escrow_from_the_start(stakes, [Situation(1.0, LONE, COST)], TASKS) == 35
    assert escrow_from_the_start(Stakes(), [Situation(1.0, LONE, COST)], TASKS) == 35


def test_who_joins_for_the_last_tasks_has_little_to_lose_but_a_deposit() -> None:
    found = worked_out(Stakes())
    assert found.gain() == 0 and found.gain(10) == pytest.approx(3.48, abs=0.01)
    assert deposit_for_all(Stakes(), [Situation(1.0, LONE, COST)]) == 11


def test_a_fake_that_nobody_sees_is_deterred_by_nothing() -> None:
    unseen = [Situation(0.99, LONE, COST), Situation(0.01, 0.0, COST)]
    assert deposit_for_all(Stakes(), unseen) is None
    assert deposit_from_the_start(Stakes(), unseen, TASKS) is None
    assert escrow_from_the_start(Stakes(), unseen, TASKS) is None


def test_work_that_costs_more_than_it_pays_is_left_and_not_faked_if_that_is_dear() -> None:
    found = BestResponse(Stakes(deposit=50.0), [Situation(1.0, 0.1, 1.1)], 20).work_out()
    assert found.values[20] == 0 and found.action(20, 0, 1) == "leave" and found.gain() == 0


def test_the_actions_say_where_the_best_response_fakes() -> None:
    stakes = Stakes(convictions=2)
    found = worked_out(stakes)
    assert found.action(300, 0, 2) == "honest" and found.action(10, 0, 2) == "fake"
    assert found.after_conviction(299, 1, -50) == "return" and found.action(299, -50, 1) == "fake"  # nothing to lose
    assert worked_out(stakes, tasks=900).after_conviction(899, 1, -50) == "return"
    assert worked_out(stakes, tasks=900).action(899, -50, 1) == "honest"  # suspended once: its last life
    assert worked_out(Stakes(new_key=0.0)).action(300, 1, 1) == "new_key"
    assert worked_out(Stakes(escrow=10)).action(20, 10, 1) == "return"


@pytest.mark.parametrize(
    "stakes",
    [Stakes(convictions=2, deposit=2.0), Stakes(escrow=3), Stakes(new_key=0.0, deposit=5.0), Stakes(new_key=1.0)],
)
def test_playing_the_actions_gives_the_value_and_the_fakes(stakes: Stakes) -> None:
    """The policy, followed through all of its chances: what the simulator's rational cheater earns."""
    situations = [Situation(0.7, 0.2, COST), Situation(0.3, 0.05, COST / 2)]
    found = BestResponse(stakes, situations, 16).work_out()

    @cache
    def follow(left: int, held: int, lives: int) -> tuple[float, float]:
        whole = max(0, held) * stakes.reward + stakes.deposit
        if not left:
            return whole, 0.0
        sums = [0.0, 0.0]
        for number, each in enumerate(situations):
            value, fakes = play(left, held, lives, number, each, whole)
            sums[0] += each.chance * value
            sums[1] += each.chance * fakes
        return sums[0], sums[1]

    def play(left: int, held: int, lives: int, number: int, each: Situation, whole: float) -> tuple[float, float]:
        action = found.action(left, held, lives, number)
        if action == "leave":
            return whole, 0.0
        if action in ("return", "new_key"):
            again = (left - stakes.escrow, lives) if action == "return" else (left, stakes.convictions)
            value, fakes = follow(again[0], 0, again[1])
            price = stakes.new_key or 0.0 if action == "new_key" else 0.0
            return whole + value - stakes.deposit - price, fakes
        vests = held == stakes.escrow
        value, fakes = follow(left - 1, held if vests else held + 1, lives)
        value += stakes.reward if vests else 0.0
        if action == "honest":
            return value - each.cost, fakes
        owes = max(0, held) - stakes.escrow
        next_step, caught = found.after_conviction(left - 1, lives - 1, owes) if left > 1 else "leave", (0.0, 0.0)
        if next_step != "leave":
            price, allowed, again = (0.0, lives - 1, owes)
            if next_step == "new_key":
                price, allowed, again = stakes.new_key or 0.0, stakes.convictions, 0
            again_value, again_fakes = follow(left - 1, again, allowed)
            caught = again_value - stakes.deposit - price, again_fakes
        stays = 1 - each.hazard
        return stays * value + each.hazard * caught[0], 1 + stays * fakes + each.hazard * caught[1]

    value, fakes = follow(16, 0, stakes.convictions)
    assert value - stakes.deposit == pytest.approx(found.values[16])
    assert fakes == pytest.approx(found.fakes[16])
