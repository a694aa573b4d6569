"""`podlt ledger`: every worker's credits, and the sum, which is zero."""

from __future__ import annotations

import csv
import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from podlt.cli.options import JsonOption, RunFilesArgument, console
from podlt.errors import UsageError


def ledger(
    run: RunFilesArgument,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what every worker has earned: pending until younger pay is there, forfeited by a conviction.

    A suspended worker that comes back owes what its escrow lacked: so many of its next tasks are not paid.

    Deposits that workers brought are held until the run ends, and then returned; an evicted worker's is seized.

    The treasury is the manager's own account: what it owes and has paid, as a negative number. All accounts sum to
    zero, in every round.
    """
    if as_csv and as_json:
        raise UsageError("expected one of --csv and --json, got both")
    from podlt.report.history import read_history

    state = read_history(run).state
    rows: list[dict[str, Any]] = [
        {
            "worker": number,
            "operator": worker.operator,
            "status": worker.status,
            "convictions": worker.convictions,
            "checks_passed": worker.checks_passed,
            "pending": state.ledger.accounts[number].pending,
            "vested": state.ledger.accounts[number].vested,
            "forfeited": state.ledger.accounts[number].forfeited,
            "deposit": state.ledger.accounts[number].deposit,
            "returned": state.ledger.accounts[number].returned,
            "seized": state.ledger.accounts[number].seized,
            "owes": state.ledger.owes(number) if worker.status != "evicted" else 0,
        }
        for number, worker in sorted(state.workers.items())
    ]
    treasury, total = state.ledger.treasury, state.ledger.total()
    if as_json:
        typer.echo(json.dumps({"workers": rows, "escrow": state.options.escrow, "treasury": treasury, "sum": total}))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else ["worker"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print(rows, treasury, total, deposits=bool(state.ledger.taken))
        console().print(
            f"[dim]a credit vests once its worker has {state.options.escrow:,} younger ones, as many rounds after it "
            "left, or at the end[/dim]"
        )


def _print(rows: list[dict[str, Any]], treasury: int, total: int, *, deposits: bool) -> None:
    names = ["pending", "vested", "forfeited", *(["deposit", "returned", "seized"] if deposits else [])]
    owing = ["owes"] if any(row["owes"] for row in rows) else []
    table = Table(box=None, pad_edge=False)
    table.add_column("worker", justify="right")
    table.add_column("status")
    for name in ("checks passed", *names, *owing):
        table.add_column(name, justify="right")
    for row in rows:
        style = {"evicted": "red", "suspended": "red", "withdrawn": "yellow"}.get(row["status"])
        shown = [row[name] for name in ("worker", "status", "checks_passed", *names, *owing)]
        table.add_row(*(f"{v:,}" if isinstance(v, int) else v for v in shown), style=style)
    table.add_section()
    sums = {name: sum(row[name] for row in rows) for name in names}
    table.add_row("", "all", "", *(f"{value:,}" for value in sums.values()), *([""] if owing else []), style="bold")
    out = console()
    out.print(table)
    summed = [name for name in names if name not in ("forfeited", "seized")]
    what = ", ".join(summed[:-1]) + f" and {summed[-1]}"
    out.print(f"\ntreasury {treasury:,}, workers {sum(sums[name] for name in summed):,} ({what}): sum {total}")
    out.print("[dim]forfeited and seized credits went to the treasury[/dim]")
    if owing:
        out.print("[dim]owes: so many tasks of a worker that was suspended are not paid, if it comes back[/dim]")
