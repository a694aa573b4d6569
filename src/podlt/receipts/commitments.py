"""Receipts for commitments, as a worker keeps them, and what they show of a log that is published later.

A manager signs a receipt only for what it logs. A receipt for an attempt at a round that the log has, of a commitment
that it has not, convicts it; the round's entries, with their places in the log, are all that it takes to show that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import inclusion_proof, is_included, leaf_hash
from podlt.log.tree_head import open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.receipt import CommitmentReceipt, check_receipt
from podlt.receipts.credits import Row
from podlt.store.files import append_lines, read_whole

MOST_BYTES = 16 * 2**20
"""Of a run. At half of it a new file begins, and the one before the last is deleted: a receipt is about 900 bytes, so
that those of the last 9,000 tasks at least are there."""

KIND = "podlt/dropped-commitment/1"


def paths_of(folder: Path, run: bytes) -> tuple[Path, Path]:
    """Where a worker's folder keeps them, by the run's identity: the older file, and the one that grows."""
    name = f"bound-{run.hex()[:16]}"
    return folder / f"{name}.1.jsonl", folder / f"{name}.jsonl"


def keep(folder: Path, run: bytes, receipts: Sequence[CommitmentReceipt], most: int = MOST_BYTES) -> None:
    """Adds receipts; not forced to the disk, as each round waits for it: a crash of the machine may cost the last ones.

    Raises:
        StorageError: they cannot be written.
    """
    older, growing = paths_of(folder, run)
    with suppress(FileNotFoundError):
        if growing.stat().st_size > most // 2:
            os.replace(growing, older)
    append_lines(growing, [msgspec.json.encode(receipt) for receipt in receipts], durable=False)


def read(folder: Path, run: bytes) -> list[CommitmentReceipt]:
    """All that are there, the oldest first; of the last, a kill may have left a part.

    Raises:
        StorageError: a line is no receipt.
    """
    found = []
    for path in paths_of(folder, run):
        if not path.is_file():
            continue
        whole, _, _half = read_whole(path, MOST_BYTES).rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found.append(msgspec.json.decode(line, type=CommitmentReceipt))
            except UNREADABLE as error:
                raise StorageError(f"{path}, line {number}: {error}") from None
    return found


class LoggedEntry(msgspec.Struct, frozen=True):
    """An entry of a log, with its audit path to the root of a head."""

    index: int
    entry: bytes
    proof: list[bytes]


class DroppedCommitment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=KIND, tag_field="kind"):
    """What shows that a manager signed a receipt for a commitment and dropped it from its log.

    Attributes:
        reason: in words.
        head: the published log's last signed head.
        begin: its first entry, which has the manager's key.
        round: its entries of the receipt's round, from `open` to `reveal`.
        receipt: what the manager signed.
    """

    reason: str
    head: str
    begin: LoggedEntry
    round: list[LoggedEntry]
    receipt: CommitmentReceipt


class BoundComparison(msgspec.Struct, frozen=True):
    """What comparing receipts for commitments with a published log came to.

    Attributes:
        logged: how many commitments are in the log.
        anew: how many were made in attempts at rounds that the manager began anew, which decides nothing.
        beyond: how many are of rounds that the log does not have (yet).
        dropped: what is evidence against the manager.
    """

    logged: int
    anew: int
    beyond: int
    dropped: list[DroppedCommitment]


def compare(
    receipts: Sequence[CommitmentReceipt], rows: Iterable[Row], note: str, manager: bytes, run: bytes
) -> BoundComparison:
    """Compares receipts with a log, which is held to be what its head says (`receipts.compare` checks that).

    Args:
        rows: number, leaf hash and bytes of each entry.
        note: the log's last head.
        manager: the manager's key.
        run: the run's identity.

    Raises:
        InvalidProofError: a receipt does not prove itself, or the log is malformed.
    """
    for receipt in receipts:
        check_receipt(receipt, run, manager)
    wanted, leaves, current = {receipt.round for receipt in receipts}, list[bytes](), list[tuple[int, bytes]]()
    rounds: dict[int, list[tuple[int, bytes]]] = {}
    size, first = open_head(note, manager, origin_of(run)).size, b""
    for number, leaf, body in rows:
        if number >= size:
            break
        first = first or body
        leaves.append(leaf)
        kind = next((name for name in _KINDS if name in body[:_TAG_ENDS]), b"")
        current = [] if kind == b"open/" else current
        current += [(number, body)] if current or kind == b"open/" else []
        if kind == b"reveal/" and current:
            if (opened := _opened(current)).round in wanted:
                rounds[opened.round] = current
            current = []
    counts, found = {"logged": 0, "anew": 0, "beyond": 0}, []
    for receipt in receipts:
        outcome = _outcome(receipt, rounds.get(receipt.round))
        if outcome in counts:
            counts[outcome] += 1
            continue
        entries = [(0, first), *rounds[receipt.round]]
        proven = [LoggedEntry(number, body, inclusion_proof(leaves, number)) for number, body in entries]
        found.append(DroppedCommitment(outcome, note, proven[0], proven[1:], receipt))
    return BoundComparison(**counts, dropped=found)


def check_evidence(raw: bytes) -> DroppedCommitment:
    """Checks that a document convicts a manager, by itself: neither log nor worker is needed.

    Raises:
        InvalidProofError: it is none, or shows nothing.
    """
    try:
        found = msgspec.json.decode(raw, type=DroppedCommitment)
    except UNREADABLE as error:
        raise InvalidProofError(f"no evidence of a dropped commitment: {error}") from None
    begin = e.decode(found.begin.entry)
    if not isinstance(begin, e.Begin) or found.begin.index != 0:
        raise InvalidProofError("the evidence has no first entry of a run")
    run, manager = e.identity(begin), begin.manager
    head = open_head(found.head, manager, origin_of(run))
    first = found.round[0].index if found.round else 0
    for index, one in [(0, found.begin), *enumerate(found.round, first)]:
        if one.index != index or not is_included(leaf_hash(one.entry), index, head.size, one.proof, head.root):
            raise InvalidProofError("an entry of the evidence is not in the log", entry=one.index)
    check_receipt(found.receipt, run, manager)
    outcome = _outcome(found.receipt, [(one.index, one.entry) for one in found.round])
    if outcome != found.reason or outcome in ("logged", "anew", "beyond"):
        raise InvalidProofError(f"the evidence shows nothing: {outcome}")
    return found


DROPPED = "the manager signed a receipt for this commitment, and its log of the same attempt at the round has it not"
TURNED_BACK = "the manager signed a receipt for a later attempt at the round than the one that its log has"
_KINDS = (b"open/", b"reveal/")
_TAG_ENDS = 16
"""An entry's kind comes first in its one encoding."""


def _opened(entries: Sequence[tuple[int, bytes]]) -> e.Open:
    """The first entry of a round.

    Raises:
        InvalidProofError: it is another.
    """
    opened = e.decode(entries[0][1]) if entries else None
    if not isinstance(opened, e.Open):
        raise InvalidProofError("a round does not begin with its open entry")
    return opened


def _outcome(receipt: CommitmentReceipt, entries: Sequence[tuple[int, bytes]] | None) -> str:
    """What a receipt and the entries of its round, from `open` to `reveal`, come to."""
    if entries is None:
        return "beyond"
    opened, kinds = _opened(entries), [e.decode(body) for _, body in entries]
    whole = isinstance(kinds[-1], e.Reveal) and not any(isinstance(entry, e.Open | e.Reveal) for entry in kinds[1:-1])
    if opened.round != receipt.round or not whole:
        raise InvalidProofError("the entries are not those of one whole round, which the receipt is of")
    if opened.attempt > receipt.attempt:
        return "anew"
    if opened.attempt < receipt.attempt:
        return TURNED_BACK
    made = [commitment for entry in kinds if isinstance(entry, e.Commit) for commitment in entry.commitments]
    return "logged" if receipt.commitment in made else DROPPED
