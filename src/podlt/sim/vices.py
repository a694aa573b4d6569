"""Dishonest processes of a simulated network: the real session, with false results or bent messages behind it.

What a cheater stands for is its player's affair (`podlt.sim.adversaries`, `podlt.sim.strategies`). What only a network
can have is here: answers that are withheld, changed, repeated or forged, and processes that come and go, or flood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from podlt.crypto import blob_digest, digest
from podlt.execution import sparse
from podlt.protocol.messages import Committed, Task
from podlt.protocol.signatures import COMMITMENT
from podlt.protocol.worker import Worker
from podlt.sim.players import Player
from podlt.wire import messages as m
from podlt.worker.effects import SendMessage

OFTEN = 1 / 3
"""How often a vice does what it is named for, unless it always does."""


class Vice:
    """A process of one identity; this one is honest, but for its player.

    Args:
        player: knows its key, has its chance, and finds its results.
        array: an update by its digest.
        crash: has the process die, and start again after so many seconds.
    """

    machine = ""
    """How fast it is, where that matters: "last moment" or "at once"."""

    def __init__(
        self, player: Player, array: Callable[[bytes], np.ndarray], crash: Callable[[float], object] = lambda _: None
    ) -> None:
        self.player, self._array, self._crash = player, array, crash
        self.number, self.run = -1, b""
        self._tasks: dict[tuple[bytes, int], Task] = {}
        self._striking: dict[bytes, bool] = {}
        self._by_kind: dict[type[m.Message], Callable[[SendMessage, m.Message], Iterable[SendMessage]]] = {
            m.TaskDone: lambda send, said: self.done(send, said),  # type: ignore[arg-type]
            m.Openings: lambda send, said: self.openings(send, said),  # type: ignore[arg-type]
        }

    def answer(self, task: Task) -> np.ndarray:
        """The update that it stands for."""
        return self._array(self.player.result(task))

    def heard(self, message: m.Down) -> None:
        """A message of the manager came."""
        if isinstance(message, m.DealTask):
            self._tasks[message.deal_id, message.seat] = message.task
            self.run = message.task.run
        elif isinstance(message, m.Welcome):
            self.number = message.number

    def says(self, send: SendMessage) -> Iterable[SendMessage]:
        """What it sends instead of what its session would."""
        said = m.from_worker(send.message)
        way = self._by_kind.get(type(said))
        return [send] if way is None else way(send, said)

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Its answer to a task."""
        return [send]

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """What it opens."""
        return [send]

    def strikes(self, deal_id: bytes) -> bool:
        """Whether it does in this deal what it is named for; the same each time that it is asked."""
        if deal_id not in self._striking:
            self._striking[deal_id] = self.player.dice.below(10**6) < OFTEN * 10**6
        return self._striking[deal_id]

    def fake(self, task: Task) -> np.ndarray:
        """An update that is wrong."""
        return self._array(self.player.gossip.forge(task, self.player.key.public, "zeros"))

    def bind(self, seat: int, task: Task, update: np.ndarray) -> Committed:
        """A commitment of its own to an update."""
        return Worker(self.number, self.player.key, self.run).commit(seat, task, blob_digest(update.data))


def _record(send: SendMessage, message: m.Message) -> SendMessage:
    return SendMessage(send.key, m.record(message))


class NoAnswer(Vice):
    """Computes, and never commits."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Nothing, often."""
        return [] if self.strikes(said.deal_id) else [send]


class NoOpening(Vice):
    """Commits, and never opens."""

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """Nothing, often."""
        return [] if self.strikes(said.deal_id) else [send]


class LastMoment(Vice):
    """Answers each task just before it would be dealt to somebody else."""

    machine = "last moment"


class AtOnce(Vice):
    """Answers at once, to be taken for a fast machine and to get a larger share."""

    machine = "at once"


class FalselyOpened(Vice):
    """Opens its commitment to another update."""

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """False ones, often."""
        if not self.strikes(said.deal_id):
            return [send]
        false = [msgspec.structs.replace(one, update=digest("false/1", one.update)) for one in said.opened]
        return [_record(send, msgspec.structs.replace(said, opened=false))]


class OtherUpload(Vice):
    """Sends another update than it commits to."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """The honest commitment with a fake's bytes, often."""
        task = self._tasks[said.deal_id, said.seat]
        if not self.strikes(said.deal_id):
            return [send]
        return [_record(send, msgspec.structs.replace(said, data=memoryview(sparse.packed(self.fake(task)))))]


class TwoAnswers(Vice):
    """Commits twice to a task, to the truth and to a fake, so as to choose later."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """The true answer, and a false one."""
        task = self._tasks[said.deal_id, said.seat]
        update = self.fake(task)
        other = self.bind(said.seat, task, update)
        false = msgspec.structs.replace(
            said,
            commitment=other.commitment,
            signature=other.signature,
            update=blob_digest(update.data),
            data=memoryview(sparse.packed(update)),
        )
        return [send, _record(send, false)]


class TwoOpenings(Vice):
    """Opens its commitment twice: truly, and to something else."""

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """Both."""
        false = [msgspec.structs.replace(one, update=digest("false/1", one.update)) for one in said.opened]
        return [send, _record(send, msgspec.structs.replace(said, opened=false))]


class OldCommitment(Vice):
    """Sends the commitment of its first task as that to each later one."""

    _first: m.TaskDone | None = None

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Today's seat and deal, and the answer of then."""
        self._first = self._first or said
        return [_record(send, msgspec.structs.replace(self._first, deal_id=said.deal_id, seat=said.seat))]


class OldMessages(Vice):
    """Sends all its answers of the last rounds again, word for word."""

    most = 12

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._old: list[SendMessage] = []

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """This one, after the old ones."""
        return self._again(send)

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """This one, after the old ones."""
        return self._again(send)

    def _again(self, send: SendMessage) -> Iterable[SendMessage]:
        old, self._old = self._old, [*self._old, send][-self.most :]
        return [*old, send]


class OtherName(Vice):
    """Answers and opens in the names of others beside its own."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Its answer as that to its neighbours' tasks as well."""
        others = [msgspec.structs.replace(said, seat=seat) for seat in range(4) if seat != said.seat]
        return [*(_record(send, other) for other in others), send]

    def openings(self, send: SendMessage, said: m.Openings) -> Iterable[SendMessage]:
        """Its openings as those of others as well."""
        named = [
            [msgspec.structs.replace(one, holder=holder, seat=holder) for one in said.opened]
            for holder in range(4)
            if holder != self.number
        ]
        return [*(_record(send, msgspec.structs.replace(said, opened=opened)) for opened in named if opened), send]


class StolenCommitment(Vice):
    """Signs a commitment that it overheard as its own."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Another's commitment, if it heard of one."""
        heard = [one for one in self.player.gossip.commitments if one.holder != self.number]
        if not heard or not self.strikes(said.deal_id):
            return [send]
        stolen = heard[-1].commitment
        signature = self.player.key.sign(COMMITMENT, stolen)
        return [_record(send, msgspec.structs.replace(said, commitment=stolen, signature=signature))]


class FalseFailure(Vice):
    """Says that it cannot execute its task."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """A failure, often."""
        failed = m.TaskFailed(deal_id=said.deal_id, seat=said.seat, reason="it says so")
        return [_record(send, failed)] if self.strikes(said.deal_id) else [send]


class Restarting(Vice):
    """Dies with its task in hand, and is back at once: without memory, on a new connection."""

    def heard(self, message: m.Down) -> None:
        """Dies, often, when it is dealt a task."""
        super().heard(message)
        if isinstance(message, m.DealTask) and message.deal_id not in self._striking and self.strikes(message.deal_id):
            self._crash(0.2)


class JoinAgain(Vice):
    """Sends its signed joining again with each answer."""

    _joined: SendMessage | None = None

    def says(self, send: SendMessage) -> Iterable[SendMessage]:
        """Keeps it when it is sent."""
        if isinstance(m.from_worker(send.message), m.SignedJoin):
            self._joined = send
        return super().says(send)

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """The joining, and the answer."""
        return [*([self._joined] if self._joined is not None else []), send]


class Flood(Vice):
    """Sends as many useless messages a round as just do not have it shut out."""

    count = 1900

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """Openings of nothing."""
        return [send, *[_record(send, m.Openings(deal_id=said.deal_id, opened=[]))] * self.count]


class LargerFlood(Flood):
    """Sends more than that."""

    count = 2100


class Greedy(Vice):
    """Asks for all receipts and for the setup again and again."""

    count = 50

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """The answer, and requests."""
        asked = [m.record(m.GetReceipts(first=0)), m.record(m.Hello(version=m.VERSION))]
        return [send, *(SendMessage(send.key, one) for one in asked * self.count)]


class FalseSeconds(Vice):
    """Says that its tasks took no time, or very long."""

    def done(self, send: SendMessage, said: m.TaskDone) -> Iterable[SendMessage]:
        """The answer, with other seconds."""
        seconds = 0.0 if self.strikes(said.deal_id) else 1e6
        return [_record(send, msgspec.structs.replace(said, compute_seconds=seconds, proof_seconds=seconds))]
