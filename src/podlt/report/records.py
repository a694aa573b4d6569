"""Records for one question: the proof record of a round, the life of a worker, an entry and its place in the tree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import UsageError
from podlt.log.merkle import inclusion_proof, is_included, leaf_hash
from podlt.log.tree_head import Head, open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.ledger import Account
from podlt.protocol.plan import fragment_bounds
from podlt.protocol.roster import WorkerState
from podlt.protocol.round import Redealt, RevealedRound, RoundState
from podlt.protocol.rules import RunState
from podlt.report.fold import Visit, decode, open_log, walk


class ComparedResult(msgspec.Struct, frozen=True):
    """A worker's part in the comparison: the digest of its update, and its signature under the commitment to it."""

    worker: int
    key: bytes
    update: bytes
    commitment: bytes
    signature: bytes
    evicted: bool


class RoundRecord(msgspec.Struct, frozen=True):
    """A round and its proof record: the inputs (digests), who answered what, and what came of it.

    Attributes:
        opened: the round's first entry.
        entries: the numbers of the round's entries in the log.
        fragment: the one that was compared.
        first: its first line, in the order of the epoch.
        last: its last line.
        task: digest of its task.
        program: digest of the training step.
        randomness: that the task was given.
        secret: what the draws follow from.
        answers: of everybody who had that fragment.
        verdicts: all of the round's.
        redealt: (seat, worker) of tasks that were dealt again.
        applied: what was applied, if anything.
        paid: how many transfers there were.
    """

    opened: e.Open
    entries: list[int]
    fragment: int
    first: int
    last: int
    task: bytes
    program: bytes
    randomness: bytes
    secret: bytes
    answers: list[ComparedResult]
    verdicts: list[e.Verdict]
    redealt: list[tuple[int, int]]
    applied: e.Apply | None
    paid: int


def round_record(run: Path, number: int) -> RoundRecord:
    """The record of a round.

    Raises:
        UsageError: no such round, or it is not finished.
    """
    visits: list[int] = []
    record: RoundRecord | None = None
    secret, applied, last = b"", None, -1
    for visit in walk(run):
        entry = visit.entry
        last = visit.state.round
        if getattr(entry, "round", None) != number:
            continue
        visits.append(visit.number)
        if isinstance(entry, e.Reveal):
            secret = entry.secret
        elif isinstance(entry, e.Apply):
            applied = entry
        elif isinstance(entry, e.Pay):
            assert isinstance(visit.round, RevealedRound)
            record = _record(visit.state, visit.round, visits, secret, applied, len(entry.transfers))
            break
    if record is None:
        raise UsageError(f"{run}: no finished round {number}: expected 0 to {last - 1}")
    return record


def _record(
    state: RunState, round: RevealedRound, visits: list[int], secret: bytes, applied: e.Apply | None, paid: int
) -> RoundRecord:
    assert state.begin is not None
    fragment, opened = round.roles.checked, round.open
    start, stop = fragment_bounds(opened.lines, len(opened.fragments))[fragment]
    evicted = {worker for verdict in round.verdicts.values() for worker in verdict.evicted}
    answers = [
        ComparedResult(
            worker=round.holder(seat),
            key=state.workers[round.holder(seat)].key,
            update=round.results[seat],
            commitment=round.commitments[seat].commitment,
            signature=round.commitments[seat].signature,
            evicted=round.holder(seat) in evicted,
        )
        for seat in round.roles.group()
    ]
    task = task_of(state, round, fragment)
    return RoundRecord(
        opened=opened,
        entries=visits,
        fragment=fragment,
        first=opened.offset + start,
        last=opened.offset + stop - 1,
        task=task[0],
        program=state.begin.program,
        randomness=task[1],
        secret=secret,
        answers=answers,
        verdicts=[round.verdicts[f] for f in sorted(round.verdicts)],
        redealt=[(move.seat, move.holder) for move in round.moves if isinstance(move, Redealt)],
        applied=applied,
        paid=paid,
    )


def task_of(state: RunState, round: RoundState, fragment: int) -> tuple[bytes, bytes]:
    """Digest and randomness of a fragment's task in a round, in progress or over."""
    current, state.current = state.current, round
    try:
        task = state.task(fragment)
    finally:
        state.current = current
    return task.digest(), task.randomness


class Deed(msgspec.Struct, frozen=True):
    """One thing in a worker's life."""

    entry: int
    round: int
    what: str


class Life(msgspec.Struct, frozen=True):
    """A worker from joining to the log's end.

    Attributes:
        worker: its number.
        state: what it is at the end.
        account: its credits.
        tasks: how many it executed.
        checks: how many of them were compared.
        lines: how many it computed.
        deeds: what else the log says of it.
    """

    worker: int
    state: WorkerState
    account: Account
    tasks: int
    checks: int
    lines: int
    deeds: list[Deed]


def worker_life(run: Path, worker: int) -> Life:
    """What the log says of a worker.

    Raises:
        UsageError: no such worker.
    """
    deeds: list[Deed] = []
    tasks = checks = lines = 0
    state = None
    for visit in walk(run):
        state, entry = visit.state, visit.entry
        deeds += [Deed(visit.number, getattr(entry, "round", state.round), what) for what in _deeds(visit, worker)]
        if isinstance(entry, e.Reveal) and isinstance(visit.round, RevealedRound):
            bounds = fragment_bounds(visit.round.open.lines, len(visit.round.open.fragments))
            for seat, fragment in visit.round.roles.seats.items():
                if visit.round.holder(seat) == worker:
                    tasks, checks = tasks + 1, checks + (fragment == visit.round.roles.checked)
                    lines += bounds[fragment][1] - bounds[fragment][0]
    if state is None or worker not in state.workers:
        count = 0 if state is None else len(state.workers)
        raise UsageError(f"{run}: no worker {worker}: expected 0 to {count - 1}")
    return Life(worker, state.workers[worker], state.ledger.accounts[worker], tasks, checks, lines, deeds)


def _deeds(visit: Visit, worker: int) -> list[str]:
    """What an entry says of a worker, in words; payments of every single round are left to the ledger."""
    tell = _DEEDS.get(type(visit.entry))
    return tell(visit, visit.entry, worker) if tell is not None else []


def _joined(visit: Visit, entry: e.Join, worker: int) -> list[str]:
    joined = f"joined with a deposit of {entry.deposit} credits" if entry.deposit else "joined"
    return [joined] if entry.worker == worker else []


def _withdrew(visit: Visit, entry: e.Withdraw, worker: int) -> list[str]:
    return [f"withdrew: {entry.reason}"] if entry.worker == worker else []


def _took_over(visit: Visit, entry: e.Redeal, worker: int) -> list[str]:
    return [f"took over the task of worker {entry.seat}"] if entry.holder == worker else []


def _was_judged(visit: Visit, entry: e.Verdict, worker: int) -> list[str]:
    results = visit.round.fragment_results(entry.fragment) if isinstance(visit.round, RevealedRound) else {}
    if worker not in results:
        return []
    others = ", ".join(str(other) for other in sorted(results) if other != worker)
    compared = f" with {others}" if others else ""
    if worker in entry.evicted:
        return [
            f"evicted: its result for fragment {entry.fragment} is not the accepted one ({entry.outcome}{compared})"
        ]
    return [f"passed the check of fragment {entry.fragment}{compared} ({entry.outcome})"]


def _was_paid(visit: Visit, entry: e.Pay | e.Return, worker: int) -> list[str]:
    words = {
        "vest": "own for good",
        "forfeit": "forfeited",
        "seize": "of its deposit lost",
        "return": "of its deposit given back",
    }
    return [f"{t.amount} credits {words[t.kind]}" for t in entry.transfers if t.worker == worker and t.kind in words]


_DEEDS: dict[type[Any], Callable[[Visit, Any, int], list[str]]] = {
    e.Join: _joined,
    e.Withdraw: _withdrew,
    e.Redeal: _took_over,
    e.Verdict: _was_judged,
    e.Pay: _was_paid,
    e.Return: _was_paid,
}


class EntryRecord(msgspec.Struct, frozen=True):
    """An entry, and the proof that it stands in the tree of the last head (RFC 6962, section 2.1.1)."""

    number: int
    entry: e.AnyEntry
    size: int
    leaf: bytes
    head: Head
    note: str
    proof: list[bytes]
    included: bool


def entry_record(run: Path, number: int) -> EntryRecord:
    """An entry with its inclusion proof.

    Raises:
        UsageError: no such entry.
        InvalidProofError: the last tree head is not the manager's.
    """
    with closing(open_log(run)) as store:
        heads = store.heads()
        begin = next((decode(n, body) for n, _, body in store.entries()), None)
        if not heads or not isinstance(begin, e.Begin):
            raise UsageError(f"{run}: the log is empty: nothing was trained yet")
        note = heads[-1][1]
        head = open_head(note, begin.manager, origin_of(e.identity(begin)))
        if not 0 <= number < head.size:
            raise UsageError(f"{run}: no entry {number}: expected 0 to {head.size - 1}")
        leaves: list[bytes] = []
        body = b""
        for n, _, row in store.entries():
            if len(leaves) == head.size:
                break
            leaves.append(leaf_hash(row))
            body = row if n == number else body
    proof = inclusion_proof(leaves, number)
    return EntryRecord(
        number=number,
        entry=decode(number, body),
        size=len(body),
        leaf=leaves[number],
        head=head,
        note=note,
        proof=proof,
        included=is_included(leaves[number], number, head.size, proof, head.root),
    )
