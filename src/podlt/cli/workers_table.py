"""The table of `podlt workers list`: who may work for a run, who does, and by which invitations."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from podlt.cli.options import console, shown
from podlt.store.run_names import SERVER

if TYPE_CHECKING:
    from podlt.access.policy import AccessPolicy
    from podlt.events import WorkerFigures


class Logged(NamedTuple):
    """A worker as the log knows it."""

    number: int
    status: str
    operator: str
    level: int


UNLOGGED = Logged(2**30, "", "", 0)


def numbers_of(run: Path) -> dict[str, Logged]:
    """Key -> the worker by the log; empty before its first entry."""
    from podlt.manager.directory import RunDirectory
    from podlt.report.history import read_history

    if not RunDirectory.existing(run).has_entries():
        return {}
    workers = read_history(run).state.workers
    return {w.key.hex(): Logged(number, w.status, w.operator, w.level) for number, w in workers.items()}


def connected(run: Path) -> dict[str, Any] | None:
    """Key -> its connection, as the run's server tells; None if there is none to ask."""
    from podlt.manager.directory import RunDirectory
    from podlt.network.server.pages import connections_of

    if not (run / SERVER).is_dir():
        return None
    found = connections_of(run, RunDirectory.existing(run).manager_key())
    return None if found is None else {one.key: one for one in found}


def keys_of(state: AccessPolicy, numbers: dict[str, Logged], live: dict[str, Any] | None) -> list[str]:
    """All keys that are known, by number."""
    known = {*state.members, *state.payments, *state.allowed, *state.revoked, *state.paused, *numbers, *(live or {})}
    return sorted(known, key=lambda key: (numbers.get(key, UNLOGGED).number, key))


def row_of(key: str, state: AccessPolicy, numbers: dict[str, Logged], live: dict[str, Any] | None) -> dict[str, Any]:
    """What is known of a key, as the JSON document has it."""
    logged = numbers.get(key)
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
        "worker": logged.number if logged is not None else None,
        "key": key,
        "status": logged.status if logged is not None else "not in the log",
        "operator": logged.operator if logged is not None else state.operator(key),
        "access": access,
        "note": why,
        "deposit": state.held(key),
        "connected": connection is not None,
        "address": connection.address if connection is not None else None,
        "seconds": round(connection.seconds, 1) if connection is not None else None,
    }


def pace_of(seen: WorkerFigures | None, logged: Logged | None) -> dict[str, Any]:
    """What the manager saw of a worker since it began, if anything, and its share of a round against the usual one."""
    names = ("tasks", "examples_per_second", "late", "unopened", "wrong")
    found: dict[str, Any] = {name: None if seen is None else getattr(seen, name) for name in names}
    share = 2.0 ** (0 if logged is None else logged.level)
    return {"share": share, "task_seconds": None if seen is None else seen.seconds, **found}


def _shown_pace(row: dict[str, Any]) -> list[str]:
    share = f"{row['share']:g}" if row["share"] >= 1 else f"1/{1 / row['share']:g}"
    if row["tasks"] is None:
        return [share, *"----"]
    return [share, f"{row['task_seconds']:.2f} s", *(str(row[name]) for name in ("late", "unopened", "wrong"))]


def invitation_status(issued: Any) -> str:
    """Whether an invitation still lets anybody in, in a word."""
    if issued.revoked:
        return "revoked"
    if issued.expires and issued.expires <= time.time_ns() // 10**6:
        return "expired"
    return "used up" if issued.used >= issued.uses else "good"


def print_table(
    rows: list[dict[str, Any]], invitations: list[dict[str, Any]], state: AccessPolicy, running: bool
) -> None:
    """Prints the table, and a line for each invitation."""
    out = console()
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("worker", "right"),
        ("key", "left"),
        ("operator", "left"),
        ("status", "left"),
        ("access", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("connected")
    for name in ("share", "a task", "late", "unopened", "wrong"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for row in rows:
        style = {"revoked": "red", "paused": "yellow"}.get(row["access"])
        number = "-" if row["worker"] is None else str(row["worker"])
        note = f"deposit {row['deposit']:,}  {row['note']}".strip() if row["deposit"] else row["note"]
        since = f"{row['address']}, {row['seconds']:,.0f} s" if row["connected"] else "-"
        operator = shown(row["operator"]) or "-"
        known = (number, row["key"][:16], operator, row["status"], row["access"], since)
        table.add_row(*known, *_shown_pace(row), shown(note), style=style)
    out.print(table)
    for one in invitations:
        until = (
            datetime.fromtimestamp(one["expires"] / 1000).strftime(", until %Y-%m-%d %H:%M") if one["expires"] else ""
        )
        out.print(
            f"invitation {one['name']} for {shown(one['operator'])}: {one['used']} of {one['uses']} used{until}, "
            f"{one['status']}"
            f"{'  ' + shown(one['note']) if one['note'] else ''}"
        )
    if state.most_identities is not None:
        out.print(f"at most {state.most_identities:,} workers of one operator are let in")
    if state.deposit is not None:
        to = f", paid to {shown(state.payee)}" if state.payee else ""
        out.print(f"open to all for a deposit of {state.deposit:,} credits{to}")
    if state.everybody_paused:
        out.print("everybody is paused", style="yellow")
    if not running:
        out.print("[dim]its server does not run: nobody is connected[/dim]")
