"""`podlt doctor`: whether this machine can do what is asked of it, and how to mend what it cannot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from podlt.cli.conformance import DeviceOption
from podlt.cli.options import JsonOption
from podlt.doctor.diagnosis import Purpose, Role
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.doctor.diagnosis import Diagnosis

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
ROLES = ", ".join(Role)

COMPILED = " (compiled at its first use here: a minute or two of processor time)"

VERBS = {
    Role.TRAIN: "train",
    Role.MANAGER: "manage a run",
    Role.WORKER: "work for a run",
    Role.CHECK: "check a run",
}


def doctor(
    role: Annotated[
        str, typer.Option("--for", metavar="train|manager|worker|check", help="What it is to do.")
    ] = "train",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", show_default=False, help="manager: where it is to listen.")
    ] = 0,
    to: Annotated[str, typer.Option(metavar="INVITATION|HOST:PORT", help="worker: tries to reach this manager.")] = "",
    device: DeviceOption = "cpu",
    arithmetic: Annotated[
        bool,
        typer.Option(help="Whether to recompute the golden vectors: seconds; up to a minute at the first time."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check this machine for its role: Python, packages, arithmetic, memory, disk, ports, clock, limits; with the fix.

    Ends with 0 if nothing fails, with 2 if something has to be mended, and with 1 if this machine computes something
    else than all others (then nothing that you do here helps).
    """
    from podlt.data.cache import default_cache
    from podlt.doctor.examine import examine, exit_code
    from podlt.doctor.network import place_of

    if role not in list(Role):
        raise UsageError(f"--for {role}: expected one of {ROLES}")
    asked = Purpose(
        Role(role), Path.cwd(), Path.home(), default_cache(), device, port, place_of(to) if to else None, arithmetic
    )
    found: list[Diagnosis] = []
    out, wait = Console(highlight=False, soft_wrap=True), Console(stderr=True)
    with wait.status("looking") as status:
        if not sys.stderr.isatty():
            status.stop()

        def say(name: str) -> None:
            status.update(f"checking: {name}{COMPILED if name == 'arithmetic' and arithmetic else ''}")
            if name == "arithmetic" and arithmetic and not sys.stderr.isatty():
                typer.echo(f"checking: {name}{COMPILED} ...", err=True)

        for each in examine(asked, say):
            found.append(each)
            if not as_json:
                _print(each, out)
    code = exit_code(found)
    if as_json:
        typer.echo(json.dumps({"for": role, "exit": int(code), "found": msgspec.to_builtins(found)}, indent=2))
    else:
        failing, verb = sum(each.health == "fail" for each in found), VERBS[Role(role)]
        typer.echo(f"{failing} to mend before this machine can {verb}" if failing else f"ready to {verb}")
    if code:
        raise typer.Exit(code)


def _print(each: Diagnosis, out: Console) -> None:
    from rich.markup import escape

    health = f"[{STYLES[each.health]}]{each.health:<4}[/]"
    out.print(f"{health}  {escape(each.need):<{20}}  {escape(each.found)}")
    if each.fix:
        out.print(f"      [dim]{'fix' if each.health != 'ok' else 'note'}:[/] {escape(each.fix)}")
