"""Every kind of cheat is caught within the run, and nobody else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import ALWAYS, CLASSIC, OFTEN, Trained, entries, replayed, seeded, small_recipe, tiny_recipe, train

import podlt.api
from podlt.errors import TooFewWorkersError
from podlt.manager.audit import audit
from podlt.manager.cheats import choose_cheaters
from podlt.manager.directory import RunDirectory
from podlt.manager.weights import Weights, recipe_optimizer
from podlt.program.ir import Program
from podlt.program.layout import state_layout
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.verify import verify


def cheaters(run: Path) -> dict[int, str]:
    """Who cheats in a run, and how."""
    settings: dict[str, Any] = json.loads((run / "run.json").read_bytes())["settings"]
    return {int(worker): kind for worker, kind in settings["cheats"].items()}


def first_fakes(run: Path) -> dict[int, int]:
    """Worker -> the round of its first fake."""
    found: dict[int, int] = {}
    for line in (run / "rounds.jsonl").read_bytes().splitlines():
        figures = json.loads(line)
        for worker in figures["faked"]:
            found.setdefault(worker, figures["round"])
    return found


def vested_after(run: Path, worker: int, round: int) -> int:
    """What a worker vested in a round or after it."""
    pays = [entry for entry in entries(run) if isinstance(entry, e.Pay) and entry.round >= round]
    return sum(t.amount for pay in pays for t in pay.transfers if t.worker == worker and t.kind == "vest")


@pytest.mark.slow
def test_every_kind_of_cheat_is_convicted_and_no_honest_worker_is(crowd: Trained) -> None:
    wrong = cheaters(crowd.result.run)
    assert set(wrong.values()) == {*ALWAYS, "selective:0.5"}
    caught = set(crowd.result.convicted)
    assert caught <= set(wrong)
    assert {wrong[worker] for worker in set(wrong) - caught} <= {"selective:0.5"}


def test_nothing_vests_to_who_always_fakes_after_its_first_fake(crowd: Trained) -> None:
    run = crowd.result.run
    fakes, wrong = first_fakes(run), cheaters(run)
    assert len(fakes) >= len(ALWAYS)
    for worker, kind in wrong.items():
        if kind in ALWAYS and kind != "copycat":  # what it copies can be the very task's honest result
            assert vested_after(run, worker, fakes[worker]) == 0, kind


def test_every_honest_credit_is_vested_at_the_end_and_all_accounts_sum_to_zero(crowd: Trained) -> None:
    ledger, wrong = crowd.result.ledger, cheaters(crowd.result.run)
    assert len(ledger) == 24
    for worker, account in ledger.items():
        assert account.pending == 0
        assert (account.vested > 0) or worker in wrong
    assert sum(account.vested for account in ledger.values()) + crowd.result.treasury == 0


def test_the_manager_executes_again_where_results_name_nobody_and_the_proof_holds(crowd: Trained) -> None:
    verdicts = [entry for entry in entries(crowd.result.run) if isinstance(entry, e.Verdict)]
    assert {"differ", "own", "suspect"} <= {v.reason for v in verdicts if v.outcome == "referee"}
    verification = verify(crowd.result.run, jobs=1)
    assert verification.ok, verification.failure


@pytest.mark.slow
def test_what_cheaters_write_between_tensors_reaches_no_parameter_and_no_checkpoint(tmp_path: Path) -> None:
    recipe = small_recipe(epochs=1, checkpoint_every=1, protocol=OFTEN)
    result = train(tmp_path / "run", recipe, cheats=["1:random"], entropy=seeded(2)).result
    directory = RunDirectory(result.run)
    program = Program.from_bytes(directory.document("program.json"))
    weights = Weights(program, recipe_optimizer(recipe, 1), np.zeros(state_layout(program).nbytes, np.uint8))
    run = replayed(result.run).run
    paths = sorted(directory.checkpoints.iterdir())
    assert len(paths) >= 15
    for path in paths:
        weights.load(path, run, directory.manager_key().public)


def test_an_audit_of_everything_finds_fakes_of_cheaters_alone(crowd: Trained) -> None:
    report = audit(crowd.result.run, 1.0, seed=1)
    assert report.executed == report.tasks
    assert report.mismatches
    wrong = cheaters(crowd.result.run)
    assert {mismatch.worker for mismatch in report.mismatches} <= set(wrong)
    uncaught = {mismatch.worker for mismatch in report.mismatches if not mismatch.convicted}
    assert {wrong[worker] for worker in uncaught} <= {"selective:0.5"}  # it may have had luck: then the audit says so
    assert (report.finding(Claim.RESULTS).outcome is Outcome.FAILS) == bool(uncaught)
    assert report.finding(Claim.CONVICTIONS).outcome is Outcome.HOLDS and not report.false_convictions
    assert {worker for fake in report.fakes for worker in fake.workers} <= set(wrong)


def test_a_shard_that_convicts_applies_the_honest_result(crowd: Trained) -> None:
    convicting = {event.round for event in crowd.of(podlt.api.ev.Convicted)}
    report = audit(crowd.result.run, 1.0, seed=1)
    wrong = {(m.round, m.shard, m.worker) for m in report.mismatches}
    verdicts = [entry for entry in entries(crowd.result.run) if isinstance(entry, e.Verdict) and entry.convicted]
    assert {verdict.round for verdict in verdicts} == convicting and convicting
    for verdict in verdicts:
        assert {(verdict.round, verdict.shard, worker) for worker in verdict.convicted} <= wrong
    applied = {(fake.round, fake.shard) for fake in report.fakes}
    assert not applied & {(verdict.round, verdict.shard) for verdict in verdicts}


@pytest.mark.slow
def test_three_that_agree_on_a_fake_pass_the_vote_but_not_an_audit(tmp_path: Path) -> None:
    run = train(tmp_path / "run", tiny_recipe(protocol=CLASSIC), cheats=["3:coalition"], processes=1).result.run
    assert verify(run, jobs=1).ok
    report = audit(run, 0.01, seed=3)
    assert report.finding(Claim.RESULTS).outcome is Outcome.FAILS
    assert report.finding(Claim.NO_FAKES).outcome is Outcome.FAILS and report.exit_code == 1
    assert {mismatch.worker for mismatch in report.mismatches} == {0, 1, 2}


@pytest.mark.slow
def test_too_few_workers_stop_a_run_which_more_workers_complete(tmp_path: Path) -> None:
    with pytest.raises(TooFewWorkersError, match="2 workers are too few"):
        train(tmp_path / "run", tiny_recipe(protocol=CLASSIC), cheats=["1:zero"], processes=1)
    stopped = [entry for entry in entries(tmp_path / "run") if isinstance(entry, e.Close)]
    assert [entry.outcome for entry in stopped] == ["stopped"]
    result = podlt.api.resume(tmp_path / "run", workers=5, processes=1, entropy=seeded(9))
    assert len(result.evicted) == 1 and len(result.ledger) == 6
    verification = verify(tmp_path / "run", jobs=1)
    assert verification.ok, verification.failure


def test_cheaters_are_drawn_by_the_recipes_seed() -> None:
    drawn = choose_cheaters(["2:zero", "1:selective:0.5"], 10, 7)
    assert sorted(drawn.values()) == ["selective:0.5", "zero", "zero"]
    assert drawn == choose_cheaters(["2:zero", "1:selective:0.5"], 10, 7)
    assert any(drawn != choose_cheaters(["2:zero", "1:selective:0.5"], 10, seed) for seed in range(8))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ALWAYS, "selective:0.5"])
def test_three_cheaters_of_one_kind_never_cost_an_honest_worker_its_place(tmp_path: Path, kind: str) -> None:
    trained = train(
        tmp_path / "run", small_recipe(workers=16, seed=3, protocol=OFTEN), cheats=[f"3:{kind}"], entropy=seeded(5)
    )
    wrong = cheaters(trained.result.run)
    framed = set(trained.result.convicted) - set(wrong)
    assert set(wrong) <= set(trained.result.convicted) or kind == "selective:0.5"
    assert not framed
    assert verify(trained.result.run, jobs=1).ok
