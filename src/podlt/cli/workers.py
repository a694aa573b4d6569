"""`podlt workers`: who may work for a run, who does, and what the operator has to say about it."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from podlt.cli.options import JsonOption, RunArgument, console, shown
from podlt.errors import UsageError
from podlt.store.run_names import SERVER

if TYPE_CHECKING:
    from podlt.network.access.policy import AccessPolicy
    from podlt.network.access.registry import Registry

workers_app = typer.Typer(
    no_args_is_help=True,
    help="Say who may work for a run. A manager that is running notices within a second or two.",
)

_SPAN = re.compile(r"(\d+)([mhd])")
_LEAST_DIGITS = 8

Worker = Annotated[
    str, typer.Argument(metavar="WORKER", help="A number in the run, a public key, or the first 8 digits of it.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; shown to the worker.")]


@workers_app.command("list")
def list_workers(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show who may work for a run, who is connected at this moment, and which invitations are good.

    Example: podlt workers list runs/mnist --json
    """
    register = register_of(run)
    state = register.state
    numbers, live = numbers_of(run), _connected(run)
    rows = [_row(key, state, numbers, live) for key in _keys(state, numbers, live)]
    invitations = [
        {
            "name": name,
            "uses": issued.uses,
            "used": issued.used,
            "expires": issued.expires or None,
            "status": _invitation_status(issued),
            "note": issued.note,
        }
        for name, issued in state.invitations.items()
    ]
    if as_json:
        document = {
            "server": "running" if live is not None else "not running",
            "open": state.deposit is not None,
            "deposit": state.deposit,
            "payee": state.payee,
            "paused": state.everybody_paused,
            "workers": rows,
            "invitations": invitations,
        }
        typer.echo(json.dumps(document))
    else:
        _print(rows, invitations, state, live is not None)


@workers_app.command()
def invite(
    run: RunArgument,
    uses: Annotated[int, typer.Option(min=1, help="For how many workers it is good.")] = 1,
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="Until when: 90m, 12h, 7d; without end by default.")
    ] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Who it is for: for yourself.")] = "",
    address: Annotated[
        bool, typer.Option("--address", help="Only where the run is: for keys that are allowed, and for open runs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print one line to send to a worker, who then runs: podlt worker LINE. Whoever reads the line can use it.

    Example: podlt workers invite runs/mnist --uses 20 --expires 7d
    """
    from podlt.manager.directory import RunDirectory
    from podlt.network.access.invitation import write

    now = time.time_ns() // 10**6
    key = RunDirectory.existing(run).manager_key()
    invitation = register_of(run).invite(
        key, uses=uses, expires=_until(expires, now), now=now, note=note[:400], address=address
    )
    line = write(invitation)
    if as_json:
        typer.echo(json.dumps({"invitation": line, "name": invitation.name, "servers": invitation.servers}))
    else:
        typer.echo(line)


@workers_app.command()
def revoke(run: RunArgument, worker: Worker, reason: Reason = "", as_json: JsonOption = False) -> None:
    """Shut a worker out for good, or (by its name) end an invitation. Its connection ends; what it was paid stays.

    Example: podlt workers revoke runs/mnist 17 --reason "its owner asked for it"
    """
    register = register_of(run)
    if worker in register.state.invitations:
        register.change(lambda state: state.withdraw(worker))
        say(f"invitation {worker} is no longer good", {"invitation": worker, "status": "revoked"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.revoke(key, reason[:400]))
    say(f"worker {key} is revoked", {"key": key, "status": "revoked"}, as_json)


@workers_app.command()
def pause(
    run: RunArgument,
    worker: Annotated[str, typer.Argument(metavar="[WORKER]", help="Who; everybody by default.")] = "",
    reason: Reason = "",
    as_json: JsonOption = False,
) -> None:
    """Shut a worker out for now, or everybody.

    Example: podlt workers pause runs/mnist 17
    """
    register = register_of(run)
    if not worker:
        register.change(lambda state: state.pause_everybody(True))
        say("everybody is paused", {"status": "paused"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.pause(key, reason[:400]))
    say(f"worker {key} is paused", {"key": key, "status": "paused"}, as_json)


@workers_app.command()
def resume(
    run: RunArgument,
    worker: Annotated[str, typer.Argument(metavar="[WORKER]", help="Who; everybody by default.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a worker in again that was paused, or everybody.

    Example: podlt workers resume runs/mnist 17
    """
    register = register_of(run)
    if not worker:
        register.change(lambda state: state.pause_everybody(False))
        say("the run takes workers again", {"status": "resumed"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.resume(key))
    say(f"worker {key} may work again", {"key": key, "status": "resumed"}, as_json)


@workers_app.command()
def allow(
    run: RunArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The public key that `podlt key show` prints.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Whose it is: for yourself.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a key in without a secret; it still needs the address: podlt workers invite RUN --address.

    Example: podlt workers allow runs/mnist 5d1c...
    """
    if re.fullmatch(r"[0-9a-f]{64}", key) is None:
        raise UsageError(f"{key!r}: expected a public key of 64 hexadecimal digits, as `podlt key show` prints it")
    register_of(run).change(lambda state: state.allow(key, note[:400]))
    say(f"worker {key} is allowed", {"key": key, "status": "allowed"}, as_json)


@workers_app.command("open")
def open_run(
    run: RunArgument,
    deposit: Annotated[int, typer.Option(min=0, help="Credits that somebody must have paid for the key.")] = 0,
    to: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Payment instructions, shown to workers whose deposit is missing."),
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Open to invited and allowed workers only, again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a run to any key with a deposit; the address is enough to come: podlt workers invite RUN --address.

    What was paid is recorded by podlt workers deposit. It is lost with an eviction, and returned at the run's end.

    Example: podlt workers open runs/mnist --deposit 1000 --to "billing@example.org"
    """
    state = register_of(run).change(
        lambda state: state.open(None if close else deposit, None if to is None else to[:400])
    )
    text = "invited and allowed workers only" if close else f"open to all for a deposit of {deposit:,} credits"
    say(text, {"open": not close, "deposit": None if close else deposit, "payee": state.payee}, as_json)


def register_of(run: Path) -> Registry:
    """The register of a run. Raises: UsageError: there is no run."""
    from podlt.manager.directory import RunDirectory
    from podlt.network.access.registry import Registry

    return Registry(RunDirectory.existing(run).path)


def numbers_of(run: Path) -> dict[str, tuple[int, str]]:
    """Key -> number and status by the log; empty before its first entry."""
    from podlt.manager.directory import RunDirectory
    from podlt.report.history import read_history

    if not RunDirectory.existing(run).has_entries():
        return {}
    workers = read_history(run).state.workers
    return {worker.key.hex(): (number, worker.status) for number, worker in workers.items()}


def _connected(run: Path) -> dict[str, Any] | None:
    """Key -> its connection, as the run's server tells; None if there is none to ask."""
    from podlt.manager.directory import RunDirectory
    from podlt.network.server.pages import connections_of

    if not (run / SERVER).is_dir():
        return None
    found = connections_of(run, RunDirectory.existing(run).manager_key())
    return None if found is None else {one.key: one for one in found}


def _keys(state: AccessPolicy, numbers: dict[str, tuple[int, str]], live: dict[str, Any] | None) -> list[str]:
    known = {*state.members, *state.payments, *state.allowed, *state.revoked, *state.paused, *numbers, *(live or {})}
    return sorted(known, key=lambda key: (numbers.get(key, (2**30, ""))[0], key))


def _row(
    key: str, state: AccessPolicy, numbers: dict[str, tuple[int, str]], live: dict[str, Any] | None
) -> dict[str, Any]:
    number, status = numbers.get(key, (None, "not in the log"))
    connection = (live or {}).get(key)
    if key in state.revoked:
        access, why = "revoked", state.revoked[key]
    elif key in state.paused:
        access, why = "paused", state.paused[key]
    else:
        member = state.members.get(key)
        access = member.by if member is not None else "allowlist" if key in state.allowed else "open"
        why = state.allowed.get(key, "")
        if member is not None and member.invitation in state.invitations:
            why = why or state.invitations[member.invitation].note
    return {
        "worker": number,
        "key": key,
        "status": status,
        "access": access,
        "note": why,
        "deposit": state.held(key),
        "connected": connection is not None,
        "address": connection.address if connection is not None else None,
        "seconds": round(connection.seconds, 1) if connection is not None else None,
    }


def find_key(register: Registry, run: Path, worker: str) -> str:
    """The key of a worker that is named by number, key or the beginning of a key.

    Raises:
        UsageError: nobody is, or several are.
    """
    if re.fullmatch(r"[0-9a-f]{64}", worker):
        return worker
    state, numbers = register.state, numbers_of(run)
    if re.fullmatch(r"[0-9]{1,7}", worker):
        found = [key for key, (number, _) in numbers.items() if number == int(worker)]
    elif len(worker) >= _LEAST_DIGITS:
        found = [key for key in _keys(state, numbers, None) if key.startswith(worker.lower())]
    else:
        found = []
    if len(found) != 1:
        raise UsageError(f"{worker}: {'several workers' if found else 'no worker of this run'}; see podlt workers list")
    return found[0]


def _until(span: str, now: int) -> int:
    if not span:
        return 0
    found = _SPAN.fullmatch(span.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"--expires {span!r}: expected a span such as 90m, 12h or 7d")
    return now + int(found[1]) * {"m": 60, "h": 3600, "d": 86400}[found[2]] * 1000


def _invitation_status(issued: Any) -> str:
    if issued.revoked:
        return "revoked"
    if issued.expires and issued.expires <= time.time_ns() // 10**6:
        return "expired"
    return "used up" if issued.used >= issued.uses else "good"


def say(text: str, document: dict[str, Any], as_json: bool) -> None:
    """Prints one of the two."""
    typer.echo(json.dumps(document) if as_json else text)


def _print(rows: list[dict[str, Any]], invitations: list[dict[str, Any]], state: AccessPolicy, running: bool) -> None:
    out = console()
    table = Table(box=None, pad_edge=False)
    for name, justify in (("worker", "right"), ("key", "left"), ("status", "left"), ("access", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("connected")
    table.add_column("note")
    for row in rows:
        style = {"revoked": "red", "paused": "yellow"}.get(row["access"])
        number = "-" if row["worker"] is None else str(row["worker"])
        note = f"deposit {row['deposit']:,}  {row['note']}".strip() if row["deposit"] else row["note"]
        since = f"{row['address']}, {row['seconds']:,.0f} s" if row["connected"] else "-"
        table.add_row(number, row["key"][:16], row["status"], row["access"], since, shown(note), style=style)
    out.print(table)
    for one in invitations:
        until = (
            datetime.fromtimestamp(one["expires"] / 1000).strftime(", until %Y-%m-%d %H:%M") if one["expires"] else ""
        )
        out.print(
            f"invitation {one['name']}: {one['used']} of {one['uses']} used{until}, {one['status']}"
            f"{'  ' + shown(one['note']) if one['note'] else ''}"
        )
    if state.deposit is not None:
        to = f", paid to {shown(state.payee)}" if state.payee else ""
        out.print(f"open to all for a deposit of {state.deposit:,} credits{to}")
    if state.everybody_paused:
        out.print("everybody is paused", style="yellow")
    if not running:
        out.print("[dim]its server does not run: nobody is connected[/dim]")
