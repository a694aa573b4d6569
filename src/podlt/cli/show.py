"""`podlt show`: lets a person look into a run's log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from podlt.canonical import named_fields
from podlt.cli.options import JsonOption, RunFilesArgument, console, options_of, print_facts, short, shown
from podlt.cli.show_json import UNVERIFIED, document
from podlt.errors import InvalidProofError, UsageError

if TYPE_CHECKING:
    from podlt.report.history import History

LISTED = 12


class What(StrEnum):
    """What can be looked at."""

    round = "round"
    worker = "worker"
    entry = "entry"


def show(
    context: typer.Context,
    run: RunFilesArgument,
    what: Annotated[What | None, typer.Argument(help="What to look at; the whole run by default.")] = None,
    number: Annotated[int | None, typer.Argument(min=0, help="Which round, worker or entry, from 0.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look into a run: an overview, the proof record of a round, the life of a worker, or one entry of the log.

    Examples: podlt show runs/mnist

              podlt show runs/mnist round 17    who did what, all three results and signatures

              podlt show runs/mnist worker 3    its checks, credits, and why it was evicted

              podlt show runs/mnist entry 120   decoded, with its proof of inclusion in the Merkle tree

    Shows what the log says. Whether it is true is checked by podlt verify and podlt audit.
    """
    if (what is None) != (number is None):
        raise UsageError(f"expected a number: podlt show {run} {what or 'round'} 0")
    out = console()
    try:
        if as_json:
            typer.echo(json.dumps(document(run, what, number)))
            return
        if what is None or number is None:
            _overview(run, out)
        else:
            {What.round: _round, What.worker: _worker, What.entry: _entry}[what](run, number, out)
        out.print(f"\n[dim]{UNVERIFIED}[/dim]", soft_wrap=True)
    except InvalidProofError:
        options_of(context).hint = f"podlt verify {run}"
        raise


def _overview(run: Path, out: Console) -> None:
    from podlt.report.history import read_history

    history = read_history(run)
    begin, state = history.begin, history.state
    trained = history.trained
    facts = {
        "run": state.run.hex(),
        "status": shown(history.status()),
        "started": clock(history.started),
        "last entry": clock(history.ended),
        "rounds": f"{len(trained):,} trained, {len(history.rounds) - len(trained)} settled",
        "epochs": f"{state.epoch} of {state.epochs} done",
        **({"amended": shown(history.amended())} if state.amendments else {}),
        "lines": f"{begin.lines:,} in blocks of {begin.block_lines:,}"
        + (f", {begin.fragment_lines} a fragment" if begin.fragment_lines else ""),
        "workers": f"{len(state.active())} active of {len(state.workers)}; spares {begin.spares}",
        "loss": f"{trained[0].loss:.4f} -> {trained[-1].loss:.4f}" if trained else "nothing trained yet",
        "log": f"{history.entries:,} entries",
        "manager": begin.manager.hex(),
        "recipe": begin.recipe.hex(),
        "program": begin.program.hex(),
        "data": begin.data.hex(),
        "parameters": state.parameters.hex(),
    }
    print_facts(facts, out)
    _disagreements(history, out)
    out.print(f"\n[dim]podlt show {run} round N | worker N | entry N[/dim]", soft_wrap=True)


def _disagreements(history: History, out: Console) -> None:
    table = Table(title="Rounds in which results differed", box=None, title_justify="left", title_style="bold")
    for name in ("round", "epoch", "verdict", "evicted"):
        table.add_column(name, justify="right" if name in ("round", "epoch") else "left")
    found = [row for row in history.rounds if row.evicted or row.outcome not in ("", "agree")]
    for row in found[:LISTED]:
        table.add_row(str(row.number), str(row.epoch), row.outcome, ", ".join(f"worker {w}" for w in row.evicted))
    out.print()
    out.print(table if found else "in every round all results of the checked fragment were the same")
    if len(found) > LISTED:
        out.print(f"[dim]and {len(found) - LISTED} more[/dim]")
    for number, worker, reason in history.withdrawn[:LISTED]:
        out.print(f"round {number}: worker {worker} withdrew: {shown(reason)}")
    if len(history.withdrawn) > LISTED:
        out.print(f"[dim]and {len(history.withdrawn) - LISTED} more who withdrew[/dim]")


def _round(run: Path, number: int, out: Console) -> None:
    from podlt.report.records import round_record

    record = round_record(run, number)
    opened = record.opened
    facts = {
        "round": f"{number} ({'training' if opened.purpose == 'train' else 'settlement'}), epoch {opened.epoch}",
        "entries": f"{record.entries[0]} to {record.entries[-1]} of the log",
        "deals": f"lines {opened.offset:,} to {opened.offset + opened.lines - 1:,} of the epoch's order, "
        f"{len(opened.fragments)} fragments",
        "secret": f"{record.secret.hex()} (its draws follow from it)",
    }
    print_facts(facts, out)
    out.print("\n[bold]Proof record[/bold]")
    print_facts(
        {
            "fragment": f"{record.fragment}, lines {record.first:,} to {record.last:,}",
            "task": record.task.hex(),
            "  program": record.program.hex(),
            "  parameters": opened.parameters.hex(),
            "  lines": opened.fragments[record.fragment].hex(),
            "  randomness": record.randomness.hex(),
        },
        out,
    )
    for answer in record.answers:
        mark = "  [red]evicted[/red]" if answer.evicted else ""
        out.print(f"\nworker {answer.worker}{mark}")
        parts = {
            "  result": answer.update,
            "  commitment": answer.commitment,
            "  signature": answer.signature,
            "  key": answer.key,
        }
        print_facts({name: value.hex() for name, value in parts.items()}, out)
    out.print()
    for verdict in record.verdicts:
        evicted = f", evicts {verdict.evicted}" if verdict.evicted else ""
        out.print(
            f"[bold]verdict[/bold] on fragment {verdict.fragment}: {verdict.outcome} ({verdict.reason}){evicted}; "
            f"accepted {short(verdict.accepted)}..."
        )
    for seat, holder in record.redealt:
        out.print(f"the task of worker {seat} was dealt again, to worker {holder}")
    if record.applied is not None:
        out.print(f"applied {short(record.applied.update)}..., loss {record.applied.loss:.4f}; {record.paid} transfers")


def _worker(run: Path, number: int, out: Console) -> None:
    from podlt.report.records import worker_life

    life = worker_life(run, number)
    account = life.account
    print_facts(
        {
            "worker": str(number),
            "status": life.state.status,
            "key": life.state.key.hex(),
            "tasks": f"{life.tasks:,} of {life.lines:,} lines; {life.checks} of them were compared, "
            f"{life.state.checks_passed} passed",
            "credits": f"{account.pending:,} pending, {account.vested:,} vested, {account.forfeited:,} forfeited",
            **(
                {"deposit": f"{account.deposit:,} held, {account.returned:,} returned, {account.seized:,} seized"}
                if account.deposit or account.returned or account.seized
                else {}
            ),
        },
        out,
    )
    table = Table(box=None)
    for name in ("entry", "round"):
        table.add_column(name, justify="right")
    table.add_column("what happened")
    for deed in life.deeds:
        table.add_row(str(deed.entry), str(deed.round), shown(deed.what))
    out.print()
    out.print(table)


def _entry(run: Path, number: int, out: Console) -> None:
    from podlt.report.records import entry_record

    record = entry_record(run, number)
    document: dict[str, Any] = msgspec.structs.asdict(record.entry)
    facts = {"entry": f"{number}, {type(record.entry).__name__.lower()}, {record.size:,} bytes"}
    facts["at"] = clock(document.pop("at"))
    facts |= {name: _value(value) for name, value in document.items()}
    print_facts(facts, out)
    out.print("\n[bold]Its place in the tree[/bold] (RFC 6962, 2.1.1)")
    out.print(f"leaf  {record.leaf.hex()}")
    for sibling in record.proof:
        out.print(f"  +   {sibling.hex()}")
    out.print(f"root  {record.head.root.hex()}  of {record.head.size:,} entries, signed by the manager")
    out.print(
        "[green]included[/green]" if record.included else "[bold red]not included[/bold red]: podlt verify says why"
    )
    if not record.included:
        raise InvalidProofError("the entry is not in the tree of the last head", entry=number)


def _value(value: Any) -> str:
    """A field of an entry in a line or a few."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        shown_here = [_value(item) for item in value[:LISTED]]
        more = [f"and {len(value) - LISTED} more"] if len(value) > LISTED else []
        return "\n".join([*shown_here, *more]) if shown_here else "none"
    if isinstance(value, msgspec.Struct):
        parts = named_fields(value)
        return "  ".join(f"{f} {short(v) + '...' if isinstance(v, bytes) else shown(str(v))}" for f, v in parts)
    return shown(str(value))


def clock(millis: int) -> str:
    """A logged time, UTC; the number itself where no calendar reaches."""
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{millis} ms"
