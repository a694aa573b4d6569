"""The jobs that the benches measure: real data, models of different weight, the same for every contender."""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from podlt.data.spec import DataSpec
from podlt.engine.interface import Workplace
from podlt.engine.local.workplace import LocalMachine
from podlt.errors import UsageError
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.directory import RunDirectory, Settings
from podlt.manager.loop import Trainer
from podlt.manager.metrics.trial import history_bytes
from podlt.manager.modules import build_model
from podlt.manager.setup import TrainingRun, wall_clock
from podlt.recipe import ModelSpec, Recipe, TrainingSpec

SECONDS = 1.5
"""How long one repeat of one contender should take: shorter ones are noise, longer ones meet other neighbours."""

EPOCHS = 1000
"""More than any bench of a small model uses: the chain of secrets must be long enough."""

HISTORY_BYTES = 2**33
"""What the files of a job's rounds may take if all its epochs are trained: a large model has fewer of them."""

TRAINING_EXAMPLES = 60_000
"""Of MNIST."""

MODELS = {
    "mlp": ModelSpec("podlt.models:mlp", {"inputs": 784, "hidden": 128, "outputs": 10}),
    "cnn": ModelSpec("podlt.models:cnn", {}),
    "wide": ModelSpec("podlt.models:mlp", {"inputs": 784, "hidden": 1024, "outputs": 10}),
}


@dataclass(frozen=True)
class BenchJob:
    """What is trained: a model, how many examples a batch has, and by which arithmetic."""

    model: str
    batch_size: int = 1000
    arithmetic: Literal["exact", "stock"] = "exact"

    @classmethod
    def parse(cls, text: str) -> BenchJob:
        """A job from "MODEL:BATCH_SIZE:ARITHMETIC"; the last two may be left out.

        Raises:
            UsageError: no such job; says what there is.
        """
        model, examples, arithmetic, *rest = [*text.split(":"), "", ""][: max(3, text.count(":") + 1)]
        if model not in MODELS or not (examples or "1").isdigit() or arithmetic not in ("", "exact", "stock") or rest:
            raise UsageError(
                f"no job named {text!r}: expected MODEL:BATCH_SIZE:ARITHMETIC with a model of {', '.join(MODELS)} "
                "and the arithmetic exact or stock"
            )
        return cls(model, int(examples or 1000), "stock" if arithmetic == "stock" else "exact")

    def __str__(self) -> str:
        return f"{self.model}:{self.batch_size}:{self.arithmetic}"

    def recipe(self, workers: int) -> Recipe:
        """MNIST, dealt in whole batches."""
        training = TrainingSpec(epochs=1, workers=workers, batch_size=self.batch_size)
        recipe = Recipe(
            data=DataSpec("mnist"),
            model=MODELS[self.model],
            optimizer={"name": "adamw", "lr": 1e-3},
            training=training,
            arithmetic=self.arithmetic,
        )
        an_epoch = history_bytes(build_model(recipe, {}, Path()), recipe, TRAINING_EXAMPLES)
        epochs = max(1, min(EPOCHS, HISTORY_BYTES // an_epoch))
        return msgspec.structs.replace(recipe, training=msgspec.structs.replace(training, epochs=epochs))


@dataclass(frozen=True)
class BenchOptions:
    """What the command line of a bench of jobs says; `rounds` is 0 where they are to be fitted to the job."""

    jobs: list[BenchJob]
    workers: int
    rounds: int
    repeats: int
    json: bool
    where: bool = False

    @classmethod
    def parse(
        cls, name: str, description: str | None, jobs: str, argv: Sequence[str] | None, where: str = ""
    ) -> BenchOptions:
        """Reads them; `jobs` is what is measured if nobody says, `where` what that flag does, if the bench has it."""
        parser = argparse.ArgumentParser(prog=f"podlt bench {name}", description=description)
        known = f"models: {', '.join(MODELS)}; arithmetic: exact (the default) or stock"
        parser.add_argument("--jobs", default=jobs, help=f"MODEL:BATCH_SIZE:ARITHMETIC, comma-separated; {known}")
        parser.add_argument("--workers", type=int, default=50)
        parser.add_argument("--rounds", type=int, default=0, help=f"of a repeat; 0: what takes {SECONDS} seconds")
        parser.add_argument("--repeats", type=int, default=7)
        parser.add_argument("--json", action="store_true")
        if where:
            parser.add_argument("--where", action="store_true", help=where)
        found = parser.parse_args(argv)
        parsed = [BenchJob.parse(job) for job in found.jobs.split(",")]
        return cls(parsed, found.workers, found.rounds, found.repeats, found.json, getattr(found, "where", False))


def proven_rounds(trainer: Trainer, count: int) -> float:
    """Runs rounds as a run does, until they are on the disk.

    Returns:
        The seconds that as many whole batches take, in proportion: a guarded round takes a bit less than a batch.
    """
    begin, examples = trainer.manager.state.begin, 0
    assert begin is not None
    started_at = time.perf_counter()
    for _ in range(count):
        plan = trainer.manager.upcoming()
        assert plan is not None
        trainer.round(plan)
        examples += plan.examples
    trainer.flush()
    return (time.perf_counter() - started_at) * count * begin.batch_size / examples


def fitting(trainer: Trainer, rounds: int, repeats: int) -> int:
    """How many rounds a repeat takes, after some to warm up; at least 2, so that one hides behind the next.

    Args:
        rounds: as many as these, unless it is 0.
        repeats: for which, and one more, there must be rounds in the run.

    Raises:
        UsageError: the run has fewer rounds than that.
    """
    proven_rounds(trainer, 1)
    seconds = proven_rounds(trainer, 2) / 2
    most = trainer.rounds_left() // (repeats + 1)
    if most < (rounds or 2):
        raise UsageError(f"--rounds {rounds or 2} --repeats {repeats}: the run has rounds for {most} a repeat")
    return rounds or min(most, max(2, round(SECONDS / seconds)))


@contextmanager
def started(
    recipe: Recipe, place: Workplace | None = None, cache: Path | None = None
) -> Iterator[tuple[TrainingRun, Trainer]]:
    """A run of a recipe in a temporary directory, its workers joined, about to open its first round.

    Args:
        place: where the workers are, if not here.
        cache: where prepared data are, if not where they are by default.
    """
    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as folder:
        directory = RunDirectory.new(Path(folder) / "run")
        run = TrainingRun.load(
            directory,
            recipe,
            Settings(base=folder),
            model=None,
            listener=ev.ignore,
            clock=wall_clock,
            cache=cache,
            place=place or LocalMachine(0, {}),
        )
        # Figures on the test set after every epoch are no part of a round: no contender takes them.
        run.inputs = msgspec.structs.replace(run.inputs, data=replace(run.inputs.data, test=None))
        with one_thread(), run.started(secrets.token_bytes) as trainer:
            yield run, trainer
