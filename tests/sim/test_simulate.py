"""The simulator: the formulas of docs/THREATS.md, what each cheater comes to, and the same log from the same seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from small_runs import CLASSIC, OFTEN

from podlt.errors import UsageError
from podlt.recipe import ProtocolSpec
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


def check_fakes(result: SimulationResult, hazard: float) -> None:
    """Fakes applied before the removal: geometric with the hazard a fake, so (1 - h)/h in the mean at any rate."""
    mean, spread = (1 - hazard) / hazard, math.sqrt(1 - hazard) / hazard
    assert abs(result.mean_fakes() - mean) < SIGMAS * spread / math.sqrt(len(result.runs))


def classic_hazard(workers: int) -> float:
    """One shard a round is compared, by three workers."""
    return 3 / workers


def guarded_hazard(workers: int, checked: float, own: float = 0.0, own_most: int = 1) -> float:
    """Of N workers 2k are compared, with k = N c / (1 + c) in the mean, and the others' shards executed: o of F."""

    def share(mean: float, most: int) -> list[tuple[int, float]]:
        low = math.floor(mean)
        return [(min(most, low), 1 - (mean - low)), (min(most, low + 1), mean - low)]

    unseen = 0.0
    for spares, chance in share(workers * checked / (1 + checked), workers // 2):
        shards = workers - spares
        for executed, other in share(shards * own, min(own_most, shards)):
            unseen += chance * other * (1 - 2 * spares / workers) * (1 - executed / shards)
    return 1 - unseen


def test_a_cheater_is_caught_as_fast_as_the_formula_says() -> None:
    result = simulate(7, {"always": 1}, rounds=100, seed=1, runs=200, protocol=CLASSIC)
    check_detection(result, classic_hazard(7), [1, 2, 4])
    check_fakes(result, classic_hazard(7))


@pytest.mark.parametrize(
    ("checked", "own"),
    [
        pytest.param(0.2, 0.0, marks=pytest.mark.slow),
        pytest.param(0.0, 0.3, marks=pytest.mark.slow),
        pytest.param(0.15, 0.2),
    ],
    ids=["spares", "the manager", "both"],
)
def test_guarded_catches_a_cheater_as_fast_as_the_formula_says(checked: float, own: float) -> None:
    rules = ProtocolSpec(checked=checked, own=own, own_most=3)
    result = simulate(8, {"always": 1}, rounds=100, seed=1, runs=100, protocol=rules)
    hazard = guarded_hazard(8, checked, own, 3)
    check_detection(result, hazard, [1, 2, 4, 8])
    check_fakes(result, hazard)
    assert all(run.honest_convicted == 0 for run in result.runs)


@pytest.mark.slow
def test_a_selective_cheater_lasts_longer_and_gets_as_many_fakes_in() -> None:
    result = simulate(6, {"selective:0.4": 1}, rounds=200, seed=2, runs=120, protocol=CLASSIC)
    check_detection(result, 0.4 * classic_hazard(6), [1, 3, 6])
    check_fakes(result, classic_hazard(6))


@pytest.mark.slow
def test_a_thousand_runs_of_fifty_workers_detect_as_the_formula_says() -> None:
    result = simulate(50, {"always": 1}, rounds=400, seed=3, runs=1000, protocol=CLASSIC)
    check_detection(result, classic_hazard(50), [1, 5, 10, 20, 40, 80])
    check_fakes(result, classic_hazard(50))
    assert all(run.honest_convicted == 0 and run.vested == 0 for run in result.runs)


@pytest.mark.slow
def test_a_thousand_guarded_runs_of_fifty_workers_detect_as_the_formula_says() -> None:
    result = simulate(50, {"always": 1}, rounds=400, seed=3, runs=1000)
    hazard = guarded_hazard(50, 0.03, 0.02)
    check_detection(result, hazard, [1, 5, 10, 20, 40, 80])
    check_fakes(result, hazard)
    assert all(run.honest_convicted == 0 for run in result.runs)


@pytest.mark.slow
def test_a_thousand_runs_of_a_selective_cheater_detect_as_the_formula_says() -> None:
    result = simulate(20, {"selective:0.1": 1}, rounds=1500, seed=4, runs=1000, protocol=CLASSIC)
    check_detection(result, 0.1 * classic_hazard(20), [10, 50, 100, 200])
    check_fakes(result, classic_hazard(20))


@pytest.mark.parametrize(
    ("cheat", "rules"),
    [
        ("always", CLASSIC),
        ("selective:0.5", CLASSIC),
        ("always", OFTEN),
        ("selective:0.5", OFTEN),
        ("copycat", OFTEN),  # in classic two that copy the same outvote whoever is third
    ],
)
def test_lone_cheaters_are_convicted_and_no_honest_worker_is(cheat: str, rules: ProtocolSpec) -> None:
    run = simulate(12, {cheat: 3}, rounds=60, seed=1, whole=True, protocol=rules).runs[0]
    assert len(run.convicted) == 3 and run.honest_convicted == 0 and run.outcome == "complete"
    assert run.forfeited > 0
    assert run.vested == 0 or cheat.startswith("selective")


@pytest.mark.parametrize("rules", [CLASSIC, OFTEN], ids=["classic", "guarded"])
@pytest.mark.parametrize("cheat", ["false-opening", "equivocator", "double-answer", "forger", "replayer"])
def test_false_messages_change_nothing_and_earn_nothing(cheat: str, rules: ProtocolSpec) -> None:
    run = simulate(8, {cheat: 2}, rounds=15, seed=6, whole=True, shard_size=1, protocol=rules).runs[0]
    honest = 2 if cheat == "replayer" else 0  # what it replays it computed once
    assert (run.fakes_applied, run.vested, run.honest_convicted, run.outcome) == (0, honest, 0, "complete")


@pytest.mark.parametrize("fault", ["silent:0.2", "crashing:0.2", "leaving:0.02", "thief"])
def test_faults_and_stolen_commitments_convict_nobody_and_apply_no_fake(fault: str) -> None:
    run = simulate(10, {fault: 3}, rounds=25, seed=7, whole=True, protocol=OFTEN).runs[0]
    assert (run.fakes_applied, run.honest_convicted, len(run.convicted), run.outcome) == (0, 0, 0, "complete")


def test_a_coalition_that_strikes_only_with_a_majority_beats_the_vote_as_threats_says() -> None:
    run = simulate(15, {"majority": 4}, rounds=80, seed=8, protocol=CLASSIC).runs[0]
    assert run.convicted == {} and run.honest_convicted > 0 and run.fakes_applied > 0


def test_a_coalition_that_agrees_on_its_fakes_convicts_nobody_else_and_is_found_by_the_managers_own_seat() -> None:
    spares = simulate(15, {"majority": 4}, rounds=80, seed=8, protocol=ProtocolSpec(checked=0.6, own=0.0)).runs[0]
    assert spares.convicted == {} and spares.honest_convicted == 0 and spares.fakes_applied > 0
    both = simulate(15, {"majority": 4}, rounds=60, seed=10, runs=6, protocol=OFTEN, whole=True).runs
    assert all(run.honest_convicted == 0 for run in both) and any(len(run.convicted) == 4 for run in both)


def test_the_same_seed_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    cast = {"selective:0.5": 2, "crashing:0.2": 1}
    heads = [simulate(8, cast, rounds=12, seed=seed, whole=True).runs[0].head for seed in (1, 1, 2)]
    assert heads[0] == heads[1] != heads[2]
    kept = simulate(8, cast, rounds=12, seed=1, whole=True, directory=tmp_path).runs[0]
    assert kept.head == heads[0]
    assert verify(tmp_path, jobs=1).ok


def test_impossible_simulations_are_refused_with_a_reason(tmp_path: Path) -> None:
    for arguments in (
        {"workers": 0},
        {"workers": 2, "protocol": CLASSIC},
        {"workers": 4, "cheaters": {"always": 5}},
        {"cheaters": {"nobody": 1}},
        {"cheaters": {"selective:2": 1}},
        {"rounds": 0},
        {"runs": 2, "directory": tmp_path},
    ):
        with pytest.raises(UsageError):
            simulate(**arguments)  # type: ignore[arg-type]
