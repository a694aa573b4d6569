"""`podlt show`: lets a person look into a run's log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
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
    from podlt.report.history import History, RoundRow
    from podlt.report.life import Escrow
    from podlt.report.records import RoundRecord, ShardRecord

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

              podlt show runs/mnist round 17    its proof records: results, signatures, verdicts

              podlt show runs/mnist worker 3    its checks, credits, and why it was convicted

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
    from podlt.report.words import operators_text, rules_text

    history = read_history(run)
    begin, state, rounds = history.begin, history.state, history.rounds
    statuses = Counter(worker.status for worker in state.workers.values())
    operators = history.operators()
    facts = {
        "run": state.run.hex(),
        "status": shown(history.status()),
        "started": clock(history.started),
        "last entry": clock(history.ended),
        "rounds": f"{len(rounds):,}",
        "epochs": f"{state.epoch} of {state.epochs} done",
        **({"amended": shown(history.amended())} if state.amendments else {}),
        "examples": f"{begin.examples:,} in batches of {begin.batch_size:,}"
        + (f", {begin.shard_size} a shard" if begin.shard_size else ""),
        "rules": rules_text(begin.options),
        "workers": f"{len(state.workers)}: {', '.join(f'{count} {name}' for name, count in sorted(statuses.items()))}",
        **({"operators": shown(operators_text(operators))} if operators else {}),
        "loss": f"{rounds[0].loss:.4f} -> {rounds[-1].loss:.4f}" if rounds else "nothing trained yet",
        "checks": f"{sum(len(row.agreed) for row in rounds):,} shards whose results are all the same, "
        f"{sum(len(row.disputes) for row in rounds):,} in which they differed or were missing; the manager executed "
        f"{sum(len(row.executed) for row in rounds):,} itself",
        "clipped": _clipped(rounds),
        "escrow": f"{state.ledger.pending:,} credits are pending; one vests once its worker has {begin.escrow:,} "
        f"younger ones, {begin.escrow:,} rounds after it left, or at the end",
        "log": f"{history.entries:,} entries",
        "manager": begin.manager.hex(),
        "recipe": begin.recipe.hex(),
        "program": begin.program.hex(),
        "data": begin.data.hex(),
        "parameters": state.parameters.hex(),
    }
    print_facts(facts, out)
    _disagreements(run, history, out)
    out.print(f"\n[dim]podlt show {run} round N | worker N | entry N[/dim]", soft_wrap=True)


def _clipped(rounds: Sequence[RoundRow]) -> str:
    found = [(row.number, most) for row in rounds for most in row.clipped.values()]
    if not found:
        return "nothing"
    numbers = list(dict.fromkeys(number for number, _ in found))
    named = ", ".join(map(str, numbers[:LISTED])) + (", ..." if len(numbers) > LISTED else "")
    return f"{len(found):,} updates, down to 2^-{max(most for _, most in found)} of their length; in rounds {named}"


def _disagreements(run: Path, history: History, out: Console) -> None:
    from podlt.report.words import verdict_text

    table = Table(title="Rounds in which results differed", box=None, title_justify="left", title_style="bold")
    for name in ("round", "shard", "verdict", "convicted"):
        table.add_column(name, justify="right" if name in ("round", "shard") else "left")
    found = [(row, verdict) for row in history.rounds for verdict in row.disputes]
    for row, verdict in found[:LISTED]:
        fates = dict.fromkeys(row.suspended, "suspended") | dict.fromkeys(row.evicted, "evicted")
        who = ", ".join(f"worker {worker} ({fates[worker]})" for worker in verdict.convicted) or "nobody"
        table.add_row(str(row.number), str(verdict.shard), f"{verdict.outcome} ({verdict.reason})", who)
    out.print()
    out.print(table if found else "in every round all results that were compared were the same")
    if len(found) > LISTED:
        out.print(f"[dim]and {len(found) - LISTED} more[/dim]")
    for outcome, cause in sorted({(verdict.outcome, verdict.reason) for _, verdict in found[:LISTED]}):
        out.print(f"[dim]{outcome} ({cause}): {verdict_text(outcome, cause)}[/dim]", soft_wrap=True)
    for row in list({row.number: row for row, _ in found[:LISTED]}.values()):
        out.print(f"[dim]repeat the execution: {repeat(run, row.number)}[/dim]", soft_wrap=True)
    for number, worker, reason in history.withdrawn[:LISTED]:
        out.print(f"round {number}: worker {worker} withdrew: {shown(reason)}")
    if len(history.withdrawn) > LISTED:
        out.print(f"[dim]and {len(history.withdrawn) - LISTED} more who withdrew[/dim]")


def repeat(run: Path, number: int) -> str:
    """The command that executes the tasks of a round again, and so shows whether who was convicted in it cheated."""
    return f"podlt audit {shown(str(run))} --round {number}"


def _round(run: Path, number: int, out: Console) -> None:
    from podlt.report.records import round_record

    record = round_record(run, number)
    opened = record.opened
    facts = {
        "round": f"{number}, epoch {opened.epoch}",
        "entries": f"{record.entries[0]} to {record.entries[-1]} of the log",
        "deals": f"examples {opened.offset:,} to {opened.offset + opened.examples - 1:,} of the epoch's order, "
        f"{len(opened.shards)} shards",
        "secret": f"{record.secret.hex()} (its draws follow from it)",
    }
    print_facts(facts, out)
    fates = dict.fromkeys(record.suspended, "suspended") | dict.fromkeys(record.evicted, "evicted")
    for found in record.shards:
        _shard(record, found, fates, out)
    if fates:
        out.print(f"\nrepeat the execution: {repeat(run, number)}", soft_wrap=True)
    out.print()
    for seat, holder in record.redealt:
        out.print(f"the task of worker {seat} was dealt again, to worker {holder}")
    for clipped in record.applied.clipped:
        part = ("gradients", "buffers")[clipped.part]
        out.print(f"clipped: the {part} of shard {clipped.shard} were scaled by 2^-{clipped.exponent}")
    out.print(f"applied {short(record.applied.update)}..., loss {record.applied.loss:.4f}; {record.paid} transfers")


def _shard(record: RoundRecord, found: ShardRecord, fates: Mapping[int, str], out: Console) -> None:
    """The proof record of a shard."""
    from podlt.report.words import verdict_text

    why = [text for text, holds in (("checked by a spare", found.checked), ("the manager's own", found.own)) if holds]
    out.print(f"\n[bold]Proof record[/bold] ({', '.join(why) or 'answered more than once, or suspect'})")
    print_facts(
        {
            "shard": f"{found.shard}, examples {found.first:,} to {found.last:,}",
            "task": found.task.hex(),
            "  program": record.program.hex(),
            "  parameters": record.opened.parameters.hex(),
            "  examples": found.examples.hex(),
            "  randomness": found.randomness.hex(),
        },
        out,
    )
    for answer in found.answers:
        mark = f"  [red]convicted, {fates[answer.worker]}[/red]" if answer.convicted else ""
        operator = f" of {shown(answer.operator)}" if answer.operator else ""
        dealt = f", with the task of worker {answer.seat}" if answer.seat != answer.worker else ""
        out.print(f"\nworker {answer.worker}{operator}{dealt}{mark}")
        parts = {
            "  result": answer.update,
            "  commitment": answer.commitment,
            "  signature": answer.signature,
            "  key": answer.key,
        }
        print_facts({name: value.hex() for name, value in parts.items()}, out)
    verdict = found.verdict
    convicts = f", convicts {verdict.convicted}" if verdict.convicted else ""
    out.print(
        f"\n[bold]verdict[/bold]: {verdict.outcome} ({verdict.reason}){convicts}; accepted {verdict.accepted.hex()}"
    )
    out.print(f"[dim]{verdict_text(verdict.outcome, verdict.reason)}[/dim]", soft_wrap=True)


def _worker(run: Path, number: int, out: Console) -> None:
    from podlt.report.life import worker_life

    life = worker_life(run, number)
    account, known = life.account, life.state
    print_facts(
        {
            "worker": str(number),
            "status": known.status + (f", convicted {len(life.convicted)} times" if len(life.convicted) > 1 else ""),
            "key": known.key.hex(),
            **({"operator": shown(known.operator)} if known.operator else {}),
            "tasks": f"{life.tasks:,} of {life.examples:,} examples; {life.checks} of them were compared, "
            f"{known.checks_passed} rounds passed",
            "credits": f"{account.pending:,} pending, {account.vested:,} vested, {account.forfeited:,} forfeited",
            **({"in escrow": _escrow(life.escrow)} if life.escrow.credits else {}),
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
    for round in life.convicted:
        out.print(f"repeat the execution that convicted it: {repeat(run, round)}", soft_wrap=True)


def _escrow(escrow: Escrow) -> str:
    """What waits, and for what."""
    count = len(escrow.credits)
    if escrow.round is not None:
        return f"the pay of {count} tasks; all of it vests with round {escrow.round}, or at the end"
    return (
        f"the pay of {count} tasks; the oldest ({escrow.credits[0]:,} credits) vests after {escrow.tasks} more of its "
        "tasks, and so on; all of it when it left, or at the end"
    )


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
    """A field of an entry in an example or a few."""
    if isinstance(value, bytes):
        return value.hex()
    if value == "":
        return "none"
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
