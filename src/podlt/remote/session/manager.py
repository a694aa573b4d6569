"""The manager's side of a run over a network: what it says to workers that come and go, and what it takes from them.

Sans-IO: messages and the time come in by `receive` and `tick`, what is to be sent goes out by `effects`. Nothing rests
on a message arriving. A worker's heartbeats name the tasks that it has: others are sent again; openings are asked for
until they come. Workers answer a task that they did already from memory, with the same commitment. So links, servers
and the manager itself may fail at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from podlt.engine.interface import DurableEntries, Event, Lost, Member, TaskLate, WorkerPace
from podlt.errors import PodltError
from podlt.events import NetworkEvent, WorkerFigures
from podlt.protocol.entries import Begin
from podlt.protocol.messages import Assignment, JoinTerms, TreeSize
from podlt.protocol.receipt import Bound
from podlt.remote.session.batches import Answer, together
from podlt.remote.session.binding import BoundAnswers
from podlt.remote.session.facts import DEFAULT_TIMING, ONLY_MESSAGES, Chance, LargeBlobs, ServedRun, Timing
from podlt.remote.session.fingerprints import FingerprintCollector
from podlt.remote.session.joining import JoinHandler
from podlt.remote.session.outbox import Capacity, Effect, Outbox
from podlt.remote.session.outgoing import Outgoing
from podlt.remote.session.peers import ListeningClock, Peer, PeerTable
from podlt.remote.session.publishing import Publisher
from podlt.remote.session.receipts import PastReceipts, ReceiptSender
from podlt.remote.session.round import RoundInFlight
from podlt.remote.session.shards import ShardExamples
from podlt.remote.session.watch import WorkerWatch, paces_of
from podlt.wire import messages as m

MOST_STRIKES = 2000
"""Useless messages that a round may bring from one worker before it is shut out."""

MOST_USELESS = 16
"""How many times its backlog in bytes these may have."""

BACKLOG = 2**20
SUSPENDED_SECONDS, LONGEST_SUSPENSION = 5, 600
"""How long a worker that was withdrawn for a fault stays away the first time, doubled each time; at most."""


class ManagerSession:
    """Carries tasks to workers that come and go, and their answers back.

    Args:
        run: that it serves.
        state: the parameters' bytes (uint8), which change only between rounds.
        capacity: of the link.
        history: of the log, for receipts that workers missed.
        now: seconds, monotonic.
        timing: how long to wait.
        large: decides what goes as a blob.
        chance: randomness, the time of day, and a stopwatch.
        tell: hears how the parameters of each round went out, what each worker does, and who holds up a round.

    Attributes:
        backlog: how many bytes one worker may have sent that were not received yet.
        fingerprints: of the round that is over.
    """

    def __init__(
        self,
        run: ServedRun,
        state: np.ndarray,
        capacity: Capacity,
        history: PastReceipts,
        now: float,
        chance: Chance,
        *,
        timing: Timing = DEFAULT_TIMING,
        large: LargeBlobs = ONLY_MESSAGES,
        tell: Callable[[NetworkEvent], None] = lambda event: None,
    ) -> None:
        self._timing, self._chance, self._blob_server = timing, chance, large.server
        self._time, self._peers, self._outbox = ListeningClock(now), PeerTable(), Outbox(capacity)
        self._outgoing = Outgoing(self._outbox)
        self._joining = JoinHandler(run, self._outbox, self._outgoing, self._time, timing.heartbeat, large, chance.wall)
        self._receipts = ReceiptSender(history, self._outbox, timing.heartbeat / 20, chance.stopwatch)
        self._publisher = Publisher(state, self._outgoing, large, tell)
        self._bound = BoundAnswers(run.key)
        self._round = RoundInFlight(self._outbox, self._outgoing, run.update_bytes, timing, large, self._bound.request)
        self.fingerprints = FingerprintCollector(self._outbox, self._round, self._lose)
        self._take: dict[type, Callable[[Peer, Any], Answer | None]] = {
            m.TaskDone: lambda peer, said: self._round.answer(peer, said, self._time.now),
            m.Openings: lambda peer, said: self._round.openings(peer, said, self._time.now),
            m.TaskFailed: self._round.failed,
            m.Fingerprints: self.fingerprints.came,
            m.Hello: self._joining.greet,
            m.JoinRequest: self._joining.join,
            m.SignedJoin: self._joining.signed,
            m.GetReceipts: lambda peer, said: self._receipts.ask(peer.key, said),
            m.GetParameters: self._give,
            m.Heartbeat: self._heartbeat,
            m.Leave: lambda peer, said: self._lose(peer, f"left: {said.reason}" if said.reason else "left"),
        }
        self._watch = WorkerWatch(tell)
        self._events: deque[Answer] = deque()
        self._late: deque[TaskLate] = deque()
        self._lost: deque[Lost] = deque()
        self._rounds, self._in_round, self._heard = 0, False, 0.0
        self.backlog = (0 if large.carries(run.update_bytes) else 2 * run.update_bytes) + BACKLOG

    # -- what comes in, and what goes out ----------------------------------------------------------------------------

    def receive(self, key: bytes, raw: m.Raw, now: float) -> None:
        """Takes a message of the worker of this key."""
        self._time.tick(now)
        peer = self._peer(key)
        if peer.strikes > MOST_STRIKES:  # it was dropped: what had come before that
            return
        peer.heard = self._heard = self._time.now
        self._watch.received(key, len(raw))
        strikes, event = peer.strikes, None
        try:
            said = m.from_worker(raw)
            event = self._take[type(said)](peer, said)
        except PodltError as error:
            peer.strikes += 1
            self._watch.wrong(key)
            self._lose(peer, f"malformed message: {error}")
        if peer.strikes > strikes:
            self._struck(peer, len(raw))
        if event is not None:
            self._add(event)

    def tick(self, now: float, connected: bool = True) -> None:
        """Does what is due.

        Args:
            now: seconds, monotonic.
            connected: whether workers could be heard since the last call.

        Raises:
            StorageError: as `RoundInFlight.overdue`.
        """
        self._time.tick(now, connected)
        self._outgoing.step()
        self._receipts.step(self._time.now)
        self._lose_silent()
        if not self._in_round:
            return
        self._publisher.step()
        for event, key, error in self._round.uploaded(self._time.now):
            if event is not None:
                self._add(event)
            else:
                self._watch.wrong(key)
                self._lose(self._peers.get(key), f"upload does not match its commitment: {error}")
        for dealt, reason in self._round.overdue(self._heard, self._time.now):
            (self._watch.unopened if dealt.whole else self._watch.late)(dealt.key)
            if (peer := self._peers.members.get(dealt.assignment.holder)) is not None:
                self._lose(peer, reason)
                self._dismiss(peer, reason)
        for dealt in self._round.late(self._peers.members, self._time.now):
            self._watch.late(dealt.key)
            self._late.append(TaskLate(dealt.assignment.seat, dealt.assignment.holder))
        self._round.repeat(self._peers.members, self._time.now)
        self._watch.waits(self._round.in_flight, self._time.now)

    def effects(self) -> list[Effect]:
        """What is to be done since the last call, in this order."""
        effects = self._outbox.take()
        self._watch.sent(effects)
        return effects

    def events(self) -> list[Event]:
        """What came of a round since the last call, and who is gone."""
        taken: list[Event] = [*together(self._events), *self._lost, *self._late]
        for events in (self._events, self._lost, self._late):
            events.clear()
        return taken

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> int:
        """How many processes host the workers that are there."""
        return self._peers.processes

    @property
    def members(self) -> int:
        """How many workers are admitted."""
        return len(self._peers.members)

    def figures(self) -> list[WorkerFigures]:
        """What is seen of each worker that is there, by number."""
        return self._watch.figures(self._peers.present, self._time.now)

    def begin(self, begin: Begin, seen: TreeSize) -> None:
        """Begins to work for a run; who is there already will join again."""
        self._joining.begin(begin, seen)

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Asks somebody to sign the terms on which it may join."""
        self._joining.offer(self._peer(member.key), terms)

    def end_round(self) -> None:
        """No answer is of use from now on, and the parameters are about to change."""
        self._in_round = False
        self._publisher.withdraw()

    def arrived(self) -> list[Member]:
        """Who asked to be admitted, or signed the terms for it, and is not yet. To be asked between rounds."""
        self._events.clear()
        return self._joining.arrived()

    def departed(self) -> list[Lost]:
        """Admitted workers that are gone since the last call."""
        self._lose_silent()
        lost = list(self._lost)
        self._lost.clear()
        return lost

    def admitted(self, member: Member, number: int) -> None:
        """A member is worker `number` from now on."""
        peer = self._peer(member.key)
        self._peers.admit(peer, number)
        self._outbox.subscribe(peer.key, is_member=True)
        peer.allowance.change(self._joining.need + self._publisher.inline)
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
            self._dismiss(peer, reason)

    # -- a round -----------------------------------------------------------------------------------------------------

    def deal(
        self,
        assignments: Sequence[Assignment],
        shards: Mapping[int, ShardExamples],
        now: float,
        *,
        again: bool = False,
    ) -> None:
        """Publishes the round's parameters, and sends tasks to their holders.

        Args:
            assignments: the tasks, at least one.
            shards: the examples of each.
            now: seconds, monotonic.
            again: whether these tasks come on top of others of the same round.
        """
        self._time.tick(now)
        if not again:
            self._begin_round(assignments)
        for assignment in assignments:
            holder = self._peers.members.get(assignment.holder)
            if holder is not None:
                self._round.give(assignment, holder, shards[assignment.shard], self._time.now)
            else:
                self._lost.append(Lost(assignment.holder, "left before the round began"))
        needs = self._round.needs()
        for number in {assignment.holder for assignment in assignments} & self._peers.members.keys():
            inline, fetched = needs[number]
            peer = self._peers.members[number]
            peer.allowance.renew(self._joining.need + self._publisher.inline + inline)
            if self._blob_server is not None:
                self._blob_server.allow(peer.key, self._publisher.fetched + fetched)

    def gone(self, number: int) -> None:
        """A worker was withdrawn within the round: its tasks and answers count no more."""
        self._round.gone(number)

    def open(self, bound: Bound) -> None:
        """Gives workers receipts for their commitments, and asks to open them."""
        self._bound.bind(self._joining.run, bound)
        self._round.open(bound.round, self._time.now)
        for holder in self._bound.holders:
            if (peer := self._peers.members.get(holder)) is not None:
                self._outbox.send(peer.key, self._bound.request(holder))

    def idle(self) -> bool:
        """Whether every task was answered, or its holder is gone."""
        return self._round.idle()

    def slot(self, seat: int, holder: int) -> np.ndarray:
        """The update that `holder` gave to the task of `seat`."""
        return self._round.slots.view((seat, holder))

    def digest(self, seat: int, holder: int) -> bytes:
        """The digest of that update."""
        return self._round.slots.digest((seat, holder))

    def paces(self) -> list[WorkerPace]:
        """How long each worker took in the round in progress, once it is opened."""
        return paces_of(self._round)

    def _begin_round(self, assignments: Sequence[Assignment]) -> None:
        self._rounds += 1
        self._in_round = True
        self._watch.round_begins(self._peers.present, self._time.now)
        if self._blob_server is not None and self._rounds > 1:  # the first may be one that was begun before a kill
            self._blob_server.clear()
        late = self._round.late_holders
        for number, peer in self._peers.members.items():
            peer.strikes = peer.useless = 0
            peer.lates = peer.lates + 1 if number in late else max(0, peer.lates - 1)
        self._outgoing.clear()
        self._publisher.publish(assignments[0].task.parameters)
        self._round.begin(self._chance.token(8), len(assignments), self._publisher.fetched)
        self._bound.begin(self._round.deal_id)

    # -- the end -----------------------------------------------------------------------------------------------------

    def receipt(self, receipt: DurableEntries) -> None:
        """Tells all workers what is in the log now."""
        self._joining.head = receipt.head
        self._receipts.publish(receipt)

    def finish(self, outcome: str, reason: str) -> None:
        """Tells all workers that the run ended; to be said again to who may not have heard it."""
        said = m.RunFinished(outcome=outcome, reason=reason[:1000], entries=self._receipts.logged)
        self._outbox.announce(m.record(said))

    def close(self) -> None:
        """Lets the log go."""
        self._receipts.close()

    # -- what workers say --------------------------------------------------------------------------------------------

    def _heartbeat(self, peer: Peer, said: m.Heartbeat) -> None:
        peer.deal_id, peer.in_hand, peer.said = said.deal_id, frozenset(said.in_hand), self._time.now
        self._joining.remind(peer)

    def _give(self, peer: Peer, want: m.GetParameters) -> None:
        """Says once more how the parameters come.

        Whoever asks for those of a round that ended meanwhile has asked for nothing: a few of that are no matter.
        """
        said = None if peer.number is None else self._publisher.about(want.digest)
        peer.strikes += said is None or not self._outgoing.reply(peer, m.record(said), self._time.now)

    def _lose_silent(self) -> None:
        for peer in self._peers.silent(self._time.now, silence := self._timing.silence):
            self._lose(peer, f"timed out: not heard for {silence:.0f} s")

    def _struck(self, peer: Peer, nbytes: int) -> None:
        """A message was of no use; with too many it is shut out."""
        peer.useless += nbytes
        if peer.strikes <= MOST_STRIKES and peer.useless <= MOST_USELESS * self.backlog:
            return
        peer.strikes = MOST_STRIKES + 1
        limit = f"limit {MOST_STRIKES} a round, {MOST_USELESS * self.backlog:,} bytes"
        self._lose(peer, reason := f"too many useless messages ({limit})")
        self.refused(Member(peer.key), reason)
        self._outbox.drop(peer.key)

    def _add(self, event: Answer) -> None:
        self._events.append(event)
        self._watch.came(event, self._round.task, self._time.now)

    def _lose(self, peer: Peer | None, reason: str) -> None:
        if peer is None:
            return
        if peer.number is None:
            self._joining.forget(peer)  # it may have waited to be admitted
            return
        self._lost.append(Lost(peer.number, reason[:1000]))
        self._round.gone(peer.number)
        self._forget(peer)

    def _dismiss(self, peer: Peer, reason: str) -> None:
        """A worker that is not admitted any more may come again, later each time."""
        peer.dismissed += 1
        seconds = min(LONGEST_SUSPENSION, SUSPENDED_SECONDS * 2**peer.dismissed)
        peer.returns = self._time.now + seconds
        self._send(peer, m.Dismissed(reason=reason[:1000], seconds=seconds))

    def _forget(self, peer: Peer) -> None:
        self._joining.forget(peer)
        if peer.number is not None:
            self._outbox.subscribe(peer.key, is_member=False)
        self._outgoing.forget(peer.key)
        peer.allowance.change(self._joining.need)
        self._peers.remove(peer)

    def _peer(self, key: bytes) -> Peer:
        return self._peers.of(key, self._time.now, self._joining.need)

    def _send(self, peer: Peer, what: m.Message) -> None:
        self._outbox.send(peer.key, m.record(what))
