"""The tasks of a round in progress, as the engine has dealt them: what is answered, what is missing, what is late."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial

import msgspec

from podlt import crypto
from podlt.engine.local import frames
from podlt.errors import InvalidProofError
from podlt.execution.sparse_kernels import unpack
from podlt.protocol.messages import Assignment
from podlt.protocol.round import Copy
from podlt.remote.session.facts import LargeBlobs, Timing
from podlt.remote.session.outbox import Outbox
from podlt.remote.session.outgoing import Outgoing
from podlt.remote.session.peers import MOST_LATES, Deadline, InFlight, Peer
from podlt.remote.session.shards import ShardExamples
from podlt.remote.session.slots import UpdateSlots
from podlt.wire import messages as m

SLOWEST = 256 * 1024
"""Bytes a second: who is slower with a large blob keeps everybody waiting, and is late."""


class RoundInFlight:
    """The tasks of one attempt at a round.

    Args:
        outbox: takes what is to be sent at once.
        outgoing: takes what waits for room.
        update_bytes: the size of an update.
        timing: what every task has, and after how many seconds something is sent, or asked for, again.
        large: decides what goes as a blob.
        request: makes the message that asks a worker, by its number, to open.

    Attributes:
        slots: the updates that came.
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
        self.slots = UpdateSlots(update_bytes, as_files=self._uploads)
        self._tasks: dict[Copy, InFlight] = {}
        self._answered: Counter[int] = Counter()
        self._missed: dict[Copy, InFlight] = {}
        self._deadline = Deadline(timing)
        self.deal_id = b""
        self._request, self._is_open = request, False
        self._opened_at = self._asked = 0.0
        self._opened_round = 0

    def begin(self, deal_id: bytes, count: int, fetched: int = 0) -> None:
        """A round begins: what came in the one before is not needed any more.

        Args:
            deal_id: tells its messages from those of an earlier attempt at the same round.
            count: of the tasks.
            fetched: how many bytes each worker fetches before it can begin.
        """
        self.deal_id, self._tasks, self._is_open = deal_id, {}, False
        self._answered.clear()
        self._missed = {}
        self._deadline.dealt(count)
        self._allowance = fetched / SLOWEST
        for digest in self._readers:
            assert self._blob_server is not None
            self._blob_server.withdraw(digest)
        self._readers = {}
        self.slots.begin(count)

    def give(self, assignment: Assignment, holder: Peer, shard: ShardExamples, now: float) -> None:
        """Sends a task to its holder."""
        self._is_open = False  # what is dealt now must be committed to before anything else is opened
        if self._blob_server is not None and not shard.sent:
            self._readers.setdefault(shard.digest, set()).add(holder.key)
            self._blob_server.offer(shard.digest, shard.data, self._readers[shard.digest], shared=False)
        work = m.DealTask(
            deal_id=self.deal_id,
            seat=assignment.seat,
            task=assignment.task,
            count=shard.examples,
            blob=shard.digest,
            size=len(shard.data),
            examples=memoryview(shard.sent),
        )
        dealt = InFlight(assignment, holder.key, work, now)
        copy = assignment.seat, assignment.holder
        self.slots.deal(copy)
        self._tasks[copy] = dealt
        self._outgoing.post(dealt.key, ("task", assignment.seat), partial(m.record, work))

    def needs(self) -> dict[int, tuple[int, int]]:
        """Worker -> how many bytes of examples its tasks have in messages, and in large blobs."""
        found: dict[int, tuple[int, int]] = {}
        for (_, holder), dealt in self._tasks.items():
            inline, fetched = found.get(holder, (0, 0))
            found[holder] = inline + len(dealt.work.examples), fetched + dealt.fetched
        return found

    def gone(self, number: int) -> None:
        """A worker is gone: nothing more is expected of it."""
        for copy, dealt in [(copy, dealt) for copy, dealt in self._tasks.items() if copy[1] == number]:
            self._remove(copy, dealt)
        self._missed = {copy: dealt for copy, dealt in self._missed.items() if copy[1] != number}

    def _remove(self, copy: Copy, dealt: InFlight) -> None:
        del self._tasks[copy]
        self._answered[copy[0]] -= dealt.whole
        for other in self._of_seat(copy[0]):  # it may need another backup
            other.is_late = False
        if self._answered[copy[0]]:
            return
        for missed in [missed for missed in self._missed if missed[0] == copy[0]]:  # whose answer counts after all
            self._tasks[missed] = self._missed.pop(missed)
            self._is_open = False

    def _of_seat(self, seat: int) -> list[InFlight]:
        return [dealt for (each, _), dealt in self._tasks.items() if each == seat]

    @property
    def in_flight(self) -> Collection[InFlight]:
        """The tasks, but for those whose holders are gone."""
        return self._tasks.values()

    @property
    def missed(self) -> Collection[InFlight]:
        """Tasks that others answered first."""
        return self._missed.values()

    @property
    def late_holders(self) -> set[int]:
        """The workers of which a task is, or was, late."""
        return {d.assignment.holder for d in (*self._tasks.values(), *self._missed.values()) if d.is_late}

    def task(self, seat: int, holder: int) -> InFlight:
        """A task of a seat, which is one of them."""
        return self._tasks[seat, holder]

    def idle(self) -> bool:
        """Whether there is an answer to each task, but for those whose holders are gone."""
        return all(dealt.whole or self._answered[seat] for (seat, _), dealt in self._tasks.items())

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
        if self._is_open and self._answered[said.seat]:
            self._miss(dealt, now)
            return None
        if not self._uploads:
            update = self.slots.view((said.seat, dealt.assignment.holder))[: self._update_bytes]
            unpack(said.data, update)
            if crypto.blob_digest(update.data) != said.update:
                raise InvalidProofError("update does not match its digest")
        dealt.answer, dealt.heard, dealt.answered = said, now, now
        self._deadline.answered(now - dealt.sent)
        if self._blob_server is None or not self._uploads:
            dealt.answer = msgspec.structs.replace(said, data=m.NOTHING)
            return self._done(dealt, now)
        if self._blob_server.expect(peer.key, said.update, self._update_bytes):
            return self._done(dealt, now)
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
                    found.append((self._done(dealt, now), one.key, ""))
        return found

    def _done(self, dealt: InFlight, now: float) -> frames.Results:
        """The update is here, and is what was committed to."""
        assert dealt.answer is not None
        seat, holder = dealt.assignment.seat, dealt.assignment.holder
        dealt.whole, dealt.ended = True, now
        self._answered[seat] += 1
        self._deadline.whole(now - dealt.sent)
        server, update = self._blob_server if self._uploads else None, dealt.answer.update
        self.slots.came((seat, holder), update, server.open(update) if server is not None else None)
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
        task = dealt.assignment
        self._remove((task.seat, task.holder), dealt)  # it may do it all the same, or say so: that is too late
        return frames.ExecutionFailed(round=task.task.round, seat=task.seat, holder=task.holder, message=said.reason)

    def openings(self, peer: Peer, said: m.Openings, now: float) -> frames.HostOpenings | None:
        """A worker opened its commitments; what it does not know any more, it is asked to do again.

        A worker that was killed has forgotten what it answered. It comes to the same commitment again.
        """
        due = []
        known = {opened.seat for opened in said.opened}
        if said.deal_id == self.deal_id:
            for (seat, _), held in self._tasks.items():
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
        return frames.HostOpenings(round=self._opened_round, opened=due)

    # -- what is missing ---------------------------------------------------------------------------------------------

    def open(self, round: int, now: float) -> None:
        """Everybody is asked to open; who has not answered a task by now that another answered is too late."""
        self._is_open, self._opened_round = True, round
        for dealt in [d for (seat, _), d in self._tasks.items() if not d.whole and self._answered[seat]]:
            self._miss(dealt, now)
        self._opened_at = self._asked = now

    def overdue(self, heard: float, now: float) -> list[tuple[InFlight, str]]:
        """Tasks whose answer is late, and why.

        Args:
            heard: when anything came last, from whomever: who is not heard where nobody is, may be cut off with all.
            now: seconds, of the same clock.

        Raises:
            StorageError: updates do not come because there is no room for them here.
        """
        limit = self._deadline.limit() + self._allowance
        found = []
        patience = min(self._silence_timeout, 2 * self._again + self._deadline.late_after(0))
        closed = self._is_open and heard - self._opened_at > patience
        for (seat, _), dealt in self._tasks.items():
            taken = now - dealt.sent
            if closed and dealt.whole and not dealt.opened:
                found.append((dealt, f"timed out: commitment not opened within {patience:.0f} s"))
            elif self._answered[seat]:
                continue
            elif dealt.is_late and self._is_backed_up_in_vain(dealt, heard):
                found.append((dealt, f"timed out: no answer after {taken:.1f} s, nor from who was to stand in for it"))
            elif not dealt.whole and self._uploads and dealt.answer is not None:
                found += [(dealt, reason)] if (reason := self._too_slow(dealt, now)) else []
            elif not dealt.whole and heard - dealt.sent > limit + dealt.fetched / SLOWEST:
                found.append((dealt, f"timed out: no answer after {taken:.0f} s (limit {limit:.0f} s)"))
        return found

    def late(self, present: Mapping[int, Peer], now: float) -> list[InFlight]:
        """Tasks that became late by what the others took: they may be dealt to somebody else as well."""
        found: list[InFlight] = []
        if self._deadline.late_after(MOST_LATES) == math.inf:
            return found
        for (seat, holder), dealt in self._tasks.items():
            if dealt.whole or dealt.is_late or self._answered[seat]:
                continue
            peer = present.get(holder)
            if now - dealt.sent > self._deadline.late_after(peer.lates if peer is not None else 0):
                dealt.is_late = True
                found.append(dealt)
        return found

    def _is_backed_up_in_vain(self, dealt: InFlight, heard: float) -> bool:
        """Whether all that have the task are late, though others were heard, and this one had it first."""
        having = self._of_seat(dealt.assignment.seat)
        late = len(having) > 1 and all(other.is_late for other in having)
        return late and having[0] is dealt and max(other.sent for other in having) < heard

    def _miss(self, dealt: InFlight, now: float) -> None:
        """Somebody else answered this task, and the answers are being opened."""
        seat, holder = dealt.assignment.seat, dealt.assignment.holder
        del self._tasks[seat, holder]
        dealt.ended = now
        self._missed[seat, holder] = dealt
        dealt.answer = None
        self._outbox.send(dealt.key, m.record(m.TooLate(deal_id=self.deal_id, seat=seat)))

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
        for (seat, holder), dealt in self._tasks.items():
            peer = present.get(holder)
            if not dealt.whole and self._answered[seat]:
                continue
            if peer is None or peer.key != dealt.key or now - max(dealt.given, dealt.heard) < self._again:
                continue
            if dealt.answer is None:
                has = peer.deal_id == self.deal_id and seat in peer.in_hand
                if not has and peer.said > dealt.given + self._again / 2:
                    self._send(peer, dealt, now)
            elif not dealt.whole:
                self._ask_for_update(dealt, now)
            elif self._is_open and not dealt.opened and now - self._asked >= self._again:
                asked[holder] = dealt.key
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
        if self._outgoing.repeat(peer, name, make, len(dealt.work.examples), now):
            dealt.given = now

    def _of(self, peer: Peer, deal_id: bytes, seat: int) -> InFlight | None:
        dealt = self._tasks.get((seat, peer.number)) if peer.number is not None else None
        return dealt if dealt is not None and dealt.key == peer.key and deal_id == self.deal_id else None
