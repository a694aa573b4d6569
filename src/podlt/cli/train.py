"""`podlt train`: a recipe over many workers, or a run that goes on."""

from __future__ import annotations

from contextlib import chdir
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from podlt.cli.context import JsonOption, Options, console, options_of
from podlt.cli.operating import LogFileOption, LogFormatOption, MetricsOption, operating
from podlt.cli.progress import listener
from podlt.cli.recipes import find_recipe
from podlt.cli.summary import print_summary
from podlt.errors import TooFewWorkersError, UsageError
from podlt.operations.start import NOTHING, Operations
from podlt.recipe import load_recipe
from podlt.training import events as ev


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of one that comes with podlt.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; runs/NAME-TIME by default.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that stopped.")] = None,
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: JsonOption = False,
    metrics: MetricsOption = "",
    log_format: LogFormatOption = "",
    log_file: LogFileOption = None,
) -> None:
    """Train a recipe over many workers on this machine, with the proof; or go on with a run.

    A run can be stopped at any moment, by Ctrl-C or kill -9: nothing that was logged is lost, and a run that goes on
    ends with the same bits as one that was never stopped.

    Examples: podlt train mnist-mlp --cheat 3:sign-flip

              podlt train my.toml --run runs/mine

              podlt train --resume runs/mine --workers 60
    """
    if (recipe is None) == (resume is None):
        raise UsageError("expected a recipe, or --resume RUN: see podlt train --help")
    if resume is not None and (cheat or run):
        raise UsageError("--cheat and --run are for new runs, not for --resume")
    path = perform(
        options_of(context),
        recipe=recipe,
        run=run,
        resume=resume,
        cheats=cheat or [],
        workers=workers,
        processes=processes,
        quiet=quiet,
        as_json=as_json,
        asked=Operations(metrics, log_format, log_file),
    )
    if not quiet and not as_json:
        print_summary(path, console())


def perform(
    options: Options,
    *,
    recipe: str | None = None,
    run: Path | None = None,
    resume: Path | None = None,
    cheats: list[str],
    workers: int = 0,
    processes: int = 0,
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
            operating(asked, follow, silent=quiet or as_json) as listen,
            listener(quiet=quiet, as_json=as_json) as show,
        ):
            listen(ev.Preparing(what="loading PyTorch"))
            done = _train(found, run, cheats, workers, processes, listen) if found else None
            path = done if done is not None else _resume(resume, workers, processes, listen)
    except TooFewWorkersError:
        options.hint = options.hint and f"{options.hint} --workers N"
        raise
    options.hint = ""
    return path


def _train(
    recipe: Path, run: Path | None, cheats: list[str], workers: int, processes: int, follow: ev.Listener
) -> Path:
    from podlt import api

    if not workers:
        return api.train(recipe, run=run, cheats=cheats, processes=processes, listener=follow).run
    loaded = load_recipe(recipe)
    altered = msgspec.structs.replace(loaded, training=msgspec.structs.replace(loaded.training, workers=workers))
    target = (run or Path("runs") / f"{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}").absolute()
    with chdir(recipe.resolve().parent):  # where relative paths of a recipe object start from
        return api.train(altered, run=target, cheats=cheats, processes=processes, listener=follow).run


def _resume(run: Path | None, workers: int, processes: int, follow: ev.Listener) -> Path:
    from podlt import api

    assert run is not None
    return api.resume(run, workers=workers, processes=processes or None, listener=follow).run
