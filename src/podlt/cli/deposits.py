"""`podlt workers deposit` and `return`: what was paid outside, so that the log can say what is held for whom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import JsonOption, RunArgument
from podlt.cli.workers import Worker, find_key, register_of, say, workers_app
from podlt.cli.workers_table import numbers_of
from podlt.errors import UsageError

Reference = Annotated[str, typer.Option(metavar="TEXT", help="By which you find the payment again: for yourself.")]


@workers_app.command("deposit")
def take_deposit(
    run: RunArgument,
    worker: Worker,
    amount: Annotated[int, typer.Argument(metavar="AMOUNT", min=1, help="Credits that were paid.")],
    reference: Reference = "",
    as_json: JsonOption = False,
) -> None:
    """Record that somebody paid a deposit for a key: the log says so when the key joins, or joins again.

    Example: podlt workers deposit runs/mnist 5d1c... 1000 --reference "transfer 1234"
    """
    register, now = register_of(run), time.time_ns() // 10**6
    key = find_key(register, run, worker)
    held = register.change(lambda state: state.pay(key, amount, now, reference[:400])).held(key)
    say(f"deposit of worker {key}: {held:,} credits", {"key": key, "held": held}, as_json)


@workers_app.command("return")
def return_deposit(run: RunArgument, worker: Worker, reference: Reference = "", as_json: JsonOption = False) -> None:
    """Record that you paid back the deposit of a worker that left: the log says so once it is at stake no more.

    That is `escrow` rounds after it left, or was suspended. At the run's end the log returns all deposits by itself,
    but for those of evicted workers.

    Example: podlt workers return runs/mnist 5d1c... --reference "transfer 1240"
    """
    register, now = register_of(run), time.time_ns() // 10**6
    key = find_key(register, run, worker)
    logged = numbers_of(run).get(key)
    if logged is not None and logged.status == "evicted":
        raise UsageError(f"worker {logged.number} was evicted: its deposit was seized, and is nobody's to return")
    if logged is not None and logged.status == "active" and not _over(run):
        raise UsageError(
            f"worker {logged.number} is at work: its deposit is at stake until it leaves (podlt workers pause)"
        )
    held = register.state.held(key)
    register.change(lambda state: state.pay_back(key, now, reference[:400]))
    say(f"deposit of worker {key}: {held:,} credits paid back", {"key": key, "held": 0, "returned": held}, as_json)


def _over(run: Path) -> bool:
    from podlt.report.history import read_history

    closed = read_history(run).state.closed
    return closed is not None and closed.outcome == "complete"


__all__ = ["return_deposit", "take_deposit", "workers_app"]
