"""Unequal machines over the simulated network: the slowest does not set the pace, and nobody holds the others up."""

from __future__ import annotations

import pytest

from podlt.bench import unequal
from podlt.protocol import entries as e
from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld
from podlt.sim.networks import broken_promises


def world(machines: list[float], rounds: int, examples: int = 32, **faults: float) -> NetworkedWorld:
    wrong = NetworkFaults(compute=0.1, machines=tuple(machines), delay=0.001, until=0.0, **faults)  # type: ignore[arg-type]
    found = NetworkedWorld([1] * len(machines), rounds, 3, wrong, examples=examples)
    found.run()
    assert not found.fakes_applied and not list(broken_promises(found))
    return found


def entries_of(found: NetworkedWorld) -> list[e.AnyEntry]:
    return [e.decode(body) for _, _, body in found.memory_log.rows]


def test_equal_machines_have_no_levels_no_backups_and_nobody_is_let_go() -> None:
    found = world([1.0] * 6, 30)
    assert not any(isinstance(entry, e.Shares | e.Redeal | e.Withdraw) for entry in entries_of(found))


def test_the_slowest_of_five_sets_no_pace_and_is_paid() -> None:
    found = world([1.0] * 4 + [12.0], 30)
    slow = next(n for n, worker in found.state.workers.items() if worker.key == found.players[4].key.public)
    assert found.state.workers[slow].level <= -4 and not found.withdrawn
    assert max(found.took[-10:]) < 0.2 < 1.0 < found.took[0] < 1.5
    account = found.state.ledger.accounts[slow]
    assert account.vested > 0 and sum(isinstance(entry, e.Shares) for entry in entries_of(found)) <= 2


def test_equal_shares_stay_equal_and_only_backups_help() -> None:
    wrong = NetworkFaults(compute=0.1, machines=(1.0, 1.0, 1.0, 12.0), delay=0.001, until=0.0)
    found = NetworkedWorld([1] * 4, 8, 3, wrong, examples=32, shares="equal")
    found.run()
    kinds = [type(entry) for entry in entries_of(found)]
    assert e.Shares not in kinds and e.Withdraw not in kinds and e.Redeal in kinds


def test_what_is_late_goes_to_somebody_else_and_both_are_paid_where_both_answer() -> None:
    found = world([1.0] * 7 + [20.0], 4)
    redeals = [entry for entry in entries_of(found) if isinstance(entry, e.Redeal)]
    assert redeals and not found.withdrawn
    found = world([1.0] * 7, 3, withheld=1, withheld_seconds=1.5)
    assert any(isinstance(entry, e.Redeal) for entry in entries_of(found))


def test_who_answers_at_the_last_moment_is_let_go_for_ever_longer_and_paid_for_what_it_did() -> None:
    found = world([1.0] * 6, 200, withheld=1, withheld_seconds=0.95)
    vice = next(n for n, worker in found.state.workers.items() if worker.key == found.players[0].key.public)
    assert 2 <= len(found.withdrawn) <= 4 and all("too slow" in reason for reason in found.withdrawn)
    assert sum(seconds > 0.5 for seconds in found.took) <= 12
    assert found.state.ledger.accounts[vice].vested > 0 and vice not in found.convicted_in


def test_two_that_stand_in_for_each_other_do_not_stop_a_round_for_long() -> None:
    found = world([1.0] * 4, 12, withheld=2, withheld_seconds=40.0)
    assert max(found.took) < 6.0


@pytest.mark.slow
def test_the_figures_of_the_bench_are_within_what_the_project_promises() -> None:
    found = unequal.measure(8, 120, 3000)
    assert found["unequal_over_equal"] >= 0.9
    assert found["cost_of_the_vice"] <= 0.05
