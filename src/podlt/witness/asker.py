"""Asks a run's witnesses for cosignatures while it is trained: in the background, always for the newest head only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from podlt.errors import StorageError
from podlt.events import Event, Witnessed, WitnessFailed
from podlt.log.merkle import leaf_hash
from podlt.log.nodes import NodeTree
from podlt.log.notes import cosignature_line, parse_checkpoint
from podlt.log.tree_head import Head
from podlt.recipe import Recipe
from podlt.store.files import append_line
from podlt.store.run_files import RunLog
from podlt.witness.client import WitnessClient, WitnessError, clients_of

PAUSE_SECONDS, MOST_PAUSE_SECONDS = 10.0, 600.0
"""Between two heads that one witness is asked to cosign; a hundredth of the time so far, within these bounds, so that
a run of a month has some thousand cosignatures of each witness, and one of an hour some hundred."""

RETRY_SECONDS = 1.0
"""Before a witness that failed is asked again; twice as long after each failure, and no longer at the run's end."""

MOST_BACKOFF_SECONDS = 60.0

FINISH_SECONDS = 10.0
"""How long the end of a run waits for its last head to be cosigned."""


class WitnessAsker:
    """Has heads cosigned by several witnesses, one thread each; a round never waits for it.

    Args:
        clients: the witnesses; with none of them it does nothing.
        path: the file that takes cosignatures, a line each.
        pause: seconds between two heads.
        retry: seconds before a witness that failed is asked again.
    """

    def __init__(
        self,
        clients: Sequence[WitnessClient],
        path: Path,
        *,
        pause: float = PAUSE_SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._clients, self._path, self._pause, self._retry = list(clients), path, pause, retry
        self._changed = threading.Condition()
        self._tree = NodeTree()
        self._first_entry = b""
        self._newest: tuple[str, Head] | None = None
        self._news: list[Event] = []
        self._done = dict.fromkeys(range(len(self._clients)), 0)
        self._begun, self._finishing, self._ended = 0.0, False, False
        self._threads: list[threading.Thread] = []

    @classmethod
    def of_run(cls, recipe: Recipe, path: Path, log: RunLog) -> Self:
        """The asker of the witnesses that a recipe names.

        Args:
            recipe: the run's.
            path: the file that takes cosignatures.
            log: what the run has of a log so far.

        Raises:
            UsageError: a URL is none.
            StorageError: the log cannot be read.
        """
        asker = cls(clients_of(recipe), path)
        asker.load(log.entries())
        return asker

    def load(self, rows: Iterable[tuple[int, bytes, bytes]]) -> None:
        """Takes the entries that a log has already: number, leaf hash and bytes of each."""
        if not self._clients:
            return
        with self._changed:
            for number, leaf, body in rows:
                self._first_entry = self._first_entry if number else body
                self._tree.append(leaf)

    def publish(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Takes entries that are on the disk, and the signed head over all; returns at once.

        Args:
            first: number of the first of them.
            bodies: their bytes.
            note: the head.
        """
        if not self._clients:
            return
        with self._changed:
            if first == 0:
                self._first_entry = bodies[0]
            for body in bodies:
                self._tree.append(leaf_hash(body))
            head, _ = parse_checkpoint(note)
            self._newest = note, head
            if not self._threads:
                self._begin()
            self._changed.notify_all()

    def tell(self, listener: Callable[[Event], None]) -> None:
        """Calls the listener with what happened since the last call, on this thread."""
        with self._changed:
            found, self._news = self._news, []
        for event in found:
            listener(event)

    def finish(self, listener: Callable[[Event], None], seconds: float = FINISH_SECONDS) -> None:
        """Waits until every witness has cosigned the last head, but not long; then tells what happened.

        Args:
            listener: is called with what happened.
            seconds: how long it waits at most.
        """
        self._await_last(seconds)
        self.tell(listener)

    def _await_last(self, seconds: float) -> None:
        with self._changed:
            if self._newest is None:
                return
            deadline, self._finishing = time.monotonic() + seconds, True
            self._changed.notify_all()
            size = self._newest[1].size
            while any(0 <= done < size for done in self._done.values()):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            for number, client in enumerate(self._clients):
                if 0 <= self._done[number] < size:
                    reason = "it has not cosigned the last head: ask it by podlt witness ask"
                    self._news.append(WitnessFailed(witness=client.key.name, reason=reason))

    def close(self) -> None:
        """Ends the threads; one that waits for an answer ends by itself."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _begin(self) -> None:
        self._begun = time.monotonic()
        for number, client in enumerate(self._clients):
            thread = threading.Thread(
                target=self._run, args=(number, client), name=f"podlt-witness-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self, number: int, client: WitnessClient) -> None:
        """Asks one witness, head after head."""
        failures, said = 0, ""
        while (newest := self._next(number)) is not None:
            note, head = newest
            try:
                signature = client.cosign(note, head, self._prove, self._first_entry)
                append_line(self._path, cosignature_line(head, signature).encode())
            except (WitnessError, StorageError) as error:
                failures += 1
                conflict = isinstance(error, WitnessError) and error.conflict
                if said != str(error):
                    said = str(error)
                    self._tell(WitnessFailed(witness=client.key.name, reason=said, conflict=conflict))
                if conflict:
                    self._set_done(number, -1)
                    return  # it will never cosign this log
                backoff = self._retry * 2.0 ** min(failures - 1, 10)
                self._wait(min(MOST_BACKOFF_SECONDS, backoff), at_end=self._retry)
                continue
            if failures or not self._done[number]:
                self._tell(Witnessed(witness=client.key.name, entries=head.size))
            failures, said = 0, ""
            self._set_done(number, head.size)
            since = (time.monotonic() - self._begun) / 100
            self._wait(max(self._pause, min(MOST_PAUSE_SECONDS, since)), at_end=0.0)

    def _next(self, number: int) -> tuple[str, Head] | None:
        """The newest head that this witness has not cosigned; None at the end."""
        with self._changed:
            while not self._ended:
                if self._newest is not None and self._newest[1].size > self._done[number]:
                    return self._newest
                self._changed.wait()
        return None

    def _wait(self, seconds: float, *, at_end: float) -> None:
        """Waits; where the run is about to end, no longer than `at_end` seconds."""
        with self._changed:
            begun = time.monotonic()
            while not self._ended:
                most = seconds if not self._finishing else min(seconds, at_end)
                left = begun + most - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _prove(self, old: int, size: int) -> list[bytes]:
        with self._changed:
            return self._tree.consistency_proof(old, size)

    def _set_done(self, number: int, size: int) -> None:
        with self._changed:
            self._done[number] = size
            self._changed.notify_all()

    def _tell(self, event: Event) -> None:
        with self._changed:
            self._news.append(event)
