"""The engine `nats`: workers on machines of strangers. The manager's side, over any link that may lose messages.

Nothing rests on a message arriving. A worker's heartbeats name the tasks that it has: others are sent again;
missing chunks are asked for; openings are asked for until they come. Workers answer a task that they did already from
memory, with the same commitment. So links, servers and the manager itself may fail at any moment.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from podlt.engine.interface import DurableEntries, Event, Job, Lost, Member
from podlt.engine.shared_memory import BlockBuffer, Region
from podlt.errors import PodltError
from podlt.events import Published
from podlt.network import messages as m
from podlt.network.blobs.server import BlobServer
from podlt.network.link import ManagerLink
from podlt.network.session.joining import JoinHandler
from podlt.network.session.outgoing import Outgoing
from podlt.network.session.peers import ListeningClock, Peer, PeerTable
from podlt.network.session.publishing import DeltaChoice, Policy, Publisher
from podlt.network.session.receipts import ReceiptSender
from podlt.network.session.round import RoundInFlight, lines_of
from podlt.program.layout import state_layout, update_layout
from podlt.protocol.entries import Begin
from podlt.protocol.messages import Assignment, JoinTerms, TreeSize

SILENCE_TIMEOUT = 15.0
"""Seconds of silence after which a worker counts as gone."""

STEP, SHORT_STEP = 0.25, 0.02
"""How long the engine waits for messages at a time, in seconds; and while updates are uploaded."""

MOST_STRIKES = 2000  # useless messages that a round may bring from one worker before it is shut out
BACKLOG = 2**20

SEEING_OFF = 5.0
"""Seconds at the run's end in which workers can still ask for what they have missed."""


class NetworkEngine:
    """Carries tasks to workers that come and go.

    Args:
        job: of the run.
        link: to the workers.
        arithmetic: the digest that a worker's own must be (see `worker.preflight`).
        silence_timeout: seconds of silence after which a worker is gone.
        heartbeat_seconds: seconds between two heartbeats of a worker.
        blob_server: for large blobs, else all goes in messages.
        large: more bytes than these go as a blob.
        deltas: whether to publish what changed.
        tell: called with how the parameters of each round went out.
        clock: seconds, monotonic.

    Raises:
        EngineError: there is not enough memory for the parameters and the block.
    """

    elastic = True

    def __init__(
        self,
        job: Job,
        link: ManagerLink,
        arithmetic: str,
        *,
        silence_timeout: float = SILENCE_TIMEOUT,
        heartbeat_seconds: float = m.HEARTBEAT_SECONDS,
        blob_server: BlobServer | None = None,
        large: int = m.LARGE,
        deltas: Policy = "auto",
        tell: Callable[[Published], None] = lambda published: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._link = job, link
        self._silence_timeout, self._heartbeat_seconds = silence_timeout, heartbeat_seconds
        self._time, self._peers = ListeningClock(clock), PeerTable()
        size, nbytes = state_layout(job.program).nbytes, update_layout(job.program).nbytes
        self._state = Region(size)
        self._block = BlockBuffer(job.fields, job.block_lines)
        self._outgoing = Outgoing(link, self._blob)

        def as_blob(size: int) -> bool:
            return blob_server is not None and size > large

        self._joining = JoinHandler(
            job, link, self._outgoing, arithmetic, self._time, heartbeat_seconds, blob_server, as_blob, as_blob(nbytes)
        )
        self._receipts = ReceiptSender(job.directory, link, heartbeat_seconds / 20)
        self._lost: deque[Lost] = deque()
        self._blob_server = blob_server
        choice = DeltaChoice(deltas, clock)
        self._publisher = Publisher(
            self._state.bytes[:size], link, self._outgoing, blob_server, as_blob(size), choice, tell
        )
        timing = (silence_timeout, heartbeat_seconds, self._publisher.carried)
        self._round = RoundInFlight(link, self._outgoing, nbytes, *timing, blob_server, as_blob)
        self._take: dict[type, Callable[[Peer, Any], Event | None]] = {
            m.Chunk: lambda peer, said: self._round.chunk(peer, said, self._time.now),
            m.TaskDone: lambda peer, said: self._round.answer(peer, said, self._time.now),
            m.Openings: lambda peer, said: self._round.openings(peer, said, self._time.now),
            m.TaskFailed: self._round.failed,
            m.Hello: self._joining.greet,
            m.JoinRequest: self._joining.join,
            m.SignedJoin: self._joining.signed,
            m.GetReceipts: lambda peer, said: self._receipts.remind(peer.key, said),
            m.GetChunks: self._give,
            m.Heartbeat: self._heartbeat,
            m.Leave: lambda peer, said: self._lose(peer, f"left: {said.reason}" if said.reason else "left"),
        }
        self._rounds, self._complete = 0, False
        link.allow((0 if as_blob(nbytes) else 2 * nbytes) + BACKLOG)

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> int:
        """How many processes host the workers that are there."""
        return self._peers.processes

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Begins to work for a run; who is there already will join again."""
        self._joining.begin(begin, seen)
        return []

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Asks somebody to sign the terms on which it may join."""
        self._joining.offer(self._peer(member.key), terms)

    def arrivals(self, seconds: float) -> list[Member]:
        """Who asked to be admitted, or signed the terms for it, and is not yet."""
        self._publisher.withdraw()
        for _ in self._pump(seconds):
            pass  # between rounds no answer is of use
        return self._joining.arrived()

    def departures(self) -> list[Lost]:
        """Admitted workers that are gone."""
        self._find_silent()
        lost, self._lost = list(self._lost), deque()
        return lost

    def admitted(self, member: Member, number: int) -> None:
        """A member is worker `number` from now on."""
        peer = self._peer(member.key)
        self._peers.admit(peer, number)
        peer.allowance.change(self._joining.need + self._publisher.nbytes)
        self._receipts.admitted(peer.key, number)
        self._joining.admitted(peer, number)

    def refused(self, member: Member, reason: str) -> None:
        """A member may not work for this run."""
        peer = self._peer(member.key)
        self._forget(peer)
        self._send(peer, m.JoinRefused(reason=reason[:1000]))

    def released(self, number: int, reason: str) -> None:
        """A worker was withdrawn for a fault: it may come again, later each time."""
        peer = self._peers.members.get(number)
        if peer is not None:
            self._forget(peer)
            peer.dismissed += 1
            seconds = min(600, 5 * 2**peer.dismissed)
            peer.returns = self._time.now + seconds
            self._send(peer, m.Dismissed(reason=reason[:1000], seconds=seconds))

    # -- a round -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes; the manager alone writes them, between rounds."""
        return self._state.bytes

    def block(self, buffer: int, lines: int) -> dict[str, np.ndarray]:
        """Where the lines of a block go, field by field."""
        return self._block.views(buffer, lines)

    def slot(self, seat: int) -> np.ndarray:
        """The update of the task that was dealt to `seat`."""
        return self._round.slot(seat)

    def digest(self, seat: int) -> bytes:
        """The digest of that update."""
        return self._round.digest(seat)

    def deal(
        self,
        buffer: int,
        lines: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
    ) -> None:
        """Publishes the round's parameters, and sends tasks to their holders."""
        self._listen()
        if not again:
            self._begin(assignments)
        block = self._block.views(buffer, lines)
        cut: dict[int, tuple[np.ndarray, bytes]] = {}
        for assignment in assignments:
            start, stop = bounds[assignment.fragment]
            if assignment.fragment not in cut:
                cut[assignment.fragment] = lines_of(self._job.fields, block, start, stop)
            data, digest = cut[assignment.fragment]
            holder = self._peers.members.get(assignment.holder)
            if holder is not None:
                self._round.give(assignment, holder, data, digest, stop - start, self._time.now)
            else:
                self._lost.append(Lost(assignment.holder, "left before the round began"))
        for number in {assignment.holder for assignment in assignments} & self._peers.members.keys():
            need = self._joining.need + self._publisher.nbytes + self._round.need(number)
            self._peers.members[number].allowance.renew(need)

    def _begin(self, assignments: Sequence[Assignment]) -> None:
        self._rounds += 1
        if self._blob_server is not None and self._rounds > 1:  # the first may be one that was begun before a kill
            self._blob_server.clear()
        for peer in self._peers.members.values():
            peer.strikes = 0
        self._outgoing.clear()
        self._publisher.publish(assignments[0].task.parameters)
        self._round.begin(secrets.token_bytes(8), len(assignments), self._publisher.allowance)

    def open(self, round: int) -> None:
        """Asks all workers to open their commitments of a round."""
        self._round.open(round, self._time.now)

    def idle(self) -> bool:
        """Whether every task was answered, or its holder is gone."""
        return self._round.idle()

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it; errors as `RoundInFlight.overdue`."""
        yield from self._pump(SHORT_STEP if self._blob_server is not None and self._blob_server.waiting else STEP)
        self._publisher.step()
        yield from self._uploads()
        self._find_silent()
        for dealt, reason in self._round.overdue(self._time.now):
            self._lose(self._peers.members.get(dealt.assignment.holder), reason)
        self._round.repeat(self._peers.members, self._time.now)
        while self._lost:
            yield self._lost.popleft()

    # -- the end -----------------------------------------------------------------------------------------------------

    def receipt(self, receipt: DurableEntries) -> None:
        """Tells all workers what is in the log now."""
        self._joining.head = receipt.head
        self._receipts.publish(receipt)

    def finish(self, outcome: str, reason: str) -> None:
        """Tells all workers that the run ended."""
        self._complete = outcome == "complete"
        said = m.record(m.RunFinished(outcome=outcome, reason=reason[:1000], entries=self._receipts.logged))
        self._link.publish(said)
        if outcome == "complete":
            self._see_off(said)

    def _see_off(self, said: bytes) -> None:
        """Answers who has missed something, until everybody has left."""
        again, until = time.monotonic() + self._heartbeat_seconds, time.monotonic() + SEEING_OFF
        while self._peers.members and time.monotonic() < until:
            for _ in self._pump(STEP):
                pass  # answers are of no use any more
            if time.monotonic() > again:
                again = time.monotonic() + self._heartbeat_seconds
                self._link.publish(said)

    def close(self) -> None:
        """Ends the link."""
        self._link.close()
        self._receipts.close()
        if self._blob_server is not None:
            self._blob_server.close(empty=self._complete)
        for region in (self._state, self._block.region):
            region.close()

    # -- what workers say --------------------------------------------------------------------------------------------

    def _pump(self, seconds: float) -> Iterator[Event]:
        """Takes what has come."""
        for key, raw in self._link.receive(seconds):
            peer = self._peer(key)
            if peer.strikes > MOST_STRIKES:  # it was dropped: what had come before that
                continue
            peer.heard = self._time.now
            try:
                said = m.from_worker(raw)
                event = self._take[type(said)](peer, said)
            except PodltError as error:
                peer.strikes += 1
                event = None
                self._lose(peer, f"malformed message: {error}")
            if peer.strikes > MOST_STRIKES:
                reason = f"too many useless messages (limit {MOST_STRIKES} a round)"
                self._lose(peer, reason)
                self.refused(Member(key), reason)
                self._link.drop(key)
            if event is not None:
                yield event
        self._listen()
        self._outgoing.step(self._time.now)

    def _heartbeat(self, peer: Peer, said: m.Heartbeat) -> None:
        peer.deal_id, peer.in_hand, peer.said = said.deal_id, frozenset(said.in_hand), self._time.now
        self._joining.remind(peer)

    def _uploads(self) -> Iterator[Event]:
        """Updates that were uploaded."""
        for event, key, error in self._round.uploaded(self._time.now):
            if event is not None:
                yield event
            else:
                self._lose(self._peers.get(key), f"upload does not match its commitment: {error}")

    def _give(self, peer: Peer, want: m.GetChunks) -> None:
        """Takes note of chunks that a worker misses, of what it may have."""
        useful = False
        if want.ranges:
            useful = self._outgoing.owe(peer, want.digest, want.ranges)
        elif peer.number is not None:
            said = self._publisher.about(want.digest)
            useful = said is None or self._outgoing.reply(peer, m.record(said), self._time.now)
        peer.strikes += not useful

    def _blob(self, peer: Peer, digest: bytes) -> np.ndarray | None:
        """What a worker may have now in chunks, by its digest: before it is admitted, the program alone."""
        found = self._joining.program(digest)
        if found is None and peer.number is not None:
            found = self._publisher.blob(digest)
            if found is None:
                found = self._round.lines(peer.number, digest)
        return found

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._time.tick(self._link.connected)

    def _find_silent(self) -> None:
        for peer in self._peers.silent(self._time.now, self._silence_timeout):
            self._lose(peer, f"timed out: not heard for {self._silence_timeout:.0f} s")

    def _lose(self, peer: Peer | None, reason: str) -> None:
        if peer is None:
            return
        if peer.number is None:
            self._joining.forget(peer)  # it may have waited to be admitted
            return
        self._lost.append(Lost(peer.number, reason[:1000]))
        self._round.gone(peer.number)
        self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        self._joining.forget(peer)
        self._outgoing.forget(peer.key)
        peer.allowance.change(self._joining.need)
        self._peers.remove(peer)

    def _peer(self, key: bytes) -> Peer:
        return self._peers.of(key, self._time.now, self._joining.need)

    def _send(self, peer: Peer, what: m.Message) -> None:
        self._link.send(peer.key, m.record(what))
