"""Receipts for workers: each round what moved their credits, and afterwards what they have missed, from the log."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from podlt.engine.interface import DurableEntries
from podlt.errors import PodltError
from podlt.log.merkle import Tree
from podlt.network import messages as m
from podlt.network.link import ManagerLink
from podlt.protocol import entries as e
from podlt.store.log_store import LogStore
from podlt.store.run_log import has_log, open_run_log

SHARE = 5
"""Answers take at most this part of the manager's time, whoever asks for them."""

PAGE_ENTRIES = 4000
"""So many entries are looked at for an answer: about a hundredth of a second."""

PAGE_BYTES = m.MAX_MESSAGE // 4
MARK = 256
"""Entries between two trees that are kept, from which proofs of later entries can be made."""

_MOVING = (b"join/", b"pay/", b"return/")
_TAG_ENDS = 16
"""An entry's kind comes first in its one encoding."""


class ReceiptSender:
    """Receipts of one run.

    Args:
        run: its directory.
        link: to the workers.
        pause: seconds between two answers to one worker.
        clock: seconds, monotonic.

    Attributes:
        logged: how many entries of the log workers have heard of.
    """

    def __init__(self, run: Path, link: ManagerLink, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._link, self._pause, self._history, self._clock = link, pause, ReceiptHistory(run), clock
        self._numbers: dict[bytes, int] = {}
        self._answered: dict[bytes, float] = {}
        self._rests_until = 0.0
        self.logged = 0

    def admitted(self, key: bytes, number: int) -> None:
        """A worker is `number`, and stays it in the log whatever becomes of it."""
        self._numbers[key] = number

    def publish(self, receipt: DurableEntries) -> None:
        """Tells all workers what is in the log now, and what of it moved credits.

        What fits into no message is asked for by those whom it concerns, as is what was lost on its way.
        """
        moved = [m.Receipt(one.index, one.entry, one.proof) for one in receipt.moved]
        said = m.record(m.Receipts(first=receipt.first, head=receipt.head, receipts=moved))
        self.logged = receipt.size
        if len(said) <= m.MAX_MESSAGE:
            self._link.publish(said)

    def remind(self, key: bytes, behind: m.GetReceipts) -> None:
        """Tells a worker what it has missed, a page at a time.

        Who asks more often than it can read, or when others have just asked for much, is not answered, and asks again.
        """
        number, now = self._numbers.get(key), self._clock()
        if number is None or now < self._rests_until or now - self._answered.get(key, -1e9) < self._pause:
            return
        self._answered[key] = now
        try:
            missed = self._history.missed(number, behind.first)
        except PodltError:
            return  # no fault of the worker's; who writes the log says what is wrong with it
        finally:
            self._rests_until = now + SHARE * (self._clock() - now)
        if missed is not None:
            self._link.send(key, m.record(missed))

    def close(self) -> None:
        """Lets the log go."""
        self._history.close()


class ReceiptHistory:
    """Reads a log again, for those who were away.

    Args:
        run: the run's directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._store: LogStore | None = None
        self._marks = [Tree()]

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
            if not has_log(self._run):
                return None
            self._store = open_run_log(self._run, readonly=True)
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
        return m.MissedReceipts(first=first, upto=start, paid=found) if start > first else None

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
    assert isinstance(entry, e.Pay | e.Return)
    return any(transfer.worker == worker for transfer in entry.transfers)
