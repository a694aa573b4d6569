"""Records for one question: the proof records of a round, an entry and its place in the tree."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from podlt.errors import UsageError
from podlt.log.merkle import inclusion_proof, is_included, leaf_hash
from podlt.log.tree_head import Head, open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.plan import shard_bounds
from podlt.protocol.round import Redealt, RevealedRound, RoundState
from podlt.protocol.rules import RunState
from podlt.protocol.shares import worker_of
from podlt.report.fold import decode, open_log, walk


class ComparedResult(msgspec.Struct, frozen=True):
    """A worker's part in a comparison: the digest of its update, and its signature under the commitment to it.

    Attributes:
        worker: who executed the task.
        seat: to whom it was dealt: another worker's, if this one took it over or is its backup.
        operator: who runs the worker; "" for nobody else.
        key: its public key.
        update: the digest of its result.
        commitment: to that result.
        signature: under the commitment.
        convicted: whether the shard's verdict names it.
    """

    worker: int
    seat: int
    operator: str
    key: bytes
    update: bytes
    commitment: bytes
    signature: bytes
    convicted: bool


class ShardRecord(msgspec.Struct, frozen=True):
    """A shard on which there is a verdict: what its task is made of, who answered what, and what came of it.

    Attributes:
        shard: its number.
        first: its first example, in the order of the epoch.
        last: its last example.
        task: digest of its task.
        examples: digest of its examples.
        randomness: that the task was given.
        checked: whether it was given to spares as well.
        own: whether the manager was to execute it, whatever the results are.
        answers: of everybody who executed it.
        verdict: on it.
    """

    shard: int
    first: int
    last: int
    task: bytes
    examples: bytes
    randomness: bytes
    checked: bool
    own: bool
    answers: list[ComparedResult]
    verdict: e.Verdict


class RoundRecord(msgspec.Struct, frozen=True):
    """A round and its proof records.

    Attributes:
        opened: the round's first entry.
        entries: the numbers of the round's entries in the log.
        program: digest of the training step.
        secret: what the draws follow from.
        shards: those on which there is a verdict, ascending.
        redealt: of tasks that were dealt again: whose it was, and who got it.
        applied: what was applied.
        suspended: whom it convicted for the first time.
        evicted: whom else it convicted.
        paid: how many transfers there were.
    """

    opened: e.Open
    entries: list[int]
    program: bytes
    secret: bytes
    shards: list[ShardRecord]
    redealt: list[tuple[int, int]]
    applied: e.Apply
    suspended: list[int]
    evicted: list[int]
    paid: int


def round_record(run: Path, number: int) -> RoundRecord:
    """The record of a round.

    Raises:
        UsageError: no such round, or it is not finished.
    """
    found: list[e.AnyEntry] = []
    visits: list[int] = []
    last = -1
    for visit in walk(run):
        last = visit.state.round
        if getattr(visit.entry, "round", None) != number:
            continue
        visits.append(visit.number)
        found.append(visit.entry)
        if isinstance(visit.entry, e.Pay):
            assert isinstance(visit.round, RevealedRound)
            return _record(visit.state, visit.round, visits, found)
    raise UsageError(f"{run}: no finished round {number}: expected 0 to {last - 1}")


def _record(state: RunState, round: RevealedRound, visits: list[int], found: list[e.AnyEntry]) -> RoundRecord:
    assert state.begin is not None
    (secret,) = [entry.secret for entry in found if isinstance(entry, e.Reveal)]
    (applied,) = [entry for entry in found if isinstance(entry, e.Apply)]
    (paid,) = [len(entry.transfers) for entry in found if isinstance(entry, e.Pay)]
    convicted = sorted(round.convicted())
    return RoundRecord(
        opened=round.open,
        entries=visits,
        program=state.begin.program,
        secret=secret,
        shards=[shard_record(state, round, verdict) for _, verdict in sorted(round.verdicts.items())],
        redealt=[(worker_of(move.seat), move.holder) for move in round.moves if isinstance(move, Redealt)],
        applied=applied,
        suspended=[worker for worker in convicted if state.workers[worker].status == "suspended"],
        evicted=[worker for worker in convicted if state.workers[worker].status == "evicted"],
        paid=paid,
    )


def shard_record(state: RunState, round: RevealedRound, verdict: e.Verdict) -> ShardRecord:
    """What a shard's verdict rests on, in a round that is revealed, in progress or over."""
    shard, opened = verdict.shard, round.open
    start, stop = shard_bounds(opened.examples, len(opened.shards))[shard]
    task, randomness = task_of(state, round, shard)
    answers = [
        ComparedResult(
            worker=holder,
            seat=worker_of(seat),
            operator=state.workers[holder].operator,
            key=state.workers[holder].key,
            update=update,
            commitment=round.commitments[seat, holder].commitment,
            signature=round.commitments[seat, holder].signature,
            convicted=holder in verdict.convicted,
        )
        for (seat, holder), update in sorted(round.results.items())
        if round.roles.seats[seat] == shard
    ]
    return ShardRecord(
        shard=shard,
        first=opened.offset + start,
        last=opened.offset + stop - 1,
        task=task,
        examples=opened.shards[shard],
        randomness=randomness,
        checked=shard in round.roles.checked,
        own=shard in round.roles.own,
        answers=answers,
        verdict=verdict,
    )


def task_of(state: RunState, round: RoundState, shard: int) -> tuple[bytes, bytes]:
    """Digest and randomness of a shard's task in a round, in progress or over."""
    current, state.current = state.current, round
    try:
        task = state.task(shard)
    finally:
        state.current = current
    return task.digest(), task.randomness


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
