"""The public functions: train a recipe here, serve it to other machines, resume a run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import nn

from podlt.engine.interface import Workplace
from podlt.engine.local.workplace import LocalMachine
from podlt.errors import UsageError
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.cheats import choose_cheaters
from podlt.manager.data_source import at_path, refuse_named, without_places
from podlt.manager.directory import Entropy, RunDirectory, Settings
from podlt.manager.loop import MAX_REASON
from podlt.manager.result import Result, load_result
from podlt.manager.resume import check_files, is_complete
from podlt.manager.serving import NetworkOptions, remote_machines
from podlt.manager.setup import Clock, TrainingRun, wall_clock
from podlt.recipe import Recipe, check, load_recipe, with_workers
from podlt.recipe_changes import changed
from podlt.store.address import for_new_run, introduce

NETWORK = "nats"
"""What the settings of a run with workers on other machines call its engine."""


def print_invitation(event: ev.Event) -> None:
    """The listener of whoever gives none: prints the command by which workers join, and nothing else."""
    if isinstance(event, ev.Invited):
        print(f"podlt worker {event.invitation}", flush=True)


def train(
    recipe: Recipe | Path | str,
    *,
    run: Path | str | None = None,
    workers: int = 0,
    model: nn.Module | None = None,
    set: Mapping[str, Any] | None = None,
    cheats: Sequence[str] = (),
    processes: int = 0,
    listener: ev.Listener = ev.ignore,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    place: Workplace | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: str = "",
    ray_resources: Mapping[str, float] | None = None,
    store: str = "",
) -> Result:
    """Trains a recipe over many workers of your own, with the proof.

    Args:
        recipe: a `Recipe`, or the path of a TOML file; relative paths in it start from the file's folder.
        run: the directory to make; by default runs/NAME-TIME here.
        workers: how many workers; 0 for what the recipe says.
        model: the module itself, instead of the recipe's `module:callable` (which is then only a name). Its
            parameters are those that the run begins with; the run's recipe names their digest.
        set: fields of the recipe that are to be others, such as {"training.epochs": 3}.
        cheats: workers that cheat, such as "3:sign-flip": for demonstrations and tests.
        processes: how many processes host the workers; 0 for one a core.
        listener: is called with every event of `podlt.manager.events`.
        cache: where prepared data are stored; ~/.cache/podlt by default.
        entropy: where secrets come from.
        clock: where the time comes from, in milliseconds.
        place: where the workers are; unless given, as `engine` says.
        engine: "local" for processes of this machine, "ray" for a Ray cluster (`podlt.engine.ray.workplace`).
        ray: the address of the Ray cluster, HOST:PORT; by default what RAY_ADDRESS says, or this machine.
        ray_resources: what a Ray actor takes in addition to a core, by Ray's names.
        store: the database for the log, postgresql://USER@HOST/DATABASE; by default it is a file of the run.

    Raises:
        UsageError: the recipe, the data or the model cannot be used; says where.
        TooFewWorkersError: the run stopped, and can be resumed with more workers.
        DivergedError: the run stopped, as its parameters are not finite any more.
        StorageError: the run stopped, as its files cannot be written.
    """
    if engine not in ("local", "ray"):
        raise UsageError(f"engine {engine!r}: expected local or ray (workers on other machines: podlt.serve)")
    asked = _Asked.of(recipe, workers, set or {})
    settings = asked.settings(
        processes=processes,
        cheats=choose_cheaters(cheats, asked.recipe.training.workers, asked.recipe.training.seed),
        engine=engine,
        address=ray,
        resources=dict(ray_resources or {}),
        store=store,
    )
    return _begin(
        asked,
        settings,
        run,
        model,
        entropy,
        listener=listener,
        clock=clock,
        cache=cache,
        place=place or _own_machines(settings),
    )


def serve(
    recipe: Recipe | Path | str,
    *,
    run: Path | str | None = None,
    workers: int = 0,
    name: str | Sequence[str] = (),
    port: int = 0,
    listen: str = "",
    websocket: int | None = None,
    nats: Sequence[str] = (),
    nats_key: Path | None = None,
    nats_ca: Path | None = None,
    blobs: str = "",
    blobs_port: int = 0,
    deposit: int | None = None,
    pay_to: str | None = None,
    silence_timeout: float | None = None,
    set: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    listener: ev.Listener = print_invitation,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    store: str = "",
) -> Result:
    """Trains a recipe over workers on other machines, with the proof: `podlt manager` as a function.

    Starts the run's server, invites, waits for workers, and returns when the run is complete. The invitation is
    printed, unless a listener of your own takes it from the event `Invited`; it is in RUN/invitation.txt as well.

    Args:
        recipe: as in `train`.
        run: as in `train`.
        workers: how many workers to wait for; 0 for what the recipe says.
        name: hosts by which workers reach this machine; its own addresses by default.
        port: where the server listens; 0 for any free port, which then stays the run's.
        listen: the address to listen on; all of this machine's by default.
        websocket: a second port, for WebSocket with TLS; 0 for any free port, None for none.
        nats: the URLs of a NATS cluster of your own, instead of a server that this process starts.
        nats_key: the key that `podlt key nats` made for that cluster.
        nats_ca: the certificate of who signed the cluster's, in PEM; the usual authorities unless given.
        blobs: how large blobs go: "https" from and to this machine (the default), the URL of an object store
            (file:///DIR, s3://BUCKET/PREFIX, gs://..., az://...), or "none" for messages only.
        blobs_port: where large blobs are served by HTTPS; 0 for any free port.
        deposit: opens the run to any key for which so many credits were deposited (0: to all), instead of inviting.
        pay_to: payment instructions, shown to workers whose deposit is missing.
        silence_timeout: seconds without a message after which a worker counts as gone; 15 unless given.
        set: as in `train`.
        model: as in `train`.
        listener: is called with every event of `podlt.manager.events`.
        cache: as in `train`.
        entropy: as in `train`.
        clock: as in `train`.
        store: as in `train`.

    Raises:
        UsageError: the recipe, the data, the model or an address cannot be used; says where.
        EngineError: the server cannot be started.
        DivergedError: the run stopped, as its parameters are not finite any more.
        StorageError: the run stopped, as its files cannot be written.
    """
    asked = _Asked.of(recipe, workers, set or {})
    network = NetworkOptions(
        name=(name,) if isinstance(name, str) else name,
        port=port,
        listen=listen,
        websocket=websocket,
        nats=nats,
        nats_key=nats_key,
        nats_ca=nats_ca,
        blobs=blobs,
        blobs_port=blobs_port,
        deposit=deposit,
        pay_to=pay_to,
        silence_timeout=silence_timeout,
    )
    network.require_free_ports()
    return _begin(
        asked,
        asked.settings(engine=NETWORK, store=store),
        run,
        model,
        entropy,
        listener=listener,
        clock=clock,
        cache=cache,
        place=remote_machines(network, listener),
    )


def resume(
    run: Path | str,
    *,
    workers: int = 0,
    model: nn.Module | None = None,
    processes: int | None = None,
    listener: ev.Listener = print_invitation,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    place: Workplace | None = None,
    ray: str | None = None,
    ray_resources: Mapping[str, float] | None = None,
    network: NetworkOptions | None = None,
    set: Mapping[str, Any] | None = None,
    data: Path | str | None = None,
    code: Path | str | None = None,
    store: str = "",
) -> Result:
    """Resumes a run of `train` or `serve` after the last round that is whole in its log.

    The bits at the end are those of an undisturbed run. Workers on other machines come back by themselves.

    Args:
        run: its directory.
        workers: how many workers there shall be at least, apart from those that were evicted.
        model: the module itself, as in `train`.
        processes: how many processes host the workers; as before unless given.
        listener: is called with every event of `podlt.manager.events`.
        cache: as in `train`.
        entropy: where secrets come from.
        clock: where the time comes from, in milliseconds.
        place: where the workers are; unless given, where they were.
        ray: the address of the Ray cluster; as before unless given.
        ray_resources: what a Ray actor takes; as before unless given.
        network: how workers on other machines reach the run from now on; as before unless given.
        set: the recipe's fields that change from here on, such as {"training.epochs": 10, "optimizer.lr": 3e-4}: the
            log says so. A complete run is opened again for more epochs.
        data: where the data are now, if they moved: the source file, or a folder in which the recipe's names are
            looked up. The run remembers it.
        code: the folder of the model's module, if it moved. The run remembers it.
        store: the address of the run's database with its password, where the environment does not give it.

    Raises:
        UsageError: the data, or the model's module, are not where they were; or `network` is given for a run whose
            workers are not on a network.
        InvalidProofError: a file of the run is not what its log says: reported, not repaired.
    """
    if store:
        introduce(store)
    directory = RunDirectory.existing(Path(run))
    check_files(directory)
    recipe = Recipe.from_bytes(directory.document("recipe.json"))
    settings = _moved(directory.settings(), recipe, data, code)
    changes = {"processes": processes, "address": ray, "resources": ray_resources and dict(ray_resources)}
    settings = msgspec.structs.replace(settings, **{k: v for k, v in changes.items() if v is not None})
    if network is not None and settings.engine != NETWORK:
        raise UsageError(f"{run}: its workers are on your own machines: resume it with podlt train --resume {run}")
    if place is None and settings.engine == NETWORK:
        place = remote_machines(network or NetworkOptions(), listener)
    resumed = TrainingRun.load(
        directory,
        recipe,
        settings,
        model=model,
        listener=listener,
        clock=clock,
        cache=cache,
        place=place or _own_machines(settings),
    )
    return _run(resumed, lambda: resumed.resume(workers, entropy, set or {}))


def finish(run: Path | str, reason: str = "asked to finish", **around: Any) -> Result | None:
    """Ends a run early: what was applied stays, is settled and paid, and the run is complete.

    A process that works on the run ends it after the round in progress. A run that is stopped is resumed for its
    settlement only.

    Args:
        run: its directory.
        reason: for the log and for people, at most 1,000 characters.
        around: what `resume` takes: the module of a model that was given as an object, a listener, ...

    Returns:
        What the run came to; None if another process was asked to end it.

    Raises:
        UsageError: the run is complete, or cannot be resumed here; what `resume` raises besides.
    """
    if len(reason) > MAX_REASON:
        raise UsageError(f"reason: expected at most {MAX_REASON:,} characters, got {len(reason):,}")
    directory = RunDirectory.existing(Path(run))
    if is_complete(directory):
        raise UsageError(f"{run}: the run is complete already")
    works = directory.is_locked()
    directory.request_finish(reason)
    return None if works else resume(run, **around)


def is_served(run: Path) -> bool:
    """Whether the workers of a run are on other machines.

    Raises:
        UsageError: there is no run.
    """
    return RunDirectory.existing(run).settings().engine == NETWORK


class _Asked(msgspec.Struct, frozen=True):
    """A recipe as it was given, the folder that its paths start from, and what to call a run of it."""

    recipe: Recipe
    base: Path
    name: str

    @classmethod
    def of(cls, recipe: Recipe | Path | str, workers: int, changes: Mapping[str, Any]) -> _Asked:
        """Reads a recipe's file, and puts in what is asked for otherwise; 0 workers: as it says."""
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


def _begin(
    asked: _Asked, settings: Settings, run: Path | str | None, model: nn.Module | None, entropy: Entropy, **around: Any
) -> Result:
    """Begins a new run, and trains it."""
    recipe, settings = without_places(asked.recipe, settings)
    path = Path(run) if run is not None else Path("runs") / f"{asked.name}-{datetime.now():%Y%m%d-%H%M%S}"
    begun = TrainingRun.load(RunDirectory.new(path), recipe, settings, model=model, **around)
    return _run(begun, lambda: begun.start(entropy))


def _moved(settings: Settings, recipe: Recipe, data: Path | str | None, code: Path | str | None) -> Settings:
    """The settings of a run whose data or code are elsewhere now."""
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


def _own_machines(settings: Settings) -> Workplace:
    """This machine, or the Ray cluster that the settings name.

    Raises:
        UsageError: there is no such cluster.
    """
    if settings.engine != "ray":
        return LocalMachine(settings.processes, settings.cheats)
    from podlt.engine.ray.workplace import RayCluster

    return RayCluster(settings.address, settings.resources, settings.processes, settings.cheats)


def _run(run: TrainingRun, go: Callable[[], None]) -> Result:
    try:
        with one_thread():
            go()
    finally:
        run.directory.unlock()
    return load_result(run.directory.path, run.inputs.model)
