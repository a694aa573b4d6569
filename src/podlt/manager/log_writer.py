"""Writes rounds to the disk while the next one is trained: one thread, in order, each round one transaction.

The next round computes while the last one is written. What fails is raised at the next call, and nothing after it is
written: the log ends with the last round that is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from podlt.canonical import encode
from podlt.crypto import SigningKey
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol.entries import Entry
from podlt.store.log_store import LogStore

Prove = Callable[[int], list[bytes]]
"""The audit path of an entry that was just written, by its number, in the tree of the head over it."""

After = Callable[[int, str, Prove], None]

Durable = Callable[[int, Sequence[bytes], str], None]
"""Takes the number of the first entry, the entries' bytes, and the signed head over all, once they are on the disk."""


class LogWriter:
    """Appends entries to the tree and to the store.

    Args:
        store: where they go; `claim` it first.
        tree: over the entries that are there.
        key: the manager's, which signs tree heads.
        durable: is called after each transaction, on the thread that wrote it.
    """

    def __init__(self, store: LogStore, tree: Tree, key: SigningKey, durable: Durable) -> None:
        self._store, self._tree, self._key, self._durable = store, tree, key, durable
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="podlt-log")
        self._last: Future[None] | None = None

    def claim(self) -> None:
        """Takes the store for this manager, before anything is computed that could not be written.

        Raises:
            StorageError: another manager writes to this run.
        """
        self._store.claim()

    def write(
        self,
        run: bytes,
        entries: list[Entry],
        before: Callable[[], None] | None = None,
        after: After | None = None,
    ) -> None:
        """Writes entries in one transaction.

        Args:
            run: the run's identity.
            entries: the next ones of the log.
            before: writes the files that the entries speak of.
            after: is called once the entries are on the disk, with the number of the first one, the signed head over
                all of them, and what proves that one is under it.

        Raises:
            StorageError: an earlier transaction failed.
        """
        self.flush()
        bodies = [encode(entry) for entry in entries]
        tree, leaves = self._tree.copy(), [leaf_hash(body) for body in bodies]
        for leaf in leaves:
            self._tree.append(leaf)
        head = Head(origin_of(run), self._tree.size, self._tree.root())

        def tell(note: str) -> None:
            if after is not None:
                after(tree.size, note, lambda index: tree.proof(leaves, index))

        self._last = self._thread.submit(self._commit, tree.size, bodies, head, before, tell)

    def flush(self) -> None:
        """Waits until everything is on the disk.

        Raises:
            StorageError: it could not be written.
        """
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def close(self) -> None:
        """Ends the thread, after what was given to it."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def _commit(
        self,
        first: int,
        bodies: list[bytes],
        head: Head,
        before: Callable[[], None] | None,
        tell: Callable[[str], None],
    ) -> None:
        if before is not None:
            before()
        note = sign_head(head, self._key)
        self._store.append(first, bodies, note)
        self._durable(first, bodies, note)
        tell(note)
