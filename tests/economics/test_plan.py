"""The plan that is made of formulas and programme, and its words."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from podlt.economics.batches import options_of
from podlt.economics.formulas import guarded, round_kinds
from podlt.economics.options import Assumptions, ProofOptions
from podlt.economics.plan import COMPARING, LONE, make_plan, players
from podlt.economics.response import MAX_STATES
from podlt.economics.words import advice, one_line

EVICTS = ProofOptions(first_fault="evict")
FAULTS: list[Literal["evict", "suspend"]] = ["evict", "suspend"]
KEYS: list[Literal["invited", "free"]] = ["invited", "free"]


@pytest.mark.parametrize(
    ("workers", "options", "rounds", "line"),
    [
        (50, EVICTS, 300, "proof: guarded, costs 4.9%; a fake is caught with 7.7% a task, 99.9% within 87 tasks"),
        (
            50,
            EVICTS,
            30,
            "proof: guarded, costs 4.9%; a fake is caught with 7.7% a task, 99.9% within 87 tasks, "
            "91% within this run's 30",
        ),
        (
            50,
            EVICTS,
            82,
            "proof: guarded, costs 4.9%; a fake is caught with 7.7% a task, 99.9% within 87 tasks, "
            "99.9% within this run's 82",
        ),
        (
            5,
            ProofOptions(preset="classic"),
            300,
            "proof: classic, costs 40.0%; a fake is caught with 60.0% a task, 99.9% within 8 tasks; "
            "with 5 workers 2 of 5 tasks repeat another; two friends in a group of three outvote the third",
        ),
        (
            10,
            ProofOptions(checked=0.25),
            300,
            "proof: guarded, costs 21.6%; a fake is caught with 41.2% a task, 99.9% within 14 tasks; "
            "20% of the tasks repeat another, the manager executes 2%",
        ),
        (
            50,
            ProofOptions(own=0.0),
            300,
            "proof: guarded, costs 2.9%; a fake is caught with 5.8% a task, 99.9% within 116 tasks; "
            "own = 0: a fake by friends who hold a shard alone is never caught",
        ),
        (
            50,
            ProofOptions(own=0.0, checked=0.0),
            300,
            "proof: guarded, costs 0.0%; a fake is never caught; "
            "own = 0: a fake by friends who hold a shard alone is never caught",
        ),
    ],
)
def test_one_line_says_what_the_proof_costs_and_finds(
    workers: int, options: ProofOptions, rounds: int, line: str
) -> None:
    assert one_line(workers, options, rounds) == line


def test_the_last_shard_tells_something_where_rounds_without_spares_are() -> None:
    few = {each.who: each for each in make_plan(EVICTS, Assumptions(workers=10)).incentives}
    many = {each.who: each for each in make_plan(EVICTS, Assumptions(workers=50)).incentives}
    assert few[LONE].gain == 0 and many[LONE].gain == 0


def test_with_the_manager_friends_are_seen_by_strangers_only() -> None:
    alone, friends = (make_plan(EVICTS, Assumptions(coalition=share)).unpunished for share in (0.0, 0.2))
    assert alone.with_manager == pytest.approx(1 - 2 * 0.03 / 1.03)
    assert friends.with_manager == pytest.approx(1 - 2 * 0.03 / 1.03 * 40 / 49)


def test_a_situation_that_is_told_apart_leaves_the_mean_hazard_as_it_is() -> None:
    kinds = round_kinds(10, 0.03, 0.02)
    shown = players(EVICTS, Assumptions(workers=10), kinds, guarded(kinds, members=2))
    assert sum(each.chance for each in shown[LONE].situations) == pytest.approx(1)
    assert sum(each.chance * each.hazard for each in shown[LONE].situations) == pytest.approx(guarded(kinds).lone)


def test_a_recipes_terms_become_options_with_the_reward_of_a_task() -> None:
    protocol = {"preset": "guarded", "spares": 2, "checked": None, "own": 0.1, "reward": 3}
    assert options_of(protocol, 20) == ProofOptions(own=0.1, reward=60)
    assert options_of({}, 20) == ProofOptions()


def test_a_coalition_of_one_operator_never_shares_a_shard_and_is_as_good_as_alone() -> None:
    plan = make_plan(EVICTS, Assumptions(operators=5))
    found = {each.who: each for each in plan.incentives}
    assert plan.unpunished.shards_a_round == 0 and plan.shared_work == 0
    assert found[COMPARING].deposit_for_all == 11 < found[LONE].deposit_for_all  # who waits for few spares risks less


def test_suspending_doubles_the_fakes_before_an_eviction() -> None:
    assumed = Assumptions(rounds=400, coalition=0)
    evicted, suspended = (make_plan(ProofOptions(first_fault=fault), assumed).cheats[0] for fault in FAULTS)
    assert suspended.applied == pytest.approx(2 * evicted.applied) and suspended.tasks == evicted.tasks


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("workers", [5, 50, 400])
def test_the_deposit_of_the_plan_makes_honesty_the_best_response(
    keys: Literal["invited", "free"], fault: Literal["evict", "suspend"], workers: int
) -> None:
    options, assumed = ProofOptions(first_fault=fault), Assumptions(workers=workers, rounds=60, keys=keys)
    plan = make_plan(options, assumed)
    deposit = max(each.deposit_for_all or 0 for each in plan.incentives)
    safe = make_plan(msgspec.structs.replace(options, deposit=deposit), assumed)
    assert all(each.gain == 0 and each.late_gain == 0 and each.fakes == 0 for each in safe.incentives)
    assert len(advice(safe)) == 1 and "honesty is the best response" in advice(safe)[0]


def test_advice_names_escrow_where_it_is_enough_and_says_where_it_is_not() -> None:
    short = msgspec.structs.replace(EVICTS, escrow=5)
    assert "an escrow of 39 without one" in advice(make_plan(short, Assumptions()))[0]
    assert "no escrow does" in advice(make_plan(EVICTS, Assumptions(keys="free")))[0]
    assert "nobody has a reason" in advice(make_plan(EVICTS, Assumptions(cost=1.5, rounds=10)))[0]


def test_a_very_long_run_is_worked_out_for_so_many_tasks_as_take_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    few = MAX_STATES // 20
    monkeypatch.setattr("podlt.economics.plan.MAX_STATES", few)
    plan = make_plan(msgspec.structs.replace(EVICTS, escrow=10_000), Assumptions(rounds=10**6, coalition=0))
    assert plan.tasks_worked_out == few // 10_001 > 1 and plan.cheats[0].caught == 1
