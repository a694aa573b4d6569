"""A messaging system of one process: links that deliver, or lose, double and reorder messages, and crews in threads."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from direct import DirectExecutor
from patience import Patience

from podlt.crypto import SigningKey
from podlt.engine.interface import Job
from podlt.network.background import Background
from podlt.network.link import HostedLink, WebHost
from podlt.worker.books import WorkerBooks
from podlt.worker.events import WorkerEvent
from podlt.worker.folder import open_books
from podlt.worker.identity import OwnerSettings, WorkerExit
from podlt.worker.process import WorkerProcess
from podlt.worker.session import WorkerSession

BEAT = 0.2
"""Seconds between two signs of life: ten times as often as in earnest, so that tests need not wait."""


class _Box:
    """Messages that wait for one end."""

    def __init__(self, arrived: Callable[[], object] = lambda: None) -> None:
        self._messages: deque[tuple[bytes | None, bytes]] = deque()
        self._event, self._arrived = threading.Event(), arrived

    def put(self, key: bytes | None, *messages: bytes) -> None:
        """Several come together: nobody takes the first without the others."""
        self._messages.extend([(key, message) for message in messages])
        self._event.set()
        self._arrived()

    def take(self, seconds: float) -> list[tuple[bytes | None, bytes]]:
        if seconds:
            self._event.wait(seconds)
        self._event.clear()
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._messages.popleft())
        return taken


class Hub:
    """Carries messages between one manager and crews.

    Args:
        loss, twice, shuffle: chances that a message is lost, comes twice, or comes after those sent later.
    """

    def __init__(self, loss: float = 0.0, twice: float = 0.0, shuffle: float = 0.0, seed: int = 0) -> None:
        self.loss, self.twice, self.shuffle = loss, twice, shuffle
        self.beat = BEAT
        self._dice, self._lock = random.Random(seed), threading.Lock()
        self.up = _Box()
        self.crews: list[CrewLink] = []
        self.members: set[bytes] = set()
        self.sent = 0
        self.closed = False
        self.web: WebHost | None = None

    def carry(self, box: _Box, key: bytes | None, message: bytes) -> None:
        """Delivers a message, or does what the chances say."""
        with self._lock:
            self.sent += 1
            lost, again, late = (self._dice.random() < p for p in (self.loss, self.twice, self.shuffle))
        if lost:
            return
        if late:
            threading.Timer(0.05, box.put, (key, message)).start()
        else:
            box.put(key, message)
        if again:
            box.put(key, message)

    # -- the manager's end (podlt.network.link.HostedLink); `web`, if a test gives it one --

    @property
    def connected(self) -> bool:
        return True

    @property
    def room(self) -> int:
        return 2**30

    def room_for(self, key: bytes) -> int:
        return 2**30

    def send(self, key: bytes, message: bytes) -> None:
        for crew in self.crews:
            if key in crew.keys and not crew.cut:
                self.carry(crew.box, key, message)

    def publish(self, message: bytes) -> None:
        for crew in self.crews:
            if not crew.cut and self.members & set(crew.keys):
                self.carry(crew.box, None, message)

    def announce(self, message: bytes) -> None:
        for crew in self.crews:
            if not crew.cut:
                self.carry(crew.box, None, message)

    def subscribe(self, key: bytes, is_member: bool) -> None:
        (self.members.add if is_member else self.members.discard)(key)

    def receive(self, seconds: float) -> Sequence[tuple[bytes, bytes]]:
        return self.up.take(seconds)  # type: ignore[return-value]

    def allow(self, backlog: int, absence: float) -> None:
        pass

    def drop(self, key: bytes) -> None:
        for crew in self.crews:
            crew.keys.discard(key)

    def close(self) -> None:
        self.closed = True

    def connect(self, job: Job) -> HostedLink:
        """For `podlt.remote.workplace.RemoteMachines`."""
        self.manager = job.key.public
        for crew in self.crews:
            crew.begin(job.key.public)
        return self


class CrewLink:
    """A crew's end, and the thread that it runs in."""

    def __init__(
        self, hub: Hub, keys: Sequence[SigningKey], folder: Path, cheat: str = "", *, least_reward: int = 0
    ) -> None:
        self._hub, self._all, self._folder = hub, list(keys), folder
        self._settings = OwnerSettings(least_reward=least_reward, cheat=cheat)
        self.keys = {key.public for key in keys}
        self.background = Background("podlt-crew")
        self.box = _Box(lambda: self.background.post(self._came))
        self._listener: Callable[[Sequence[tuple[bytes | None, bytes]]], object] | None = None
        self.cut = False
        self.gone = ""
        self.told: list[WorkerEvent] = []
        self.outcome: WorkerExit | None = None
        self.error: BaseException | None = None
        self.books: WorkerBooks | None = None
        self.executor = DirectExecutor()
        self._thread: threading.Thread | None = None
        hub.crews.append(self)

    def begin(self, manager: bytes) -> None:
        """Starts the crew for a manager."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.books = open_books(self._folder, [key.public for key in self._all], manager)
        self.session = WorkerSession(
            self._all,
            manager,
            self.books,
            self._settings,
            process=self._all[0].public[:8],
            wall=lambda: time.time_ns() // 10**6,
            listener=self.told.append,
            leaving=lambda: self.gone,
            heartbeat=self._hub.beat,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, seconds: float = 60.0) -> WorkerExit | None:
        """Waits for its end."""
        assert self._thread is not None
        patience = Patience(seconds)
        while self._thread.is_alive() and patience.lasts():
            self._thread.join(1.0)
        if self.error is not None:
            raise self.error
        return self.outcome

    def _run(self) -> None:
        try:
            self.outcome = WorkerProcess(self.session, self, self.executor, self._all, ["127.0.0.1"]).run()
        except BaseException as error:
            self.error = error
        finally:
            self.background.end()

    # -- podlt.network.link.WorkerLink --

    @property
    def connected(self) -> bool:
        return not self.cut

    def send(self, key: bytes, message: bytes) -> None:
        if not self.cut and key in self.keys:
            self._hub.carry(self._hub.up, key, message)

    def check(self) -> None:
        pass

    def listen(self, take: Callable[[Sequence[tuple[bytes | None, bytes]]], object] | None) -> None:
        self._listener = take
        self._came()

    def _came(self) -> None:
        if self._listener is not None and (batch := self.box.take(0.0)):
            self._listener(batch)

    def pause(self, seconds: float) -> None:
        pass

    def drop(self, key: bytes) -> None:
        self.keys.discard(key)

    def close(self) -> None:
        self.cut = True


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until something is so."""
    patience = Patience(seconds)
    while not condition():
        assert patience.lasts(), "it did not come to be"
        time.sleep(0.01)
