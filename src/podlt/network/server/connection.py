"""One connection of a worker process, at the manager: its identities, what it may send, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from podlt.access.login import Binding, check_login
from podlt.access.policy import Refusal
from podlt.errors import InvalidProofError
from podlt.network.frames import POLICY, FrameError, FrameStream
from podlt.network.server.listener import Arrival
from podlt.network.sockets import DEAD_SECONDS, is_dead
from podlt.wire import control
from podlt.wire.messages import Raw

MOST_LOGINS = 4 * control.MOST_IDENTITIES
"""Of one connection."""

MOST_WINDOW = 16 * 2**20
"""Bytes that one connection may send before they are taken."""

MOST_OUTBOX = 64 * 2**20
"""Bytes that may wait for one connection; what goes beyond is lost."""

ROOM = 8 * 2**20
"""Bytes that may wait for one connection before what is large waits to be made."""

STALL_SECONDS = 20.0
"""After how long a connection is cut off that takes nothing of what waits for it."""

MOST_OVERHEAD = 2**20
"""Bytes in a second that are no message's: pings, and heads of frames."""


class Sessions(Protocol):
    """What a connection needs of the server."""

    backlog: int

    def may_log_in(self, connection: SessionConnection) -> bool:
        """Whether one more login of where the connection comes from is looked at."""

    def login(self, connection: SessionConnection, login: control.Login) -> Refusal | None:
        """Lets a key in, whose signature holds; else says why not."""

    def logged_out(self, key: bytes) -> None:
        """A key left in order."""

    def came(self, connection: SessionConnection, messages: list[tuple[bytes, Raw]]) -> None:
        """Messages of keys came."""

    def ended(self, connection: SessionConnection, reason: str) -> None:
        """The connection is over."""


class SessionConnection:
    """A session's connection, from its first frame on.

    Args:
        sessions: the server's.
        arrival: where it comes from.
        bind: makes the binding of a login from the nonce.
        nonce: of this connection.
        staging: see `FrameStream`.
        now: seconds.

    Attributes:
        stream: its frames.
        indices: number of each key that was let in.
        since: when it began, in seconds.
    """

    def __init__(
        self,
        sessions: Sessions,
        arrival: Arrival,
        bind: Callable[[bytes], Binding],
        nonce: bytes,
        staging: bytearray,
        now: float,
    ) -> None:
        self._sessions, self.arrival, self._nonce, self.since = sessions, arrival, nonce, now
        self._binding = bind(nonce)
        self.stream = FrameStream(self, staging, client=False, longest=control.LONGEST_LOGIN)
        self.indices: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._logins = self._next = 0
        self._came = self._taken = 0
        self._limit = control.LOGIN_CREDIT
        self._progress = (0, now)
        self._overhead, self._dead = 0, False

    def begin(self) -> None:
        """Says what is to be signed."""
        self.tell(control.Challenge(version=control.VERSION, nonce=self._nonce, credit=self._limit))
        self.stream.flush()

    def tell(self, record: control.Control) -> None:
        """Sends a record of the connection itself, with the next flush."""
        self.stream.send(b"", control.frame(record))

    def send(self, number: int, message: bytes, sent: Callable[[], None]) -> None:
        """Sends a message with the next flush; if too much waits already, it is lost."""
        if self.stream.queued > MOST_OUTBOX:
            sent()
        else:
            self.stream.send(control.INDEX.pack(number), message, sent)

    def taken(self, nbytes: int) -> None:
        """So many bytes of what came are not in memory any more: as many may come, once somebody was let in."""
        self._taken += nbytes
        if not self.indices:
            return
        window = self._window()
        limit = self._taken + window
        if limit - self._limit >= window // 4:
            self._limit = limit
            self.tell(control.Credit(limit=limit))
            self.stream.flush()

    def widen(self) -> None:
        """The window may have become wider."""
        self.taken(0)

    def refuse(self, key: bytes, refused: Refusal) -> None:
        """A key is not let in, or not any more."""
        self._forget(key)
        self.tell(control.LoginRefused(key=key, reason=refused.reason[:1000], seconds=refused.seconds))
        self.stream.flush()

    def answered(self, now: float) -> float:
        """When the other machine was there last, of a connection that has just ended: seconds."""
        return now - DEAD_SECONDS if self._dead or self.stream.timed_out else now

    def probe(self) -> None:
        """Asks whether the other end is still there: `check` finds out."""
        self.stream.ping()

    def check(self, now: float) -> str:
        """Why the connection has to be ended; empty if it has not. Call it once a second."""
        stream = self.stream
        overhead, self._overhead = stream.received - self._came - self._overhead, stream.received - self._came
        if overhead > MOST_OVERHEAD:
            return "more bytes around its messages than in them"
        if is_dead(self.arrival.sock):
            self._dead = True
            return "connection lost"
        if not stream.queued or stream.written != self._progress[0]:
            self._progress = stream.written, now
        elif now - self._progress[1] > STALL_SECONDS:
            return f"it read nothing for {STALL_SECONDS:.0f} s"
        return ""

    # -- of the stream -----------------------------------------------------------------------------------------------

    def messages_came(self, payloads: list[bytes | bytearray]) -> None:
        """See `StreamOwner`."""
        found: list[tuple[bytes, Raw]] = []
        done = 0
        try:
            for payload in payloads:
                self._came += len(payload)
                if self._came > self._limit:
                    raise FrameError(POLICY, "more bytes than credit was given for")
                number, message = control.split(payload)
                key = self._keys.get(number)
                if key is not None:
                    found.append((key, message))
                    continue
                if number == control.CONTROL:
                    self._take(control.from_client(message))
                done += len(payload)  # what is an identity's that was cut off meanwhile is lost
        except InvalidProofError as error:
            raise FrameError(POLICY, error.reason) from None
        finally:
            if found:
                self._sessions.came(self, found)
        if done:
            self.taken(done)
            self.stream.flush()

    def stream_ended(self, reason: str) -> None:
        """See `StreamOwner`."""
        self._sessions.ended(self, reason)

    # -- records -----------------------------------------------------------------------------------------------------

    def _take(self, record: control.FromClient) -> None:
        if isinstance(record, control.Login):
            self._log_in(record)
        elif (key := self._keys.get(record.index)) is not None:
            self._forget(key)
            self._sessions.logged_out(key)

    def _log_in(self, login: control.Login) -> None:
        self._logins += 1
        if self._logins > MOST_LOGINS or len(self._keys) >= control.MOST_IDENTITIES:
            raise FrameError(POLICY, "too many logins on one connection")
        if not self._sessions.may_log_in(self):
            raise FrameError(POLICY, "too many logins from this address")
        check_login(login, self._binding)
        if login.key in self.indices:
            return
        refused = self._sessions.login(self, login)
        if refused is not None:
            self.refuse(login.key, refused)
            return
        self.arrival.known()
        self.stream.longest = control.LONGEST_FRAME
        while self._next in self._keys:
            self._next = (self._next + 1) % control.MOST_IDENTITIES
        self._keys[self._next], self.indices[login.key] = login.key, self._next
        self.tell(control.LoggedIn(key=login.key, index=self._next))
        self._next = (self._next + 1) % control.MOST_IDENTITIES
        self.widen()

    def _forget(self, key: bytes) -> None:
        number = self.indices.pop(key, None)
        if number is not None:
            del self._keys[number]

    def _window(self) -> int:
        least = control.LOGIN_CREDIT + 2 * control.LONGEST_FRAME
        return max(least, min(self._sessions.backlog * len(self._keys), MOST_WINDOW))
