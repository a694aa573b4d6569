"""Going on with a run: what must be there, and what is asked for anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from near_hosts import hosts_in_threads
from small_runs import Trained, seeded, tiny_recipe

import podlt.api
from podlt.cli.progress import metrics_text
from podlt.errors import StorageError, UsageError
from podlt.report.summary import summarise
from podlt.training import events as ev
from podlt.training.directory import RunDirectory

TRACES = [
    "updates/00000000.bin",
    "updates/00000000.bin.part",
    "checkpoints/00000007.safetensors",
    "rounds.jsonl",
    "metrics.jsonl",
    "model.safetensors",
]


def stop_at(kind: type[ev.Event]) -> ev.Listener:
    """A listener that is Ctrl-C at the first event of a kind."""

    def listen(event: ev.Event) -> None:
        if isinstance(event, kind):
            raise KeyboardInterrupt

    return listen


def files(run: Path) -> dict[Path, bytes]:
    """What lies in a run's directory, but for its lock and its log."""
    return {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.stem not in ("lock", "log")}


def begun(kind: type[ev.Event], run: Path, **training: Any) -> None:
    """A run that was interrupted at the first event of a kind."""
    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(tiny_recipe(**training), run=run, entropy=seeded(1), listener=stop_at(kind))


@pytest.mark.parametrize("empty", [False, True])
def test_a_run_whose_log_is_gone_is_not_begun_anew_over_what_it_left(
    tmp_path: Path, cheated: Trained, empty: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(cheated.result.run, run, ignore=shutil.ignore_patterns("log.db*"))
    if empty:
        RunDirectory(run).log(create=True).close()
    before = files(run)
    with pytest.raises(StorageError, match=r"log is missing, but rounds were trained here; bring back log\.db"):
        podlt.api.resume(run)
    assert files(run) == before


@pytest.mark.parametrize("trace", TRACES)
def test_whatever_a_round_leaves_shows_that_there_was_one(tmp_path: Path, trace: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.make()
    directory.checkpoint(0).write_bytes(b"")
    for name in ("settings.json", "manager.key", "admission.json", "log.db"):
        (tmp_path / name).write_bytes(b"")
    assert not directory.was_trained()
    (tmp_path / trace).write_bytes(b"")
    assert directory.was_trained()
    (tmp_path / "log.db").unlink()
    with pytest.raises(UsageError, match="something already"):
        RunDirectory.new(tmp_path)


def test_a_run_that_was_interrupted_before_its_first_round_begins_when_it_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(ev.Started, run)
    assert RunDirectory(run).checkpoint(0).exists() and not RunDirectory(run).has_entries()
    with hosts_in_threads():
        assert podlt.api.resume(run, entropy=seeded(1)).rounds > 0


def test_a_figure_that_is_not_finite_neither_stops_a_run_nor_keeps_it_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr("podlt.training.metrics._loss", lambda *_: torch.tensor(float("nan")))
    begun(ev.Measured, run, epochs=2)
    (run / "metrics.jsonl").unlink()  # as after a kill just before it was written
    with hosts_in_threads():
        result = podlt.api.resume(run, entropy=seeded(1))
    assert set(result.metrics) == {"accuracy"}
    assert len((run / "metrics.jsonl").read_bytes().splitlines()) == 2
    summary = summarise(run)
    assert summary.metrics == result.metrics and metrics_text(summary.metrics).startswith("accuracy")
