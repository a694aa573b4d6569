"""`podlt conformance`: whether this machine computes exact arithmetic as all others do."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from podlt.cli.options import JsonOption
from podlt.errors import ExitCode

DeviceOption = Annotated[
    str, typer.Option(help="cpu; cuda or cuda:N, a GPU; portable, what a GPU would run, on the CPU.", metavar="DEVICE")
]


def conformance(device: DeviceOption = "cpu", as_json: JsonOption = False) -> None:
    """Recompute the golden vectors of exact arithmetic on this machine, and print one digest.

    Machines and devices that print the same digest give the same bits. Ends with 1 if one operation differs, and
    names it.

    Example: podlt conformance --device cuda
    """
    from podlt.exact.conformance import check

    report = check(device)
    if as_json:
        typer.echo(json.dumps({"digest": report.digest, "differing": report.differing}))
    else:
        typer.echo(f"{report.digest} {'PASS' if report.differing is None else f'FAIL: {report.differing}'}")
    if report.differing is not None:
        raise typer.Exit(ExitCode.FAILS)
