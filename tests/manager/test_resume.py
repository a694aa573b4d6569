"""Going on with a run: what must be there, and what is asked for anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from near_hosts import hosts_in_threads, train_near
from small_runs import CLASSIC, Trained, entries, replayed, seeded, tiny_recipe

import podlt.api
from podlt.errors import StorageError, UsageError
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory
from podlt.manager.events import metrics_text
from podlt.manager.metrics.trial import FEW
from podlt.protocol import entries as e
from podlt.recipe import Recipe
from podlt.report.summary import summarise

TRACES = [
    "updates/00000000.bin",
    "updates/00000000.bin.part",
    "checkpoints/00000007.safetensors",
    "rounds.jsonl",
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


def begun(kind: type[ev.Event], run: Path, recipe: Recipe, **options: Any) -> None:
    """A run that was interrupted at the first event of a kind."""
    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(recipe, run=run, entropy=seeded(1), listener=stop_at(kind), **options)


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
    for name in ("run.json", "manager.key", "admission.json", "log.db"):
        (tmp_path / name).write_bytes(b"")
    assert not directory.was_trained()
    (tmp_path / trace).write_bytes(b"")
    assert directory.was_trained()
    (tmp_path / "log.db").unlink()
    with pytest.raises(UsageError, match="something already"):
        RunDirectory.new(tmp_path)


def test_a_run_that_was_interrupted_before_its_first_round_begins_when_it_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(ev.Started, run, tiny_recipe())
    assert RunDirectory(run).checkpoint(0).exists() and not RunDirectory(run).has_entries()
    with hosts_in_threads():
        assert podlt.api.resume(run, entropy=seeded(1)).rounds > 0


def test_a_figure_that_is_not_finite_neither_stops_a_run_nor_goes_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "podlt.manager.metrics.evaluation.NAMED", {"cross_entropy": lambda *_: torch.tensor(float("nan"))}
    )
    trained = train_near(tmp_path / "run", tiny_recipe(epochs=2), entropy=seeded(1))
    assert set(trained.result.metrics) == {"accuracy"}
    assert [event.epoch for event in trained.of(ev.Unmeasured)] == [0, 1]
    assert "loss: not finite" in trained.of(ev.Unmeasured)[0].reason
    summary = summarise(tmp_path / "run")
    assert summary.metrics == trained.result.metrics and metrics_text(summary.metrics).startswith("accuracy")
    report = audit(tmp_path / "run", 1.0)
    assert report.exit_code == 0, report.findings


def test_figures_that_fail_do_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        if len(output) > FEW:
            raise RuntimeError("the size of tensor a must match")
        return output.sum()

    monkeypatch.setattr("podlt.manager.metrics.evaluation.NAMED", {"cross_entropy": fails})
    trained = train_near(tmp_path / "run", tiny_recipe(epochs=2), entropy=seeded(1))
    assert trained.result.metrics == {}
    assert [entry.figures for entry in entries(tmp_path / "run") if isinstance(entry, e.Measure)] == [[], []]
    assert "the size of tensor a" in trained.of(ev.Unmeasured)[0].reason
    assert audit(tmp_path / "run", 1.0).exit_code == 0


def test_a_run_that_was_killed_before_an_epochs_figures_measures_when_it_is_resumed(tmp_path: Path) -> None:
    lines: list[int] = []

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            lines.append(event.examples)
            if sum(lines) == 200:  # the last of the first epoch
                raise KeyboardInterrupt

    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(tiny_recipe(epochs=2), run=tmp_path / "run", entropy=seeded(1), listener=listen)
    assert replayed(tmp_path / "run").measure_due
    with hosts_in_threads():
        result = podlt.api.resume(tmp_path / "run")
    whole = train_near(tmp_path / "whole", tiny_recipe(epochs=2), entropy=seeded(1)).result
    assert result.parameters == whole.parameters and result.metrics == whole.metrics
    assert audit(tmp_path / "run", 1.0).exit_code == 0


def scheduled(workers: int) -> Recipe:
    """A recipe whose rounds, and so whose schedule's end, follow from how many workers there are."""
    optimizer = {"name": "sgd", "lr": 0.1, "schedule": "cosine"}
    return msgspec.structs.replace(tiny_recipe(workers=workers, shard_size=12), optimizer=optimizer)


@pytest.mark.parametrize("workers", [3, 6])
def test_workers_asked_for_before_the_first_entry_are_those_of_the_recipe(tmp_path: Path, workers: int) -> None:
    run = tmp_path / "run"
    begun(ev.Started, run, scheduled(4), cheats=["4:selective:1e-9"])
    with hosts_in_threads():
        result = podlt.api.resume(run, workers=workers, entropy=seeded(1))
    expected = msgspec.structs.replace(scheduled(workers), torch=str(torch.__version__))
    assert Recipe.from_bytes((run / "recipe.json").read_bytes()) == expected
    assert len(replayed(run).workers) == len(RunDirectory(run).worker_seeds()) == workers
    assert len(RunDirectory(run).settings().cheats) == min(4, workers)
    reference = train_near(tmp_path / "reference", scheduled(workers), entropy=seeded(1)).result
    assert result.parameters == reference.parameters


def test_too_few_workers_asked_for_before_the_first_entry_are_refused_and_change_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(ev.Started, run, tiny_recipe(protocol=CLASSIC))
    before = files(run)
    with pytest.raises(UsageError, match=r"training\.workers: expected at least 3"):
        podlt.api.resume(run, workers=2)
    assert files(run) == before
