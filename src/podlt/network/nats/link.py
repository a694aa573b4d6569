"""Links over NATS: the manager's, and a worker process's with one connection an identity.

What is lost is lost: engine and workers say again what matters.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from podlt.errors import EngineError
from podlt.network.background import Background
from podlt.network.messages import Leave, record
from podlt.network.nats.loop import Loop, NatsConnection, Options

REFUSALS = 8
"""How many refusals in a row, without having been let in once, mean that there is nothing to wait for."""

FIRST_SECONDS = 120.0
"""How long a worker that was never let in tries to reach the server."""

FLOOD = 100
"""How many messages beyond a worker's backlog are a flood."""

ROOM, MOST_QUEUED = 16 * 2**20, 64 * 2**20
"""Bytes that may wait at the manager to be sent before what is large waits to be made; and before messages are lost."""

_KEY = re.compile("([0-9a-f]{64})[.]m")


def subjects(channel: str) -> tuple[str, str, str]:
    """The beginnings of a channel's subjects: from workers, to workers, to all."""
    return f"podlt.{channel}.up.", f"podlt.{channel}.down.", f"podlt.{channel}.all."


class NatsManager:
    """The manager's link.

    Args:
        servers: URLs.
        channel: the run's.
        options: how the manager connects.
    """

    def __init__(self, servers: Sequence[str], channel: str, options: Options) -> None:
        self._up, self._down, self._all = subjects(channel)
        self._loop = Loop(2**20, MOST_QUEUED)
        self._loop.wake_below = ROOM // 2
        self._connection = NatsConnection(servers, options)
        self._dropped: set[bytes] = set()
        self._lost: Counter[bytes] = Counter()

    def start(self) -> None:
        """Begins to connect."""
        self._loop.start()
        self._loop.run(self._connection.keep(self._begun, self._loop.wake))

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

    @property
    def room(self) -> int:
        """See `ManagerLink`."""
        return max(0, ROOM - self._loop.queued)

    def room_for(self, key: bytes) -> int:
        """See `ManagerLink`: one broker reads for all workers."""
        return self.room

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
        """A worker was cut off: as if it had left. For the gate, on its thread."""
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
        servers: URLs.
        channel: the run's.
        options: how each identity connects, by its public key.
        backlog: how many bytes may wait to be received.
    """

    def __init__(
        self, servers: Sequence[str], channel: str, options: Mapping[bytes, Options], backlog: int = 2**31
    ) -> None:
        self._up, self._down, self._all = subjects(channel)
        self._servers = " or ".join(servers)
        self._loop = Loop(backlog)
        self._connections = {key: NatsConnection(servers, own) for key, own in options.items()}
        self._listener: bytes | None = None
        self.background, self._take = Background("podlt-worker"), cast(Any, None)
        self._let_in = False
        self._since = 0.0

    def start(self) -> None:
        """Begins to connect."""
        self._since = time.monotonic()
        self._loop.start()
        for key, connection in self._connections.items():
            self._loop.run(connection.keep(self._begun(key), lambda key=key: self._loop.arrived(key)))  # type: ignore[misc]

    @property
    def connected(self) -> bool:
        """Whether any identity is connected."""
        return any(connection.connected for connection in self._connections.values())

    @property
    def why(self) -> str:
        """What the last attempt to connect came to; empty if it went well, or there was none."""
        return next((connection.why for connection in self._connections.values() if connection.why), "")

    def send(self, key: bytes, message: bytes) -> None:
        """See `WorkerLink`."""
        connection = self._connections.get(key)
        if connection is not None:
            self._loop.post(connection.client, f"{self._up}{key.hex()}.m", message)

    def check(self) -> None:
        """See `WorkerLink`."""
        connections = list(self._connections.values())
        if not self._let_in and connections:
            self._let_in = any(c.let_in for c in connections)
            why = connections[0].why or "no answer"
            waited = time.monotonic() - self._since
            if waited > FIRST_SECONDS / 2 and all(c.refused >= REFUSALS for c in connections):
                raise EngineError(f"the manager refuses this worker: {why}")
            if not self._let_in and waited > FIRST_SECONDS:
                raise EngineError(f"the manager cannot be reached at {self._servers}: {why}; is the run over?")

    def listen(self, take: Callable[[Sequence[tuple[bytes | None, bytes]]], object] | None) -> None:
        """See `WorkerLink`."""
        before, self._take = self._take, take
        if before is None and take is not None:
            self.background.start(asyncio.sleep(0))
            threading.Thread(target=self._pass_on, daemon=True).start()

    def _pass_on(self) -> None:
        while (take := self._take) is not None:
            if found := self._loop.receive(0.1):
                self.background.post(partial(take, found))

    def pause(self, seconds: float) -> None:
        """See `WorkerLink`."""

    def drop(self, key: bytes) -> None:
        """See `WorkerLink`."""
        connection = self._connections.pop(key, None)
        if connection is not None:
            self._loop.run(connection.close())
            if self._listener == key:
                self._loop.run(self._listen_again())

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


async def _closing(connections: Iterable[NatsConnection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)
