"""The tasks of a round in progress, as the engine has dealt them: what is answered, what is missing, what is late."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from podlt import crypto
from podlt.data.field import Field
from podlt.engine.local import frames
from podlt.errors import InvalidProofError
from podlt.network import messages as m
from podlt.network.blobs import sparse
from podlt.network.session.facts import LargeBlobs, Timing
from podlt.network.session.outbox import Outbox
from podlt.network.session.outgoing import Outgoing
from podlt.network.session.peers import Deadline, InFlight, Peer
from podlt.protocol.messages import Assignment

Answer = frames.Results | frames.HostOpenings | frames.ExecutionFailed
"""What comes of a round."""

SLOWEST = 256 * 1024
"""Bytes a second: who is slower with a large blob keeps everybody waiting, and is late."""


def lines_of(
    fields: Sequence[Field], block: Mapping[str, np.ndarray], start: int, stop: int, large: LargeBlobs
) -> tuple[np.ndarray, bytes]:
    """A fragment's lines as bytes, field by field, and their digest where they are too large to go with the task."""
    parts = [np.ascontiguousarray(block[field.name][start:stop]).reshape(-1) for field in fields]
    data = np.concatenate([part.view(np.uint8) for part in parts])
    return data, crypto.blob_digest(data.data) if large.carries(len(data)) else bytes(32)


class RoundInFlight:
    """The tasks of one attempt at a round.

    Args:
        outbox: takes what is to be sent at once.
        outgoing: takes what waits for room.
        update_bytes: the size of an update.
        timing: what every task has, and after how many seconds something is sent, or asked for, again.
        large: decides what goes as a blob.
        request: makes the message that asks a worker, by its number, to open.
    """

    def __init__(
        self,
        outbox: Outbox,
        outgoing: Outgoing,
        update_bytes: int,
        timing: Timing,
        large: LargeBlobs,
        request: Callable[[int], bytes],
    ) -> None:
        self._again, self._silence_timeout = timing.heartbeat, timing.silence
        self._outbox, self._outgoing, self._update_bytes = outbox, outgoing, update_bytes
        self._blob_server, self._large = large.server, large
        self._uploads = large.carries(update_bytes)
        self._readers: dict[bytes, set[bytes]] = {}
        self._allowance = 0.0
        self._slots: dict[int, np.ndarray] = {}
        self._digests: dict[int, bytes] = {}
        self._tasks: dict[int, InFlight] = {}
        self._deadline = Deadline(timing.silence)
        self.deal_id = b""
        self._request, self._is_open = request, False
        self._opened_at = self._asked = 0.0

    def begin(self, deal_id: bytes, count: int, fetched: int = 0) -> None:
        """A round begins: what came in the one before is not needed any more.

        Args:
            deal_id: tells its messages from those of an earlier attempt at the same round.
            count: of the tasks.
            fetched: how many bytes each worker fetches before it can begin.
        """
        self.deal_id, self._tasks, self._is_open = deal_id, {}, False
        self._deadline.dealt(count)
        self._allowance = fetched / SLOWEST
        for digest in self._readers:
            assert self._blob_server is not None
            self._blob_server.withdraw(digest)
        self._readers = {}
        self._digests = {}
        if self._uploads:
            self._slots = {}

    def slot(self, seat: int) -> np.ndarray:
        """The update of a task (uint8): a large one, once it has come, is the file of its upload, mapped."""
        if seat not in self._slots:
            assert not self._uploads, "it has not come"
            self._slots[seat] = np.zeros(self._update_bytes, np.uint8)
        return self._slots[seat]

    def digest(self, seat: int) -> bytes:
        """The digest of an update that has come: it was compared with its bytes when they came."""
        return self._digests[seat]

    def give(
        self, assignment: Assignment, holder: Peer, lines: np.ndarray, digest: bytes, count: int, now: float
    ) -> None:
        """Sends a task to its holder.

        Args:
            lines: their bytes.
            digest: of these, where they are too long to go with the task.
            count: of lines.
        """
        self._is_open = False  # what is dealt now must be committed to before anything else is opened
        is_large = self._large.carries(len(lines))
        if self._blob_server is not None and is_large:
            self._readers.setdefault(digest, set()).add(holder.key)
            self._blob_server.offer(digest, lines, self._readers[digest], shared=False)
        work = m.DealTask(
            deal_id=self.deal_id,
            seat=assignment.seat,
            task=assignment.task,
            count=count,
            blob=digest,
            size=len(lines),
            lines=m.NOTHING if is_large else lines.data,
        )
        dealt = InFlight(assignment, holder.key, work, lines, now)
        self._digests.pop(assignment.seat, None)
        if self._uploads:
            self._slots.pop(assignment.seat, None)
        self._tasks[assignment.seat] = dealt
        self._outgoing.post(dealt.key, ("task", assignment.seat), partial(m.record, work))

    def need(self, number: int) -> tuple[int, int]:
        """How many bytes of lines a worker's tasks have in messages, and in large blobs."""
        inline = fetched = 0
        for dealt in self._tasks.values():
            if dealt.assignment.holder == number:
                inline += len(dealt.work.lines)
                fetched += len(dealt.lines) - len(dealt.work.lines)
        return inline, fetched

    def gone(self, number: int) -> None:
        """A worker is gone: nothing more is expected of it."""
        self._tasks = {o: d for o, d in self._tasks.items() if d.assignment.holder != number}

    @property
    def in_flight(self) -> Collection[InFlight]:
        """The tasks, but for those whose holders are gone."""
        return self._tasks.values()

    def task(self, seat: int) -> InFlight:
        """The task of a seat, which is one of them."""
        return self._tasks[seat]

    def idle(self) -> bool:
        """Whether nothing may be written to a slot any more."""
        return all(dealt.whole for dealt in self._tasks.values())

    # -- answers -----------------------------------------------------------------------------------------------------

    def answer(self, peer: Peer, said: m.TaskDone, now: float) -> frames.Results | None:
        """A worker committed to a result, and sent its update, if that is not large.

        Raises:
            InvalidProofError: what it sent is not what it committed to.
        """
        dealt = self._of(peer, said.deal_id, said.seat)
        if dealt is None or dealt.answer is not None:
            peer.strikes += 1  # the updates of many such answers would be a flood
        if dealt is None:
            self._outbox.send(peer.key, m.record(m.TooLate(deal_id=said.deal_id, seat=said.seat)))
            return None
        if dealt.answer is not None:
            return None
        if not self._uploads:
            update = self.slot(said.seat)[: self._update_bytes]
            sparse.unpack(said.data, update)
            if crypto.blob_digest(update.data) != said.update:
                raise InvalidProofError("update does not match its digest")
        dealt.answer, dealt.heard, dealt.answered = said, now, now
        self._deadline.answered(now - dealt.sent)
        if self._blob_server is None or not self._uploads:
            dealt.answer = msgspec.structs.replace(said, data=m.NOTHING)
            return self._done(dealt)
        if self._blob_server.expect(peer.key, said.update, self._update_bytes):
            return self._done(dealt)
        self._ask_for_update(dealt, now)
        return None

    def uploaded(self, now: float) -> list[tuple[frames.Results | None, bytes, str]]:
        """Uploads that ended: what is whole by that, or else by whom and why not."""
        found: list[tuple[frames.Results | None, bytes, str]] = []
        for one in self._blob_server.uploaded() if self._blob_server is not None else []:
            for dealt in self._tasks.values():
                if dealt.key != one.key or dealt.whole or dealt.answer is None or dealt.answer.update != one.digest:
                    continue
                if one.error:
                    found.append((None, one.key, one.error))
                else:
                    dealt.heard = now
                    found.append((self._done(dealt), one.key, ""))
        return found

    def _done(self, dealt: InFlight) -> frames.Results:
        """The update is here, and is what was committed to."""
        assert dealt.answer is not None
        dealt.whole = True
        self._digests[dealt.assignment.seat] = dealt.answer.update
        if self._uploads and self._blob_server is not None:
            self._slots[dealt.assignment.seat] = self._blob_server.open(dealt.answer.update)
        return frames.Results(
            round=dealt.work.task.round,
            committed=[dealt.committed],
            done=[dealt.assignment.seat],
            faked=[],
            proof_seconds=dealt.answer.proof_seconds,
            compute_seconds=dealt.answer.compute_seconds,
        )

    def failed(self, peer: Peer, said: m.TaskFailed) -> frames.ExecutionFailed | None:
        """A worker could not execute its task."""
        dealt = self._of(peer, said.deal_id, said.seat)
        if dealt is None or dealt.answer is not None:
            return None
        del self._tasks[said.seat]  # it may do it all the same, or say so: that is too late
        task = dealt.assignment
        return frames.ExecutionFailed(round=task.task.round, seat=task.seat, holder=task.holder, message=said.reason)

    def openings(self, peer: Peer, said: m.Openings, now: float) -> frames.HostOpenings | None:
        """A worker opened its commitments; what it does not know any more, it is asked to do again.

        A worker that was killed has forgotten what it answered. It comes to the same commitment again.
        """
        due = []
        known = {opened.seat for opened in said.opened}
        if said.deal_id == self.deal_id:
            for seat, held in self._tasks.items():
                forgot = held.key == peer.key and held.whole and not held.opened and seat not in known
                if forgot and now - held.given >= self._again:
                    self._send(peer, held, now)
        for opened in said.opened:
            dealt = self._of(peer, said.deal_id, opened.seat)
            if dealt is not None and dealt.whole and not dealt.opened and opened.holder == dealt.assignment.holder:
                dealt.opened = True
                due.append(opened)
        if not due:
            peer.strikes += 1
            return None
        self._opened_at = now
        return frames.HostOpenings(round=self._tasks[due[0].seat].work.task.round, opened=due)

    # -- what is missing ---------------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Everybody is asked to open."""
        self._is_open = True
        self._opened_at = self._asked = now

    def overdue(self, now: float) -> list[tuple[InFlight, str]]:
        """Tasks whose answer is late, and why.

        Raises:
            StorageError: updates do not come because there is no room for them here.
        """
        limit = self._deadline.limit() + self._allowance
        found = []
        closed = self._is_open and now - self._opened_at > self._silence_timeout
        for dealt in self._tasks.values():
            taken = now - dealt.sent
            if closed and dealt.whole and not dealt.opened:
                found.append((dealt, f"timed out: commitment not opened within {self._silence_timeout:.0f} s"))
            elif not dealt.whole and self._uploads and dealt.answer is not None:
                found += [(dealt, reason)] if (reason := self._too_slow(dealt, now)) else []
            elif not dealt.whole and taken > limit + (len(dealt.lines) - len(dealt.work.lines)) / SLOWEST:
                found.append((dealt, f"timed out: no answer after {taken:.0f} s (limit {limit:.0f} s)"))
        return found

    def _too_slow(self, dealt: InFlight, now: float) -> str:
        """What is wrong with an upload, if anything."""
        assert self._blob_server is not None and dealt.answer is not None
        came = self._blob_server.progress(dealt.key, dealt.answer.update)
        if came != dealt.came:
            dealt.came, dealt.heard = came, now
        most = 2 * self._silence_timeout + self._update_bytes / SLOWEST
        if now - dealt.heard > 2 * self._silence_timeout:
            self._blob_server.check_room(self._update_bytes - came)  # or it is our own fault
            limit = 2 * self._silence_timeout
            return f"timed out: no byte of its update for {now - dealt.heard:.0f} s (limit {limit:.0f} s)"
        if now - dealt.answered > most:
            return f"timed out: its update is incomplete after {now - dealt.answered:.0f} s (limit {most:.0f} s)"
        return ""

    def repeat(self, present: Mapping[int, Peer], now: float) -> None:
        """Sends again what did not arrive, and asks again for what did not come."""
        asked: dict[int, bytes] = {}  # in their order: a simulated run is repeated by its seed
        for dealt in self._tasks.values():
            peer = present.get(dealt.assignment.holder)
            if peer is None or peer.key != dealt.key or now - max(dealt.given, dealt.heard) < self._again:
                continue
            if dealt.answer is None:
                has = peer.deal_id == self.deal_id and dealt.assignment.seat in peer.in_hand
                if not has and peer.said > dealt.given + self._again / 2:
                    self._send(peer, dealt, now)
            elif not dealt.whole:
                self._ask_for_update(dealt, now)
            elif self._is_open and not dealt.opened and now - self._asked >= self._again:
                asked[dealt.assignment.holder] = dealt.key
        if asked:
            self._asked = now
            for holder, key in asked.items():
                self._outbox.send(key, self._request(holder))

    def _ask_for_update(self, dealt: InFlight, now: float) -> None:
        assert dealt.answer is not None
        dealt.given = now
        wanted = m.UploadUpdate(deal_id=self.deal_id, seat=dealt.assignment.seat)
        self._outbox.send(dealt.key, m.record(wanted))

    def _send(self, peer: Peer, dealt: InFlight, now: float) -> None:
        """Sends a task once more."""
        name, make = ("task", dealt.assignment.seat), partial(m.record, dealt.work)
        if self._outgoing.repeat(peer, name, make, len(dealt.work.lines), now):
            dealt.given = now

    def _of(self, peer: Peer, deal_id: bytes, seat: int) -> InFlight | None:
        dealt = self._tasks.get(seat)
        return dealt if dealt is not None and dealt.key == peer.key and deal_id == self.deal_id else None


def together(events: Iterable[Answer]) -> list[Answer]:
    """The same answers, neighbours of a kind and round as one: what came at once is checked at once."""
    found: list[Answer] = []
    for kind, several in groupby(events, lambda event: (type(event), event.round)):
        same = list(several)
        found += _JOINED[kind[0]](same) if len(same) > 1 else same
    return found


def _results(same: Sequence[frames.Results]) -> list[frames.Results]:
    joined = frames.Results(
        round=same[0].round,
        committed=[committed for one in same for committed in one.committed],
        done=[seat for one in same for seat in one.done],
        faked=[seat for one in same for seat in one.faked],
        proof_seconds=sum(one.proof_seconds for one in same),
        compute_seconds=sum(one.compute_seconds for one in same),
    )
    return [joined]


def _openings(same: Sequence[frames.HostOpenings]) -> list[frames.HostOpenings]:
    return [frames.HostOpenings(round=same[0].round, opened=[opened for one in same for opened in one.opened])]


_JOINED: Mapping[type, Callable[[Any], list[Any]]] = {
    frames.Results: _results,
    frames.HostOpenings: _openings,
    frames.ExecutionFailed: list,
}
