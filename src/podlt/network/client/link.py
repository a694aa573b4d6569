"""A worker process's link to a manager's own server: one connection for all identities, made again when lost."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from podlt.access.certificate import client_context
from podlt.access.invitation import Invitation
from podlt.crypto import SigningKey
from podlt.errors import EngineError, UsageError
from podlt.network.background import Background
from podlt.network.client.session import ClientSession, Unreachable, Upgrade
from podlt.network.frames import STAGING, FrameStream
from podlt.network.link import Received
from podlt.network.sockets import is_dead, notice_loss
from podlt.tuning import reuse_memory
from podlt.wire import control

FIRST_DELAY, LONGEST_DELAY = 0.1, 1.0
"""Seconds between attempts to connect, twice as many each time, and then by chance half as many to all of them."""

RARE_AFTER, RARE_DELAY = 300.0, 15.0
"""After how many seconds without a connection it is tried seldom, and how seldom."""

CONNECT_SECONDS, LOGIN_SECONDS, CLOSE_SECONDS = 15.0, 15.0, 5.0
LOOK_SECONDS, PING_SECONDS, SILENT_SECONDS = 1.0, 10.0, 30.0

STUCK_SECONDS = 8.0
"""After how long a connection is given up on which nothing can be sent."""

FIRST_SECONDS = 120.0
"""How long a worker that was never let in tries to reach the server."""

GONE_SECONDS = 3600.0
"""How long a worker that was let in once tries to come back: no longer than it takes to mend a manager."""

REFUSALS = 8
"""How many refused connections in a row, without having been let in once, mean that there is nothing to wait for."""

MOST_WAITING = 64 * 2**20
"""Bytes that may wait to be sent; what goes beyond is lost."""


class ClientLink:
    """A worker process's link.

    Args:
        invitation: to the run.
        keys: of all identities.
        chance: between 0 and 1, for the delays.
        clock: seconds, monotonic.

    Attributes:
        why: what the last attempt to connect came to; empty if it went well, or there was none.
        keys: the identities that are left, by their public keys.
    """

    def __init__(
        self,
        invitation: Invitation,
        keys: Sequence[SigningKey],
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.invitation, self.keys = invitation, {key.public: key for key in keys}
        self._chance, self._clock = chance, clock
        self.why = ""
        self.staging = bytearray(STAGING)
        self.background = Background("podlt-link")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._take: Callable[[Sequence[Received]], object] | None = self._keep_early
        self._early: list[Received] = []
        self._resumes = 0.0
        self._lock = threading.Lock()
        self._outbox: deque[tuple[bytes, bytes]] = deque()
        self._waiting = self._refused = 0
        self._session: ClientSession | None = None
        self._let_in = False
        self._keeping: Future[None] = Future()
        self._since = self._lost = clock()

    def start(self) -> None:
        """Begins to connect.

        Raises:
            UsageError: more identities than one connection carries, or the invitation's certificate is malformed.
        """
        if len(self.keys) > control.MOST_IDENTITIES:
            raise UsageError(f"one process can have {control.MOST_IDENTITIES} identities, not {len(self.keys)}")
        reuse_memory()
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a connection that breaks is made again
        context, self._since = client_context(self.invitation.certificate), self._clock()

        async def begin() -> None:
            self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

        self.background.call(begin())
        self._keeping = self.background.start(self._keep(context))

    # -- the link -------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """See `WorkerLink`."""
        return self._session is not None and bool(self._session.indices)

    def send(self, key: bytes, message: bytes) -> None:
        """See `WorkerLink`."""
        with self._lock:
            if self._waiting + len(message) > MOST_WAITING:
                return
            idle = not self._outbox
            self._outbox.append((key, message))
            self._waiting += len(message)
        if idle:
            self._post(self._flush)

    def check(self) -> None:
        """See `WorkerLink`."""
        if self._keeping.done() and not self._keeping.cancelled():
            self._keeping.result()  # what ended it was no connection's fault: without this, nobody would hear of it
        if not self.keys:
            return
        now, why = self._clock(), self.why or "no answer"
        if self.connected:
            self._let_in, self._lost = True, now
        if self._let_in and now - self._lost <= GONE_SECONDS:
            return
        waited, servers = now - self._since, " or ".join(self.invitation.servers)
        if self._let_in:
            raise EngineError(
                f"no connection to the manager at {servers} for {GONE_SECONDS / 60:.0f} min: {why}; the run has ended, "
                "or its manager does not run. What was earned is in the run's log, its receipts in this folder"
            )
        if self._refused >= REFUSALS and waited > FIRST_SECONDS / 2:
            raise EngineError(f"the manager refuses this worker: {why}")
        if waited > FIRST_SECONDS:
            raise EngineError(f"the manager cannot be reached at {servers}: {why}; is the run over?")

    def listen(self, take: Callable[[Sequence[Received]], object] | None) -> None:
        """See `WorkerLink`."""
        self._take, early, self._early = take, self._early, []
        if take is not None and early:
            self._post(lambda: self.came(early))

    def pause(self, seconds: float) -> None:
        """See `WorkerLink`."""
        self._resumes = self._clock() + seconds
        if self._session is not None and self._loop is not None:
            self._session.stream.pause_reading()
            self._loop.call_later(seconds, self._session.stream.resume_reading)

    def drop(self, key: bytes) -> None:
        """See `WorkerLink`."""
        self._post(lambda: self._drop(key))

    def close(self) -> None:
        """See `WorkerLink`."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with suppress(Exception):
                self.background.call(self._drain())
            self.background.end()

    # -- for the session ---------------------------------------------------------------------------------------------

    def came(self, messages: Sequence[Received]) -> None:
        """Messages came."""
        if self._take is not None:
            self._take(messages)

    def went(self, nbytes: int) -> None:
        """So many bytes do not wait any more."""
        with self._lock:
            self._waiting -= nbytes

    def _keep_early(self, messages: Sequence[Received]) -> None:
        """Nobody listens yet."""
        self._early += messages

    # -- on its thread -----------------------------------------------------------------------------------------------

    def _post(self, what: Callable[[], None]) -> None:
        if self._loop is None:
            return
        if threading.get_ident() == self._thread:
            self._loop.call_soon(what)
            return
        with suppress(RuntimeError):  # it was closed
            self._loop.call_soon_threadsafe(what)

    def _flush(self) -> None:
        with self._lock:
            batch, self._outbox = self._outbox, deque()
        session = self._session
        for key, message in batch:
            if session is None:
                self.went(len(message))
            else:
                session.put(key, message)
        if session is not None:
            session.pump()

    def _drop(self, key: bytes) -> None:
        self.keys.pop(key, None)
        if self._session is not None:
            self._session.log_out(key)
            self._session.stream.flush()
            if not self.keys:
                self._session.stream.finish()

    async def _keep(self, context: Any) -> None:
        """Connects, and connects again."""
        failures, number = 0, 0
        while self.keys:
            urls = self.invitation.servers
            try:
                if await self._one(context, urls[number % len(urls)]):
                    failures = 0
                else:
                    self._refused += 1
            except (OSError, TimeoutError, Unreachable) as error:
                self.why = str(error) or type(error).__name__
                number += 1
            rare = self._clock() - self._lost > RARE_AFTER
            delay = min(FIRST_DELAY * 2 ** min(failures, 10), RARE_DELAY if rare else LONGEST_DELAY)
            failures += 1
            await asyncio.sleep(delay * (0.5 + self._chance() / 2))

    async def _one(self, context: Any, url: str) -> bool:
        """One connection, until it ends; returns whether anybody was let in."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        loop, made = asyncio.get_running_loop(), list[ClientSession]()

        def begun(transport: asyncio.Transport) -> FrameStream:
            made.append(ClientSession(self, transport))
            return made[-1].stream

        transport, upgrade = await asyncio.wait_for(
            loop.create_connection(lambda: Upgrade(parts.netloc, begun), host, port, ssl=context, server_hostname=host),
            CONNECT_SECONDS,
        )
        try:
            if (sock := transport.get_extra_info("socket")) is None:
                raise Unreachable("it closed the connection")
            notice_loss(sock)
            await asyncio.wait_for(upgrade.done, LOGIN_SECONDS)
            session = made[0]
            self._session = session
            if (left := self._resumes - self._clock()) > 0:  # to connect anew makes nothing faster
                self.pause(left)
            await asyncio.wait_for(session.answered.wait(), LOGIN_SECONDS)
            if session.indices:
                self._refused, self.why = 0, ""
                self.why = await self._watch(session)
                return True
            refused = [answer for answer in session.refused.values() if answer.seconds is not None]
            if refused:
                self.why = refused[0].reason
                session.stream.finish()
                await asyncio.sleep(max(1, min(answer.seconds or 0 for answer in refused)))
            elif session.ended.done():
                self.why = session.ended.result()
            return False
        finally:
            self._session = None
            for session in made:
                session.stream_ended("closed")
            transport.abort()

    async def _watch(self, session: ClientSession) -> str:
        """Waits for the end of a connection, and ends one on which nothing comes any more; why it ended."""
        stream, heard, pinged = session.stream, self._clock(), self._clock()
        received = stream.received
        while not session.ended.done():
            await asyncio.wait([session.ended], timeout=LOOK_SECONDS)
            now = self._clock()
            if stream.received != received or now < self._resumes:
                received, heard = stream.received, now
            if is_dead(session.sock, STUCK_SECONDS) or now - heard > SILENT_SECONDS:
                stream.abort("connection lost")
            elif now - pinged > PING_SECONDS:
                pinged = now
                stream.ping()
        return session.ended.result()

    async def _drain(self) -> None:
        """Waits until what was sent is on its way, and logs out."""
        self._flush()
        session, deadline = self._session, self._clock() + CLOSE_SECONDS
        while session is not None and self._clock() < deadline and not session.is_idle and not session.ended.done():
            await asyncio.sleep(0.01)
        self.keys.clear()
        if session is None or session.ended.done():
            return
        for public in list(session.indices):
            session.log_out(public)
        session.stream.flush()
        session.stream.finish("done")
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(session.ended), 1.0)
