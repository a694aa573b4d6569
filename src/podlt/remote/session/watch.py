"""What the manager sees of each worker: how fast it is, what it sent, how often it was late; who holds up a round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from podlt.engine.interface import Event, WorkerPace
from podlt.engine.local import frames
from podlt.events import HeldUp, NetworkEvent, WorkerFigures, WorkersSeen
from podlt.protocol.shares import worker_of
from podlt.remote.session.outbox import Effect, Send
from podlt.remote.session.peers import InFlight, Peer
from podlt.remote.session.round import RoundInFlight

FADING = 0.2
"""The weight of the last task in the usual seconds of a worker."""

HELD_UP_SECONDS, HELD_UP_TIMES = 2.0, 3.0
"""One worker holds up a round that waits for it alone so long, and so many times as long as for the others."""


REPORT_SECONDS = 5.0
"""How often it is told what each worker does, at most."""


class _Seen:
    """What one worker did since it came, or since the manager began.

    Attributes:
        received: bytes from it.
        sent: bytes to it alone.
        late: how many of its tasks were late.
        unopened: how many of its commitments it did not open in time.
        wrong: how many of its messages or uploads were malformed, or not what it was committed to.
    """

    __slots__ = ("_examples", "_seconds", "_tasks", "_usual", "late", "received", "sent", "unopened", "wrong")

    def __init__(self) -> None:
        self.received = self.sent = self.late = self.unopened = self.wrong = 0
        self._tasks = self._examples = 0
        self._seconds = self._usual = 0.0

    def done(self, examples: int, seconds: float) -> None:
        """It did a task of so many examples, so many seconds after it was sent."""
        self._tasks, self._examples, self._seconds = self._tasks + 1, self._examples + examples, self._seconds + seconds
        self._usual = seconds if self._tasks == 1 else (1 - FADING) * self._usual + FADING * seconds

    def figures(self, peer: Peer, now: float) -> WorkerFigures:
        """As an event has them."""
        return WorkerFigures(
            worker=-1 if peer.number is None else peer.number,
            key=peer.key.hex(),
            tasks=self._tasks,
            seconds=self._usual,
            examples_per_second=self._examples / self._seconds if self._seconds else 0.0,
            late=self.late,
            unopened=self.unopened,
            wrong=self.wrong,
            received=self.received,
            sent=self.sent,
            silent=now - peer.heard,
        )


def _held_up(tasks: Iterable[InFlight], now: float) -> HeldUp | None:
    """Whether a round waits for one worker alone, far longer than for the others.

    Args:
        tasks: of the round.
        now: seconds, on the clock by which they were sent.
    """
    waiting = [task for task in tasks if not task.whole]
    others = [task.heard - task.sent for task in tasks if task.whole]
    if not others or len({task.assignment.holder for task in waiting}) != 1:
        return None
    waited, longest = now - min(task.sent for task in waiting), max(others)
    if waited < max(HELD_UP_SECONDS, HELD_UP_TIMES * longest):
        return None
    first = waiting[0].assignment
    return HeldUp(worker=first.holder, round=first.task.round, seconds=waited, others=longest)


def paces_of(round: RoundInFlight) -> list[WorkerPace]:
    """How long each worker took for the tasks that were dealt to it at first."""
    mine: dict[int, list[InFlight]] = {}
    for dealt in (*round.in_flight, *round.missed):
        task = dealt.assignment
        if worker_of(task.seat) == task.holder:
            mine.setdefault(task.holder, []).append(dealt)
    return [
        WorkerPace(
            worker=worker,
            tasks=len(tasks),
            examples=sum(dealt.work.count for dealt in tasks),
            seconds=max(dealt.ended - dealt.sent for dealt in tasks),
            missed=sum(not dealt.whole for dealt in tasks),
        )
        for worker, tasks in sorted(mine.items())
    ]


class WorkerWatch:
    """Watches all workers of a run.

    Args:
        tell: hears of them.
    """

    def __init__(self, tell: Callable[[NetworkEvent], None]) -> None:
        self._tell, self._reported, self._is_held_up = tell, 0.0, False
        self._seen: defaultdict[bytes, _Seen] = defaultdict(_Seen)

    def received(self, key: bytes, nbytes: int) -> None:
        """A message of a worker came."""
        self._seen[key].received += nbytes

    def sent(self, effects: Iterable[Effect]) -> None:
        """Messages go out."""
        for effect in effects:
            if isinstance(effect, Send) and effect.key is not None:
                self._seen[effect.key].sent += len(effect.message)

    def came(self, event: Event, task: Callable[[int, int], InFlight], now: float) -> None:
        """Something came of a round, whose tasks `task` gives by seat and holder."""
        if isinstance(event, frames.Results):
            for committed in event.committed:
                dealt = task(committed.seat, committed.holder)
                self._seen[dealt.key].done(dealt.work.count, now - dealt.sent)

    def late(self, key: bytes) -> None:
        """A task of a worker was late."""
        self._seen[key].late += 1

    def unopened(self, key: bytes) -> None:
        """A worker did not open a commitment."""
        self._seen[key].unopened += 1

    def wrong(self, key: bytes) -> None:
        """A worker sent what was malformed, or not what it was committed to."""
        self._seen[key].wrong += 1

    def figures(self, peers: Iterable[Peer], now: float) -> list[WorkerFigures]:
        """Of each of these workers."""
        return [self._seen[peer.key].figures(peer, now) for peer in peers]

    def round_begins(self, peers: Sequence[Peer], now: float) -> None:
        """A round begins, for these workers."""
        self._is_held_up = False
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._tell(WorkersSeen(workers=self.figures(peers, now)))

    def waits(self, tasks: Collection[InFlight], now: float) -> None:
        """A round waits for these tasks: says once in it if they are one worker's."""
        if not self._is_held_up and (found := _held_up(tasks, now)) is not None:
            self._is_held_up = True
            self._tell(found)
