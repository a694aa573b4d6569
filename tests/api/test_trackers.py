"""Callbacks that write to experiment trackers, held against the real packages where they are installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from object_runs import train_objects
from small_runs import seeded

from podlt.callbacks import Callback, FigureTracker, MLflow, TensorBoard, WandB
from podlt.extras import MissingPackageError


class Notes(FigureTracker):
    """Keeps what it is to write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[int, dict[str, float]]] = []

    def write(self, figures: Any, step: int) -> None:
        self.written.append((step, dict(figures)))


def test_a_tracker_gets_an_example_a_round_and_the_figures_of_each_epoch(tmp_path: Path) -> None:
    notes = Notes()
    options = {"cheats": ["1:sign-flip"], "epochs": 2, "protocol": {"checked": 1.0}, "entropy": seeded(1)}
    train_objects(tmp_path / "run", callbacks=[notes], workers=6, **options)
    rounds = [figures for _, figures in notes.written if "train/loss" in figures]
    epochs = [(step, figures) for step, figures in notes.written if "test/accuracy" in figures]
    assert rounds[-1]["workers/convicted"] == 1 and rounds[-1]["workers/active"] == 5
    assert [figures["epoch"] for _, figures in epochs] == [1, 2]
    assert [step for step, _ in epochs] == [len(rounds) // 2, len(rounds)]


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (TensorBoard, "torch.utils.tensorboard", "TensorBoard (tensorboard)"),
        (MLflow, "mlflow", "MLflow (mlflow-skinny)"),
        (WandB, "wandb", "Weights & Biases (wandb)"),
    ],
)
def test_a_missing_package_is_named_when_the_callback_is_made(
    make: type[Callback], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError) as error:
        make()
    assert package in str(error.value) and "'.[tracking]'" in str(error.value)
    assert f"podlt.callbacks.{make.__name__} needs" in str(error.value)


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train_objects(tmp_path / "run", callbacks=[TensorBoard()], epochs=2)
    found = EventAccumulator(str(result.run / "tensorboard"))
    found.Reload()
    losses = [event.value for event in found.Scalars("train/loss")]
    assert losses == pytest.approx(list(result.history["loss"]))
    assert found.Scalars("test/accuracy")[-1].value == pytest.approx(result.metrics["accuracy"])


@pytest.mark.slow
def test_mlflow_has_a_finished_run_with_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    result = train_objects(tmp_path / "run", callbacks=[MLflow(experiment="digits", uri=uri)], epochs=2)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["training.epochs"] == "2" and run.data.params["loss.name"] == "cross_entropy"
    losses = [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert losses == pytest.approx(list(result.history["loss"]))


@pytest.mark.slow
def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = WandB(folder=tmp_path)
    train_objects(tmp_path / "run", callbacks=[tracker], epochs=2)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert next(folder.glob("*.wandb")).stat().st_size > 1000
