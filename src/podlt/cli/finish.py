"""`podlt finish`: a run ended early, and paid."""

from __future__ import annotations

from typing import Annotated

import typer

from podlt.cli.options import JsonOption, QuietOption, RunArgument, console, options_of
from podlt.cli.run_output import listener
from podlt.cli.summary import print_summary


def finish(
    context: typer.Context,
    run: RunArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the log and for people.")] = "by podlt finish",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a run early: what was applied stays and is paid, all that is pending
    included, and the run is complete.

    A process that works on the run ends it after the round in progress. A run that was stopped is resumed for
    that alone. The log says that it ended early, and why.
    """
    from podlt import api
    from podlt.manager.directory import RunDirectory
    from podlt.manager.resume import is_complete

    if not is_complete(RunDirectory.existing(run)):
        options_of(context).hint = f"what is left of the run can be resumed with: podlt train --resume {run}"
    with listener(quiet=quiet, as_json=as_json) as show:
        result = api.finish(run, reason, listener=show)
    options_of(context).hint = ""
    if quiet or as_json:
        return
    if result is None:
        typer.echo(f"{run}: its process ends it after the round in progress, and pays")
    else:
        print_summary(run, console())
