"""How a run is begun, or resumed, whichever function or command asks for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from podlt.callbacks import Callback, CallbackListener
from podlt.engine.interface import Workplace
from podlt.engine.local.workplace import LocalMachine
from podlt.errors import StopTraining, UsageError
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.cheats import choose_cheaters
from podlt.manager.data_source import at_path, refuse_named, without_places
from podlt.manager.directory import Entropy, RunDirectory, Settings
from podlt.manager.metrics.given import Metrics
from podlt.manager.result import Result, load_result
from podlt.manager.setup import Clock, TrainingRun, wall_clock
from podlt.progress.choice import shown_progress
from podlt.recipe import Recipe, check, load_recipe, with_workers
from podlt.recipe_changes import changed
from podlt.store.address import for_new_run
from podlt.translation.losses import LossLike, loss_of_recipe

PlaceFor = Callable[[ev.Listener], Workplace]
"""Where the workers are, given who is told of those that come and go."""


class AskedRecipe(msgspec.Struct, frozen=True):
    """A recipe as it was given, the folder that its paths start from, and what to call a run of it."""

    recipe: Recipe
    base: Path
    name: str

    @classmethod
    def of(cls, recipe: Recipe | Path | str, workers: int, changes: Mapping[str, Any]) -> AskedRecipe:
        """Reads a recipe's file, and puts in what is asked for otherwise; 0 workers: as it says.

        Raises:
            UsageError: it cannot be read, or no run could do what it says.
        """
        base, name = Path.cwd(), "run"
        if not isinstance(recipe, Recipe):
            path = Path(recipe)
            recipe, base, name = load_recipe(path), path.resolve().parent, path.stem
        recipe = changed(recipe, changes)
        recipe = with_workers(recipe, workers) if workers else recipe
        check(recipe)
        return cls(recipe, base, name)

    def settings(self, *, store: str, **others: Any) -> Settings:
        """The settings of a new run of it."""
        return Settings(base=str(self.base), store=for_new_run(store) if store else "", **others)


class Audience(msgspec.Struct, frozen=True):
    """Who follows a run.

    Attributes:
        listener: is called with every event; None for whoever did not say.
        callbacks: a Python program's own.
        progress: as `podlt.progress.choice.shown_progress` takes it; without a listener None is what it says, and with
            one it is nothing.
        silent: the listener where there is neither listener nor progress.
    """

    listener: ev.Listener | None = None
    callbacks: Sequence[Callback] = ()
    progress: bool | None = None
    silent: ev.Listener = ev.ignore

    @contextmanager
    def following(self) -> Iterator[tuple[ev.Listener, CallbackListener]]:
        """One listener for all of them, while the context lasts; and the callbacks, to be attached to their run."""
        callbacks = CallbackListener(self.callbacks)
        asked = False if self.progress is None and self.listener is not None else self.progress
        with shown_progress(asked) as shown:
            own = self.listener or (self.silent if shown is None else None)
            yield in_turn([listener for listener in (shown, own, callbacks) if listener is not None]), callbacks


def in_turn(listeners: Sequence[ev.Listener]) -> ev.Listener:
    """One listener that calls several; each hears an event, also if one before it wants the run to end."""

    def listen(event: ev.Event) -> None:
        stop: StopTraining | None = None
        for listener in listeners:
            try:
                listener(event)
            except StopTraining as asked:
                stop = stop or asked
        if stop is not None:
            raise stop

    return listen


def train_recipe(
    recipe: Recipe | Path | str,
    workers: int,
    *,
    model: nn.Module | None,
    loss: LossLike | None,
    run: Path | str | None = None,
    set: Mapping[str, Any] | None = None,
    metrics: Metrics | None = None,
    cheats: Sequence[str] = (),
    processes: int = 0,
    listener: ev.Listener | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    place: Workplace | None = None,
    engine: str = "local",
    ray: str = "",
    ray_resources: Mapping[str, float] | None = None,
    store: str = "",
) -> Result:
    """Trains a recipe over workers of one's own. Arguments as `podlt.train` and its `TrainOptions`; errors likewise."""
    if engine not in ("local", "ray"):
        raise UsageError(f"engine {engine!r}: expected local or ray (workers on other machines: podlt.serve)")
    asked = AskedRecipe.of(recipe, workers, set or {})
    settings = asked.settings(
        processes=processes,
        cheats=choose_cheaters(cheats, asked.recipe.training.workers, asked.recipe.training.seed),
        engine=engine,
        address=ray,
        resources=dict(ray_resources or {}),
        store=store,
    )
    return begin(
        asked,
        settings,
        run,
        entropy,
        Audience(listener, callbacks, progress),
        lambda listen: place or own_machines(settings),
        model=model,
        loss=loss_of_recipe(loss, asked.recipe),
        metrics=metrics,
        clock=clock,
        cache=cache,
    )


def begin(
    asked: AskedRecipe,
    settings: Settings,
    run: Path | str | None,
    entropy: Entropy,
    audience: Audience,
    place: PlaceFor,
    **around: Any,
) -> Result:
    """Begins a new run, and trains it.

    Args:
        asked: the recipe.
        settings: of the run.
        run: the directory to make; None for runs/NAME-TIME here.
        entropy: where secrets come from.
        audience: who follows it.
        place: where the workers are.
        around: what `TrainingRun.load` takes besides.
    """
    recipe, settings = without_places(asked.recipe, settings)
    path = Path(run) if run is not None else Path("runs") / f"{asked.name}-{datetime.now():%Y%m%d-%H%M%S}"
    directory = RunDirectory.new(path)
    with audience.following() as (listener, callbacks):
        begun = TrainingRun.load(directory, recipe, settings, listener=listener, place=place(listener), **around)
        return carried_out(begun, lambda: begun.start(entropy), callbacks)


def carried_out(run: TrainingRun, go: Callable[[], None], callbacks: CallbackListener) -> Result:
    """Trains, and reads what it came to."""
    callbacks.attach(run)
    try:
        with one_thread():
            go()
    except BaseException as error:
        run.trainer = None  # its parameters were in memory of the engine's
        callbacks.failed(error)
        raise
    finally:
        run.trainer = None
        run.directory.unlock()
    return load_result(run.directory.path, run.inputs.model)


def moved(settings: Settings, recipe: Recipe, data: Path | str | None, code: Path | str | None) -> Settings:
    """The settings of a run whose data or code are elsewhere now.

    Raises:
        UsageError: they are not there.
    """
    if data is not None:
        refuse_named(recipe.data)
        found = at_path(recipe.data, Path(data))
        test = str(found.test) if found.test is not None else ""
        settings = msgspec.structs.replace(settings, source=str(found.source), test=test)
    if code is not None:
        if not Path(code).is_dir():
            raise UsageError(f"--code {code}: expected a folder")
        settings = msgspec.structs.replace(settings, code=str(Path(code).absolute()))
    return settings


def own_machines(settings: Settings) -> Workplace:
    """This machine, or the Ray cluster that the settings name.

    Raises:
        UsageError: there is no such cluster.
    """
    if settings.engine != "ray":
        return LocalMachine(settings.processes, settings.cheats)
    from podlt.engine.ray.workplace import RayCluster

    return RayCluster(settings.address, settings.resources, settings.processes, settings.cheats)
