"""Who is connected to the servers of a run: asked of the servers themselves, through the system's account."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from podlt.canonical import UNREADABLE
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError
from podlt.extras import needed_by
from podlt.network.access.invitation import channel_of
from podlt.network.access.registry import FOLDER, Registry
from podlt.network.nats.authorization import ACCOUNT, manager_name, worker_name
from podlt.network.nats.cluster import direct, remembered
from podlt.network.nats.login import Options, own_options, system_key
from podlt.network.nats.server import url_of

PAGE = 1024
ANSWER_SECONDS = 2.0
OTHERS_SECONDS = 0.4
"""How long to wait for one more server of a cluster to answer, after another did."""

COUNT_SECONDS = 5.0
"""How often the traffic is reported while nobody comes or goes."""

Counted = Callable[[int, int, int], None]

_ALL = "$SYS.REQ.SERVER.PING.CONNZ"
_HEX = frozenset("0123456789abcdef")


class WorkerConnection(msgspec.Struct, frozen=True):
    """A worker's connection.

    Attributes:
        server: whose connection it is.
        number: of the connection at that server.
        key: the worker's, as the gate admitted it.
        address: where it comes from.
        messages: how many it has sent.
        nbytes: how many bytes it has sent.
        taken: bytes that it was sent.
        seconds: how long it has been there.
    """

    server: str
    number: int
    key: bytes
    address: str
    messages: int
    nbytes: int
    taken: int
    seconds: float


def connected(run: Path, key: SigningKey) -> list[WorkerConnection] | None:
    """The workers' connections of a run, asked from outside its manager; None if its server cannot be reached.

    Args:
        run: its directory.
        key: its manager's.

    Raises:
        UsageError: the run was never started for workers on other machines, or a package is missing.
    """
    cluster = remembered(run / FOLDER)
    if cluster is not None:
        servers, certificate, root = direct(cluster.servers), cluster.certificate, cluster.key
    else:
        place, near = Registry(run).place(), url_of(run / FOLDER)
        servers, certificate, root = [near] if near else place.servers, bytes.fromhex(place.certificate), key
    options = own_options(system_key(root), certificate)
    once = _once(servers, options, channel_of(key.public), several=cluster is not None)
    try:
        return asyncio.run(asyncio.wait_for(once, 4 * ANSWER_SECONDS))
    except (OSError, TimeoutError, nats_errors()):
        return None


async def _once(servers: Sequence[str], options: Options, channel: str, *, several: bool) -> list[WorkerConnection]:
    import nats

    # Python 3.11's asyncio warns at the end of each TLS connection of what concerns nobody.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    once = {"allow_reconnect": several, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1, "connect_timeout": 2}
    client = await nats.connect(list(servers), error_cb=_ignore, **once, **options)
    try:
        return await Connections(client, channel, several=several).workers()
    finally:
        await client.close()


async def _ignore(error: Exception) -> None:
    """What goes wrong is raised as well."""


def nats_errors() -> type[Exception]:
    """What nats-py raises.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from nats.errors import Error
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return Error


class _Entry(msgspec.Struct, frozen=True):
    cid: int
    ip: str = ""
    in_msgs: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    authorized_user: str = ""
    start: str = ""


class _Page(msgspec.Struct, frozen=True):
    server_id: str
    now: str
    total: int
    connections: list[_Entry] = []


class _Answer(msgspec.Struct, frozen=True):
    data: _Page


class Connections:
    """The connections of one run, as its servers tell.

    Args:
        client: of nats-py, connected to the system's account.
        channel: the run's.
        several: whether other servers than the one that it is connected to may answer too.

    Raises (all methods):
        InvalidProofError: a server's answer is malformed; nats.errors.Error, TimeoutError: no server answers.
    """

    def __init__(self, client: Any, channel: str, *, several: bool = False) -> None:
        self._client, self._channel, self._several = client, channel, several

    async def workers(self, key: bytes | None = None) -> list[WorkerConnection]:
        """The connections of admitted workers, on all servers; or of one."""
        name = worker_name(self._channel, key) if key is not None else None
        return [one for page, entry in await self._entries(name) if (one := self._worker(page, entry)) is not None]

    async def managers(self) -> list[str]:
        """The addresses of managers of this run that came in by the gate."""
        found = await self._entries(manager_name(self._channel))
        return [entry.ip for _, entry in found if entry.authorized_user == manager_name(self._channel)]

    async def cut(self, connection: WorkerConnection) -> None:
        """Ends a connection; one that has ended already is no error."""
        asked = json.dumps({"cid": connection.number}).encode()
        await self._client.request(f"$SYS.REQ.SERVER.{connection.server}.KICK", asked, timeout=ANSWER_SECONDS)

    async def _entries(self, name: str | None) -> list[tuple[_Page, _Entry]]:
        found: list[tuple[_Page, _Entry]] = []
        offset, more = 0, True
        while more:
            asked = {"auth": True, "acc": ACCOUNT, "limit": PAGE, "offset": offset}
            if name is not None:
                asked["user"] = name
            pages = await self._ask_all(asked)
            found += [(page, entry) for page in pages for entry in page.connections]
            offset += PAGE
            more = any(page.total > offset for page in pages)
        return found

    async def _ask_all(self, asked: dict[str, Any]) -> list[_Page]:
        """What every server answers: the first one that does is waited for, the others for a moment more."""
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        pages: list[_Page] = []
        try:
            await self._client.publish(_ALL, json.dumps(asked).encode(), reply=inbox)
            wait = ANSWER_SECONDS
            while not pages or self._several:
                try:
                    message = await subscription.next_msg(timeout=wait)
                except TimeoutError:
                    if pages:
                        break
                    raise
                pages.append(_page(message.data))
                wait = OTHERS_SECONDS
        finally:
            await subscription.unsubscribe()
        return pages

    def _worker(self, page: _Page, entry: _Entry) -> WorkerConnection | None:
        """A worker's connection; None if it is another's, or is not admitted yet."""
        channel, _, name = entry.authorized_user.partition(".")
        if channel != self._channel or len(name) != 64 or not _HEX.issuperset(name):
            return None
        return WorkerConnection(
            server=page.server_id,
            number=entry.cid,
            key=bytes.fromhex(name),
            address=entry.ip,
            messages=entry.in_msgs,
            nbytes=entry.in_bytes,
            taken=entry.out_bytes,
            seconds=_seconds(page.now) - _seconds(entry.start),
        )


class Traffic:
    """Adds up what connections have sent and taken: each counts from its own beginning.

    Args:
        count: called with how many workers are connected, and bytes from and to them so far.
    """

    def __init__(self, count: Counted) -> None:
        self._count = count
        self._known: dict[tuple[str, int], tuple[int, int]] = {}
        self._received = self._sent = 0
        self._last, self._at = (-1, 0, 0), 0.0

    def take(self, found: Sequence[WorkerConnection], workers: int) -> None:
        """Takes who is connected now, and reports it if it is news."""
        known = {(one.server, one.number): (one.nbytes, one.taken) for one in found}
        for name, (received, sent) in known.items():
            before = self._known.get(name, (0, 0))
            self._received += received - before[0]
            self._sent += sent - before[1]
        self._known = known
        now, latest = time.monotonic(), (workers, self._received, self._sent)
        if workers != self._last[0] or (latest != self._last and now - self._at >= COUNT_SECONDS):
            self._last, self._at = latest, now
            self._count(*latest)


def _page(raw: bytes) -> _Page:
    try:
        return msgspec.json.decode(raw, type=_Answer).data
    except UNREADABLE as error:
        raise InvalidProofError(f"malformed list of connections: {error}") from None


def _seconds(text: str) -> float:
    """A time of the server's (RFC 3339), in seconds since 1970."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidProofError(f"malformed time {text[:40]!r}") from None
