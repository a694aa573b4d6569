"""A worker process's connection to a manager's own server: the request for a session, logins, frames."""

from __future__ import annotations

import asyncio
import base64
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from podlt.access.invitation import Invitation
from podlt.access.login import Binding, binding, sign_login
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError
from podlt.network.frames import POLICY, FrameError, FrameStream, accept_key
from podlt.network.link import Received
from podlt.wire import control
from podlt.wire import messages as m

LONGEST_HEAD = 4096


class SessionOwner(Protocol):
    """Whose connection it is.

    Attributes:
        invitation: to the run.
        keys: the identities, by their public keys.
        staging: see `FrameStream`.
    """

    invitation: Invitation
    keys: dict[bytes, SigningKey]
    staging: bytearray

    def came(self, messages: Sequence[Received]) -> None:
        """Messages came."""

    def went(self, nbytes: int) -> None:
        """So many bytes do not wait any more: they are on their way, or lost."""


class Unreachable(Exception):
    """There is no session: the manager is not there, or what is there is none."""


class Upgrade(asyncio.Protocol):
    """Asks for a session, and gives the connection to its frames.

    Args:
        host: as a header has it.
        begun: makes what takes the frames.
    """

    def __init__(self, host: str, begun: Callable[[asyncio.Transport], FrameStream]) -> None:
        self._host, self._begun = host, begun
        self._key, self._head = base64.b64encode(os.urandom(16)), b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        lines = (
            f"GET {control.PATH} HTTP/1.1",
            f"Host: {self._host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self._key.decode()}",
        )
        transport.write("\r\n".join((*lines, "", "")).encode())

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > LONGEST_HEAD:
                self._fail("it answers with something else than HTTP")
            return
        if not head.startswith(b"HTTP/1.1 101 ") or accept_key(self._key) not in head:
            self._fail(f"it has no session: {head[:60].split(bytes((13, 10)))[0].decode('ascii', 'replace')}")
            return
        stream = self._begun(self._transport)
        self._transport.set_protocol(stream)
        stream.connection_made(self._transport)
        self.done.set_result(None)
        stream.feed(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._fail(str(exc) if exc else "it closed the connection")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Unreachable(reason))
        self._transport.abort()


class ClientSession:
    """One connection, from the server's challenge on.

    Args:
        link: what it is for.
        transport: of TLS.

    Attributes:
        indices: the number of each identity that was let in.
        refused: why others were not, and after how many seconds they may ask again.
        ended: why it ended, once it did.
    """

    def __init__(self, link: SessionOwner, transport: asyncio.Transport) -> None:
        self._link, self.sock = link, transport.get_extra_info("socket")
        self.stream = FrameStream(self, link.staging, client=True, longest=control.LONGEST_FRAME)
        self.indices: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self.refused: dict[bytes, control.LoginRefused] = {}
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answered = asyncio.Event()
        self._binding: Binding | None = None
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._sent, self._limit = 0, 0

    def log_in(self, key: SigningKey) -> None:
        """Asks to let an identity in."""
        if self._binding is not None:
            login = sign_login(key, self._link.invitation.secret, self._link.invitation.deposit, self._binding)
            self._tell(login)

    def log_out(self, public: bytes) -> None:
        """An identity has nothing to do any more."""
        number = self.indices.pop(public, None)
        if number is not None:
            del self._keys[number]
            self._tell(control.Logout(index=number))

    def put(self, key: bytes, message: bytes) -> None:
        """Sends a message of an identity, as soon as there is credit; it is lost where it was not let in."""
        if key in self.indices:
            self._waiting.append((key, message))
        else:
            self._link.went(len(message))

    def pump(self) -> None:
        """Sends what there is credit for."""
        while self._waiting:
            key, message = self._waiting[0]
            size = control.INDEX.size + len(message)
            number = self.indices.get(key)
            if number is not None and self._sent + size > self._limit:
                break
            self._waiting.popleft()
            if number is None:
                self._link.went(len(message))
                continue
            self._sent += size
            self.stream.send(control.INDEX.pack(number), message, partial(self._link.went, len(message)))
        self.stream.flush()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting and not self.stream.queued

    def _tell(self, record: control.Control) -> None:
        payload = control.frame(record)
        self._sent += len(payload)
        self.stream.send(b"", payload)

    # -- of the stream -----------------------------------------------------------------------------------------------

    def messages_came(self, payloads: list[bytes | bytearray]) -> None:
        """See `StreamOwner`."""
        found: list[Received] = []
        try:
            for payload in payloads:
                number, message = control.split(payload)
                if number == control.CONTROL:
                    found += _HANDLERS[type(record := control.from_server(message))](self, record)
                elif number == control.EVERYBODY:
                    found.append((None, message))
                elif number in self._keys:
                    found.append((self._keys[number], message))
        except InvalidProofError as error:
            raise FrameError(POLICY, error.reason) from None
        finally:
            if found:
                self._link.came(found)
        self.pump()

    def stream_ended(self, reason: str) -> None:
        """See `StreamOwner`."""
        while self._waiting:
            self._link.went(len(self._waiting.popleft()[1]))
        self.indices.clear()
        self.answered.set()
        if not self.ended.done():
            self.ended.set_result(reason)

    # -- records -----------------------------------------------------------------------------------------------------

    def _challenged(self, challenge: control.Challenge) -> list[Received]:
        if challenge.version != control.VERSION:
            raise FrameError(POLICY, f"the manager's protocol is version {challenge.version}, ours {control.VERSION}")
        invitation = self._link.invitation
        self._limit = challenge.credit
        self._binding = binding(invitation.channel, invitation.certificate, challenge.nonce)
        for key in self._link.keys.values():
            self.log_in(key)
        return []

    def _logged_in(self, answer: control.LoggedIn) -> list[Received]:
        if answer.key not in self._link.keys:
            return []
        self.refused.pop(answer.key, None)
        self.indices[answer.key], self._keys[answer.index] = answer.index, answer.key
        self._answered()
        return [(answer.key, b"")]

    def _login_refused(self, answer: control.LoginRefused) -> list[Received]:
        key = self._link.keys.get(answer.key)
        if key is None:
            return []
        number = self.indices.pop(answer.key, None)
        if number is not None:
            del self._keys[number]
        self.refused[answer.key] = answer
        self._answered()
        if answer.seconds is None:
            return [(answer.key, m.record(m.JoinRefused(reason=answer.reason)))]
        asyncio.get_running_loop().call_later(max(1, answer.seconds), self._again, key)
        return [(answer.key, m.record(m.Dismissed(reason=answer.reason, seconds=answer.seconds)))]

    def _again(self, key: SigningKey) -> None:
        if not self.ended.done() and key.public in self._link.keys and key.public not in self.indices:
            self.log_in(key)
            self.stream.flush()

    def _credited(self, credit: control.Credit) -> list[Received]:
        self._limit = max(self._limit, credit.limit)
        return []

    def _answered(self) -> None:
        if len(self.indices) + len(self.refused) >= len(self._link.keys):
            self.answered.set()


_HANDLERS: Mapping[type, Callable[[ClientSession, Any], list[Received]]] = {
    control.Challenge: ClientSession._challenged,
    control.LoggedIn: ClientSession._logged_in,
    control.LoginRefused: ClientSession._login_refused,
    control.Credit: ClientSession._credited,
}
