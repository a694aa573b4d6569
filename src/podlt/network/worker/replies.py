"""A worker's memory of one round: what was requested of it, and what it replied, so that it can reply again."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from podlt.execution.worker_runtime import Executed
from podlt.network import messages as m
from podlt.network.blobs.chunks import message, split


class Requested:
    """A task that was not executed yet.

    Args:
        key: of the identity that it was dealt to.
        work: as it came.
        lines: its lines' bytes, field by field; None until they have come.
    """

    __slots__ = ("key", "lines", "work")

    def __init__(self, key: bytes, work: m.DealTask, lines: np.ndarray | None) -> None:
        self.key, self.work, self.lines = key, work, lines


class _Replied:
    """A task that was executed: the message that reported it, and the update."""

    __slots__ = ("done", "task", "update")

    def __init__(self, task: bytes, done: m.TaskDone, update: np.ndarray) -> None:
        self.task, self.done, self.update = task, done, update

    def messages(self, as_blob: bool) -> Iterator[bytes]:
        yield m.record(self.done)
        if not as_blob:
            yield from split(self.done.update, self.update, before=m.heading(self.done.seat), thin=True)


class Replies:
    """What was requested of the identities of a process, and replied, in the last round. `in_hand` is for any thread.

    Args:
        as_blobs: updates are uploaded when they are asked for, instead of sent in chunks.
    """

    def __init__(self, as_blobs: bool) -> None:
        self._as_blobs = as_blobs
        self._round = -1
        self._deal_id = b""
        self._requested: dict[tuple[bytes, int], Requested] = {}
        self._replied: dict[tuple[bytes, int], _Replied] = {}
        self._lock = threading.Lock()

    def begin_round(self, round: int) -> list[tuple[bytes, bytes, np.ndarray]] | None:
        """A task of a round came: what belongs to other rounds is forgotten.

        Returns:
            Of each update that is not needed any more: whose it was, its digest, its memory. None if nothing changed.
        """
        if round == self._round:
            return None
        with self._lock:
            self._round, self._requested = round, {}
        free = [(key, replied.done.update, replied.update) for (key, _), replied in self._replied.items()]
        self._replied = {}
        return free

    def add(self, requested: Requested) -> None:
        """A task is to be executed; those of another deal of the round are not, any more."""
        with self._lock:
            self._begin_deal(requested.work.deal_id)
            self._requested.setdefault((requested.key, requested.work.seat), requested)

    def repeat(self, key: bytes, work: m.DealTask) -> list[bytes]:
        """The messages that reply to a task which was executed before; none if it was not."""
        known = self._replied.get((key, work.seat))
        if known is None or known.task != work.task.digest():
            return []
        with self._lock:
            self._begin_deal(work.deal_id)
        known.done = m.TaskDone(
            deal_id=work.deal_id,
            seat=work.seat,
            commitment=known.done.commitment,
            signature=known.done.signature,
            update=known.done.update,
            proof_seconds=known.done.proof_seconds,
            compute_seconds=known.done.compute_seconds,
        )
        return list(known.messages(self._as_blobs))

    def ready(self, held: bytes) -> Requested | None:
        """The next task whose lines are here and whose parameters are those at hand, if there is one."""
        return next(
            (r for r in self._requested.values() if r.lines is not None and r.work.task.parameters == held),
            None,
        )

    def lines(self, digest: bytes, data: np.ndarray) -> None:
        """The lines of a task came."""
        for requested in self._requested.values():
            if requested.work.blob == digest:
                requested.lines = data

    def failed(self, requested: Requested) -> None:
        """A task is not to be tried again."""
        with self._lock:
            self._requested.pop((requested.key, requested.work.seat), None)

    def done(self, requested: Requested, executed: Executed) -> Iterator[bytes]:
        """A task was executed; returns the messages that reply."""
        work, committed = requested.work, executed.committed
        done = m.TaskDone(
            deal_id=work.deal_id,
            seat=work.seat,
            commitment=committed.commitment,
            signature=committed.signature,
            update=executed.digest,
            proof_seconds=executed.proof,
            compute_seconds=executed.compute,
        )
        replied = _Replied(work.task.digest(), done, executed.update)
        self._replied[requested.key, work.seat] = replied
        self.failed(requested)
        return replied.messages(self._as_blobs)

    def large(self, key: bytes, wanted: m.ResendUpdate) -> tuple[bytes, np.ndarray] | None:
        """Digest and bytes of the update that the manager asks for, if it is to be uploaded."""
        known = self._wanted(key, wanted)
        return (known.done.update, known.update) if known is not None and self._as_blobs else None

    def chunks(self, key: bytes, wanted: m.ResendUpdate) -> list[bytes]:
        """Chunks of an update that the manager misses."""
        known = self._wanted(key, wanted)
        if known is None:
            return []
        size, found = len(known.update), []
        for offset, length in wanted.ranges:
            if offset + length <= size:
                part, heading = known.update[offset : offset + length], m.heading(wanted.seat)
                found.append(message(known.done.update, size, offset, part, before=heading, thin=True))
        return found

    def seats(self, key: bytes, deal_id: bytes) -> set[int]:
        """The tasks, by their seats, that an identity has done in a deal."""
        return {seat for (k, seat), known in self._replied.items() if k == key and known.done.deal_id == deal_id}

    def in_hand(self, key: bytes) -> tuple[bytes, list[int]]:
        """The deal at work, and the tasks of it that an identity has not done."""
        with self._lock:
            return self._deal_id, sorted(seat for k, seat in self._requested if k == key)

    def drop(self, key: bytes) -> None:
        """An identity has nothing to do any more."""
        with self._lock:
            self._requested = {place: requested for place, requested in self._requested.items() if place[0] != key}
        self._replied = {place: known for place, known in self._replied.items() if place[0] != key}

    def _begin_deal(self, deal_id: bytes) -> None:
        """Forgets requests of another deal; the lock is held."""
        if deal_id != self._deal_id:
            self._deal_id, self._requested = deal_id, {}

    def _wanted(self, key: bytes, wanted: m.ResendUpdate) -> _Replied | None:
        known = self._replied.get((key, wanted.seat))
        return known if known is not None and known.done.deal_id == wanted.deal_id else None
