"""A worker's memory of one round: what was requested of it, and what it replied, so that it can reply again."""

from __future__ import annotations

import msgspec
import numpy as np

from podlt.engine.isolated.interface import FreeUpdate, TaskExecuted
from podlt.protocol.messages import Committed
from podlt.wire import messages as m
from podlt.worker.effects import CancelTransfer, Perform

MOST_IN_HAND = 256
"""How many tasks an identity has at a time."""


class Requested:
    """A task that was not executed yet.

    Args:
        key: of the identity that it was dealt to.
        work: as it came.
        examples: its examples' bytes, field by field; None until they have come.

    Attributes:
        number: by which it is being executed; 0 while it is not.
    """

    __slots__ = ("examples", "key", "number", "work")

    def __init__(self, key: bytes, work: m.DealTask, examples: np.ndarray | None) -> None:
        self.key, self.work, self.examples, self.number = key, work, examples, 0

    @property
    def place(self) -> tuple[bytes, int]:
        """What it is one of in its round."""
        return self.key, self.work.seat


class _Replied:
    """A task that was executed: the message that reported it, and the update."""

    __slots__ = ("done", "sent", "slot", "task", "update")

    def __init__(self, task: bytes, done: m.TaskDone, executed: TaskExecuted) -> None:
        self.task, self.done = task, done
        self.update, self.sent, self.slot = executed.update, executed.sent, executed.slot

    def message(self, as_blob: bool) -> bytes:
        return m.record(self.done, () if as_blob else (self.sent,))


class Replies:
    """What was requested of the identities of a process, is being executed, and was replied, in the last round.

    Args:
        as_blobs: updates are uploaded when they are asked for, instead of sent in messages.
        perform: takes effects: transfers and memory of updates that are not needed any more end.
    """

    def __init__(self, as_blobs: bool, perform: Perform) -> None:
        self._as_blobs, self._perform = as_blobs, perform
        self._round = -1
        self._deal_id = b""
        self._requested: dict[tuple[bytes, int], Requested] = {}
        self._executing: dict[int, Requested] = {}
        self._last = 0
        self._replied: dict[tuple[bytes, int], _Replied] = {}

    # -- the round ---------------------------------------------------------------------------------------------------

    def begin_round(self, round: int) -> bool:
        """A task of a round came: what belongs to other rounds is forgotten. Returns whether there was another."""
        if round == self._round:
            return False
        self._round, self._requested, self._executing = round, {}, {}
        for place in list(self._replied):
            self._forget(place)
        return True

    def add(self, requested: Requested) -> None:
        """A task is to be executed; those of another deal of the round are not, any more."""
        self._begin_deal(requested.work.deal_id)
        for executing in self._executing.values():  # it is being executed for another deal of the round
            if executing.place == requested.place and executing.work.task == requested.work.task:
                executing.work = requested.work
                requested = executing
        self._requested.setdefault(requested.place, requested)

    def repeat(self, key: bytes, work: m.DealTask) -> bytes | None:
        """The message that replies to a task which was executed before; None if it was not."""
        known = self._replied.get((key, work.seat))
        if known is None or known.task != work.task.digest():
            return None
        self._begin_deal(work.deal_id)
        known.done = msgspec.structs.replace(known.done, deal_id=work.deal_id)
        return known.message(self._as_blobs)

    def examples(self, digest: bytes, data: np.ndarray) -> None:
        """The examples of a task came."""
        for requested in self._requested.values():
            if requested.work.blob == digest:
                requested.examples = data

    def in_hand(self, key: bytes) -> tuple[bytes, list[int]]:
        """The deal at work, and the tasks of it that an identity has not done."""
        return self._deal_id, sorted(seat for k, seat in self._requested if k == key)

    def drop(self, key: bytes) -> None:
        """An identity has nothing to do any more."""
        self._requested = {place: requested for place, requested in self._requested.items() if place[0] != key}
        for place in [place for place in self._replied if place[0] == key]:
            self._forget(place)

    # -- executing ---------------------------------------------------------------------------------------------------

    def room_for(self, key: bytes, work: m.DealTask, most_bytes: int) -> bool:
        """Whether another task may be in hand: an identity has so many, and the examples of all take so many bytes."""
        if (key, work.seat) in self._requested:
            return True
        mine = sum(k == key for k, _ in self._requested)
        taken = sum(requested.work.size for requested in self._requested.values())
        return mine < MOST_IN_HAND and taken + work.size <= most_bytes

    @property
    def executing(self) -> int:
        """How many tasks are being executed."""
        return len(self._executing)

    def ready(self, held: bytes) -> Requested | None:
        """The next task whose examples are here and whose parameters are those at hand, if there is one."""
        return next(
            (
                r
                for r in self._requested.values()
                if r.examples is not None and not r.number and r.work.task.parameters == held
            ),
            None,
        )

    def begin(self, requested: Requested) -> int:
        """A task is being executed from now on, by the number that is returned."""
        self._last += 1
        requested.number = self._last
        self._executing[self._last] = requested
        return self._last

    def ended(self, number: int) -> Requested | None:
        """A task is not executed any more; None if nobody waits for it."""
        return self._executing.pop(number, None)

    def released(self) -> None:
        """The parameters change: what is being executed is to be executed again, if it still counts then."""
        for requested in self._executing.values():
            requested.number = 0
        self._executing = {}

    def failed(self, requested: Requested) -> None:
        """A task is not to be tried again."""
        self._requested.pop(requested.place, None)

    def done(self, requested: Requested, executed: TaskExecuted, committed: Committed) -> bytes:
        """A task was executed; returns the message that replies."""
        work = requested.work
        done = m.TaskDone(
            deal_id=work.deal_id,
            seat=work.seat,
            commitment=committed.commitment,
            signature=committed.signature,
            update=executed.digest,
            proof_seconds=executed.proof,
            compute_seconds=executed.compute,
        )
        if requested.place in self._replied:
            self._forget(requested.place)
        replied = _Replied(work.task.digest(), done, executed)
        self._replied[requested.place] = replied
        self.failed(requested)
        return replied.message(self._as_blobs)

    # -- asked for ---------------------------------------------------------------------------------------------------

    def large(self, key: bytes, wanted: m.UploadUpdate) -> tuple[bytes, np.ndarray] | None:
        """Digest and bytes of the update that the manager asks for."""
        known = self._replied.get((key, wanted.seat))
        if known is None or known.done.deal_id != wanted.deal_id or not self._as_blobs:
            return None
        return known.done.update, known.update

    def updates(self, key: bytes, deal_id: bytes) -> dict[int, tuple[bytes, int]]:
        """Seats of the tasks that an identity has done in a deal -> digest and slot of the update."""
        found = {seat: known for (k, seat), known in self._replied.items() if k == key}
        return {seat: (one.done.update, one.slot) for seat, one in found.items() if one.done.deal_id == deal_id}

    def commitments(self, key: bytes, deal_id: bytes) -> dict[int, tuple[bytes, bytes]]:
        """Seats of the tasks that an identity has done in a deal -> its commitment, and the signature on that."""
        found = {seat: known.done for (k, seat), known in self._replied.items() if k == key}
        return {seat: (done.commitment, done.signature) for seat, done in found.items() if done.deal_id == deal_id}

    def _begin_deal(self, deal_id: bytes) -> None:
        """Forgets requests of another deal."""
        if deal_id != self._deal_id:
            self._deal_id, self._requested = deal_id, {}

    def _forget(self, place: tuple[bytes, int]) -> None:
        known = self._replied.pop(place)
        if self._as_blobs:
            self._perform(CancelTransfer(place[0], known.done.update))
        self._perform(FreeUpdate(known.slot))
