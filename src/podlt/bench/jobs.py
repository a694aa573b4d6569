"""The jobs that the benches measure: real data, models of different weight, the same for every contender."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from podlt.data.spec import DataSpec
from podlt.engine.execution import one_thread
from podlt.errors import UsageError
from podlt.recipe import ModelSpec, Recipe, TrainingSpec
from podlt.training import events as ev
from podlt.training.directory import RunDirectory, Settings
from podlt.training.session import Session, wall_clock
from podlt.training.trainer import Trainer

EPOCHS = 1000
"""More than any bench uses: the chain of secrets must be long enough, and rounds must not run out."""

MODELS = {
    "mlp": ModelSpec("podlt.models:mlp", {"inputs": 784, "hidden": 128, "outputs": 10}),
    "cnn": ModelSpec("podlt.models:cnn", {}),
    "wide": ModelSpec("podlt.models:mlp", {"inputs": 784, "hidden": 1024, "outputs": 10}),
}


def recipe(job: str, workers: int, block_lines: int) -> Recipe:
    """The recipe of a job "MODEL": MNIST, dealt in whole blocks.

    Raises:
        UsageError: no such job.
    """
    if job not in MODELS:
        raise UsageError(f"no job named {job!r}: expected one of {', '.join(MODELS)}")
    return Recipe(
        data=DataSpec("mnist"),
        model=MODELS[job],
        optimizer={"name": "adamw", "lr": 1e-3},
        training=TrainingSpec(epochs=EPOCHS, workers=workers, block_lines=block_lines),
    )


@contextmanager
def started(recipe: Recipe, processes: int = 0) -> Iterator[tuple[Session, Trainer]]:
    """A run of a recipe in a temporary directory, its workers joined, about to open its first round."""
    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as folder:
        directory = RunDirectory.new(Path(folder) / "run")
        settings = Settings(processes=processes, base=folder)
        session = Session(directory, recipe, settings, model=None, listener=ev.ignore, clock=wall_clock, cache=None)
        # Figures on the test set after every epoch are no part of a round: no contender takes them.
        session.data = replace(session.data, test=None)
        with one_thread(), session.started(secrets.token_bytes) as trainer:
            try:
                yield session, trainer
            finally:
                trainer.close()
