"""`podlt report`: one HTML file of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.context import RunFilesArgument
from podlt.cli.proof import verified


def report(
    run: RunFilesArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; RUN/report.html by default, FILE.html for a bundle.")
    ] = None,
) -> None:
    """Write one self-contained HTML file: loss, accuracy, workers, checks, ledger, and whether the proof holds.

    Example: podlt report runs/mnist --out mnist.html
    """
    typer.echo(f"report: {write_report(run, out)}")


def write_report(run: Path, out: Path | None = None) -> Path:
    """Verifies a run, and writes its report; returns where it is.

    Raises:
        UsageError: there is no run; InvalidProofError: its log breaks the rules, so that there is nothing to show.
        StorageError: the file cannot be written.
    """
    from podlt.report.figures import read_figures
    from podlt.report.history import read_history
    from podlt.report.page import page
    from podlt.store.files import write_whole

    history = read_history(run)
    target = out or (run / "report.html" if run.is_dir() else run.with_name(run.name + ".html"))
    write_whole(target, page(run.name, history, read_figures(run), verified(run)).encode())
    return target
