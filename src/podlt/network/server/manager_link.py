"""The manager's link over its own server: one port, one connection a worker process, on a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from podlt.access import certificate as tls
from podlt.access.invitation import channel_of
from podlt.access.login import Binding, binding
from podlt.access.policy import Refusal
from podlt.errors import PodltError, UsageError
from podlt.network.background import Background
from podlt.network.frames import GOING_AWAY, STAGING
from podlt.network.http import RouteTable
from podlt.network.inbox import MessageBox
from podlt.network.link import WebHost
from podlt.network.server.admission import AGAIN_SECONDS, CUT_OFF_SECONDS, Admission
from podlt.network.server.connection import ROOM, SessionConnection
from podlt.network.server.listener import Arrival, Listener
from podlt.network.server.pages import CONNECTIONS, ConnectedWorker, OperatorPages, bearer_of, connections_page
from podlt.network.server.sending import Recipients, SendQueue, after_half
from podlt.network.server.strangers import LOGINS_AT_ONCE, LOGINS_PER_SECOND, TurnQueue
from podlt.tuning import reuse_memory
from podlt.wire import control
from podlt.wire.messages import Leave, Raw, record

LOOK_SECONDS = 1.0
COUNT_SECONDS = 2.0
CLOSE_SECONDS = 5.0

Counted = Callable[[int, int, int], None]
"""How many workers are connected, and bytes from and to them so far."""


class _Item(NamedTuple):
    """What waits to be received."""

    connection: SessionConnection | None
    key: bytes
    message: Raw


class ServerLink:
    """The manager's link.

    Args:
        manager: the run's public key.
        folder: of the certificate and its key.
        admission: decides who is let in.
        tell: takes a line for the operator.
        count: see `Counted`.
        clock: seconds, monotonic.
        entropy: makes nonces.

    Attributes:
        backlog: bytes that one key may have waiting to be received.
        absence: how many seconds a key may be without a connection before it counts as gone.
        certificate: the server's, in DER.
        urls: of the server, by the names that workers know.
        routes: which path of it is answered by whom.
        pages: for its operator.
    """

    def __init__(
        self,
        manager: bytes,
        folder: Path,
        admission: Admission,
        *,
        tell: Callable[[str], None] = lambda line: None,
        count: Counted = lambda workers, received, sent: None,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._manager, self._folder, self._admission = manager, folder, admission
        self._channel = channel_of(manager)
        self._tell, self._count, self._clock, self._entropy = tell, count, clock, entropy
        self.backlog, self.absence, self.certificate, self.urls = 2**20, 3.0, b"", list[str]()
        self.routes = RouteTable()
        self._background = Background("podlt-server")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None
        self._staging = bytearray(STAGING)
        self._box = MessageBox[_Item]()
        self._queue = SendQueue(self._box.wake)
        self._members: set[bytes] = set()
        self._by_key: dict[bytes, SessionConnection] = {}
        self._connections: dict[SessionConnection, None] = {}
        self._absent: dict[bytes, float] = {}
        self._turns = TurnQueue(LOGINS_PER_SECOND, LOGINS_AT_ONCE)
        self._closed_bytes = (0, 0)
        self._looked, self._counted, self._last = clock(), 0.0, (-1, 0, 0)

    def start(self, host: str, port: int) -> int:
        """Listens; returns the port.

        Raises:
            UsageError: it cannot listen there, or the certificate cannot be used.
            StorageError: the certificate cannot be made.
        """
        reuse_memory()
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a connection that breaks is no news
        self.certificate = tls.load_or_create(self._folder)
        bearer, wall = bearer_of(self._folder), lambda: time.time_ns() // 10**6
        self.pages = OperatorPages(self.routes, self._manager, self._fingerprint, bearer, wall)
        self.pages.add({CONNECTIONS: connections_page(self.connections)})
        try:
            return self._background.call(self._begin(host, port))
        except OSError as error:
            self._background.end()
            raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None

    # -- the link, on any thread -------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """See `ManagerLink`."""
        return self._listener is not None

    @property
    def web(self) -> WebHost:
        """See `HostedLink`."""
        return WebHost(self.routes, self.urls, self._fingerprint)

    @property
    def _fingerprint(self) -> bytes:
        return hashlib.sha256(self.certificate).digest()

    @property
    def room(self) -> int:
        """See `ManagerLink`."""
        return self._queue.room

    def room_for(self, key: bytes) -> int:
        """See `ManagerLink`; none for who is not connected."""
        connection = self._by_key.get(key)
        return 0 if connection is None else max(0, ROOM - self._queue.waiting_for(key) - connection.stream.queued)

    def allow(self, backlog: int, absence: float) -> None:
        """See `ManagerLink`."""
        self.backlog, self.absence = backlog, absence
        self._post(self._widen)

    def send(self, key: bytes, message: bytes) -> None:
        """See `ManagerLink`."""
        self._put(key, message)

    def publish(self, message: bytes) -> None:
        """See `ManagerLink`."""
        self._put(Recipients.MEMBERS, message)

    def announce(self, message: bytes) -> None:
        """See `ManagerLink`."""
        self._put(Recipients.EVERYBODY, message)

    def subscribe(self, key: bytes, is_member: bool) -> None:
        """See `ManagerLink`."""
        (self._members.add if is_member else self._members.discard)(key)

    def receive(self, seconds: float) -> Sequence[tuple[bytes, Raw]]:
        """See `ManagerLink`."""
        items = self._box.take(seconds)
        taken: Counter[SessionConnection] = Counter()
        for item in items:
            if item.connection is not None:
                taken[item.connection] += control.INDEX.size + len(item.message)
        if taken:
            self._post(lambda: self._taken(taken))
        return [(item.key, item.message) for item in items]

    def drop(self, key: bytes) -> None:
        """See `ManagerLink`."""
        self._post(lambda: self._shut_out(key, "too many useless messages", CUT_OFF_SECONDS))

    def connections(self) -> list[ConnectedWorker]:
        """Who is connected at this moment."""
        now = self._clock()
        return [ConnectedWorker(key.hex(), c.arrival.address, now - c.since) for key, c in list(self._by_key.items())]

    def close(self) -> None:
        """See `ManagerLink`."""
        if self._listener is not None:
            with suppress(Exception):
                self._background.call(self._drain())
        self._background.end(self._finish)

    # -- on the server's thread: in and out --------------------------------------------------------------------------

    async def _begin(self, host: str, port: int) -> int:
        self._loop = asyncio.get_running_loop()
        context = tls.server_context(self._folder / tls.CERTIFICATE, self._folder / tls.PRIVATE_KEY)
        listener = Listener(context, self._upgrade, self.routes.connection, self._tell)
        bound = listener.start(host, port)
        self._listener = listener
        self._look()
        return bound

    def _upgrade(self, arrival: Arrival) -> asyncio.BaseProtocol:
        assert self._loop is not None
        nonce = self._entropy(control.NONCE_BYTES)
        connection = SessionConnection(self, arrival, self._bind, nonce, self._staging, self._clock())
        self._connections[connection] = None
        self._loop.call_soon(connection.begin)
        return connection.stream

    def _bind(self, nonce: bytes) -> Binding:
        return binding(self._channel, self.certificate, nonce)

    def _post(self, what: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it was closed
                self._loop.call_soon_threadsafe(what)

    def _put(self, to: bytes | Recipients, message: bytes) -> None:
        if self._queue.put(to, message):
            self._post(self._flush)

    def _flush(self) -> None:
        """Gives what was sent to the connections, and writes as much as these take."""
        touched: dict[SessionConnection, None] = {}
        for to, message, release in self._queue.take():
            if isinstance(to, Recipients):
                targets = self._targets(to)
                sent = after_half(len(targets), release)
                for connection in targets:
                    connection.send(control.EVERYBODY, message, sent)
                touched.update(dict.fromkeys(targets))
            elif (found := self._by_key.get(to)) is not None:
                found.send(found.indices[to], message, release)
                touched[found] = None
            else:
                release()
        for connection in touched:
            connection.stream.flush()

    def _targets(self, recipients: Recipients) -> list[SessionConnection]:
        """The connections of everybody, or of processes with members."""
        if recipients is Recipients.EVERYBODY:
            return [connection for connection in self._connections if connection.indices]
        return list(dict.fromkeys(self._by_key[key] for key in self._members & self._by_key.keys()))

    def _taken(self, taken: Counter[SessionConnection]) -> None:
        for connection, nbytes in taken.items():
            connection.taken(nbytes)

    def _widen(self) -> None:
        for connection in self._connections:
            if connection.indices:
                connection.widen()

    # -- for connections ---------------------------------------------------------------------------------------------

    def came(self, connection: SessionConnection, messages: list[tuple[bytes, Raw]]) -> None:
        """See `Sessions`."""
        self._box.put([_Item(connection, key, message) for key, message in messages])
        for key, message in messages:
            if not self._admission.came(key, len(message)) and key in connection.indices:
                self._shut_out(key, "rate limit: too many small messages")

    def may_log_in(self, connection: SessionConnection) -> bool:
        """See `Sessions`."""
        return self._turns.wait(connection.arrival.stranger.network, self._clock()) is not None

    def login(self, connection: SessionConnection, login: control.Login) -> Refusal | None:
        """See `Sessions`: a key that is connected stays so, if the other end still answers."""
        refused = self._admission.login(login)
        if refused is not None:
            return refused
        if (other := self._by_key.get(login.key)) is not None:
            other.probe()
            where = other.arrival.address
            return Refusal(f"another process with this key is connected, from {where}", AGAIN_SECONDS)
        self._by_key[login.key] = connection
        self._absent.pop(login.key, None)
        return None

    def logged_out(self, key: bytes) -> None:
        """See `Sessions`."""
        self._by_key.pop(key, None)

    def ended(self, connection: SessionConnection, reason: str) -> None:
        """See `Sessions`."""
        self._connections.pop(connection, None)
        stream, (received, sent) = connection.stream, self._closed_bytes
        self._closed_bytes = received + stream.received, sent + stream.written
        for key in connection.indices:
            if self._by_key.get(key) is connection:
                del self._by_key[key]
                self._absent[key] = connection.answered(self._clock()) + self.absence
        if self._listener is not None:
            self._listener.left(connection.arrival)
        self._box.wake()

    # -- once a second -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        assert self._loop is not None
        now = self._clock()
        passed, self._looked = now - self._looked, now
        for key, reason in self._admission.look(passed):
            self._shut_out(key, reason)
        for connection in list(self._connections):
            if reason := connection.check(now):
                connection.stream.abort(reason)
        try:
            for key in list(self._by_key):
                if (barred := self._admission.barred(key)) is not None:
                    self._cut(key, barred)
        except PodltError as error:
            self._tell(f"cannot see who may stay: {error}")
        for key, until in list(self._absent.items()):
            if now >= until:
                del self._absent[key]
                self._gone(key, "connection lost")
        self._turns.forget(now)
        self._report(now)
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _shut_out(self, key: bytes, reason: str, seconds: int | None = None) -> None:
        self._cut(key, self._admission.punish(key, reason, seconds))

    def _cut(self, key: bytes, refused: Refusal) -> None:
        connection = self._by_key.pop(key, None)
        if connection is not None:
            connection.refuse(key, refused)
            self._tell(f"worker {key.hex()[:16]} was disconnected: {refused.reason}")
            self._gone(key, refused.reason)
            if not connection.indices:
                connection.stream.finish()

    def _gone(self, key: bytes, reason: str) -> None:
        self._box.put([_Item(None, key, record(Leave(reason=reason[:200])))])

    def _report(self, now: float) -> None:
        received, sent = self._closed_bytes
        for connection in self._connections:
            received, sent = received + connection.stream.received, sent + connection.stream.written
        received, sent = received + self.routes.received, sent + self.routes.sent
        latest = len(self._by_key), received, sent
        if latest[0] != self._last[0] or (latest != self._last and now - self._counted >= COUNT_SECONDS):
            self._last, self._counted = latest, now
            self._count(*latest)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        deadline = self._clock() + CLOSE_SECONDS
        while self._clock() < deadline and (self._queue or any(c.stream.queued for c in self._connections)):
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.stream.close(GOING_AWAY, "the manager stops")
        await asyncio.sleep(0.05)

    def _finish(self) -> Coroutine[None, None, None]:
        async def finish() -> None:
            if self._listener is not None:
                self._listener.stop()
                self._listener = None
            await asyncio.sleep(0)

        return finish()
