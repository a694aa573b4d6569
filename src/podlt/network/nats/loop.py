"""Connections to NATS that are made again for ever, on an event loop in a thread of its own.

A server that is gone, a manager that is gone (and so cannot admit anybody), a network that is cut are all the same to a
worker, which waits. What is sent while there is no connection is lost, as any message may be.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from podlt.extras import needed_by

PING_SECONDS = 5
"""How often a connection is tried that nothing comes from."""

CONNECT_SECONDS = 5
AGAIN = 20
"""How often nats-py tries to make a connection again that it had, before it is begun anew."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""How long to wait between attempts to connect, the last for all that follow."""

CLOSE_SECONDS = 5.0

LOOK_SECONDS, HANGS = 1.0, 3
"""How often to look at a connection, and in how many looks nats-py must have taken leave of one that broke."""

Options = Mapping[str, Any]
"""What `nats.connect` is given besides the server: who connects, and how."""


class Loop:
    """An event loop in a thread, from `start` to `end`, and what its connections have received.

    Args:
        backlog: how many bytes of one sender may wait.
        most_queued: how many bytes may wait to be sent; what is posted beyond them is lost.

    Attributes:
        queued: how many bytes wait to be sent; `receive` returns when they become as few as `wake_below`.
    """

    def __init__(self, backlog: int, most_queued: int = 2**62) -> None:
        self.backlog, self._most_queued, self.queued = backlog, most_queued, 0
        self.wake_below = -1
        self._inbox: deque[tuple[Any, bytes]] = deque()
        self._waiting: Counter[Any] = Counter()
        self._arrived, self._lock = threading.Event(), threading.Lock()
        self._outbox: deque[tuple[Any, str, bytes]] = deque()
        self._to_send = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        for name in ("asyncio", "nats"):  # a link that breaks is no news here: it is made again
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="podlt-nats", daemon=True)
        self._thread.start()

    def run(self, task: Coroutine[Any, Any, None]) -> None:
        """Runs something on the loop."""
        assert self._loop is not None, "it was not started"
        asyncio.run_coroutine_threadsafe(task, self._loop)

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
        """Sends a message on a connection; if there is none, or too much waits already, it is lost."""
        if connection is None or self._loop is None:
            return
        with self._lock:
            if self.queued + len(message) > self._most_queued:
                return
            self.queued += len(message)
        self._outbox.append((connection, subject, message))
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._to_send.set)

    def end(self, closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Sends what is left, closes, and ends the thread."""
        if self._loop is None or self._thread is None:
            return

        async def last() -> None:
            deadline = time.monotonic() + CLOSE_SECONDS
            while self._outbox and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await closing()

        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(last(), self._loop).result(2 * CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        sender = loop.create_task(self._send())
        loop.run_forever()
        tasks = [task for task in asyncio.all_tasks(loop) if task is not sender]
        for task in [sender, *tasks]:
            task.cancel()
        with suppress(Exception):
            loop.run_until_complete(asyncio.gather(sender, *tasks, return_exceptions=True))
        loop.close()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._outbox:
                connection, subject, message = self._outbox.popleft()
                if connection.is_connected:
                    with suppress(Exception):  # it broke just now: the message is lost, as if it had been under way
                        await connection.publish(subject, message)
                with self._lock:
                    self.queued -= len(message)
                if self.queued <= self.wake_below < self.queued + len(message):
                    self.wake()


class NatsConnection:
    """A connection that is made again whenever it ends, by WebSocket where there is no other way.

    Attributes:
        client: of nats-py, while there is one.
        refused: how often it was not let in since it last was.
        why: what the last attempt came to.
        let_in: whether it ever was.
    """

    def __init__(self, servers: Sequence[str], options: Options) -> None:
        # nats-py takes servers of one kind at a time.
        kinds = [[url for url in servers if url.startswith("wss:") == web] for web in (False, True)]
        self._ways, self._options = [kind for kind in kinds if kind], dict(options)
        self.client: Any = None
        self.refused = 0
        self.why = ""
        self.let_in = False
        self._ended, self._left = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return self.client is not None and bool(self.client.is_connected)

    async def keep(self, begun: Callable[[Any], Coroutine[Any, Any, None]], again: Callable[[], None]) -> None:
        """Connects, and connects again, until `close`.

        Args:
            begun: subscribes.
            again: is called when a connection is there anew.
        """
        nats = _nats()
        failures = way = 0
        while not self._closing:
            self._ended, self._left = ended, left = asyncio.Event(), asyncio.Event()

            async def closed(ended: asyncio.Event = ended) -> None:
                ended.set()

            async def parted(left: asyncio.Event = left) -> None:
                left.set()

            async def back(left: asyncio.Event = left) -> None:
                left.clear()
                again()

            async def failed(error: Exception) -> None:
                self.why = str(error) or type(error).__name__

            try:
                connecting = nats.connect(
                    servers=self._ways[way],
                    closed_cb=closed,
                    disconnected_cb=parted,
                    reconnected_cb=back,
                    error_cb=failed,
                    connect_timeout=CONNECT_SECONDS,
                    reconnect_time_wait=0.5,
                    max_reconnect_attempts=1,  # soon the other way, if there is one
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=2,
                    **self._options,
                )
                # nats-py waits for ever for a TLS that was begun and is not answered. Where there is no other way, a
                # busy server is given more time: hundreds of workers may come at once.
                connect_timeout = CONNECT_SECONDS * (2 + len(self._ways[way])) * (1 if len(self._ways) > 1 else 4)
                self.client = await asyncio.wait_for(connecting, connect_timeout)
                self.client.options["max_reconnect_attempts"] = AGAIN
                await begun(self.client)
                failures, self.refused, self.let_in, self.why = 0, 0, True, ""
                again()
                await self._until_ended(self.client)
            except Exception as error:
                if not (isinstance(error, nats.errors.NoServersError) and self.why):  # the reason is known already
                    self.why = str(error) or self.why or type(error).__name__
                if "authorization" in self.why.lower():  # the server is there: no other way leads further
                    self.refused += 1
                else:
                    way = (way + 1) % len(self._ways)
            self.client = None
            if not self._closing:
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    async def _until_ended(self, client: Any) -> None:
        """Waits until a connection has ended, or hangs.

        After a network was cut, or has changed, nats-py takes leave of the peer that is gone before it connects again:
        by TLS, for half a minute. That is done in the background of the new connection.
        """
        hangs = 0
        while not self._ended.is_set() and hangs < HANGS:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), LOOK_SECONDS)
            hangs = hangs + 1 if client.is_reconnecting and not self._left.is_set() else 0
        if not self._ended.is_set():
            leaving = asyncio.get_running_loop().create_task(client.close())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Ends it for good, after what was sent is on its way."""
        self._closing = True
        if self.client is not None:
            with suppress(Exception):
                await asyncio.wait_for(self.client.flush(), 2)
            with suppress(Exception):
                await self.client.close()
        self._ended.set()


def _nats() -> Any:
    try:
        import nats
        import nats.errors
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return nats
