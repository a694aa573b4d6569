"""`podlt demo`: the main job from end to end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.context import console, options_of
from podlt.cli.proof import print_verification, verified
from podlt.cli.report import write_report
from podlt.cli.summary import print_summary
from podlt.cli.train import perform
from podlt.errors import ExitCode

CHEATS = ["3:sign-flip"]


def demo(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; runs/demo-TIME by default.")
    ] = None,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="What to train.")] = "mnist-mlp",
) -> None:
    """Train MNIST over 50 workers, three of whom cheat; see them caught, verify the proof, write the report.

    Takes one or two minutes on two cores. `--recipe digits` takes seconds, and downloads nothing.

    Example: podlt demo
    """
    out = console()
    path = run if run is not None else Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    out.print(f"[bold]1. Train[/bold] {recipe} with the proof; cheaters among the workers: {', '.join(CHEATS)}")
    perform(options_of(context), recipe=recipe, run=path, cheats=CHEATS)
    print_summary(path, out, following=False)
    out.print("\n[bold]2. Verify[/bold] the log, as anybody can who has it")
    result = verified(path)
    print_verification(result, out)
    if not result.ok:
        raise typer.Exit(ExitCode.FAILS)
    out.print("\n[bold]3. Look[/bold]")
    out.print(f"  report: {write_report(path)}", soft_wrap=True)
    out.print(f"  podlt show {path} | podlt ledger {path} | podlt audit {path}", soft_wrap=True)
