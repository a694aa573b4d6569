"""A worker's process in a simulated network: the real session, over an executor that computes digests."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from podlt.crypto import SigningKey, blob_digest, digest
from podlt.engine.isolated.interface import ExecuteTask, ProgramLoaded, StopExecution, TaskExecuted, TaskNotExecuted
from podlt.engine.isolated.records import HoldParameters, LoadProgram, ReleaseParameters
from podlt.protocol.messages import Task
from podlt.protocol.receipt import CommitmentReceipt
from podlt.sim.faults import NetworkFaults
from podlt.sim.packets import Connection, PacketSimulator
from podlt.wire import messages as m
from podlt.wire.messages import HEARTBEAT_SECONDS
from podlt.worker.books import Earned, NoStore, WorkerBooks
from podlt.worker.effects import Effect, SendMessage
from podlt.worker.identity import WorkerExit
from podlt.worker.session import WorkerSession

EXAMPLE_BYTES, UPDATE_BYTES, STATE_BYTES = 8, 96, 64
ARITHMETIC = "simulated"

LOAD_SECONDS = 0.5
TICKS = 4
"""How often a session is told the time, a heartbeat."""

SLOWER = 20.0


def update_of(task: Task) -> np.ndarray:
    """The one right update of a task: bytes that follow from its digest."""
    parts = [digest("sim-update/1", task.digest(), bytes([part])) for part in range(UPDATE_BYTES // 32)]
    return np.frombuffer(b"".join(parts), np.uint8)


class ReceiptStore(NoStore):
    """Keeps the receipts for commitments of all workers, and nothing else."""

    def __init__(self) -> None:
        self.receipts: list[CommitmentReceipt] = []

    def keep_bound(self, run: bytes, bound: Sequence[CommitmentReceipt]) -> None:
        """See `BookStore`."""
        self.receipts += bound


class Machine(NamedTuple):
    """How fast a machine is.

    Attributes:
        seconds: for so many examples, more or less.
        examples: how many; 0 for any number.
        withheld: how long after a task it answers at the earliest, in seconds.
    """

    seconds: float
    examples: int = 0
    withheld: float = 0.0


class SimulatedExecutor:
    """Executes tasks one after another, in simulated time.

    Args:
        packets: has the time.
        faults: how long a task takes, and how often one fails.
        dice: chance.
        machine: how long this machine takes.
        answer: the update that it gives to a task.
    """

    def __init__(
        self,
        packets: PacketSimulator,
        faults: NetworkFaults,
        dice: random.Random,
        machine: Machine,
        answer: Callable[[Task], np.ndarray] = update_of,
    ) -> None:
        self._answer = answer
        self._schedule, self._faults, self._dice = packets.schedule, faults, dice
        self._machine = machine
        self._waiting: deque[ExecuteTask] = deque()
        self._running: ExecuteTask | None = None
        self._held = b""
        self._deliver: Callable[[Any], object] = lambda result: None
        self._closed = False

    def start(self, deliver: Callable[[Any], object]) -> None:
        """Results are given to `deliver`."""
        self._deliver = deliver

    def load(self, program: LoadProgram) -> None:
        """Any program will do: it is not executed."""
        state = np.zeros(STATE_BYTES, np.uint8)
        loaded = ProgramLoaded(state, UPDATE_BYTES, EXAMPLE_BYTES, "simulated", ARITHMETIC, "")
        self._after(LOAD_SECONDS, lambda: self._deliver(loaded))

    def hold(self, parameters: HoldParameters) -> None:
        """Tasks start from these."""
        self._held = parameters.digest

    def release(self, parameters: ReleaseParameters) -> None:
        """There are none at present."""
        self._held = b""

    def execute(self, task: ExecuteTask) -> None:
        """Begins with a task, or queues it."""
        self._waiting.append(task)
        self._next()

    def stop(self, execution: StopExecution) -> None:
        """Ends what is executed."""
        if (running := self._running) is not None:
            self._running = None
            self._deliver(TaskNotExecuted(running.number, execution.reason))
            self._next()

    def close(self) -> None:
        """Nothing comes of anything any more."""
        self._closed = True

    def _next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        task = self._running = self._waiting.popleft()
        self._seconds = self._machine.seconds * (task.size / self._machine.examples if self._machine.examples else 1)
        jitter = 1.0 if self._machine.examples else 0.5 + self._dice.random()
        self._after(self._seconds * jitter, lambda: self._done(task))

    def _done(self, task: ExecuteTask) -> None:
        if self._running is not task:
            return
        self._running = None
        fails = self._schedule.now < self._faults.until and self._dice.random() < self._faults.failure
        if fails or task.task.parameters != self._held:
            self._deliver(TaskNotExecuted(task.number, "simulated failure"))
        else:
            update = self._answer(task.task)
            self._deliver(
                TaskExecuted(task.number, 0, update, update.data, blob_digest(update.data), 0.0, self._seconds)
            )
        self._next()

    def _after(self, seconds: float, what: Callable[[], object]) -> None:
        self._schedule.after(seconds, lambda: None if self._closed else what())


Bend = Callable[[SendMessage], Iterable[SendMessage]]
"""What a process makes of a message that it is about to send: itself, if it is honest."""


class SimulatedHost:
    """A process of several identities, which may die and come back.

    Args:
        keys: of its identities.
        manager: the manager's public key.
        packets: carries its messages.
        faults: what goes wrong.
        dice: chance.
        books: makes its books, anew each time that it starts.
        machine: how fast it is; drawn unless given.
        bend: what it does to its messages.
        answer: the update that it gives to a task.
        heard: is given each message that comes, if it is given.

    Attributes:
        connection: to the manager, once it was started.
        session: its side of the run, while it lives.
        outcome: how it ended, once it did.
        earned: what its identities earned, by their receipts, where it was there when the run was complete.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        manager: bytes,
        packets: PacketSimulator,
        faults: NetworkFaults,
        dice: random.Random,
        books: Callable[[], WorkerBooks],
        bend: Bend = lambda send: [send],
        machine: Machine | None = None,
        answer: Callable[[Task], np.ndarray] = update_of,
        heard: Callable[[m.Down], object] | None = None,
    ) -> None:
        self._answer, self._heard = answer, heard
        self._keys, self._manager, self._packets, self._faults, self._dice = keys, manager, packets, faults, dice
        self._books, self._bend, self._lives = books, bend, 0
        slower = dice.random() < faults.slow
        self._machine = machine if machine is not None else Machine(faults.compute * (SLOWER if slower else 1.0))
        self._dealt = 0.0
        self.connection: Connection | None = None
        self.session: WorkerSession | None = None
        self.outcome: WorkerExit | None = None
        self.earned: dict[bytes, Earned] = {}

    @property
    def keys(self) -> list[bytes]:
        """The public keys of its identities."""
        return [key.public for key in self._keys]

    def start(self) -> None:
        """Starts, without memory of an earlier life."""
        self._lives += 1
        self._executor = SimulatedExecutor(self._packets, self._faults, self._dice, self._machine, self._answer)
        self._executor.start(self._executed)
        self.session = WorkerSession(
            self._keys,
            self._manager,
            self._books(),
            process=self._dice.randbytes(8),
            wall=lambda: int(self._packets.schedule.now * 1000),
        )
        if self.connection is None:
            self.connection = self._packets.add(self)
        self._tick(self._lives)

    def crash(self, seconds: float) -> None:
        """Dies, and starts again after so long."""
        assert self.connection is not None
        self.session = None
        self._executor.close()
        self._packets.cut(self.connection, seconds)
        self._packets.schedule.after(seconds * 0.99, self.start)

    def leave(self) -> None:
        """Says goodbye, and ends until it is started again."""
        if self.session is not None:
            self.session.close()
            self._perform(self.session)
            self._executor.close()
            self.session = None

    def receive(self, key: bytes | None, message: bytes) -> None:
        """A message came."""
        if self._heard is not None and message and self.session is not None:
            self._heard(m.from_manager(message))
        if self.session is not None:  # it may have died of it
            if message and self._machine.withheld and isinstance(m.from_manager(message), m.DealTask):
                self._dealt = self._packets.schedule.now
            self.session.receive(key, message, self._packets.schedule.now)
            self._perform(self.session)

    def _tick(self, life: int) -> None:
        if self.session is None or life != self._lives:
            return
        assert self.connection is not None
        self.session.tick(self._packets.schedule.now, not self.connection.cut)
        self._perform(self.session)
        if self.session.outcome is not None:
            self.outcome = self.session.outcome
            if self.outcome.how == "complete":
                books = self.session.books
                self.earned = {key: books.status.workers[key.hex()] for key in self.keys}
            self.session.close()
            self._perform(self.session)
            self.session = None
            return
        self._packets.schedule.after(HEARTBEAT_SECONDS / TICKS, lambda: self._tick(life))

    def _executed(self, result: Any) -> None:
        if self.session is None:
            return
        now = self._packets.schedule.now
        if isinstance(result, ProgramLoaded):
            self.session.loaded(result, now)
        else:
            self.session.executed(result, now)
        self._perform(self.session)

    def _perform(self, session: WorkerSession) -> None:
        table: dict[type[Effect], Callable[[Any], None]] = {
            SendMessage: self._send,
            LoadProgram: self._executor.load,
            HoldParameters: self._executor.hold,
            ReleaseParameters: self._executor.release,
            ExecuteTask: self._executor.execute,
            StopExecution: self._executor.stop,
        }
        for effect in session.effects():
            if (perform := table.get(type(effect))) is not None:  # the others are about files and disks
                perform(effect)

    def _send(self, send: SendMessage) -> None:
        answers = self._machine.withheld and isinstance(m.from_worker(send.message), m.TaskDone)
        wait = self._dealt + self._machine.withheld - self._packets.schedule.now if answers else 0.0
        for one in self._bend(send):
            if wait > 0:
                self._packets.schedule.after(wait, lambda one=one: self._give(one))  # type: ignore[misc]
            else:
                self._give(one)

    def _give(self, send: SendMessage) -> None:
        assert self.connection is not None
        self._packets.from_worker(self.connection, send.key, send.message)
