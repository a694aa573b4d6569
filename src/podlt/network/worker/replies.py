"""A worker's memory of one round: what it was asked, and what it answered, so that it can answer again."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from podlt.network import messages as m
from podlt.network.blobs.chunks import message, split
from podlt.network.worker.hands import Executed
from podlt.protocol.messages import Committed


class Requested:
    """A task that was not executed yet; `lines` are None until they came."""

    __slots__ = ("key", "lines", "work")

    def __init__(self, key: bytes, work: m.DealTask, lines: np.ndarray | None) -> None:
        self.key, self.work, self.lines = key, work, lines


class _Answered:
    """A task that was executed: the message that said so, and the update."""

    __slots__ = ("answer", "task", "update")

    def __init__(self, task: bytes, answer: m.TaskDone, update: np.ndarray) -> None:
        self.task, self.answer, self.update = task, answer, update

    def messages(self, as_blob: bool) -> Iterator[bytes]:
        yield m.record(self.answer)
        if not as_blob:
            yield from split(self.answer.update, self.update, before=m.heading(self.answer.seat), thin=True)


class Replies:
    """What the identities of a process were asked and answered in the last round. `in_hand` is for any thread.

    Args:
        as_blobs: updates are uploaded when they are asked for, instead of sent in chunks.
    """

    def __init__(self, as_blobs: bool) -> None:
        self._as_blobs = as_blobs
        self._round = -1
        self._attempt = b""
        self._asked: dict[tuple[bytes, int], Requested] = {}
        self._answered: dict[tuple[bytes, int], _Answered] = {}
        self._lock = threading.Lock()

    def turn(self, round: int) -> list[tuple[bytes, bytes, np.ndarray]] | None:
        """A task of a round came: what belongs to other rounds is forgotten.

        Returns:
            Of each update that is not needed any more: whose it was, its digest, its memory. None if nothing changed.
        """
        if round == self._round:
            return None
        with self._lock:
            self._round, self._asked = round, {}
        free = [(key, answered.answer.update, answered.update) for (key, _), answered in self._answered.items()]
        self._answered = {}
        return free

    def ask(self, asked: Requested) -> None:
        """A task is to be executed; those of another attempt at the round are not, any more."""
        with self._lock:
            if asked.work.deal_id != self._attempt:
                self._attempt, self._asked = asked.work.deal_id, {}
            self._asked.setdefault((asked.key, asked.work.seat), asked)

    def again(self, key: bytes, work: m.DealTask) -> list[bytes]:
        """The messages that answer a task which was executed before; none if it was not."""
        known = self._answered.get((key, work.seat))
        if known is None or known.task != work.task.digest():
            return []
        with self._lock:
            if work.deal_id != self._attempt:
                self._attempt, self._asked = work.deal_id, {}
        known.answer = m.TaskDone(
            deal_id=work.deal_id,
            seat=work.seat,
            commitment=known.answer.commitment,
            signature=known.answer.signature,
            update=known.answer.update,
            proof_seconds=known.answer.proof_seconds,
            compute_seconds=known.answer.compute_seconds,
        )
        return list(known.messages(self._as_blobs))

    def ready(self, held: bytes) -> Requested | None:
        """The next task whose lines are here and whose parameters are those at hand, if there is one."""
        return next(
            (a for a in self._asked.values() if a.lines is not None and a.work.task.parameters == held),
            None,
        )

    def lines(self, digest: bytes, data: np.ndarray) -> None:
        """The lines of a task came."""
        for asked in self._asked.values():
            if asked.work.blob == digest:
                asked.lines = data

    def missing_lines(self) -> list[bytes]:
        """The digests of lines that did not come yet."""
        return [a.work.blob for a in self._asked.values() if a.lines is None]

    def owner(self, digest: bytes) -> bytes | None:
        """Whose task has lines of this digest."""
        return next((a.key for a in self._asked.values() if a.work.blob == digest), None)

    def failed(self, asked: Requested) -> None:
        """A task is not to be tried again."""
        with self._lock:
            self._asked.pop((asked.key, asked.work.seat), None)

    def done(self, asked: Requested, committed: Committed, done: Executed) -> Iterator[bytes]:
        """A task was executed; returns the messages that answer it."""
        answer = m.TaskDone(
            deal_id=asked.work.deal_id,
            seat=asked.work.seat,
            commitment=committed.commitment,
            signature=committed.signature,
            update=done.digest,
            proof_seconds=done.proof,
            compute_seconds=done.compute,
        )
        answered = _Answered(asked.work.task.digest(), answer, done.update)
        self._answered[asked.key, asked.work.seat] = answered
        self.failed(asked)
        return answered.messages(self._as_blobs)

    def large(self, key: bytes, wanted: m.ResendUpdate) -> tuple[bytes, np.ndarray] | None:
        """Digest and bytes of the update that the manager asks for, if it goes as a blob."""
        known = self._answered.get((key, wanted.seat))
        if known is None or known.answer.deal_id != wanted.deal_id or not self._as_blobs:
            return None
        return known.answer.update, known.update

    def pieces(self, key: bytes, wanted: m.ResendUpdate) -> list[bytes]:
        """Pieces of an update that the manager misses."""
        known = self._answered.get((key, wanted.seat))
        if known is None or known.answer.deal_id != wanted.deal_id:
            return []
        size, found = len(known.update), []
        for offset, length in wanted.ranges:
            if offset + length <= size:
                part, heading = known.update[offset : offset + length], m.heading(wanted.seat)
                found.append(message(known.answer.update, size, offset, part, before=heading, thin=True))
        return found

    def origins(self, key: bytes, deal_id: bytes) -> set[int]:
        """The tasks that an identity answered in an attempt."""
        return {o for (k, o), known in self._answered.items() if k == key and known.answer.deal_id == deal_id}

    def in_hand(self, key: bytes) -> tuple[bytes, list[int]]:
        """The attempt at work, and the tasks of it that an identity has not answered."""
        with self._lock:
            return self._attempt, sorted(seat for k, seat in self._asked if k == key)

    def drop(self, key: bytes) -> None:
        """An identity has nothing to do any more."""
        with self._lock:
            self._asked = {place: asked for place, asked in self._asked.items() if place[0] != key}
        self._answered = {place: known for place, known in self._answered.items() if place[0] != key}
