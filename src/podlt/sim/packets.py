"""Simulated time, and messages that take some of it, or are lost, or come twice."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from podlt.sim.faults import NetworkFaults
from podlt.wire import messages as m

NOTICED_SECONDS, GRACE_SECONDS = 3.0, 2.0
"""After how long a connection that carries nothing has ended, and for how long it may be made again unnoticed."""


class EventQueue:
    """What happens when, in simulated seconds.

    Attributes:
        now: seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Has something done in so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def run(self, until: float, enough: Callable[[], bool]) -> None:
        """Lets time go on to `until`, or until it is enough."""
        while not enough() and self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        if not enough():
            self.now = max(self.now, until)


class Process(Protocol):
    """A worker's process at the end of a simulated link."""

    @property
    def keys(self) -> Iterable[bytes]:
        """The public keys of its identities."""

    def receive(self, key: bytes | None, message: bytes) -> None:
        """A message came; an empty one says that the link was made anew."""


class Connection:
    """The link between one process and the manager.

    Attributes:
        cut: whether nothing gets through.
        cuts: how often it was cut.
    """

    def __init__(self, process: Process) -> None:
        self.process, self.cut, self.cuts = process, False, 0
        self.gone = False
        self.arrivals = {True: 0.0, False: 0.0}  # of what was sent last, up and down


class PacketSimulator:
    """Carries messages between a manager and processes, and is the manager's link (`network.link.ManagerLink`).

    Args:
        schedule: of all that happens.
        faults: what goes wrong.
        dice: chance.

    Attributes:
        carried: how many messages were sent.
        killed: whether the manager is to die as soon as it looks for messages.
        watch: called each time that it looks.
    """

    connected = True
    room = 2**30

    def __init__(self, schedule: EventQueue, faults: NetworkFaults, dice: random.Random) -> None:
        self.schedule, self._faults, self._dice = schedule, faults, dice
        self._connections: list[Connection] = []
        self._by_key: dict[bytes, Connection] = {}
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._dropped: set[bytes] = set()
        self._subscribed: set[bytes] = set()
        self._generation = 0
        self.carried = 0
        self.killed = False
        self.watch: Callable[[], object] = lambda: None

    def add(self, process: Process) -> Connection:
        """A process connects."""
        connection = Connection(process)
        self._connections.append(connection)
        self._by_key.update(dict.fromkeys(process.keys, connection))
        self._announce(connection)
        return connection

    # -- the manager's link ------------------------------------------------------------------------------------------

    def room_for(self, key: bytes) -> int:
        """See `ManagerLink`."""
        return self.room

    def send(self, key: bytes, message: bytes) -> None:
        """See `ManagerLink`."""
        if (connection := self._by_key.get(key)) is not None:
            self._carry(connection, lambda: connection.process.receive(key, message), up=False)

    def publish(self, message: bytes) -> None:
        """See `ManagerLink`."""
        for connection in self._connections:
            if self._subscribed & set(connection.process.keys):
                self._carry(connection, lambda to=connection: to.process.receive(None, message), up=False)  # type: ignore[misc]

    def announce(self, message: bytes) -> None:
        """See `ManagerLink`."""
        for connection in self._connections:
            self._carry(connection, lambda to=connection: to.process.receive(None, message), up=False)  # type: ignore[misc]

    def receive(self, seconds: float) -> Sequence[tuple[bytes, bytes]]:
        """See `ManagerLink`: lets time go on.

        Raises:
            ManagerKilledError: it is to die.
        """
        self.schedule.run(self.schedule.now + seconds, lambda: bool(self._inbox) or self.killed)
        self.watch()
        if self.killed:
            raise ManagerKilledError
        taken = list(self._inbox)
        self._inbox.clear()
        return taken

    def subscribe(self, key: bytes, is_member: bool) -> None:
        """See `ManagerLink`."""
        (self._subscribed.add if is_member else self._subscribed.discard)(key)

    def allow(self, backlog: int, absence: float) -> None:
        """See `ManagerLink`."""

    def drop(self, key: bytes) -> None:
        """See `ManagerLink`."""
        self._dropped.add(key)

    def close(self) -> None:
        """See `ManagerLink`."""

    # -- a worker's link ---------------------------------------------------------------------------------------------

    def from_worker(self, connection: Connection, key: bytes, message: bytes) -> None:
        """A process sends a message to the manager."""
        self._carry(connection, lambda: self._arrive(key, message), up=True)

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    def cut(self, connection: Connection, seconds: float) -> None:
        """Cuts a connection for so long; who is cut off for long is reported as gone, and told when it is back."""
        connection.cut = True
        connection.cuts += 1
        number = connection.cuts

        def ended() -> None:
            if connection.cut and connection.cuts == number:
                connection.gone = True
                for key in connection.process.keys:
                    self._arrive(key, m.record(m.Leave(reason="connection lost")))

        def back() -> None:
            if connection.cuts == number:
                connection.cut, gone, connection.gone = False, connection.gone, False
                if gone or seconds > NOTICED_SECONDS:
                    self._announce(connection)

        self.schedule.after(NOTICED_SECONDS + GRACE_SECONDS, ended)
        self.schedule.after(seconds, back)

    def reset(self, connection: Connection) -> None:
        """A connection breaks and is made again at once: the manager hears that its workers left, and they of it."""
        for key in connection.process.keys:
            self._arrive(key, m.record(m.Leave(reason="connection lost")))
        self._announce(connection)

    def cut_all(self, seconds: float) -> None:
        """The manager is not there for so long."""
        for connection in self._connections:
            self.cut(connection, seconds)

    def restart(self) -> None:
        """The manager is there again: what was on its way is lost, and everybody connects anew."""
        self._generation += 1
        self._inbox.clear()
        self._dropped.clear()
        self._subscribed.clear()
        self.killed = False
        for connection in self._connections:
            self._announce(connection)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _announce(self, connection: Connection) -> None:
        def announce() -> None:
            if not connection.cut:
                for key in connection.process.keys:
                    connection.process.receive(key, b"")

        self.schedule.after(0.01 + self._dice.random() * 0.1, announce)

    def _arrive(self, key: bytes, message: bytes) -> None:
        if key not in self._dropped:
            self._inbox.append((key, message))

    def _carry(self, connection: Connection, deliver: Callable[[], object], *, up: bool) -> None:
        self.carried += 1
        faults, dice, generation = self._faults, self._dice, self._generation
        bad = self.schedule.now < faults.until
        copies = 1
        if bad:
            copies = 0 if dice.random() < faults.loss else 1 + (dice.random() < faults.duplication)

        def arrive() -> None:
            if not connection.cut and generation == self._generation:
                deliver()

        for _ in range(copies):
            at = self.schedule.now + dice.random() * faults.delay
            if bad and dice.random() < faults.reordering:
                at = self.schedule.now + 5 * dice.random() * faults.delay
            else:
                at = connection.arrivals[up] = max(at, connection.arrivals[up])
            self.schedule.after(at - self.schedule.now, arrive)


class ManagerKilledError(Exception):
    """The simulated manager dies here; whoever simulates it resumes the run."""
