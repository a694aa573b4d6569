"""`podlt report`: one HTML file of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.cli.findings import findings_document
from podlt.cli.options import JsonOption, RunFilesArgument
from podlt.cli.verify import verified
from podlt.store.run_names import REPORT

if TYPE_CHECKING:
    from podlt.verify import Verification


def report(
    run: RunFilesArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; RUN/report.html by default, FILE.html for a bundle.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the dashboard of a run as one HTML file, which loads nothing: open it in any browser, mail it, keep it.

    The run is verified as by podlt verify; what only podlt audit checks is marked as not checked.

    Example: podlt report runs/mnist --out mnist.html
    """
    target, verification = make_report(run, out)
    if as_json:
        typer.echo(json.dumps({"report": str(target), **findings_document(verification.findings)}))
    else:
        typer.echo(f"report: {target}")


def write_report(run: Path, out: Path | None = None) -> Path:
    """Verifies a run, and writes its report; returns where it is. Errors: `make_report`."""
    return make_report(run, out)[0]


def make_report(run: Path, out: Path | None = None) -> tuple[Path, Verification]:
    """Verifies a run, and writes its report; returns where it is, and what verifying came to.

    Raises:
        UsageError: there is no run.
        InvalidProofError: its log breaks the rules, so that there is nothing to show.
        StorageError: the file cannot be written.
    """
    from podlt.dashboard.claims import filled
    from podlt.dashboard.page import report_page
    from podlt.dashboard.source import read_messages
    from podlt.store.files import write_whole

    messages, verification = read_messages(run), verified(run)
    messages.append({"t": "claims", **filled(verification)})
    target = out or (run / REPORT if run.is_dir() else run.with_name(run.name + ".html"))
    write_whole(target, report_page(run.name, messages).encode())
    return target, verification
