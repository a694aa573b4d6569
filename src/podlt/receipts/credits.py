"""Receipts that prove themselves: an entry, its place in the log, and the head that the manager signed over both.

A worker takes no word of what it was paid, only entries of the log with their audit paths. What it keeps shows later
whether the log that a manager publishes is the one whose heads it signed for its workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import Tree, is_included, leaf_hash
from podlt.log.tree_head import Head, open_head, origin_of
from podlt.protocol import entries as e
from podlt.store.files import append_lines, read_whole
from podlt.wire import messages as m

MAX_RECEIPTS = 2**30
Row = tuple[int, bytes, bytes]


class VerifiedReceipts(msgspec.Struct, frozen=True):
    """What a sound message of receipts says: the head, and the entries, by number, that moved credits."""

    head: Head
    entries: list[tuple[int, e.AnyEntry]]


def check(paid: m.Receipts, manager: bytes, run: bytes) -> VerifiedReceipts:
    """Checks that all receipts of a message are under a head of the run's manager.

    Raises:
        InvalidProofError: a receipt does not prove what it says.
        NotCheckedError: a newer podlt wrote the entry.
    """
    head = open_head(paid.head, manager, origin_of(run))
    last, found = paid.first - 1, []
    for receipt in paid.receipts:
        if not last < receipt.index < head.size:
            raise InvalidProofError("receipt out of order", entry=receipt.index)
        if not is_included(leaf_hash(receipt.entry), receipt.index, head.size, receipt.proof, head.root):
            raise InvalidProofError("receipt for an entry that is not in the log", entry=receipt.index)
        entry = e.decode(receipt.entry)
        if not e.moves_credits(entry):
            raise InvalidProofError("receipt for an entry that moves no credits", entry=receipt.index)
        found.append((receipt.index, entry))
        last = receipt.index
    if paid.first >= head.size:
        raise InvalidProofError("receipts beyond their tree head", expected=head.size, actual=paid.first)
    return VerifiedReceipts(head, found)


def path_of(folder: Path, run: bytes) -> Path:
    """Where a worker's folder keeps the receipts of a run, by its identity."""
    return folder / f"paid-{run.hex()[:16]}.jsonl"


def keep(folder: Path, run: bytes, paid: Sequence[m.Receipts]) -> None:
    """Adds messages of receipts to the file; not forced to the disk.

    Raises:
        StorageError: they cannot be written; then none is.
    """
    append_lines(path_of(folder, run), [msgspec.json.encode(one) for one in paid], durable=False)


def read(folder: Path, run: bytes) -> list[m.Receipts]:
    """All receipts of a run, in the order in which they came; of the last, a kill may have left a part.

    Raises:
        StorageError: there are none, or a line is no receipt.
    """
    path = path_of(folder, run)
    if not path.is_file():
        others = sorted(each.stem.removeprefix("paid-") for each in folder.glob("paid-*.jsonl"))
        there = f"they are of {', '.join(others[:5])}{', ...' * (len(others) > 5)}" if others else "there are none"
        raise StorageError(f"{folder}: no receipts of run {run.hex()[:16]} are here: {there} (--folder names another)")
    whole, _, _half = read_whole(path, MAX_RECEIPTS).rpartition(b"\n")
    found = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=m.Receipts))
        except UNREADABLE as error:
            raise StorageError(f"{path}, line {number}: {error}") from None
    return found


class Contradiction(msgspec.Struct, frozen=True):
    """Two things that the manager signed, and that cannot both be.

    Attributes:
        reason: in words.
        size: over how many entries the head is.
        note: the signed note that a worker was given.
        expected: the root that it is over, in hexadecimal.
        published: the log's own root over as many entries.
    """

    reason: str
    size: int
    note: str
    expected: str
    published: str


class Comparison(msgspec.Struct, frozen=True):
    """What comparing receipts with a published log came to.

    Attributes:
        receipts: how many entries were compared and are there.
        beyond: how many heads are over more entries than the log has.
        contradictions: the heads that are over another log.
    """

    receipts: int
    beyond: int
    contradictions: list[Contradiction]


def compare(receipts: Sequence[m.Receipts], log: Iterable[Row], note: str, manager: bytes, run: bytes) -> Comparison:
    """Compares receipts with a log: each of their heads must be over a prefix of it.

    Args:
        log: number, leaf hash and bytes of each entry.
        note: the log's last head.
        manager: the manager's key, as the log's first entry says.
        run: the run's identity, as the log's first entry says.

    Raises:
        InvalidProofError: a receipt does not prove itself, or the log is not what its own manager signed: then
            comparing them shows nothing.
    """
    published = open_head(note, manager, origin_of(run))
    checked = [(paid, check(paid, manager, run)) for paid in receipts]
    roots: dict[int, bytes] = {}
    wanted, tree = {published.size, *(one.head.size for _, one in checked)}, Tree()
    for _, _, body in log:
        tree.append(leaf_hash(body))
        if tree.size in wanted:
            roots[tree.size] = tree.root()
    if roots.get(published.size) != published.root:
        raise InvalidProofError("the log does not match its last tree head; run podlt verify")
    found, entries, beyond = [], set[int](), 0
    for paid, one in checked:
        root = roots.get(one.head.size)
        if root is None:
            beyond += 1
        elif root == one.head.root:
            entries.update(receipt.index for receipt in paid.receipts)
        else:
            found.append(
                Contradiction(
                    f"the manager signed another log of {one.head.size} entries than it publishes",
                    one.head.size,
                    paid.head,
                    one.head.root.hex(),
                    root.hex(),
                )
            )
    return Comparison(len(entries), beyond, found)
