"""What `podlt.train` takes besides the module, the data and the recipe: editors show it, and mypy checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from podlt.callbacks import Callback
from podlt.engine.interface import Workplace
from podlt.manager import events as ev
from podlt.manager.directory import Entropy
from podlt.manager.metrics.given import Metrics
from podlt.manager.setup import Clock


class TrainOptions(TypedDict, total=False):
    """How a run is carried out, which no recipe says.

    Attributes:
        run: the directory to make; by default runs/NAME-TIME here.
        set: fields of the recipe that are to be others, such as {"training.epochs": 3}.
        metrics: figures of the held-out examples, instead of what the recipe says: names, callables taking (outputs,
            labels), objects of torchmetrics; or a name for each.
        cheats: workers that cheat, such as "3:sign-flip": for demonstrations and tests.
        processes: how many processes host the workers; 0 for one a core.
        listener: is called with every event of `podlt.manager.events`.
        callbacks: your own code at the usual moments (`podlt.callbacks`); may end the run by `podlt.StopTraining`.
        progress: whether to show how the run goes on. Unless given, a notebook gets a panel and a terminal a bar,
            where there is no listener. True gives plain lines elsewhere.
        cache: where prepared data are stored; ~/.cache/podlt by default.
        entropy: where secrets come from.
        clock: where the time comes from, in milliseconds.
        place: where the workers are; unless given, as `engine` says.
        engine: "local" for processes of this machine, "ray" for a Ray cluster (`podlt.engine.ray.workplace`).
        ray: the address of the Ray cluster, HOST:PORT; by default what RAY_ADDRESS says, or this machine.
        ray_resources: what a Ray actor takes in addition to a core, by Ray's names.
        store: the database for the log, postgresql://USER@HOST/DATABASE; by default it is a file of the run.
    """

    run: Path | str | None
    set: Mapping[str, Any] | None
    metrics: Metrics | None
    cheats: Sequence[str]
    processes: int
    listener: ev.Listener | None
    callbacks: Sequence[Callback]
    progress: bool | None
    cache: Path | None
    entropy: Entropy
    clock: Clock
    place: Workplace | None
    engine: Literal["local", "ray"]
    ray: str
    ray_resources: Mapping[str, float] | None
    store: str


class ObjectOptions(TrainOptions, total=False):
    """The same, and what a recipe says: of a training that is described by objects. See `podlt.recipe_of`.

    Attributes:
        batch_size: examples of a round, which is one step of the optimiser; 1000 unless given.
        seed: of the order of examples and of draws.
        label: the column or array to be predicted.
        test_fraction: the part of the examples that is held out to test on.
        data: other fields of the recipe's `[data]`.
        training: of its `[training]`.
        protocol: of its `[protocol]`.
        evaluation: its `[evaluation]`: figures between epochs, early stopping, the best parameters.
        arithmetic: "exact" or "stock".
        digits: how precise exact products are: "auto" unless given.
    """

    batch_size: int
    seed: int
    label: str | int
    test_fraction: float
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    protocol: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    arithmetic: Literal["stock", "exact"]
    digits: Literal["auto", 1, 2, 3]
