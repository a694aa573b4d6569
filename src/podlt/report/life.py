"""The life of a worker, as a run's log tells it: what it did, what it was paid, and what was found of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import UsageError
from podlt.protocol import entries as e
from podlt.protocol.ledger import Account
from podlt.protocol.roster import WorkerState
from podlt.protocol.round import RevealedRound
from podlt.protocol.rules import RunState
from podlt.protocol.shares import worker_of
from podlt.report.fold import Visit, walk


class Deed(msgspec.Struct, frozen=True):
    """One thing in a worker's life."""

    entry: int
    round: int
    what: str


class Escrow(msgspec.Struct, frozen=True):
    """What is pending of a worker, and when it vests (docs/SPEC.md, 4.4). All of it does at the run's end.

    Attributes:
        credits: each task's, the oldest first.
        tasks: after how many more of its own tasks the oldest vests, and after as many more each the next ones.
        round: at the end of which round all of it vests, of a worker that left; None for any other.
    """

    credits: list[int]
    tasks: int
    round: int | None


class Life(msgspec.Struct, frozen=True):
    """A worker from joining to the log's end.

    Attributes:
        worker: its number.
        state: what it is at the end.
        account: its credits.
        escrow: those that are pending.
        tasks: how many it executed.
        checks: how many of them were compared, with another's result or the manager's own.
        examples: how many it computed.
        convicted: the rounds that convicted it.
        deeds: what else the log says of it.
    """

    worker: int
    state: WorkerState
    account: Account
    escrow: Escrow
    tasks: int
    checks: int
    examples: int
    convicted: list[int]
    deeds: list[Deed]


def worker_life(run: Path, worker: int) -> Life:
    """What the log says of a worker.

    Raises:
        UsageError: no such worker.
    """
    deeds: list[Deed] = []
    convicted: list[int] = []
    tasks = checks = examples = 0
    state = None
    for visit in walk(run):
        state, entry = visit.state, visit.entry
        deeds += [Deed(visit.number, getattr(entry, "round", state.round), what) for what in _deeds(visit, worker)]
        if isinstance(entry, e.Reveal) and isinstance(visit.round, RevealedRound):
            roles, due = visit.round.roles, set(visit.round.due())
            mine = [roles.seats[seat] for seat, holder in visit.round.results if holder == worker]
            tasks, checks = tasks + len(mine), checks + sum(shard in due for shard in mine)
            examples += sum(visit.round.examples_of(mine).values())
        elif isinstance(entry, e.Pay) and isinstance(visit.round, RevealedRound) and worker in visit.round.convicted():
            convicted.append(entry.round)
    if state is None or worker not in state.workers:
        count = 0 if state is None else len(state.workers)
        raise UsageError(f"{run}: no worker {worker}: expected 0 to {count - 1}")
    known, account = state.workers[worker], state.ledger.accounts[worker]
    return Life(worker, known, account, escrow_of(state, worker), tasks, checks, examples, convicted, deeds)


def escrow_of(state: RunState, worker: int) -> Escrow:
    """What is pending of a worker now, and when it vests."""
    credits, known, escrow = state.ledger.credits(worker), state.workers[worker], state.options.escrow
    gone = known.left + escrow if known.status == "withdrawn" and credits else None
    return Escrow(credits, escrow - len(credits) + 1, gone)


def _deeds(visit: Visit, worker: int) -> list[str]:
    """What an entry says of a worker, in words; payments of every single round are left to the ledger."""
    tell = _DEEDS.get(type(visit.entry))
    return tell(visit, visit.entry, worker) if tell is not None else []


def _joined(visit: Visit, entry: e.Join, worker: int) -> list[str]:
    operator = f" for the operator {entry.operator}" if entry.operator else ""
    deposit = f" with a deposit of {entry.deposit} credits" if entry.deposit else ""
    return [f"joined{operator}{deposit}"] if entry.worker == worker else []


def _withdrew(visit: Visit, entry: e.Withdraw, worker: int) -> list[str]:
    return [f"withdrew: {entry.reason}"] if entry.worker == worker else []


def _took_over(visit: Visit, entry: e.Redeal, worker: int) -> list[str]:
    return (
        [f"was dealt the task of worker {worker_of(entry.seat)}, which is gone or late"]
        if entry.holder == worker
        else []
    )


def _was_judged(visit: Visit, entry: e.Verdict, worker: int) -> list[str]:
    results = visit.round.answers[entry.shard] if isinstance(visit.round, RevealedRound) else {}
    if worker not in results:
        return []
    others = [f"worker {other}" for other in sorted(results) if other != worker]
    others += ["the manager's own"] if entry.outcome == "referee" or entry.reason == "own" else []
    how = f"{entry.outcome}, compared with {', '.join(others)}" if others else entry.outcome
    if worker in entry.convicted:
        return [f"convicted: its result for shard {entry.shard} is not the accepted one ({how})"]
    return [f"passed the check of shard {entry.shard} ({how})"]


def _was_clipped(visit: Visit, entry: e.Apply, worker: int) -> list[str]:
    round = visit.round
    assert isinstance(round, RevealedRound)
    parts = ("gradients", "buffers")
    return [
        f"the {parts[c.part]} of its result for shard {c.shard} were clipped: scaled by 2^-{c.exponent}"
        for c in entry.clipped
        if round.answers[c.shard].get(worker) == round.accepted(c.shard)
    ]


def _was_paid(visit: Visit, entry: e.Pay | e.Release, worker: int) -> list[str]:
    """What is out of the ordinary: what vests of who works on does so task by task."""
    words = {
        "vest": "own for good",
        "forfeit": "forfeited",
        "seize": "of its deposit lost",
        "return": "of its deposit given back",
    }
    mine = [t for t in entry.transfers if t.worker == worker and t.kind in words]
    known = visit.state.workers.get(worker)
    whole = isinstance(entry, e.Release) or (known is not None and known.status == "withdrawn")
    found = [f"{t.amount} credits {words[t.kind]}" for t in mine if whole or t.kind != "vest"]
    if known is not None and isinstance(visit.round, RevealedRound) and worker in visit.round.convicted():
        found.append(f"{known.status}, after conviction {known.convictions}")
    return found


_DEEDS: dict[type[Any], Callable[[Visit, Any, int], list[str]]] = {
    e.Join: _joined,
    e.Withdraw: _withdrew,
    e.Redeal: _took_over,
    e.Verdict: _was_judged,
    e.Apply: _was_clipped,
    e.Pay: _was_paid,
    e.Release: _was_paid,
}
