"""`podlt train`: a recipe over many workers, or a run that goes on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import typer

from podlt.cli.monitoring_options import LogFileOption, LogFormatOption, MetricsOption, operating
from podlt.cli.options import (
    CodeOption,
    DataOption,
    JsonOption,
    NewRecipeArgument,
    NewRunOption,
    Options,
    QuietOption,
    ResumeOption,
    console,
    options_of,
)
from podlt.cli.progress import listener
from podlt.cli.recipes import find_recipe
from podlt.cli.store import StoreOption
from podlt.cli.summary import print_summary
from podlt.errors import TooFewWorkersError, UsageError
from podlt.manager import events as ev
from podlt.monitoring.setup import NOTHING, Operations
from podlt.recipe import load_recipe


def train(
    context: typer.Context,
    recipe: NewRecipeArgument = None,
    run: NewRunOption = None,
    resume: ResumeOption = None,
    cheat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COUNT:CHEAT",
            help="Let workers cheat, to see them caught: zero, random, stale, sign-flip, scaled, partial, "
            "low-precision, copycat, non-finite, selective:RATE, and coalition (all the same fake). May be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="How many workers there are; by default what the recipe says.")
    ] = 0,
    processes: Annotated[int, typer.Option(min=0, help="Processes that host them; one a core by default.")] = 0,
    engine: Annotated[
        str,
        typer.Option(
            metavar="local|ray",
            help="Where the workers are: on this machine, or in a Ray cluster whose people you trust (which needs "
            "pip install '.[ray]').",
        ),
    ] = "",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The Ray cluster to join; by default what RAY_ADDRESS says, or this machine."
        ),
    ] = None,
    ray_resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT", help="What each Ray actor takes besides a core. May be repeated."),
    ] = None,
    data: DataOption = None,
    code: CodeOption = None,
    store: StoreOption = "",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    metrics: MetricsOption = "",
    log_format: LogFormatOption = "",
    log_file: LogFileOption = None,
) -> None:
    """Train a recipe over many workers of your own, with the proof; or go on with a run.

    A run can be stopped at any moment, by Ctrl-C or kill -9: nothing that was logged is lost, and a run that goes on
    ends with the same bits as one that was never stopped.

    Examples: podlt train mnist-mlp --cheat 3:sign-flip

              podlt train my.toml --run runs/mine

              podlt train my.toml --engine ray --ray 10.0.0.1:6379 --ray-resource training=1

              podlt train --resume runs/mine --workers 60

              podlt train --resume runs/mine --data /mnt/new/data.csv
    """
    if (recipe is None) == (resume is None):
        raise UsageError("expected a recipe, or --resume RUN: see podlt train --help")
    if resume is not None and (cheat or run or engine):
        raise UsageError("--cheat, --run and --engine are for new runs, not for --resume")
    if resume is None and (data is not None or code is not None):
        raise UsageError("--data and --code are for --resume; a new run takes what its recipe says")
    if resume is None and engine != "ray" and (ray is not None or ray_resource):
        raise UsageError("--ray and --ray-resource need --engine ray")
    path = perform(
        options_of(context),
        recipe=recipe,
        run=run,
        resume=resume,
        cheats=cheat or [],
        workers=workers,
        processes=processes,
        moved={"data": data, "code": code},
        cluster=RayOptions(engine, ray, ray_resource or []),
        store=store,
        quiet=quiet,
        as_json=as_json,
        asked=Operations(metrics, log_format, log_file),
    )
    if not quiet and not as_json:
        print_summary(path, console())


class RayOptions(msgspec.Struct, frozen=True):
    """What the options say of a Ray cluster: nothing, unless they were given."""

    engine: str = ""
    address: str | None = None
    resources: list[str] = []

    def arguments(self) -> dict[str, Any]:
        """The same, as `podlt.train` and `podlt.resume` take it.

        Raises:
            UsageError: a resource is none.
        """
        if not (self.engine or self.address or self.resources):
            return {}
        from podlt.engine.ray.workplace import parse_resource

        found: dict[str, Any] = {"engine": self.engine} if self.engine else {}
        found |= {} if self.address is None else {"ray": self.address}
        return found | ({"ray_resources": dict(map(parse_resource, self.resources))} if self.resources else {})


def perform(
    options: Options,
    *,
    recipe: str | None = None,
    run: Path | None = None,
    resume: Path | None = None,
    cheats: list[str],
    workers: int = 0,
    processes: int = 0,
    moved: Mapping[str, Path | None] = MappingProxyType({}),
    cluster: RayOptions = RayOptions(),  # noqa: B008 (frozen)
    store: str = "",
    quiet: bool = False,
    as_json: bool = False,
    asked: Operations = NOTHING,
) -> Path:
    """Trains, showing how far it is; returns the run's directory. Arguments as in `train`.

    Raises:
        PodltError: as `podlt.api` says; `options.hint` then says how to go on.
    """

    def follow(event: ev.Event) -> None:
        # Until the first entry is written there is nothing to go on with.
        if isinstance(event, ev.Started):
            options.hint = f"nothing that was logged is lost; go on with: podlt train --resume {event.path}"
        show(event)

    found = find_recipe(recipe) if recipe is not None else None
    try:
        with (
            _saying_whom_to_trust(quiet=quiet),
            operating(asked, follow, silent=quiet or as_json) as listen,
            listener(quiet=quiet, as_json=as_json) as show,
        ):
            listen(ev.Preparing(what="loading PyTorch"))
            where = {"processes": processes, "listener": listen, **cluster.arguments()}
            if store and not found:
                from podlt.store.address import introduce

                introduce(store)
            done = _train(found, run, cheats, workers, {**where, "store": store}) if found else None
            path = done if done is not None else _resume(resume, workers, {**where, **moved})
    except TooFewWorkersError:
        options.hint = options.hint and f"{options.hint} --workers N"
        raise
    options.hint = ""
    return path


def _train(recipe: Path, run: Path | None, cheats: list[str], workers: int, where: dict[str, Any]) -> Path:
    from podlt import api

    if not workers:
        return api.train(recipe, run=run, cheats=cheats, **where).run
    loaded = load_recipe(recipe)
    altered = msgspec.structs.replace(loaded, training=msgspec.structs.replace(loaded.training, workers=workers))
    target = (run or Path("runs") / f"{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}").absolute()
    with chdir(recipe.resolve().parent):  # where relative paths of a recipe object start from
        return api.train(altered, run=target, cheats=cheats, **where).run


def _resume(run: Path | None, workers: int, where: dict[str, Any]) -> Path:
    from podlt import api

    assert run is not None
    return api.resume(run, workers=workers, **{**where, "processes": where["processes"] or None}).run


@contextmanager
def _saying_whom_to_trust(*, quiet: bool) -> Iterator[None]:
    """An engine's warning about whom it trusts, in a line of its own instead of a line of source."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            from podlt.engine.ray.workplace import TrustWarning

            if not issubclass(category, TrustWarning):
                usual(message, category, *where, **more)
            elif not quiet:
                typer.echo(f"warning: {message}", err=True)

        warnings.showwarning = show
        yield
