"""Who is there, and what each holds: the engine's memory of workers and of the tasks of the round."""

from __future__ import annotations

import math
from bisect import insort

from podlt.network.blobs.allowance import Allowance
from podlt.protocol.messages import Assignment, Committed
from podlt.remote.session.facts import Timing
from podlt.wire import messages as m

LONGEST_STEP = 1.0

LATE_FACTOR = 6.0
"""How much longer than half of the others a worker may take, on top of the silence timeout."""


LAST_FACTOR = 40.0
"""How many times as long as the silence timeout plus the usual time a task may take that nobody has answered."""


MOST_LATES = 10
"""Who was late more often has no less time."""


class ListeningClock:
    """Seconds during which the manager could hear its workers.

    It stands still while the manager itself is stopped, suspended or cut off: that nobody was heard then is nobody's
    fault but its own.

    Args:
        now: seconds, monotonic.

    Attributes:
        now: how many of them passed while it listened.
    """

    def __init__(self, now: float) -> None:
        self._last = now
        self.now = 0.0

    def tick(self, now: float, connected: bool = True) -> None:
        """Takes note that the manager listens now (seconds, monotonic)."""
        if connected:
            self.now += min(now - self._last, LONGEST_STEP)
        self._last = now


class Peer:
    """A worker as the engine knows it.

    Attributes:
        number: in the run, once it was admitted; None when it is not, or was let go.
        process: shared by the identities of one process.
        heard: when a message of it came last.
        in_hand: the tasks of `deal_id` that it said it has, at `said`.
        asked: when it was last asked to join.
        dismissed: how often it was let go for a fault.
        lates: in how many of the last rounds it was late, more or less: the shorter it is waited for.
        returns: when it may join again.
        strikes: how many of its messages were of no use in this round, or, while it is not admitted, ever.
        useless: bytes of these.
        allowance: what it may be sent on request.
    """

    def __init__(self, key: bytes, now: float, allowance: Allowance) -> None:
        self.key, self.allowance = key, allowance
        self.number: int | None = None
        self.process = b""
        self.heard = now
        self.in_hand: frozenset[int] = frozenset()
        self.deal_id = b""
        self.said = -1.0
        self.asked = -1e9
        self.dismissed = self.lates = 0
        self.returns = 0.0
        self.strikes = self.useless = 0


class PeerTable:
    """All keys that said something, and which of them are admitted.

    Attributes:
        members: the admitted ones, by number.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Peer] = {}
        self.members: dict[int, Peer] = {}

    def of(self, key: bytes, now: float, need: int) -> Peer:
        """The peer of a key; a new one, which needs so many bytes to join, if nothing came from it before."""
        if key not in self._known:
            self._known[key] = Peer(key, now, Allowance(need))
        return self._known[key]

    def get(self, key: bytes) -> Peer | None:
        """The peer of a key, if anything came from it."""
        return self._known.get(key)

    @property
    def present(self) -> list[Peer]:
        """The admitted ones, in the order of their numbers."""
        return [peer for _, peer in sorted(self.members.items())]

    @property
    def processes(self) -> int:
        """How many processes host the admitted ones."""
        return len({peer.process for peer in self.members.values()})

    def admit(self, peer: Peer, number: int) -> None:
        """A peer is worker `number` from now on."""
        peer.number, peer.strikes = number, 0
        self.members[number] = peer

    def remove(self, peer: Peer) -> None:
        """A peer is not admitted any more."""
        if peer.number is not None:
            self.members.pop(peer.number, None)
            peer.number = None

    def silent(self, now: float, seconds: float) -> list[Peer]:
        """Admitted ones of which nothing came for longer than so many seconds."""
        return [peer for peer in self.members.values() if now - peer.heard > seconds]


class InFlight:
    """A task that was dealt in the round in progress.

    Attributes:
        fetched: how many bytes of its examples do not go with it, as they are too long.
        sent: when it was dealt.
        given: when it was last sent.
        answer: what its holder committed to.
        answered: when.
        whole: whether the update has arrived.
        ended: when it had, or when somebody else's answer made this one useless.
        is_late: whether it was late by what the others took.
        heard: when something of the update came last.
        came: how many bytes of it have come, where it is uploaded.
        opened: whether the commitment is.
    """

    def __init__(self, assignment: Assignment, key: bytes, work: m.DealTask, now: float) -> None:
        self.assignment, self.key, self.work = assignment, key, work
        self.fetched = 0 if work.examples else work.size
        self.sent = self.given = self.heard = self.answered = self.ended = now
        self.came = 0
        self.answer: m.TaskDone | None = None
        self.whole = self.opened = self.is_late = False

    @property
    def committed(self) -> Committed:
        """Its holder's commitment, as the protocol has it."""
        assert self.answer is not None
        return Committed(self.assignment.seat, self.assignment.holder, self.answer.commitment, self.answer.signature)


class Deadline:
    """How long the round's tasks take: what is late follows from it.

    Args:
        timing: what everybody has.
    """

    def __init__(self, timing: Timing) -> None:
        self._silence_timeout, self._timing = timing.silence, timing
        self._took: list[float] = []
        self._whole: list[float] = []
        self._dealt = 0
        self._usual = 0.0

    def dealt(self, count: int) -> None:
        """So many tasks were dealt: a round begins."""
        if self._took:
            self._usual = self._half()
        self._took, self._whole, self._dealt = [], [], count

    def answered(self, seconds: float) -> None:
        """A task was answered after so many seconds."""
        self._took.append(seconds)

    def whole(self, seconds: float) -> None:
        """The update of a task was there after so many seconds."""
        insort(self._whole, seconds)

    def late_after(self, lates: int) -> float:
        """After how many seconds a task may be dealt to somebody else as well: not before half of them are done.

        Args:
            lates: in how many of the last rounds its holder was late.
        """
        if len(self._whole) * 2 < self._dealt:
            return math.inf
        usual = self._timing.late_times * self._whole[(len(self._whole) - 1) // 2]
        return max(self._timing.late * 0.5 ** min(lates, MOST_LATES), usual)

    def limit(self) -> float:
        """After how many seconds an answer is late: soon after half of them are there, long after what is usual."""
        if len(self._took) * 2 < self._dealt:
            return LAST_FACTOR * (self._silence_timeout + self._usual)
        return self._silence_timeout + LATE_FACTOR * self._half()

    def _half(self) -> float:
        return sorted(self._took)[(len(self._took) - 1) // 2]
