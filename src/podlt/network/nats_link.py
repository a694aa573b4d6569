"""Links over NATS: one connection an identity, on an event loop of their own thread.

Connections are made again for ever: a server that is gone, a manager that is gone (and so cannot admit anybody), a
network that is cut are all the same to a worker, which waits. What is sent while there is no connection is lost, as
any message may be; engine and workers say again what matters.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from podlt.errors import EngineError, UsageError
from podlt.network.messages import Leave, record

PING_SECONDS = 5
"""How often a connection is tried that nothing comes from."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""How long to wait between attempts to connect, the last for all that follow."""

REFUSALS = 8
"""How many refusals in a row, without having been let in once, mean that there is nothing to wait for."""

FIRST_SECONDS = 120.0
"""How long a worker that was never let in tries to reach the server."""

CLOSE_SECONDS = 5.0

FLOOD = 100
"""How many messages beyond a worker's backlog are a flood."""

_KEY = re.compile("([0-9a-f]{64})[.]m")

Options = Mapping[str, Any]
"""What `nats.connect` is given besides the server: who connects, and how."""


def subjects(channel: str) -> tuple[str, str, str]:
    """The beginnings of a channel's subjects: from workers, to workers, to all."""
    return f"podlt.{channel}.up.", f"podlt.{channel}.down.", f"podlt.{channel}.all."


class _Loop:
    """An event loop in a thread, and what its connections have received.

    Args:
        backlog: how many bytes of one sender may wait.
    """

    def __init__(self, backlog: int) -> None:
        self.backlog = backlog
        self._inbox: deque[tuple[Any, bytes]] = deque()
        self._waiting: Counter[Any] = Counter()
        self._arrived, self._lock = threading.Event(), threading.Lock()
        self._outbox: deque[tuple[Any, str, bytes]] = deque()
        for name in ("asyncio", "nats"):  # a link that breaks is no news here: it is made again
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        self._to_send = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="podlt-nats", daemon=True)
        self._thread.start()

    def start(self, task: Coroutine[Any, Any, None]) -> None:
        """Runs something on the loop."""
        asyncio.run_coroutine_threadsafe(task, self.loop)

    def arrive(self, sender: Any, message: bytes) -> bool:
        """A message came; what is beyond its sender's backlog is lost. Returns whether it was taken."""
        with self._lock:
            if self._waiting[sender] + len(message) > self.backlog:
                return False
            self._waiting[sender] += len(message)
            self._inbox.append((sender, message))
        self._arrived.set()
        return True

    def arrived(self, sender: Any) -> None:
        """A link of a receiver was made anew: an empty message says so."""
        self.arrive(sender, b"")

    def wake(self) -> None:
        """Lets `receive` return."""
        self._arrived.set()

    def receive(self, seconds: float) -> list[tuple[Any, bytes]]:
        """What has come."""
        if not self._inbox and seconds > 0:
            self._arrived.wait(seconds)
        self._arrived.clear()
        with self._lock:
            taken = list(self._inbox)
            self._inbox.clear()
            self._waiting.clear()
        return taken

    def post(self, connection: Any, subject: str, message: bytes) -> None:
        """Sends a message on a connection; if there is none, it is lost."""
        if connection is None:
            return
        self._outbox.append((connection, subject, message))
        with suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(self._to_send.set)

    def end(self, closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Sends what is left, closes, and ends the thread."""

        async def last() -> None:
            deadline = time.monotonic() + CLOSE_SECONDS
            while self._outbox and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await closing()

        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(last(), self.loop).result(2 * CLOSE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        sender = self.loop.create_task(self._send())
        self.loop.run_forever()
        tasks = [task for task in asyncio.all_tasks(self.loop) if task is not sender]
        for task in [sender, *tasks]:
            task.cancel()
        with suppress(Exception):
            self.loop.run_until_complete(asyncio.gather(sender, *tasks, return_exceptions=True))
        self.loop.close()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._outbox:
                connection, subject, message = self._outbox.popleft()
                if connection.is_connected:
                    with suppress(Exception):  # it broke just now: the message is lost, as if it had been under way
                        await connection.publish(subject, message)


class _Connection:
    """A connection that is made again whenever it ends.

    Attributes:
        client: of nats-py, while there is one; refused: how often it was not let in since it last was; why: what the
            last attempt came to; let_in: whether it ever was.
    """

    def __init__(self, servers: Sequence[str], options: Options) -> None:
        self._servers, self._options = list(servers), dict(options)
        self.client: Any = None
        self.refused = 0
        self.why = ""
        self.let_in = False
        self._ended = asyncio.Event()
        self._closing = False

    @property
    def connected(self) -> bool:
        return self.client is not None and bool(self.client.is_connected)

    async def keep(self, begun: Callable[[Any], Coroutine[Any, Any, None]], again: Callable[[], None]) -> None:
        """Connects, and connects again, until `close`.

        Args:
            begun: subscribes; again: is called when a connection is there anew.
        """
        nats = _nats()
        failures = 0
        while not self._closing:
            self._ended.clear()

            async def closed() -> None:
                self._ended.set()

            async def back() -> None:
                again()

            async def failed(error: Exception) -> None:
                self.why = str(error) or type(error).__name__

            try:
                self.client = await nats.connect(
                    servers=self._servers,
                    closed_cb=closed,
                    reconnected_cb=back,
                    error_cb=failed,
                    connect_timeout=5,
                    reconnect_time_wait=0.5,
                    max_reconnect_attempts=20,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=2,
                    **self._options,
                )
                await begun(self.client)
                failures, self.refused, self.let_in = 0, 0, True
                again()
                await self._ended.wait()
            except Exception as error:
                self.why = str(error) or self.why or type(error).__name__
                self.refused += "authorization" in self.why.lower()
            self.client = None
            if not self._closing:
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    async def close(self) -> None:
        self._closing = True
        if self.client is not None:
            with suppress(Exception):
                await asyncio.wait_for(self.client.flush(), 2)
            with suppress(Exception):
                await self.client.close()
        self._ended.set()


class NatsManager:
    """The manager's link.

    Args:
        servers: URLs; channel: the run's; options: how the manager connects.
    """

    def __init__(self, servers: Sequence[str], channel: str, options: Options) -> None:
        self._up, self._down, self._all = subjects(channel)
        self._loop = _Loop(2**20)
        self._connection = _Connection(servers, options)
        self._dropped: set[bytes] = set()
        self._lost: Counter[bytes] = Counter()
        self._loop.start(self._connection.keep(self._begun, self._loop.wake))

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection.connected

    def await_connection(self, seconds: float) -> None:
        """Waits for the connection.

        Raises:
            EngineError: there is none; says why.
        """
        deadline = time.monotonic() + seconds
        while not self.connected:
            if time.monotonic() > deadline:
                self.close()
                raise EngineError(f"the NATS server cannot be reached: {self._connection.why or 'no answer'}")
            time.sleep(0.02)

    def allow(self, backlog: int) -> None:
        """See `ManagerLink`."""
        self._loop.backlog = backlog

    def send(self, key: bytes, message: bytes) -> None:
        """See `ManagerLink`."""
        self._loop.post(self._connection.client, f"{self._down}{key.hex()}.m", message)

    def publish(self, message: bytes) -> None:
        """See `ManagerLink`."""
        self._loop.post(self._connection.client, f"{self._all}m", message)

    def receive(self, seconds: float) -> Sequence[tuple[bytes, bytes]]:
        """See `ManagerLink`."""
        return self._loop.receive(seconds)

    def drop(self, key: bytes) -> None:
        """See `ManagerLink`."""
        self._dropped.add(key)

    def close(self) -> None:
        """See `ManagerLink`."""
        self._loop.end(self._connection.close)

    def gone(self, key: bytes, reason: str) -> None:
        """A worker was cut off: as if it had left. For the door, on its thread."""
        self._loop.arrive(key, record(Leave(reason=reason[:200])))

    def flooded(self, key: bytes) -> None:
        """A worker sent far more than can be read; what is beyond its backlog is lost anyway."""

    async def _begun(self, client: Any) -> None:
        start = len(self._up)

        async def came(message: Any) -> None:
            found = _KEY.match(message.subject, start)
            if found is None:
                return
            key = bytes.fromhex(found[1])
            if key in self._dropped or self._loop.arrive(key, message.data):
                return
            self._lost[key] += 1
            if self._lost[key] % FLOOD == 0:
                self.flooded(key)

        await client.subscribe(f"{self._up}*.m", cb=came, pending_bytes_limit=2**30, pending_msgs_limit=2**20)
        await client.flush()


class NatsWorker:
    """A worker process's link.

    Args:
        servers: URLs; channel: the run's; options: how each identity connects, by its public key.
        backlog: how many bytes may wait to be received.
    """

    def __init__(
        self, servers: Sequence[str], channel: str, options: Mapping[bytes, Options], backlog: int = 2**31
    ) -> None:
        self._up, self._down, self._all = subjects(channel)
        self._servers = " or ".join(servers)
        self._loop = _Loop(backlog)
        self._connections = {key: _Connection(servers, own) for key, own in options.items()}
        self._listener: bytes | None = None
        self._let_in = False
        self._since = time.monotonic()
        for key, connection in self._connections.items():
            self._loop.start(connection.keep(self._begun(key), lambda key=key: self._loop.arrived(key)))  # type: ignore[misc]

    @property
    def connected(self) -> bool:
        """Whether any identity is connected."""
        return any(connection.connected for connection in self._connections.values())

    def send(self, key: bytes, message: bytes) -> None:
        """See `WorkerLink`."""
        connection = self._connections.get(key)
        if connection is not None:
            self._loop.post(connection.client, f"{self._up}{key.hex()}.m", message)

    def receive(self, seconds: float) -> Sequence[tuple[bytes | None, bytes]]:
        """See `WorkerLink`."""
        connections = list(self._connections.values())
        if not self._let_in and connections:
            self._let_in = any(c.let_in for c in connections)
            why = connections[0].why or "no answer"
            waited = time.monotonic() - self._since
            if waited > FIRST_SECONDS / 2 and all(c.refused >= REFUSALS for c in connections):
                raise EngineError(f"the manager does not let this worker in: {why}")
            if not self._let_in and waited > FIRST_SECONDS:
                raise EngineError(f"the manager cannot be reached at {self._servers}: {why}; does the run still go on?")
        return self._loop.receive(seconds)

    def drop(self, key: bytes) -> None:
        """See `WorkerLink`."""
        connection = self._connections.pop(key, None)
        if connection is not None:
            self._loop.start(connection.close())
            if self._listener == key:
                self._loop.start(self._listen_again())

    def close(self) -> None:
        """See `WorkerLink`."""
        self._loop.end(lambda: _closing(self._connections.values()))

    def _begun(self, key: bytes) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def begun(client: Any) -> None:
            async def came(message: Any) -> None:
                self._loop.arrive(key, message.data)

            await client.subscribe(f"{self._down}{key.hex()}.m", cb=came, pending_bytes_limit=2**31)
            if self._listener in (None, key) or not self._listening():
                await self._listen(key, client)
            await client.flush()

        return begun

    def _listening(self) -> bool:
        connection = self._connections.get(self._listener) if self._listener is not None else None
        return connection is not None and connection.client is not None

    async def _listen(self, key: bytes, client: Any) -> None:
        """Takes what is for all: once a process."""

        async def came(message: Any) -> None:
            if self._listener == key:
                self._loop.arrive(None, message.data)

        self._listener = key
        await client.subscribe(f"{self._all}m", cb=came, pending_bytes_limit=2**31)

    async def _listen_again(self) -> None:
        self._listener = None
        for key, connection in list(self._connections.items()):
            if connection.connected:
                await self._listen(key, connection.client)
                return


async def _closing(connections: Iterable[_Connection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)


def _nats() -> Any:
    try:
        import nats
    except ImportError:
        raise UsageError("workers on other machines need more packages: pip install podlt[network]") from None
    return nats
