"""The manager's gate: answers the NATS server's question about each connection, and ends connections that may not be.

It has a thread and connections of its own, so that no flood on a run's subjects keeps anybody waiting outside. Once a
second it looks at who is connected: keys that were revoked or paused meanwhile, and connections that send more than
any worker needs to, are cut off; the server tells, so that a manager that was killed and came back knows it too.

Several managers may stand at the gates of one cluster. Each is asked about every connection, and answers for its own
run alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from podlt.crypto import SigningKey
from podlt.errors import EngineError, InvalidProofError, PodltError, UsageError
from podlt.extras import needed_by
from podlt.network.access.invitation import channel_of
from podlt.network.access.penalties import Penalties
from podlt.network.access.policy import Refusal
from podlt.network.access.registry import Registry
from podlt.network.nats.authorization import (
    SUBJECT,
    Request,
    admit,
    manager_permissions,
    read_request,
    refuse,
    refused_permissions,
    worker_permissions,
)
from podlt.network.nats.connections import Connections, Counted, Traffic, WorkerConnection
from podlt.network.nats.login import Options, Pass, check_login, issuer_key, manager_options, own_options, system_key
from podlt.network.nats.refusals import MOST_CONNECTIONS, Refusals

MESSAGES_PER_SECOND = 1000
"""What no honest worker sends: chunks are large, and records few. Bytes are for the link to limit, which knows how
many are due."""

LARGE = 64 * 1024
"""Messages of at least so many bytes on average do not count: on a fast network a large update has many of them."""

MOST_LOGINS = 8
"""Of one key between two looks."""

LOOK_SECONDS = 1.0
OTHER_SECONDS = 10.0
"""How long the connection of a manager that was killed may last, before it is taken for a manager that lives."""

Gone = Callable[[bytes, str], None]
Result = TypeVar("Result")


class Gate:
    """Lets workers in.

    Args:
        register: of the run.
        key: its manager's.
        servers: URLs.
        certificate: theirs, in DER (empty: an authority's).
        gone: is called, on the gate's thread, with the key of a worker that was cut off, and the reason.
        count: is called there with the number of workers that are connected, and bytes from and to them so far.
        tell: is called with a line for each thing worth one.
        clock: milliseconds since 1970.
        cluster: the key that the servers' configuration was made from, where other managers share them; by default the
            servers are this manager's alone.
    """

    def __init__(
        self,
        register: Registry,
        key: SigningKey,
        servers: Sequence[str],
        certificate: bytes,
        *,
        gone: Gone = lambda key, reason: None,
        count: Counted = lambda workers, received, sent: None,
        tell: Callable[[str], None] = lambda line: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 10**6,
        cluster: SigningKey | None = None,
    ) -> None:
        self._register, self._key, self._servers, self._certificate = register, key, list(servers), certificate
        self._gone, self._tell, self._clock = gone, tell, clock
        self._traffic = Traffic(count)
        self._shared, self._root = cluster is not None, cluster or key
        self._channel, self._issuer = channel_of(key.public), issuer_key(self._root)
        self._system: Any = None
        self._link: Any = None
        self._penalties, self._refusals = Penalties(), Refusals(self._send)
        self._logins: Counter[bytes] = Counter()
        self._before: dict[tuple[str, int], int] = {}
        self._looked = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # -- for the manager, on any thread ------------------------------------------------------------------------------

    def start(self, seconds: float = 10.0) -> None:
        """Returns once connections are answered.

        Raises:
            EngineError: the server cannot be reached, or does not know this manager.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="podlt-gate", daemon=True)
        self._thread.start()
        try:
            self._run(self._begin(seconds)).result(2 * seconds)
        except (UsageError, EngineError):
            self.close()
            raise
        except Exception as error:
            self.close()
            raise EngineError(f"the NATS server cannot be reached: {error or type(error).__name__}") from None

    def close(self) -> None:
        """Answers nobody any more; who is connected stays so."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            with suppress(Exception):
                self._run(self._end()).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def kick(self, key: bytes, reason: str, seconds: int = 0) -> None:
        """Ends a worker's connections; with `seconds`, it is not let in again before then."""
        if seconds:
            self._penalties.put(key, reason, seconds)
        with suppress(RuntimeError):  # the gate was closed
            self._run(self._shut_out(key, reason))

    def connections(self) -> list[WorkerConnection]:
        """The workers' connections at this moment.

        Raises:
            EngineError: the server does not answer.
        """
        try:
            return self._run(self._connections.workers()).result(10)
        except Exception as error:
            raise EngineError(f"the NATS server does not answer: {error or type(error).__name__}") from None

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Runs something on the thread. Raises: RuntimeError: the gate is closed."""
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise RuntimeError("the gate is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with suppress(Exception):
            loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    async def _begin(self, seconds: float) -> None:
        await self._open(seconds, first=True)
        task = asyncio.get_running_loop().create_task(self._watch())
        self._tasks.add(task)  # the loop itself holds tasks weakly

    async def _open(self, seconds: float, *, first: bool = False) -> None:
        """Connects, as administrator and on the run's subjects; the latter by this gate, where servers are shared."""
        nats = _nats()
        how: dict[str, Any] = {
            "servers": self._servers,
            "connect_timeout": seconds / 4,
            "max_reconnect_attempts": -1,  # of an existing connection, for ever: the server is started again
            "reconnect_time_wait": 0.2,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            "error_cb": _ignore,
        }
        deadline = time.monotonic() + seconds
        await self._end()
        link = manager_options(self._key, self._certificate, shared=self._shared)
        while self._link is None:
            try:
                if self._system is None:
                    self._system = await self._connect(
                        nats, how, own_options(system_key(self._root), self._certificate)
                    )
                    self._connections = Connections(self._system, self._channel, several=self._shared)
                    if first and self._shared:
                        await self._be_alone()
                    await self._system.subscribe(SUBJECT, cb=self._knock)
                    await self._system.flush()
                self._link = await self._connect(nats, how, link)
            except (OSError, TimeoutError, nats.errors.Error):
                if time.monotonic() > deadline:
                    raise
                await self._end()
                await asyncio.sleep(0.1)

    async def _be_alone(self) -> None:
        """Refuses to serve a run that another manager serves: workers would hear two things.

        Raises:
            EngineError: there is one.
        """
        deadline = time.monotonic() + OTHER_SECONDS
        while others := await self._connections.managers():
            if time.monotonic() > deadline:
                raise EngineError(
                    f"another manager of this run is connected from {others[0]}: stop it first. If that machine is "
                    "gone, the servers notice within minutes: try again"
                )
            await asyncio.sleep(0.5)

    async def _connect(self, nats: Any, how: dict[str, Any], options: Options) -> Any:
        # The first attempt must fail at once, and later ones must not: nats-py has one setting for both.
        client = await nats.connect(**{**how, "allow_reconnect": False}, **options)
        client.options["allow_reconnect"] = True
        return client

    async def _end(self) -> None:
        for client in (self._system, self._link):
            if client is not None:
                with suppress(Exception):
                    await client.close()
        self._system = self._link = None

    async def _send(self, key: bytes, record: bytes) -> None:
        with suppress(Exception):  # no connection at this moment: the worker comes again
            await self._link.publish(f"podlt.{self._channel}.down.{key.hex()}.m", record)

    # -- somebody knocks ---------------------------------------------------------------------------------------------

    async def _knock(self, message: Any) -> None:
        now = self._clock() // 1000
        try:
            request = read_request(message.data)
        except InvalidProofError as error:
            self._tell(f"ignored an auth request of the NATS server: {error}")
            return
        try:
            answer = self._judge(request, now)
        except InvalidProofError as error:
            answer = refuse(request, self._issuer, str(error), now)
        except PodltError as error:  # a full disk, a spoiled file: nobody comes in, and those inside work on
            self._tell(f"no worker can be admitted: {error}")
            answer = refuse(request, self._issuer, "the manager cannot decide", now)
        if answer is not None:
            await self._system.publish(message.reply, answer)

    def _judge(self, request: Request, now: int) -> bytes | None:
        """The answer; None if the connection is for another run."""
        shown = check_login(request.token, request.signature, request.nonce, self._channel, self._certificate)
        if shown is None:
            return None
        if shown.key == self._key.public:
            return admit(request, self._issuer, manager_permissions(self._channel), now)
        self._logins[shown.key] += 1
        if self._logins[shown.key] > MOST_LOGINS:
            return refuse(request, self._issuer, "too many connections of one key", now)
        refused = self._decide(shown)
        if refused is None:
            return admit(request, self._issuer, worker_permissions(self._channel, shown.key), now)
        known = shown.key.hex() in self._register.state.members or shown.key in self._penalties
        stay = self._refusals.take(shown.key, refused, known=known)
        if stay is None:
            return refuse(request, self._issuer, refused.reason, now)
        return admit(request, self._issuer, refused_permissions(self._channel, shown.key, now + stay), now)

    def _decide(self, shown: Pass) -> Refusal | None:
        if (penalty := self._penalties.of(shown.key)) is not None:
            return penalty
        found = self._register.admit(shown.key, shown.invitation, self._clock(), shown.deposit)
        return found if isinstance(found, Refusal) else None

    # -- somebody is shut out ----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._logins.clear()
            try:
                if self._system is None or self._system.is_closed or self._link.is_closed:
                    await self._open(LOOK_SECONDS)
                await self._look()
            except PodltError as error:
                self._tell(f"cannot list the connections: {error}")
            except Exception as error:  # the server is away at this moment
                self._tell(f"cannot list the connections: {type(error).__name__}")

    async def _look(self) -> None:
        """Cuts off who may not be connected any more, sends too much, or is connected too often."""
        found = await self._connections.workers()
        state = self._register.state  # read after it: who came in meanwhile was let in by a newer one
        passed = time.monotonic() - self._looked
        self._looked = time.monotonic()
        self._penalties.forget()
        by_key: dict[bytes, list[WorkerConnection]] = defaultdict(list)
        for one in found:
            by_key[one.key].append(one)
        self._traffic.take(found, len(by_key))
        before, self._before = self._before, {(one.server, one.number): _small(one) for one in found}
        for key, connections in by_key.items():
            barred = state.barred(key)
            sent = sum(_small(one) - before.get((one.server, one.number), 0) for one in connections)
            if barred is not None:
                await self._cut(connections, key, barred.reason)
            elif sent > MESSAGES_PER_SECOND * max(passed, LOOK_SECONDS):
                reason = f"rate limit: {sent} small messages in {passed:.1f} s (limit {MESSAGES_PER_SECOND} a second)"
                self._penalties.put(key, reason)
                await self._cut(connections, key, reason)
            elif len(connections) > MOST_CONNECTIONS:
                for one in sorted(connections, key=lambda one: one.seconds)[MOST_CONNECTIONS:]:
                    await self._connections.cut(one)

    async def _shut_out(self, key: bytes, reason: str) -> None:
        with suppress(Exception):
            await self._cut(await self._connections.workers(key), key, reason)

    async def _cut(self, connections: Sequence[WorkerConnection], key: bytes, reason: str) -> None:
        for one in connections:
            await self._connections.cut(one)
        if connections:
            self._tell(f"worker {key.hex()[:16]} was disconnected: {reason}")
            self._gone(key, reason)


def _small(connection: WorkerConnection) -> int:
    """How many small messages a connection has sent, by what its large ones leave over."""
    return connection.messages - connection.nbytes // LARGE


async def _ignore(error: Exception) -> None:
    """What nats-py says of connections that it makes again by itself."""


def _nats() -> Any:
    try:
        import nats
        import nats.errors
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return nats
