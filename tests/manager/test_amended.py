"""Runs whose epochs or optimiser change while they go on, and complete runs that are opened again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from near_hosts import hosts_in_threads
from small_runs import entries, replayed, seeded, tiny_recipe

import podlt.api
from podlt.errors import StopTraining, UsageError
from podlt.manager import events as ev
from podlt.manager.amendments import Optimizers
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.verify import verify

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}


def resumed(run: Path, **options: Any) -> podlt.Result:
    """The run resumed, with other terms."""
    with hosts_in_threads():
        return podlt.api.resume(run, entropy=seeded(2), **options)


@pytest.fixture(scope="module")
def amended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, opened again for a second epoch by another rate and for a third by another optimiser."""
    run = tmp_path_factory.mktemp("run") / "amended"
    with hosts_in_threads():
        podlt.api.train(tiny_recipe(checkpoint_every=3), run=run, entropy=seeded(1))
    resumed(run, set={"training.epochs": 2, "optimizer.lr": 0.01})
    resumed(run, set={"training.epochs": 3, "optimizer": {"name": "adamw", "lr": 0.01}})
    return run


def test_a_complete_run_is_opened_again_for_more_epochs(amended: Path) -> None:
    state = replayed(amended)
    assert state.closed is not None and state.closed.outcome == "complete"
    applied = [entry for entry in entries(amended) if isinstance(entry, e.Apply)]
    assert state.epoch == 3 and state.steps == state.round == len(applied)
    assert [entry.epoch for entry in entries(amended) if isinstance(entry, e.Measure)] == [0, 1, 2]
    assert all(not account.pending for account in state.ledger.accounts.values())


def test_each_part_of_an_amended_run_holds_before_verify_and_audit(amended: Path) -> None:
    assert verify(amended, jobs=1).ok
    asked = [finding for finding in audit(amended, 1.0).findings if finding.asked]
    assert all(finding.outcome is Outcome.HOLDS for finding in asked), asked


def test_the_audit_steps_by_the_optimiser_of_each_round(amended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Optimizers, "at", lambda self, step: self.after(0))
    assert audit(amended, 0.1, seed=1).finding(Claim.PARAMETERS).outcome is Outcome.FAILS


def test_whoever_goes_on_in_a_run_that_is_opened_again_signs_a_head_over_the_new_terms(amended: Path) -> None:
    logged = entries(amended)
    places = [i for i, entry in enumerate(logged) if isinstance(entry, e.Amend)]
    assert len(places) == 2
    for place in places:
        after = logged[place + 1 : place + 4]
        assert all(isinstance(entry, e.Join) and entry.seen > place for entry in after)


def test_an_amended_run_comes_back_to_the_same_parameters(amended: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(amended, run)
    (run / "model.safetensors").unlink()
    result = resumed(run)
    assert result.rounds == replayed(amended).round
    assert (run / "model.safetensors").read_bytes() == (amended / "model.safetensors").read_bytes()


def test_a_stopped_run_goes_on_by_another_optimiser(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def interrupt(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            raise KeyboardInterrupt

    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(tiny_recipe(), run=run, entropy=seeded(1), listener=interrupt)
    RunDirectory(run).request_finish("of before, which nobody answered")
    resumed(run, set={"optimizer": SGD})
    state = replayed(run)
    assert [(steps, entry.epochs) for steps, entry in state.amendments] == [(2, 1)]
    assert state.amendments[0][1].optimizer == '{"lr":0.05,"momentum":0.9,"name":"sgd"}'
    assert verify(run, jobs=1).ok and audit(run, 1.0).finding(Claim.PARAMETERS).outcome is Outcome.HOLDS


def test_a_run_that_was_ended_within_an_epoch_goes_on_there(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def stop(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            raise StopTraining("for now")

    with hosts_in_threads():
        podlt.api.train(tiny_recipe(), run=run, entropy=seeded(1), listener=stop)
    resumed(run, set={"training.epochs": 1})
    state = replayed(run)
    assert (state.epoch, state.offset, state.ended) == (1, 0, None)
    assert verify(run, jobs=1).ok and audit(run, 1.0).finding(Claim.PARAMETERS).outcome is Outcome.HOLDS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.epochs": 2}, "3 epochs are done, and 2 are to be"),
        ({"optimizer.lr": 0.5}, "set training.epochs as well"),
        ({"training.workers": 9}, "training.workers: is fixed by the first entry .* use --workers"),
        ({"training.epochs": 10**6}, "chain of secrets, fixed when it began"),
        ({"training.epoch": 4}, "the nearest is training.epochs"),
        ({"training.epochs": 4, "optimizer.rate": 1.0}, "optimizer.rate: AdamW has no such option"),
        ({"training.epochs": 0}, "training.epochs"),
    ],
)
def test_terms_that_cannot_change_are_refused_before_anything_is_written(
    amended: Path, changes: dict[str, Any], said: str
) -> None:
    before = len(entries(amended))
    with pytest.raises(UsageError, match=said):
        resumed(amended, set=changes)
    assert len(entries(amended)) == before and RunDirectory(amended).model.exists()


def test_the_same_terms_change_nothing(amended: Path) -> None:
    before = len(entries(amended))
    assert resumed(amended, set={"training.epochs": 3}).rounds == replayed(amended).round
    assert len(entries(amended)) == before


def test_the_recipe_of_a_run_that_has_not_begun_may_change_as_it_likes(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def interrupt(event: ev.Event) -> None:
        if isinstance(event, ev.Started):
            raise KeyboardInterrupt

    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(tiny_recipe(), run=run, entropy=seeded(1), listener=interrupt)
    resumed(run, set={"training.batch_size": 100})
    begin = entries(run)[0]
    assert begin.batch_size == 100 and msgspec.structs.asdict(begin)["epochs"] == 1
