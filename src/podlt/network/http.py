"""HTTP/1.1 on connections that a `Listener` has accepted: requests one after another, each to the handler of its path.

What a body needs of memory is the handler's: it is received into memory that the handler brings, and sent from there.
A connection is a stranger's, with a stranger's few seconds, until a handler says that it is not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

IDLE_SECONDS = 30.0
"""How long a connection may bring no request, no part of a body, and take no part of one."""

STEP = 256 * 1024
"""Bytes that are handed to TLS at once."""

HEAD = 16 * 1024
"""The longest head of a request; and as many bytes of a body may come before anybody wants them."""

LINGER_SECONDS = 1.0
"""How long the rest of a body that was refused is read."""

MOST_OF_A_KEY = 8
"""Connections of one key at a time."""

Headers = Mapping[str, str]


class Caller(Protocol):
    """The listener's side of a connection.

    Attributes:
        address: where it comes from.
    """

    address: str

    def known(self) -> None:
        """Its other end has shown who it is."""


class HttpError(Exception):
    """A request that is answered by an error.

    Args:
        status: of the answer.
        text: its body.
        headers: more of them.
        close: whether the connection ends with it, so that to try again costs a handshake.
    """

    def __init__(self, status: int, text: str = "", headers: Headers | None = None, *, close: bool = True) -> None:
        super().__init__(text)
        self.status, self.text, self.headers, self.close = status, text, dict(headers or {}), close


Page = Callable[[], tuple[int, str, bytes]]
"""Gives status, content type and body of a page."""

Handler = Callable[["HttpConnection"], Awaitable[None]]
"""Answers a request, by the connection that it came on."""


class RouteTable:
    """Which path is answered by whom.

    Attributes:
        received: bytes that came so far.
        sent: bytes that went.
    """

    def __init__(self) -> None:
        self._routes: dict[str, Handler] = {}
        self.of_key = Counter[bytes]()
        self.received = self.sent = 0

    def add(self, path: str, handler: Handler) -> None:
        """Has requests for a path answered; for all paths that begin so, if it ends in "/"."""
        self._routes[path] = handler

    def connection(self, caller: Caller) -> HttpConnection:
        """The protocol of a connection, which may have brought its first bytes already (`data_received`)."""
        return HttpConnection(self, caller)

    def find(self, path: str) -> Handler | None:
        """Who answers a path."""
        found = self._routes.get(path)
        return found or self._routes.get(path[: path.find("/", 1) + 1])


class HttpConnection(asyncio.BufferedProtocol):
    """One connection, and the request that is being answered.

    Args:
        routes: of the server.
        caller: of the listener.

    Attributes:
        method: of the request: "GET", "HEAD", "PUT", ...
        path: without its query.
        headers: by names in lower case.
        address: of who asks.
    """

    def __init__(self, routes: RouteTable, caller: Caller) -> None:
        self._routes, self._of_key, self._caller = routes, routes.of_key, caller
        self.address = caller.address
        self.method = self.path = ""
        self.headers: Headers = {}
        self._key = b""
        self._spare, self._held = bytearray(HEAD), 0
        self._target: memoryview | None = None
        self._came: asyncio.Future[int] | None = None
        self._room: asyncio.Future[None] | None = None
        self._body = 0
        self._continue = self._answered = False

    # -- the transport's ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._loop = transport, asyncio.get_running_loop()
        transport.set_write_buffer_limits(2 * STEP)
        self._progress = self._loop.time()
        self._timer = self._loop.call_later(IDLE_SECONDS / 2, self._look)
        self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Takes bytes that came before the connection was handed on: at most a head, and what TLS gave with it."""
        if len(data) >= len(self._spare):
            self._spare = bytearray(len(data) + HEAD)
        self._spare[: len(data)] = data
        self._held = len(data)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self._target if self._target is not None else memoryview(self._spare)[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._routes.received += nbytes
        if self._target is None:
            self._held += nbytes
        else:
            self._target = None
        if self._target is None and self._held == len(self._spare):
            self._transport.pause_reading()
        if self._came is not None and not self._came.done():
            self._came.set_result(nbytes)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._timer.cancel()
        self._task.cancel()
        if self._key:
            self._of_key[self._key] -= 1
            if not self._of_key[self._key]:
                del self._of_key[self._key]

    # -- one request after another -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ends a connection on which nothing happens."""
        idle = self._loop.time() - self._progress
        if idle >= IDLE_SECONDS:
            self.abort()
        else:
            self._timer = self._loop.call_later(IDLE_SECONDS - idle, self._look)

    async def _serve(self) -> None:
        try:
            while await self._one():
                pass
            self._transport.close()
        except ConnectionError:
            pass
        finally:
            if not self._transport.is_closing():
                self.abort()

    async def _one(self) -> bool:
        """One request; returns whether there may be another."""
        self._answered, self._progress = False, self._loop.time()
        try:
            await self._head()
            handler = self._routes.find(self.path)
            if handler is None:
                raise HttpError(404, "not found")
            await handler(self)
        except HttpError as error:
            if self._answered:  # too late for another status: the end is missing, and that is seen
                raise ConnectionAbortedError from None
            close = error.close or self._body > 0
            headers = {"Connection": "close"} | error.headers if close else error.headers
            await self.respond(error.status, error.text.encode(), headers)
            if self._body and not self._continue:
                await self._linger()
            return not close
        return not self._body and self.headers.get("connection", "").lower() != "close"

    async def _linger(self) -> None:
        """Throws the rest of a body away for a moment: a connection that is closed before would lose the answer."""
        scratch = memoryview(bytearray(STEP))
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self._body:
                    await self.receive(scratch)

    async def _head(self) -> None:
        """Reads the head of a request.

        Raises:
            HttpError: malformed.
            ConnectionError: none comes.
        """
        while (end := self._spare.find(b"\r\n\r\n", 0, self._held)) < 0:
            if self._held >= HEAD:
                raise HttpError(431)
            await self._more()
        lines = self._spare[:end].decode("latin-1").split("\r\n")
        self._keep(end + 4)
        self.method, self.path, self.headers, self._body = "", "", {}, 0
        try:
            self.method, target, version = lines[0].split(" ")
            fields = [line.split(":", 1) for line in lines[1:]]
            self.headers = {name.lower(): value.strip() for name, value in fields}
        except ValueError:
            raise HttpError(400, "malformed request") from None
        self.path = target.partition("?")[0]
        length = self.headers.get("content-length", "0")
        if version != "HTTP/1.1" or len(self.headers) != len(fields) or "transfer-encoding" in self.headers:
            raise HttpError(400, "expected HTTP/1.1, each header once, and a body by Content-Length")
        if not length.isascii() or not length.isdecimal() or len(length) > 15:
            raise HttpError(400, "malformed Content-Length")
        self._body = int(length)
        self._continue = self.headers.get("expect", "").lower() == "100-continue"

    def _keep(self, start: int) -> None:
        """Forgets what was read of the spare bytes."""
        rest = self._spare[start : self._held]
        self._spare[: len(rest)] = rest
        self._held = len(rest)
        if start:
            self._transport.resume_reading()

    async def _more(self) -> int:
        """Waits for more bytes."""
        if self._transport.is_closing():
            raise ConnectionResetError
        self._came = self._loop.create_future()
        return await self._came

    # -- for handlers ------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """How many bytes of the request's body have not been received yet."""
        return self._body

    def identify(self, key: bytes) -> None:
        """The asker has shown that it holds a key, which is no stranger's.

        Raises:
            HttpError: too many connections do.
        """
        if self._key:
            return
        if self._of_key[key] >= MOST_OF_A_KEY:
            raise HttpError(429, "too many connections at once", {"Retry-After": "1"})
        self._key = key
        self._of_key[key] += 1
        self._caller.known()

    async def receive(self, into: memoryview) -> int:
        """The next bytes of the body, as many as have come; returns how many.

        Raises:
            ConnectionError: no more come.
        """
        if self._continue:
            self._continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        into = into[: self._body]
        if self._held:
            count = min(self._held, len(into))
            into[:count] = memoryview(self._spare)[:count]
            self._keep(count)
        else:
            self._target = into
            try:
                count = await self._more()
            finally:
                self._target = None
        self._body -= count
        self._progress = self._loop.time()
        return count

    async def respond(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        """Answers."""
        await self.begin(status, len(body), headers)
        if body and self.method != "HEAD":
            await self.send(memoryview(body))

    async def begin(self, status: int, length: int, headers: Headers | None = None) -> None:
        """Answers with a body of so many bytes, which `send` is given."""
        self._answered = True
        fields = {"Content-Length": str(length)} | dict(headers or {})
        if status == HTTPStatus.NOT_MODIFIED:
            del fields["Content-Length"]
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(memoryview(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{text}\r\n".encode("latin-1")))

    async def send(self, data: memoryview) -> None:
        """Sends a part of the body, and waits until there is room for more.

        Raises:
            ConnectionError: it is not taken any more.
        """
        for start in range(0, len(data), STEP):
            if self._transport.is_closing():
                raise ConnectionResetError
            part = data[start : start + STEP]
            self._transport.write(part)
            self._routes.sent += len(part)
            if self._room is not None:
                await self._room
            self._progress = self._loop.time()

    def delay(self, seconds: float) -> None:
        """The next part comes later by the server's own will: so much later may the connection be idle."""
        self._progress += seconds

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()
