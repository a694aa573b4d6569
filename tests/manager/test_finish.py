"""Runs that end early: asked by a listener, by another process, or after they were stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from near_hosts import hosts_in_threads
from safetensors.torch import load_file
from small_runs import OFTEN, entries, replayed, seeded, tiny_recipe

import podlt.api
from podlt.errors import StopTraining, UsageError
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory
from podlt.protocol import entries as e
from podlt.protocol.claims import Outcome
from podlt.report.history import read_history
from podlt.verify import verify


def raising(kind: type[ev.Event], error: BaseException, round: int = 0) -> ev.Listener:
    """A listener that raises at the first event of a kind, from a round on."""

    def listen(event: ev.Event) -> None:
        if isinstance(event, kind) and getattr(event, "round", round) >= round:
            raise error

    return listen


def begun(run: Path, error: BaseException, kind: type[ev.Event] = ev.RoundDone, **training: int) -> None:
    """A run whose listener raises."""
    with hosts_in_threads():
        recipe = tiny_recipe(epochs=3, **training)
        podlt.api.train(recipe, run=run, entropy=seeded(1), listener=raising(kind, error, round=1))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that its listener ended after the second of twelve rounds."""
    run = tmp_path_factory.mktemp("run") / "ended"
    begun(run, StopTraining("good enough"))
    return run


def test_a_listener_ends_a_run_which_is_paid_and_complete(ended: Path) -> None:
    state = replayed(ended)
    assert state.closed is not None and state.closed.outcome == "complete"
    assert state.ended is not None and (state.ended.reason, state.epochs) == ("good enough", 0)
    assert [type(entry) for entry in entries(ended) if isinstance(entry, e.Amend | e.Measure | e.Close)] == [
        e.Amend, e.Measure, e.Close,
    ]  # fmt: skip
    assert state.round == 2 and all(not account.pending for account in state.ledger.accounts.values())
    history = read_history(ended)
    assert history.status() == "complete, ended early: good enough"
    assert history.amended() == "after 2 rounds: good enough"


def test_a_run_that_ended_early_holds_before_verify_and_audit(ended: Path) -> None:
    found = audit(ended, 1.0)
    asked = [finding for finding in found.findings if finding.asked]
    assert all(finding.outcome is Outcome.HOLDS for finding in asked), asked
    assert verify(ended, jobs=1).ok


def test_the_model_of_a_run_that_ended_early_is_that_of_its_last_round(ended: Path, tmp_path: Path) -> None:
    with hosts_in_threads():
        whole = podlt.api.train(
            tiny_recipe(epochs=3),
            run=tmp_path / "run",
            entropy=seeded(1),
            listener=raising(ev.Measured, StopTraining("x")),
        )
    assert whole.rounds == 4 and whole.ended == "x"
    model = load_file(RunDirectory(ended).model)
    assert any(not torch.equal(model[name], value) for name, value in load_file(RunDirectory(whole.run).model).items())


def test_a_listener_may_end_a_run_at_a_conviction_and_before_its_first_round(tmp_path: Path) -> None:
    with hosts_in_threads():
        for kind, rounds, options in ((ev.Started, 0, {}), (ev.Convicted, 2, {"cheats": ["1:zero"]})):
            run = tmp_path / kind.__name__
            listener = raising(kind, StopTraining("x"))
            result = podlt.api.train(
                tiny_recipe(workers=5, epochs=9, protocol=OFTEN),
                run=run,
                entropy=seeded(1),
                listener=listener,
                **options,
            )
            assert result.ended == "x" and (result.rounds == rounds if not rounds else result.convicted)
            assert verify(run, jobs=1).ok


def test_a_run_that_was_stopped_is_finished_without_another_round(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        begun(run, KeyboardInterrupt())
    with hosts_in_threads():
        result = podlt.api.finish(run, "no more time")
    assert result is not None and result.ended == "no more time" and result.rounds == 2
    assert verify(run, jobs=1).ok and RunDirectory(run).finish_request() is None
    with pytest.raises(UsageError, match="complete already"):
        podlt.api.finish(run)


def test_a_run_that_goes_on_is_ended_by_its_own_process(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            assert podlt.api.finish(run, "asked from elsewhere") is None

    with hosts_in_threads():
        result = podlt.api.train(tiny_recipe(epochs=3), run=run, listener=listen)
    assert result.ended == "asked from elsewhere" and result.rounds == 2


def test_a_reason_that_is_too_long_is_refused(ended: Path) -> None:
    with pytest.raises(UsageError, match="at most 1,000"):
        podlt.api.finish(ended, "x" * 1001)
