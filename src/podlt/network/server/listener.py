"""Accepts connections: TLS for whoever says something, HTTP behind it, and sessions for workers that ask for one.

What a stranger can take is bounded: who says nothing has a file descriptor and no TLS, who begins TLS one of few places
for a few seconds, and who then sends half a request the same one. Kernel and asyncio would accept without end.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from podlt.network.frames import accept_key
from podlt.network.server.strangers import (
    HANDSHAKES_AT_ONCE,
    HANDSHAKES_PER_SECOND,
    LOGIN_SECONDS,
    ClosedReport,
    Stranger,
    StrangerPool,
    TurnQueue,
    network_of,
)
from podlt.network.sockets import notice_loss

BACKLOG = 2048
ACCEPT_AT_ONCE = 64
MOST_SILENT, MOST_GREETING = 1024, 256
"""How many strangers may have said nothing yet, and how many may be at TLS, at a request, or at logging in."""

MOST_CONNECTIONS = 16_384
SPARE_FILES = 256
"""File descriptors that are left for all else."""

LONGEST_HEAD = 16 * 1024
SHUTDOWN_SECONDS = 1.0
TICK_SECONDS = 0.5
FULL_SECONDS = 0.1
"""How long nobody is accepted after file descriptors ran out."""

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
REFUSED = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Upgrade = Callable[["Arrival"], asyncio.BaseProtocol]


class Arrival:
    """A connection with TLS, until it is handed on.

    Attributes:
        address: where it comes from.
        stranger: its place among those of whom nobody knows whose they are.
        sock: the socket, to look at.
        transport: of TLS.
    """

    def __init__(self, address: str, stranger: Stranger, sock: socket.socket) -> None:
        self.address, self.stranger, self.sock = address, stranger, sock
        self.transport: asyncio.Transport

    def known(self) -> None:
        """Its other end has shown who it is."""
        if self.stranger.pool is not None:
            self.stranger.pool.remove(self.stranger)


class Listener:
    """A listening socket.

    Args:
        context: of TLS.
        upgrade: makes the protocol of a session.
        http: makes the protocol of anything else: see `http.RouteTable.connection`.
        tell: takes a line for the operator.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        upgrade: Upgrade,
        http: Callable[[Arrival], Any],
        tell: Callable[[str], None],
    ) -> None:
        self._context, self._upgrade, self._http = context, upgrade, http
        self._report = ClosedReport(tell)
        self._turns = TurnQueue(HANDSHAKES_PER_SECOND, HANDSHAKES_AT_ONCE)
        self._greeting = StrangerPool(MOST_GREETING, self._report.count)
        self._silent = StrangerPool(MOST_SILENT, self._report.count)
        self._arrivals: dict[asyncio.BaseTransport, Arrival] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._most = MOST_CONNECTIONS
        self._timer: asyncio.TimerHandle | None = None

    def start(self, host: str, port: int) -> int:
        """Listens, on the running loop; returns the port.

        Raises:
            OSError: it cannot.
        """
        self._most = min(MOST_CONNECTIONS, _raise_file_limit() - SPARE_FILES)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._accept)
        self._tick()
        return int(self._socket.getsockname()[1])

    def stop(self) -> None:
        """Accepts nobody any more, and closes strangers."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        if self._timer is not None:
            self._timer.cancel()
        self._silent.clear()
        self._greeting.clear()
        for transport in list(self._arrivals):
            transport.abort()  # type: ignore[attr-defined]

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, where = self._socket.accept()
            except (BlockingIOError, ConnectionError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                return
            sock.setblocking(False)
            if len(self._silent) + len(self._arrivals) >= self._most:
                sock.close()
                self._report.count(network_of(str(where[0])))
                continue
            self._hear(sock, str(where[0]))

    def _pause(self) -> None:
        assert self._socket is not None
        number = self._socket.fileno()
        self._loop.remove_reader(number)
        self._loop.call_later(FULL_SECONDS, lambda: self._resume(number))

    def _resume(self, number: int) -> None:
        if self._socket is not None and self._socket.fileno() == number:
            self._loop.add_reader(number, self._accept)

    def _hear(self, sock: socket.socket, address: str) -> None:
        """Waits for the first byte: until then a connection is a socket, and nothing else."""

        def end() -> None:
            self._loop.remove_reader(sock.fileno())
            sock.close()

        stranger = Stranger(network_of(address), self._loop.time() + LOGIN_SECONDS, end)

        def said() -> None:
            self._loop.remove_reader(sock.fileno())
            wait = self._turns.wait(stranger.network, self._loop.time())
            if wait is None:
                self._silent.remove(stranger)
                self._report.count(stranger.network)
                sock.close()
            elif wait > 0:
                self._loop.call_later(wait, lambda: self._greet(sock, address, stranger))
            else:
                self._greet(sock, address, stranger)

        self._loop.add_reader(sock.fileno(), said)
        self._silent.add(stranger)

    def _greet(self, sock: socket.socket, address: str, stranger: Stranger) -> None:
        if stranger.pool is not self._silent:  # it was closed meanwhile
            return
        notice_loss(sock)
        arrival = Arrival(address, stranger, sock)
        task = self._loop.create_task(self._handshake(arrival))
        stranger.end = task.cancel  # type: ignore[assignment]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._greeting.add(stranger)

    async def _handshake(self, arrival: Arrival) -> None:
        front = _Front(self, arrival)
        try:
            await self._loop.connect_accepted_socket(
                lambda: front,
                arrival.sock,
                ssl=self._context,
                ssl_handshake_timeout=LOGIN_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, asyncio.CancelledError):  # ssl.SSLError is an OSError
            arrival.known()
            arrival.sock.close()

    # -- what a connection turns out to be ---------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        """TLS is there."""
        self._arrivals[arrival.transport] = arrival
        arrival.stranger.end = arrival.transport.abort

    def route(self, arrival: Arrival, head: bytes, rest: bytes) -> None:
        """The head of the first request is there."""
        line, _, fields = head.partition(b"\r\n")
        if not line.startswith(b"GET /session HTTP/1.1"):
            self._hand_over(arrival, self._http(arrival), head + rest)
            return
        key = _field(fields, b"sec-websocket-key")
        if not key or b"websocket" not in _field(fields, b"upgrade").lower() or rest:
            arrival.transport.write(REFUSED)
            arrival.transport.close()
            return
        arrival.transport.write(UPGRADED + accept_key(key) + b"\r\n\r\n")
        self._hand_over(arrival, self._upgrade(arrival), b"")

    def _hand_over(self, arrival: Arrival, protocol: Any, data: bytes) -> None:
        arrival.transport.set_protocol(protocol)
        protocol.connection_made(arrival.transport)
        if data:
            protocol.data_received(data)

    def left(self, arrival: Arrival) -> None:
        """A connection is gone before it was handed on."""
        arrival.known()
        self._arrivals.pop(arrival.transport, None)

    def _tick(self) -> None:
        now = self._loop.time()
        for pool in (self._silent, self._greeting):
            pool.expire(now)
        for transport, arrival in list(self._arrivals.items()):
            if transport.is_closing():
                self.left(arrival)
        self._turns.forget(now)
        self._report.report(now)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)


class _Front(asyncio.Protocol):
    """Reads the head of a connection's first request."""

    def __init__(self, listener: Listener, arrival: Arrival) -> None:
        self._listener, self._arrival, self._head = listener, arrival, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._arrival.transport = transport
        self._listener.arrived(self._arrival)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._listener.route(self._arrival, head + end, rest)
        elif len(self._head) > LONGEST_HEAD:
            self._arrival.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.left(self._arrival)


def _field(fields: bytes, name: bytes) -> bytes:
    """A header field of a request; empty if it is not there."""
    for line in fields.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _raise_file_limit() -> int:
    """Lets this process have as many files open as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft
