"""`podlt conformance`: whether this machine computes exact arithmetic as all others do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.cli.options import JsonOption
from podlt.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from podlt.execution.conformance_table import Sighting

DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="cpu; cuda or cuda:N, a GPU; on the CPU, portable, what a GPU without Triton runs, and triton, what one "
        "with it runs, by Triton's interpreter (set TRITON_INTERPRET=1).",
    ),
]


def conformance(
    device: DeviceOption = "cpu",
    report: Annotated[
        bool, typer.Option("--report", help="Print one line that says what was seen where: a row for the table.")
    ] = False,
    note: Annotated[
        str, typer.Option(metavar="TEXT", help="With --report: what the machine cannot know, such as its emulator.")
    ] = "",
    append: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add the line to the table in this file (docs/CONFORMANCE.md).")
    ] = None,
    line: Annotated[
        str, typer.Option(metavar="LINE", help="With --append: a line that somebody sent, instead of this machine's.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Recompute the golden vectors of exact arithmetic on this machine, and print one digest.

    Machines and devices that print the same digest give the same bits. Ends with 1 if one operation differs, and
    names it.

    Examples: podlt conformance --device cuda

              podlt conformance --report --json

              podlt conformance --append docs/CONFORMANCE.md --line '{"date": ...}'
    """
    if line:
        if append is None or report:
            raise UsageError("--line: expected --append FILE and no --report: it replaces this machine's line")
        return _take(line, append)
    if (note or append) and not report:
        raise UsageError("--note and --append: expected --report beside them, or --line with --append")
    from podlt.exact.conformance import check

    found = check(device)
    if report:
        from podlt.execution.conformance_report import as_json as json_line
        from podlt.execution.conformance_report import sighting

        seen = sighting(found, device, datetime.now(UTC).date(), note)
        typer.echo(json_line(seen) if as_json else seen.row())
        if append is not None:
            _append(append, seen)
    elif as_json:
        document = {"digest": found.digest, "differing": found.differing, "differences": found.differences}
        typer.echo(json.dumps(document))
    else:
        typer.echo(f"{found.digest} {'PASS' if found.differing is None else f'FAIL: {found.differing}'}")
    if found.differing is not None:
        raise typer.Exit(ExitCode.FAILS)
    return None


def _take(line: str, path: Path) -> None:
    from podlt.execution.conformance_table import read_sighting

    seen = read_sighting(line)
    _append(path, seen)
    typer.echo(f"{path}: added {seen.processor}, {seen.date}")


def _append(path: Path, seen: Sighting) -> None:
    from podlt.exact.conformance import total, vectors
    from podlt.execution.conformance_table import append

    if not path.is_file():
        raise UsageError(f"--append {path}: no such file")
    append(path, seen, total(vectors()))
