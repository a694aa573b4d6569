"""Callbacks that write a run's figures to an experiment tracker; each needs a package of its own when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from podlt.callbacks.base import Callback, LiveRun
from podlt.extras import needed_by
from podlt.manager import events as ev


def imported(module: str, what: str, package: str) -> Any:
    """A module of an optional package.

    Args:
        module: to be imported.
        what: needs it.
        package: as `podlt.extras.PACKAGES` has it.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        error.name = package
        raise needed_by(what, error) from error


class FigureTracker(Callback):
    """What all trackers write: loss, speed and workers of each round, the figures of each epoch, convictions."""

    def __init__(self) -> None:
        self._convicted = 0
        self._step = 0

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Writes some figures.

        Args:
            figures: by name, such as "train/loss" or "test/accuracy".
            step: rounds that are done.
        """
        raise NotImplementedError

    def on_round(self, run: LiveRun, round: ev.RoundDone) -> None:
        """Writes the round's."""
        self._step = round.round + 1
        speed = {"train/examples_per_second": round.examples / round.seconds} if round.seconds else {}
        figures = {"train/loss": round.loss, "workers/active": round.workers, "workers/convicted": self._convicted}
        self.write({**figures, **speed}, self._step)

    def on_epoch(self, run: LiveRun, epoch: int, metrics: Mapping[str, float]) -> None:
        """Writes the epoch's."""
        if metrics:
            self.write({_place(name): value for name, value in metrics.items()} | {"epoch": epoch + 1}, self._step)

    def on_conviction(self, run: LiveRun, conviction: ev.Convicted) -> None:
        """Counts it: the round's figures have the number."""
        self._convicted += 1


class TensorBoard(FigureTracker):
    """Writes event files for TensorBoard.

    Args:
        folder: where to; RUN/tensorboard unless given.

    Raises:
        MissingPackageError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        super().__init__()
        self._make = imported("torch.utils.tensorboard", "podlt.callbacks.TensorBoard", "tensorboard").SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_start(self, run: LiveRun) -> None:
        """Begins a file."""
        self._writer = self._make(str(self._folder or run.path / "tensorboard"))
        self._writer.add_text("recipe", f"```json\n{run.recipe.to_bytes().decode()}\n```")

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Adds scalars. Arguments as `FigureTracker.write`."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def on_end(self, run: LiveRun) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def on_failure(self, run: LiveRun, error: BaseException) -> None:
        """Closes the file."""
        self.on_end(run)


class MLflow(FigureTracker):
    """Makes a run of MLflow, and writes to it.

    Args:
        experiment: its name; it is made if there is none.
        uri: of the tracking server, or sqlite:///FILE; what MLflow's own settings say unless given.
        name: of the run; that of the run's directory unless given.

    Raises:
        MissingPackageError: the package mlflow (or mlflow-skinny) is not installed.
    """

    def __init__(self, experiment: str = "podlt", uri: str | None = None, name: str | None = None) -> None:
        super().__init__()
        self._client = imported("mlflow", "podlt.callbacks.MLflow", "mlflow").MlflowClient(uri)
        self._experiment, self._name = experiment, name
        self._run: str | None = None

    def on_start(self, run: LiveRun) -> None:
        """Makes the run of MLflow, with the recipe as its parameters."""
        client = self._client
        known = client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known is not None else client.create_experiment(self._experiment)
        self._run = client.create_run(experiment, run_name=self._name or run.path.name).info.run_id
        for name, value in flat_recipe(run).items():
            client.log_param(self._run, name, value)

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Logs metrics. Arguments as `FigureTracker.write`."""
        if self._run is not None:
            for name, value in figures.items():
                self._client.log_metric(self._run, name, value, step=step)

    def on_end(self, run: LiveRun) -> None:
        """Ends the run of MLflow."""
        self._end("FINISHED")

    def on_failure(self, run: LiveRun, error: BaseException) -> None:
        """Ends it as one that failed."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._run is not None:
            self._client.set_terminated(self._run, status)


class WandB(FigureTracker):
    """Makes a run of Weights & Biases, and writes to it; offline unless said otherwise.

    Args:
        project: its name.
        folder: where W&B writes; the run's directory unless given.
        mode: "offline", or "online" for W&B's servers, which then get the recipe and every figure.
        name: of the run; that of the run's directory unless given.

    Raises:
        MissingPackageError: the package wandb is not installed.
    """

    def __init__(
        self, project: str = "podlt", folder: Path | str | None = None, mode: str = "offline", name: str | None = None
    ) -> None:
        super().__init__()
        self._wandb = imported("wandb", "podlt.callbacks.WandB", "wandb")
        self._project, self._folder, self._mode, self._name = project, folder, mode, name
        self._run: Any = None

    def on_start(self, run: LiveRun) -> None:
        """Makes the run of W&B, with the recipe as its configuration."""
        self._run = self._wandb.init(
            project=self._project,
            dir=str(self._folder or run.path),
            mode=self._mode,
            name=self._name or run.path.name,
            config=flat_recipe(run),
        )

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Logs figures. Arguments as `FigureTracker.write`."""
        if self._run is not None:
            self._run.log(dict(figures), step=step)

    def on_end(self, run: LiveRun) -> None:
        """Ends the run of W&B."""
        self._end(0)

    def on_failure(self, run: LiveRun, error: BaseException) -> None:
        """Ends it as one that failed."""
        self._end(1)

    def _end(self, status: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=status)


def flat_recipe(run: LiveRun) -> dict[str, Any]:
    """A run's recipe by dotted names: "training.epochs" and the like."""
    found: dict[str, Any] = {}
    for table, values in msgspec.json.decode(run.recipe.to_bytes()).items():
        for name, value in values.items() if isinstance(values, dict) else (("", values),):
            found[f"{table}.{name}" if name else table] = value
    return found


def _place(name: str) -> str:
    part, _, short = name.partition("val_")
    return f"validation/{short}" if not part and short else f"test/{name}"
