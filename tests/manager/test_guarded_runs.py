"""Whole runs by the guarded rules: the manager's own seat, clipping, few workers, and what a fake can do to a model."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from near_hosts import train_near
from small_runs import Trained, entries, seeded, small_recipe, tiny_recipe
from torch import nn
from torch.nn import functional

import podlt
from podlt.errors import EngineError
from podlt.execution import adversary
from podlt.execution.adversary import Execute, Execution
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.round_driver import RoundDriver
from podlt.manager.weights import Average, Weights
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import LossSpec, ProtocolSpec
from podlt.verify import verify

NOBODY = ProtocolSpec(checked=0.0, own=0.0)
"""Nobody is compared, and nothing executed by the manager unless it must be."""


def filling(value: float, places: slice = slice(None)) -> Any:
    """A cheat that fills (a part of) its update with a number."""

    def cheat(honest: Execute, seed: bytes) -> Execute:
        def execute(work: Execution) -> None:
            honest(work)
            work.floats[places] = np.float32(value)
            work.faked = True

        return execute

    return cheat


@pytest.fixture(autouse=True)
def huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cheat whose every value is 1e30."""
    monkeypatch.setitem(adversary.CHEATS, "huge", filling(1e30))


def of(run: Path, kind: type[Any]) -> list[Any]:
    return [entry for entry in entries(run) if isinstance(entry, kind)]


def fakes_applied(run: Path) -> list[int]:
    """The rounds in which a fake was applied."""
    return [line["round"] for line in map(json.loads, (run / "rounds.jsonl").open()) if line["applied"]]


def failing(run: Path) -> list[Claim]:
    assert verify(run, jobs=1).ok
    return [finding.claim for finding in audit(run, 1.0, jobs=1).findings if finding.outcome is Outcome.FAILS]


# -- the clip --------------------------------------------------------------------------------------------------------


def largest(trained: Trained) -> float:
    return max(float(value.abs().max()) for value in trained.result.state_dict.values())


def test_updates_of_1e30_ruin_a_model_without_the_clip(tmp_path: Path) -> None:
    recipe = tiny_recipe(protocol=ProtocolSpec(checked=0.0, own=0.0, clip=0))
    trained = train_near(tmp_path / "run", recipe, cheats=["1:huge"], entropy=seeded(1))
    assert largest(trained) > 1e27 and not trained.of(ev.Clipped)


def test_updates_of_1e30_are_clipped_in_every_round_and_the_model_stays_one(tmp_path: Path) -> None:
    trained = train_near(tmp_path / "run", tiny_recipe(protocol=NOBODY), cheats=["1:huge"], entropy=seeded(1))
    applied = of(trained.result.run, e.Apply)
    assert len(fakes_applied(trained.result.run)) == len(applied) == len(trained.of(ev.Clipped))
    assert all(len(entry.clipped) == 1 and entry.clipped[0].exponent > 80 for entry in applied)
    assert largest(trained) < 10 and np.isfinite(trained.result.metrics["loss"])
    assert failing(trained.result.run) == [Claim.RESULTS, Claim.NO_FAKES]


def test_an_update_that_stands_out_is_executed_by_the_manager_and_never_applied(tmp_path: Path) -> None:
    rules = ProtocolSpec(checked=0.0, own=1e-6)  # what is drawn would not find it
    trained = train_near(tmp_path / "run", tiny_recipe(protocol=rules), cheats=["1:huge"], entropy=seeded(1))
    assert [(each.worker, each.round, each.reason) for each in trained.of(ev.Convicted)] == [(1, 0, "suspect")]
    assert not fakes_applied(trained.result.run) and not failing(trained.result.run)


def once(execution: int) -> Any:
    """A cheat that is honest but for one execution, whose every value is 1e30."""

    def cheat(honest: Execute, seed: bytes) -> Execute:
        numbers, fake = itertools.count(), filling(1e30)(honest, seed)
        return lambda work: (fake if next(numbers) == execution else honest)(work)

    return cheat


@pytest.mark.slow
@pytest.mark.parametrize("round", [0, 40])
def test_one_update_of_1e30_that_nobody_sees_costs_at_most_half_a_point_of_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round: int
) -> None:
    monkeypatch.setitem(adversary.CHEATS, "once", once(round))
    recipe = small_recipe(protocol=NOBODY, epochs=8, seed=2)
    clean = train_near(tmp_path / "clean", recipe, entropy=seeded(2)).result
    faked = train_near(tmp_path / "faked", recipe, cheats=["1:once"], entropy=seeded(2)).result
    assert fakes_applied(faked.run) == [round] and not faked.convicted
    assert faked.metrics["accuracy"] >= clean.metrics["accuracy"] - 0.005


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run of honest workers by so narrow a clip that some of their updates are scaled down."""
    rules = ProtocolSpec(clip=1)
    return train_near(tmp_path_factory.mktemp("run") / "run", tiny_recipe(protocol=rules), entropy=seeded(1))


def test_the_audit_works_out_again_what_was_clipped(clipped: Trained) -> None:
    assert any(entry.clipped for entry in of(clipped.result.run, e.Apply))
    report = audit(clipped.result.run, 1.0, jobs=1)
    assert report.exit_code == 0 and report.averaged == list(range(report.rounds))


def test_the_log_and_the_events_name_the_same_clips(clipped: Trained) -> None:
    logged = {a.round: sorted({c.shard for c in a.clipped}) for a in of(clipped.result.run, e.Apply) if a.clipped}
    assert logged == {event.round: event.shards for event in clipped.of(ev.Clipped)}


def test_a_log_that_names_other_clips_than_the_rule_fails_at_the_averages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honestly = Weights.average

    def silent(self: Weights, *given: Any) -> Average:
        found = honestly(self, *given)
        return Average(found.data, found.loss, found.finite)

    with monkeypatch.context() as patch:
        patch.setattr(Weights, "average", silent)
        recipe = tiny_recipe(protocol=ProtocolSpec(clip=1))
        run = train_near(tmp_path / "run", recipe, entropy=seeded(1)).result.run
    assert failing(run) == [Claim.AVERAGES]
    assert "other updates were clipped" in audit(run, 1.0, jobs=1).finding(Claim.AVERAGES).why


# -- the manager's own seat ------------------------------------------------------------------------------------------

OWN = ProtocolSpec(checked=0.0, own=1.0, own_most=99)


def test_the_managers_own_executions_convict_a_cheater_that_nobody_else_checks(tmp_path: Path) -> None:
    trained = train_near(tmp_path / "run", tiny_recipe(protocol=OWN), cheats=["1:huge"], entropy=seeded(1))
    run, opened = trained.result.run, of(tmp_path / "run", e.Open)
    verdicts = of(run, e.Verdict)
    assert Counter(v.round for v in verdicts) == {each.round: len(each.shards) for each in opened}
    assert {v.reason for v in verdicts} == {"own"}
    (conviction,) = [v for v in verdicts if v.convicted]
    assert (conviction.round, conviction.outcome) == (0, "referee")
    (told,) = trained.of(ev.Convicted)
    assert (told.round, told.reason, told.status) == (0, "own", "suspended")
    assert trained.result.convicted == conviction.convicted and not trained.result.evicted
    assert not fakes_applied(run) and failing(run) == []


def test_a_suspended_worker_of_this_machine_does_not_come_back_within_the_run(tmp_path: Path) -> None:
    trained = train_near(tmp_path / "run", tiny_recipe(protocol=OWN), cheats=["1:huge"], entropy=seeded(1))
    (worker,) = trained.result.convicted
    assert [entry.worker for entry in of(trained.result.run, e.Join)] == [0, 1, 2]
    assert trained.state.workers[worker].status == "suspended"
    assert {event.workers for event in trained.of(ev.RoundDone)} == {2}


def test_own_executions_run_beside_the_workers_and_none_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int, bool]] = []
    execute = RoundDriver._execute

    def counted(self: RoundDriver, shard: int) -> np.ndarray:
        beside = threading.current_thread().name.startswith("podlt-own")
        done.append((self._manager.state.round, shard, beside))
        return execute(self, shard)

    monkeypatch.setattr(RoundDriver, "_execute", counted)
    recipe = small_recipe(protocol=ProtocolSpec(checked=0.5, own=0.3, own_most=3), epochs=1)
    trained = train_near(tmp_path / "run", recipe, cheats=["2:selective:0.3"], entropy=seeded(5))
    verdicts = of(trained.result.run, e.Verdict)
    must = {(v.round, v.shard) for v in verdicts if v.reason == "own" or v.outcome == "referee"}
    assert {(round, shard) for round, shard, _ in done} == must and len(done) == len(must)
    disputed = {(v.round, v.shard) for v in verdicts if v.reason == "differ"}
    beside = {(round, shard) for round, shard, here in done if here}
    assert disputed & beside and disputed - beside  # a dispute about an own shard needs no other execution
    assert {(v.round, v.shard) for v in verdicts if v.reason == "own"} <= beside


@pytest.mark.parametrize("error", [RuntimeError("not enough memory"), MemoryError("none left"), ValueError("odd")])
def test_an_own_execution_that_fails_where_a_workers_did_not_is_said_and_the_run_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(self: RoundDriver, shard: int) -> np.ndarray:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(RoundDriver, "_execute", fails)
        with pytest.raises(EngineError, match=f"round 0: the manager's own execution of shard 0 fails.*{error}"):
            train_near(tmp_path / "run", tiny_recipe(protocol=OWN), entropy=seeded(1))
    assert of(tmp_path / "run", e.Close)[-1].outcome == "stopped" and verify(tmp_path / "run", jobs=1).ok


# -- few workers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "rules", "reason"),
    [
        (1, ProtocolSpec(own=1.0), "own"),
        (2, ProtocolSpec(own=1.0), "own"),
        (2, ProtocolSpec(checked=1.0, own=0.0), "compared"),
    ],
)
def test_one_worker_or_two_train_and_the_proof_holds(
    tmp_path: Path, workers: int, rules: ProtocolSpec, reason: str
) -> None:
    recipe = tiny_recipe(workers=workers, protocol=rules)
    trained = train_near(tmp_path / "run", recipe, entropy=seeded(1))
    run = trained.result.run
    assert {v.reason for v in of(run, e.Verdict)} == {reason}
    assert Counter(v.round for v in of(run, e.Verdict)) == dict.fromkeys(range(trained.result.rounds), 1)
    assert trained.result.metrics["accuracy"] > 0.1 and sum(a.vested for a in trained.result.ledger.values()) >= 200
    report = audit(run, 1.0, jobs=1)
    assert report.exit_code == 0 and report.averaged == list(range(report.rounds))


# -- divisors --------------------------------------------------------------------------------------------------------


def masked(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A mean over the examples of some classes: what it is divided by is in the update, behind the loss."""
    return functional.cross_entropy(model(x), torch.where(y < 8, y, -100))


@pytest.mark.parametrize("divisor", [-1e30, 1e30])
def test_a_divisor_that_would_undo_a_round_is_executed_again_and_convicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, divisor: float
) -> None:
    monkeypatch.setitem(adversary.CHEATS, "divisor", filling(divisor, slice(16, 17)))
    clean, loss = tmp_path / "clean", LossSpec("test_guarded_runs:masked")
    recipe = msgspec.structs.replace(tiny_recipe(protocol=NOBODY), loss=loss)
    model = nn.Sequential(nn.Linear(64, 10))
    options: dict[str, Any] = {"model": model, "loss": masked, "entropy": seeded(1)}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    train_near(clean, recipe, **options)
    model.load_state_dict(start)
    trained = train_near(tmp_path / "run", recipe, cheats=["1:divisor"], **{**options, "entropy": seeded(1)})
    (verdict,) = of(tmp_path / "run", e.Verdict)
    assert (verdict.round, verdict.outcome, verdict.reason) == (0, "referee", "suspect")
    assert verdict.convicted == trained.result.convicted and not fakes_applied(tmp_path / "run")
    assert of(clean, e.Apply)[0].parameters == of(tmp_path / "run", e.Apply)[0].parameters


# -- one round of an audit -------------------------------------------------------------------------------------------


def test_an_audit_of_one_round_executes_its_tasks_and_no_others_and_says_so(tmp_path: Path) -> None:
    trained = train_near(tmp_path / "run", tiny_recipe(protocol=OWN), cheats=["1:huge"], entropy=seeded(1))
    run = trained.result.run
    report = audit(run, round=0, jobs=1)
    assert report.executed == 3 < report.tasks and report.averaged == [0]
    assert [(m.round, m.worker) for m in report.mismatches] == [(0, trained.result.convicted[0])]
    assert report.exit_code == 0
    for claim in (Claim.RESULTS, Claim.CONVICTIONS, Claim.AVERAGES, Claim.NO_FAKES):
        finding = report.finding(claim)
        assert finding.outcome is Outcome.NOT_CHECKED and not finding.asked, finding
    assert f"3 of {report.tasks}" in report.finding(Claim.RESULTS).why
    with pytest.raises(podlt.UsageError, match="round"):
        audit(run, round=10**6, jobs=1)
