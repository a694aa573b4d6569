"""`podlt conformance`: whether this machine computes exact arithmetic as all others do."""

from __future__ import annotations

import json

import typer

from podlt.cli.context import JsonOption

DIFFERS = 1


def conformance(as_json: JsonOption = False) -> None:
    """Recompute the golden vectors of exact arithmetic on this machine, and print one digest.

    Machines that print the same digest give the same bits. Ends with 1 if one operation differs, and names it.

    Example: podlt conformance
    """
    from podlt.exact.conformance import check

    report = check()
    if as_json:
        typer.echo(json.dumps({"digest": report.digest, "differing": report.differing}))
    else:
        typer.echo(f"{report.digest} {'PASS' if report.differing is None else f'FAIL: {report.differing}'}")
    if report.differing is not None:
        raise typer.Exit(DIFFERS)
