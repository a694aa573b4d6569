"""The public functions: train a recipe here, serve it to other machines, resume a run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import msgspec
from torch import nn

from podlt.call_options import ObjectOptions, TrainOptions
from podlt.callbacks import Callback
from podlt.engine.interface import Workplace
from podlt.errors import UsageError
from podlt.manager import events as ev
from podlt.manager.directory import Entropy, RunDirectory
from podlt.manager.loop import MAX_REASON
from podlt.manager.metrics.given import Metrics
from podlt.manager.result import Result
from podlt.manager.resume import check_files, is_complete
from podlt.manager.serving import NetworkOptions, remote_machines
from podlt.manager.setup import Clock, TrainingRun, wall_clock
from podlt.network.http import Page
from podlt.recipe import Recipe
from podlt.run_start import AskedRecipe, Audience, begin, carried_out, moved, own_machines, train_recipe
from podlt.store.address import introduce
from podlt.store.run_names import RECIPE
from podlt.translation.losses import LossLike, loss_of_recipe
from podlt.translation.optimizers import OptimizerLike
from podlt.translation.recipes import recipe_of

NETWORK = "network"
"""What the settings of a run with workers on other machines call its engine."""


def print_invitation(event: ev.Event) -> None:
    """The listener of whoever gives none: prints the command by which workers join, and nothing else."""
    if isinstance(event, ev.Invited):
        print(f"podlt worker {event.invitation_code or event.invitation}", flush=True)


@overload
def train(
    recipe: Recipe | Path | str,
    /,
    *,
    workers: int = ...,
    model: nn.Module | None = ...,
    loss: LossLike | None = ...,
    **options: Unpack[TrainOptions],
) -> Result: ...


@overload
def train(
    model: nn.Module,
    dataset: Any,
    /,
    *,
    loss: LossLike = ...,
    optimizer: OptimizerLike = ...,
    epochs: int = ...,
    workers: int = ...,
    test: Any = ...,
    **options: Unpack[ObjectOptions],
) -> Result: ...


def train(
    recipe: Recipe | Path | str | nn.Module,
    dataset: Any = None,
    /,
    *,
    loss: LossLike | None = None,
    optimizer: OptimizerLike | None = None,
    epochs: int | None = None,
    workers: int = 0,
    test: Any = None,
    model: nn.Module | None = None,
    **options: Any,
) -> Result:
    """Trains over many workers of your own, with the proof: `train(model, dataset, ...)`, or `train(recipe)`.

    Args:
        recipe: the module to train, whose parameters are those that the run begins with; or a `Recipe`, or the path of
            a TOML file, from whose folder relative paths in it start.
        dataset: for a module: what to train on, as `podlt.recipe_of` takes it.
        loss: for a module: a name, a loss of `torch.nn` or a callable; "cross_entropy" unless given. For a recipe: the
            object that it names.
        optimizer: for a module: a name, a table, or an optimiser of `torch.optim`; "adamw" unless given.
        epochs: for a module: how often each example is trained on; 1 unless given.
        workers: how many workers; 0 for what the recipe says, or for 50.
        test: for a module: the examples to test on, as `dataset`.
        model: for a recipe: the module itself, instead of the recipe's `module:callable` (which is then only a name).
            The run's recipe names the digest of its parameters.
        options: of the run (`podlt.call_options.TrainOptions`); for a module, also of its recipe (`podlt.recipe_of`).

    Raises:
        UsageError: the recipe, the data, the model or an option cannot be used; says where.
        TooFewWorkersError: the run stopped, and can be resumed with more workers.
        DivergedError: the run stopped, as its parameters are not finite any more.
        StorageError: the run stopped, as its files cannot be written.
    """
    around: dict[str, Any] = {name: options.pop(name) for name in TrainOptions.__annotations__ if name in options}
    described = {"optimizer": optimizer, "epochs": epochs, "test": test, "dataset": dataset}
    described = {name: value for name, value in described.items() if value is not None} | options
    if not isinstance(recipe, nn.Module):
        if described:
            raise UsageError(f"{', '.join(described)}: for podlt.train(model, dataset, ...): a recipe says it itself")
        return train_recipe(recipe, workers, model=model, loss=loss, **around)
    if model is not None:
        raise UsageError("model: the module comes first already")
    if dataset is None:
        raise UsageError("dataset: expected what to train on after the module")
    if loss is not None:
        described["loss"] = loss
    found = recipe_of(recipe, workers=workers or None, **described)
    return train_recipe(found, 0, model=recipe, loss=loss, **around)


def serve(
    recipe: Recipe | Path | str,
    *,
    run: Path | str | None = None,
    workers: int = 0,
    name: str | Sequence[str] = (),
    port: int = 0,
    listen: str = "",
    blobs: str = "",
    deposit: int | None = None,
    pay_to: str | None = None,
    silence_timeout: float | None = None,
    late_seconds: float | None = None,
    aggregates: bool | None = None,
    pages: Mapping[str, Page] | None = None,
    set: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    loss: LossLike | None = None,
    metrics: Metrics | None = None,
    listener: ev.Listener | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    store: str = "",
) -> Result:
    """Trains a recipe over workers on other machines, with the proof: `podlt manager` as a function.

    Starts the run's server, invites, waits for workers, and returns when the run is complete. The invitation is
    printed, unless a listener of your own takes it from the event `Invited`; it is in RUN/invitation.txt as well.

    Args:
        recipe: a `Recipe` (`podlt.recipe_of` makes one of a module and data), or the path of a TOML file.
        run: the directory to make; by default runs/NAME-TIME here.
        workers: how many workers to wait for; 0 for what the recipe says.
        name: hosts by which workers reach this machine; its own addresses by default.
        port: where the server listens; 0 for any free port, which then stays the run's.
        listen: the address to listen on; all of this machine's by default.
        blobs: how large parameters go: "https" from this machine (the default), or the URL of an object store
            (file:///DIR, s3://BUCKET/PREFIX, gs://..., az://...).
        deposit: opens the run to any key for which so many credits were deposited (0: to all), instead of inviting.
        pay_to: payment instructions, shown to workers whose deposit is missing.
        silence_timeout: seconds without a message after which a worker counts as gone; 15 unless given.
        late_seconds: that every task has before somebody else is dealt it as well; 1 unless given.
        aggregates: whether to keep the sum of each round with its workers' fingerprints, so that anybody can check its
            average without executing a task; about one and a half times an update's bytes a round on the disk.
        pages: more pages of the run's server, for its operator alone: path -> function that gives status, content type
            and body.
        set: as in `podlt.call_options.TrainOptions`.
        model: the module itself, as in `train`.
        loss: the loss itself, as in `train`.
        metrics: as in `podlt.call_options.TrainOptions`.
        listener: as in `podlt.call_options.TrainOptions`, as are the following.
        callbacks: your own code at the usual moments.
        progress: whether to show how the run goes on.
        cache: where prepared data are stored.
        entropy: where secrets come from.
        clock: where the time comes from, in milliseconds.
        store: the database for the log.

    Raises:
        UsageError: the recipe, the data, the model or an address cannot be used; says where.
        EngineError: the server cannot be started.
        DivergedError: the run stopped, as its parameters are not finite any more.
        StorageError: the run stopped, as its files cannot be written.
    """
    asked = AskedRecipe.of(recipe, workers, set or {})
    network = NetworkOptions(
        name=(name,) if isinstance(name, str) else name,
        port=port,
        listen=listen,
        blobs=blobs,
        deposit=deposit,
        pay_to=pay_to,
        silence_timeout=silence_timeout,
        late_seconds=late_seconds,
        aggregates=aggregates,
        pages=pages or {},
    )
    network.require_free_ports()
    return begin(
        asked,
        asked.settings(engine=NETWORK, store=store),
        run,
        entropy,
        Audience(listener, callbacks, progress, silent=print_invitation),
        lambda listen: remote_machines(network, listen),
        model=model,
        loss=loss_of_recipe(loss, asked.recipe),
        metrics=metrics,
        clock=clock,
        cache=cache,
    )


def resume(
    run: Path | str,
    *,
    workers: int = 0,
    model: nn.Module | None = None,
    loss: LossLike | None = None,
    metrics: Metrics | None = None,
    processes: int | None = None,
    listener: ev.Listener | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
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
        model: the module itself, as in `train`, where the run began with it.
        loss: the loss itself, likewise.
        metrics: the objects of metrics that were given as objects.
        processes: how many processes host the workers; as before unless given.
        listener: as in `podlt.call_options.TrainOptions`, as are the following.
        callbacks: your own code at the usual moments.
        progress: whether to show how the run goes on.
        cache: where prepared data are stored.
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
    recipe = Recipe.from_bytes(directory.document(RECIPE))
    settings = moved(directory.settings(), recipe, data, code)
    changes = {"processes": processes, "address": ray, "resources": ray_resources and dict(ray_resources)}
    settings = msgspec.structs.replace(settings, **{k: v for k, v in changes.items() if v is not None})
    if network is not None and settings.engine != NETWORK:
        raise UsageError(f"{run}: its workers are on your own machines: resume it with podlt train --resume {run}")
    with Audience(listener, callbacks, progress, silent=print_invitation).following() as (listen, followers):
        if place is None and settings.engine == NETWORK:
            place = remote_machines(network or NetworkOptions(), listen)
        resumed = TrainingRun.load(
            directory,
            recipe,
            settings,
            model=model,
            loss=loss_of_recipe(loss, recipe),
            metrics=metrics,
            listener=listen,
            clock=clock,
            cache=cache,
            place=place or own_machines(settings),
        )
        return carried_out(resumed, lambda: resumed.resume(workers, entropy, set or {}), followers)


def finish(run: Path | str, reason: str = "asked to finish", **around: Any) -> Result | None:
    """Ends a run early: what was applied stays and is paid, and the run is complete.

    A process that works on the run ends it after the round in progress. A run that is stopped is resumed for that
    alone.

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
