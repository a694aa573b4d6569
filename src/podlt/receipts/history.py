"""Receipts that a worker has missed, from the log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from podlt.log.merkle import Tree
from podlt.protocol import entries as e
from podlt.store.run_log import has_log, open_run_log
from podlt.wire import messages as m

PAGE_ENTRIES = 4000
"""So many entries are looked at for an answer: about a hundredth of a second."""

PAGE_BYTES = m.MAX_MESSAGE // 4
MARK = 256
"""Entries between two trees that are kept, from which proofs of later entries can be made."""

_MOVING = (b"join/", b"pay/", b"release/")
_TAG_ENDS = 16
"""An entry's kind comes first in its one encoding."""


class LogReader(Protocol):
    """A log that can be read again: `LogStore`."""

    def entries(self, first: int = 0) -> Iterable[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from the given one on."""

    def heads(self, above: int = 0, most: int | None = None) -> list[tuple[int, str]]:
        """Size and note of each head over more than so many entries."""

    def close(self) -> None:
        """Closes it."""


class ReceiptHistory:
    """Reads a log again, for those who were away.

    Args:
        open_log: opens it; None while there is none.
    """

    def __init__(self, open_log: Callable[[], LogReader | None]) -> None:
        self._open = open_log
        self._store: LogReader | None = None
        self._marks = [Tree()]

    @classmethod
    def of_run(cls, run: Path) -> ReceiptHistory:
        """Of the run in this directory."""
        return cls(lambda: open_run_log(run, readonly=True) if has_log(run) else None)

    def missed(self, worker: int, first: int) -> m.MissedReceipts | None:
        """What moved a worker's credits from entry `first` on, as far as one answer goes.

        Args:
            first: where a signed head ends, as all that a worker knows does.

        Returns:
            Receipts, each with the head of its own batch; None if nothing (more) is on the disk.

        Raises:
            StorageError: the log cannot be read.
            InvalidProofError: the log is malformed.
        """
        if self._store is None:
            self._store = self._open()
        if self._store is None:
            return None
        tree = self._tree_at(first)
        if tree is None:
            return None
        found: list[m.Receipts] = []
        start, nbytes = first, 0
        rows = iter(self._store.entries(first))
        for size, note in self._store.heads(first, PAGE_ENTRIES):
            batch = list(islice(rows, size - tree.size))
            if len(batch) < size - tree.size:
                break
            paid = self._of(worker, tree, batch, note)
            cost = sum(len(r.entry) + 40 * len(r.proof) for r in paid.receipts) + len(note)
            if (found and nbytes + cost > PAGE_BYTES) or start - first > PAGE_ENTRIES:
                break
            if paid.receipts and cost <= PAGE_BYTES:  # an entry that fits into no message is left out: the log has it
                found.append(paid)
                nbytes += cost
            for _, leaf, _ in batch:
                self._append(tree, leaf)
            start = size
        return m.MissedReceipts(worker=worker, first=first, upto=start, paid=found) if start > first else None

    def close(self) -> None:
        """Closes the log."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _of(self, worker: int, tree: Tree, batch: list[tuple[int, bytes, bytes]], note: str) -> m.Receipts:
        leaves = [leaf for _, leaf, _ in batch]
        mine = [
            m.Receipt(number, body, tree.proof(leaves, number)) for number, _, body in batch if _concerns(body, worker)
        ]
        return m.Receipts(first=tree.size, head=note, receipts=mine)

    def _tree_at(self, size: int) -> Tree | None:
        """The tree of the first entries, or None if there are not so many."""
        assert self._store is not None
        tree = self._marks[bisect_right(self._marks, size, key=lambda mark: mark.size) - 1].copy()
        rows: Iterator[tuple[int, bytes, bytes]] = iter(self._store.entries(tree.size))
        for _, leaf, _ in islice(rows, size - tree.size):
            self._append(tree, leaf)
        return tree if tree.size == size else None

    def _append(self, tree: Tree, leaf: bytes) -> None:
        tree.append(leaf)
        if tree.size == self._marks[-1].size + MARK:
            self._marks.append(tree.copy())


def _concerns(body: bytes, worker: int) -> bool:
    if not any(name in body[:_TAG_ENDS] for name in _MOVING):  # most entries: not worth decoding
        return False
    entry = e.decode(body)
    if not e.moves_credits(entry):
        return False
    if isinstance(entry, e.Join):
        return entry.worker == worker
    assert isinstance(entry, e.Pay | e.Release)
    return any(transfer.worker == worker for transfer in entry.transfers)
