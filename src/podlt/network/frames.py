"""Frames of a WebSocket (RFC 6455) over a TLS stream: binary messages both ways, without compression.

Written for what is large: a message is received into memory of its own size, and sent in slices as the stream takes
them, so that what waits is one reference, however many connections it waits for. A client's frames carry a mask of
zeros: masks keep proxies that know no WebSocket from taking a stranger's bytes for HTTP, and inside TLS there are none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

GOING_AWAY, PROTOCOL_ERROR, NO_TEXT, POLICY, TOO_BIG = 1001, 1002, 1003, 1008, 1009
"""Codes of a closing frame; a reason goes with them."""

STAGING = 256 * 1024
"""Bytes that are read at once; one buffer serves all connections of a thread."""

SLICE = 256 * 1024
"""Bytes that are written at once."""

SHORT = 8 * 1024
"""Fewer bytes are copied to be written with others; more are encrypted where they lie."""

HIGH_WATER = 512 * 1024
"""Encrypted bytes that may wait in memory for one connection."""

LONGEST_CONTROL = 125
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NO_MASK = bytes(4)


class FrameError(Exception):
    """What the other end sent is no frame that may be.

    Attributes:
        code: of the closing frame.
        reason: said with it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class StreamOwner(Protocol):
    """What is told of a stream."""

    def messages_came(self, payloads: list[bytes | bytearray]) -> None:
        """Messages came, in order. May raise `FrameError`, which ends the stream."""

    def stream_ended(self, reason: str) -> None:
        """The stream is over; why, if that is known."""


def accept_key(key: bytes) -> bytes:
    """The answer to a client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def head(opcode: int, length: int, *, masked: bool) -> bytes:
    """What a frame begins with; a mask is of zeros."""
    bit, mask = (0x80, _NO_MASK) if masked else (0, b"")
    if length < 126:
        return bytes((0x80 | opcode, bit | length)) + mask
    if length < 2**16:
        return struct.pack(">BBH", 0x80 | opcode, bit | 126, length) + mask
    return struct.pack(">BBQ", 0x80 | opcode, bit | 127, length) + mask


def unmasked(data: bytes | bytearray, mask: bytes) -> bytes:
    """The payload behind a mask."""
    length = len(data)
    stream = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(length, "little")


class FrameStream(asyncio.BufferedProtocol):
    """One end of a WebSocket, after its handshake.

    Args:
        owner: is told what comes.
        staging: memory to read into, of `STAGING` bytes, shared by streams of one thread.
        client: whether this is the client's end: its frames are masked, the other's are not.
        longest: see the attribute.

    Attributes:
        longest: bytes that a message may have.
        queued: bytes that wait to be sent.
        written: bytes that were sent so far.
        received: bytes that came so far.
        timed_out: whether it ended because the other machine acknowledged nothing.
    """

    def __init__(self, owner: StreamOwner, staging: bytearray, *, client: bool, longest: int) -> None:
        self._owner, self._staging, self._client, self.longest = owner, memoryview(staging), client, longest
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._body: bytearray | None = None
        self._filled = 0
        self._opcode, self._final, self._mask = 0, True, _NO_MASK
        self._parts: list[bytes | bytearray] = []
        self._waiting: deque[tuple[memoryview, Callable[[], None] | None]] = deque()
        self._paused = self._closing = self.timed_out = False
        self._reason = ""
        self.queued = self.written = self.received = 0

    # -- receiving ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        if self._body is not None:
            return memoryview(self._body)[self._filled :]
        held = len(self._rest)
        self._staging[:held] = self._rest
        return self._staging[held:]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.received += nbytes
        if self._closing:
            return
        came: list[bytes | bytearray] = []
        try:
            if self._body is not None:
                self._filled += nbytes
                if self._filled == len(self._body):
                    body, self._body = self._body, None
                    self._complete(body, came)
            else:
                self._split(len(self._rest) + nbytes, came)
            if came:
                self._owner.messages_came(came)
        except FrameError as error:
            self.close(error.code, error.reason)

    def _split(self, total: int, came: list[bytes | bytearray]) -> None:
        """Takes the frames that are in the staging buffer; the beginning of one that is not whole is kept."""
        view, at = self._staging, 0
        while (start := self._begin(view, at, total)) is not None:
            length = start[1]
            at = start[0]
            if total - at >= length:
                self._complete(bytes(view[at : at + length]), came)
                at += length
                continue
            self._body, self._filled = bytearray(length), total - at
            self._body[: self._filled] = view[at:total]
            self._rest = b""
            return
        self._rest = bytes(view[at:total])

    def _begin(self, view: memoryview, at: int, total: int) -> tuple[int, int] | None:
        """Reads what a frame begins with; where its payload begins, and its length; None if more has to come."""
        if total - at < 2:
            return None
        first, second = view[at], view[at + 1]
        length, size = second & 0x7F, 2
        if length >= 126:
            wide = 2 if length == 126 else 8
            size += wide
            if total - at < size:
                return None
            length = int.from_bytes(view[at + 2 : at + size], "big")
        masked = second >= 0x80
        if masked:
            size += 4
        if total - at < size:
            return None
        self._mask = bytes(view[at + size - 4 : at + size]) if masked else _NO_MASK
        self._opcode, self._final = first & 0x0F, first >= 0x80
        self._check(first, length, masked)
        return at + size, length

    def _check(self, first: int, length: int, masked: bool) -> None:
        if first & 0x70 or masked == self._client:
            raise FrameError(PROTOCOL_ERROR, "malformed frame: reserved bits, or masked where it must not be")
        if self._opcode >= CLOSE:
            if length > LONGEST_CONTROL or not self._final:
                raise FrameError(PROTOCOL_ERROR, "malformed control frame")
        elif self._opcode == TEXT:
            raise FrameError(NO_TEXT, "messages are binary")
        elif self._opcode not in (BINARY, CONTINUATION) or (self._opcode == CONTINUATION) != bool(self._parts):
            raise FrameError(PROTOCOL_ERROR, "malformed frame: unexpected opcode")
        elif length + sum(map(len, self._parts)) > self.longest:
            raise FrameError(TOO_BIG, f"message too long (limit {self.longest} bytes)")

    def _complete(self, body: bytes | bytearray, came: list[bytes | bytearray]) -> None:
        if self._mask != _NO_MASK:
            body = unmasked(body, self._mask)
        if self._opcode >= CLOSE:
            self._control(bytes(body))
        elif self._final and not self._parts:
            came.append(body)
        else:
            self._parts.append(body or b"")
            if len(self._parts) > 1024:
                raise FrameError(PROTOCOL_ERROR, "message in too many shards")
            if self._final:
                came.append(b"".join(self._parts))
                self._parts = []

    def _control(self, body: bytes) -> None:
        if self._opcode == PING:
            if self.queued < SLICE:  # who does not read its pongs gets none
                self._put(head(PONG, len(body), masked=self._client) + body)
        elif self._opcode == CLOSE:
            said = body[2:].decode("utf-8", "replace")
            self._reason = self._reason or said or "closed by the other end"
            self.close(int.from_bytes(body[:2], "big") or 1000, "")

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, prefix: bytes, message: bytes, sent: Callable[[], None] | None = None) -> None:
        """Sends a message, or lets it wait.

        Args:
            prefix: goes before it.
            message: not copied before it is sent.
            sent: is called once it is on its way, or lost with the stream.
        """
        start = head(BINARY, len(prefix) + len(message), masked=self._client) + prefix
        if self._transport is None or self._closing:
            if sent is not None:
                sent()
            return
        self._put(start)
        self._put(message, sent)

    def ping(self) -> None:
        """Asks the other end for a sign of life, at once."""
        if self._transport is not None and not self._closing:
            self._put(head(PING, 0, masked=self._client))
            self.flush()

    def feed(self, data: bytes) -> None:
        """Takes bytes that came before the handshake was over."""
        while data:
            buffer = self.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            self.buffer_updated(count)

    def _put(self, data: bytes, sent: Callable[[], None] | None = None) -> None:
        self._waiting.append((memoryview(data), sent))
        self.queued += len(data)

    def flush(self) -> None:
        """Writes what waits, as much as the stream takes; call it after `send`, once for many."""
        if self._transport is None:
            return
        while self._waiting and not self._paused:
            parts: list[memoryview | bytes] = []
            short: list[memoryview] = []
            done: list[Callable[[], None]] = []
            size = 0
            while self._waiting and size < SLICE:
                data, sent = self._waiting.popleft()
                if len(data) > SLICE - size:
                    self._waiting.appendleft((data[SLICE - size :], sent))
                    data, sent = data[: SLICE - size], None
                size += len(data)
                if len(data) < SHORT:
                    short.append(data)
                else:
                    parts += (b"".join(short), data)
                    short = []
                if sent is not None:
                    done.append(sent)
            self._transport.writelines([part for part in (*parts, b"".join(short)) if part])
            self.queued -= size
            self.written += size
            for call in done:
                call()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._paused = True

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._paused = False
        self.flush()

    # -- the end -----------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Takes nothing more for now: the other end is slowed down by TCP."""
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Goes on after `pause_reading`."""
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        """Ends the stream in order: says why, and what waits is lost."""
        if self._transport is None or self._closing:
            return
        self._closing, self._reason = True, self._reason or reason
        self._drop()
        said = code.to_bytes(2, "big") + reason.encode()[:120].decode("utf-8", "ignore").encode()
        self._transport.write(head(CLOSE, len(said), masked=self._client) + said)
        self._transport.close()

    def finish(self, reason: str = "") -> None:
        """Ends the stream in order, after what waits was written."""
        if self.queued and not self._closing:
            self._put(b"", lambda: self._soon(lambda: self.close(1000, reason)))
            self.flush()
        else:
            self.close(1000, reason)

    def abort(self, reason: str) -> None:
        """Ends the stream at once."""
        self._closing, self._reason = True, self._reason or reason
        self._drop()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._closing, self._transport, self.timed_out = True, None, isinstance(exc, TimeoutError)
        self._drop()
        self._owner.stream_ended(self._reason or (str(exc) if exc else "connection lost"))

    @staticmethod
    def _soon(what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(what)

    def _drop(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        self.queued, self._body = 0, None
        for _, sent in waiting:
            if sent is not None:
                sent()
