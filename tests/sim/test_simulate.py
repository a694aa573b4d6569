"""The simulator: the formulas of docs/THREATS.md, what each cheater comes to, and the same log from the same seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from podlt.errors import UsageError
from podlt.sim import simulate
from podlt.sim.simulate import SimulationResult
from podlt.verify import verify

SIGMAS = 4.0
"""The seeds are fixed, so a test either passes for ever or never; 4 sigma is beyond what an honest draw gives."""


def check_detection(result: SimulationResult, hazard: float, horizons: list[int]) -> None:
    """Caught within T rounds: 1 - (1 - h)^T (THREATS.md, formulas)."""
    runs = len(result.runs)
    for horizon in horizons:
        expected = 1 - (1 - hazard) ** horizon
        error = math.sqrt(expected * (1 - expected) / runs)
        assert abs(result.caught_within(horizon) - expected) < SIGMAS * error, horizon


def check_fakes(result: SimulationResult, workers: int) -> None:
    """Fakes applied before the removal: geometric with a/N a fake, so (N - 3)/3 in the mean, whatever the rate is."""
    chance = 3 / workers
    mean, spread = (1 - chance) / chance, math.sqrt(1 - chance) / chance
    assert abs(result.mean_fakes() - mean) < SIGMAS * spread / math.sqrt(len(result.runs))


def test_a_cheater_is_caught_as_fast_as_the_formula_says() -> None:
    result = simulate(7, {"always": 1}, rounds=100, seed=1, runs=200)
    check_detection(result, 3 / 7, [1, 2, 4])
    check_fakes(result, 7)


@pytest.mark.slow
def test_a_selective_cheater_lasts_longer_and_gets_as_many_fakes_in() -> None:
    result = simulate(6, {"selective:0.4": 1}, rounds=200, seed=2, runs=120)
    check_detection(result, 0.4 * 3 / 6, [1, 3, 6])
    check_fakes(result, 6)


@pytest.mark.slow
def test_a_thousand_runs_of_fifty_workers_detect_as_the_formula_says() -> None:
    result = simulate(50, {"always": 1}, rounds=400, seed=3, runs=1000)
    check_detection(result, 3 / 50, [1, 5, 10, 20, 40, 80])
    check_fakes(result, 50)
    assert all(run.honest_evicted == 0 and run.vested == 0 for run in result.runs)


@pytest.mark.slow
def test_a_thousand_runs_of_a_selective_cheater_detect_as_the_formula_says() -> None:
    result = simulate(20, {"selective:0.1": 1}, rounds=1500, seed=4, runs=1000)
    check_detection(result, 0.1 * 3 / 20, [10, 50, 100, 200])
    check_fakes(result, 20)


@pytest.mark.parametrize("cheat", ["always", "copycat", "selective:0.5"])
def test_lone_cheaters_are_evicted_and_no_honest_worker_is(cheat: str) -> None:
    run = simulate(12, {cheat: 3}, rounds=60, seed=5, whole=True).runs[0]
    assert len(run.evicted) == 3 and run.honest_evicted == 0 and run.outcome == "complete"
    assert run.forfeited > 0
    assert run.vested == 0 or cheat.startswith("selective")


@pytest.mark.parametrize("cheat", ["false-opening", "equivocator", "double-answer", "forger", "replayer"])
def test_false_messages_change_nothing_and_earn_nothing(cheat: str) -> None:
    run = simulate(8, {cheat: 2}, rounds=15, seed=6, whole=True).runs[0]
    honest = 2 if cheat == "replayer" else 0  # what it replays it computed once, and that was compared
    assert (run.fakes_applied, run.vested, run.honest_evicted, run.outcome) == (0, honest, 0, "complete")


@pytest.mark.parametrize("fault", ["silent:0.2", "crashing:0.2", "leaving:0.02", "thief"])
def test_faults_and_stolen_commitments_evict_nobody_and_apply_no_fake(fault: str) -> None:
    run = simulate(10, {fault: 3}, rounds=25, seed=7, whole=True).runs[0]
    assert (run.fakes_applied, run.honest_evicted, len(run.evicted), run.outcome) == (0, 0, 0, "complete")


def test_a_coalition_that_strikes_only_with_a_majority_beats_the_vote_as_threats_says() -> None:
    run = simulate(15, {"majority": 4}, rounds=80, seed=8).runs[0]
    assert run.evicted == {} and run.honest_evicted > 0 and run.fakes_applied > 0


def test_the_same_seed_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    cast = {"selective:0.5": 2, "crashing:0.2": 1}
    heads = [simulate(8, cast, rounds=12, seed=seed, whole=True).runs[0].head for seed in (1, 1, 2)]
    assert heads[0] == heads[1] != heads[2]
    kept = simulate(8, cast, rounds=12, seed=1, whole=True, directory=tmp_path).runs[0]
    assert kept.head == heads[0]
    assert verify(tmp_path, jobs=1).ok


def test_impossible_simulations_are_refused_with_a_reason(tmp_path: Path) -> None:
    for arguments in (
        {"workers": 2},
        {"workers": 4, "cheaters": {"always": 5}},
        {"cheaters": {"nobody": 1}},
        {"cheaters": {"selective:2": 1}},
        {"rounds": 0},
        {"runs": 2, "directory": tmp_path},
    ):
        with pytest.raises(UsageError):
            simulate(**arguments)  # type: ignore[arg-type]
