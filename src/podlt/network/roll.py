"""Who is connected to the servers of a run: asked of the servers themselves, through the system's account."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, UsageError
from podlt.network.authorization import ACCOUNT
from podlt.network.login import Options, own_options, system_key
from podlt.network.register import FOLDER, Register
from podlt.network.server import url_of

PAGE = 1024
ANSWER_SECONDS = 2.0
_ALL = "$SYS.REQ.SERVER.PING.CONNZ"
_HEX = frozenset("0123456789abcdef")


class Connection(msgspec.Struct, frozen=True):
    """A worker's connection.

    Attributes:
        server, number: which one it is; key: the worker's, as the door admitted it; address: where it comes from;
        messages, nbytes: how many it has sent; seconds: for how long it has been there.
    """

    server: str
    number: int
    key: bytes
    address: str
    messages: int
    nbytes: int
    seconds: float


def connected(run: Path, key: SigningKey) -> list[Connection] | None:
    """The workers' connections of a run, asked from outside its manager; None if its server cannot be reached.

    Args:
        run: its directory; key: its manager's.

    Raises:
        UsageError: the run was never started for workers on other machines, or a package is missing.
    """
    place = Register(run).place()
    near = url_of(run / FOLDER)
    servers = place.servers if near is None else [near]
    options = own_options(system_key(key), bytes.fromhex(place.certificate))
    try:
        return asyncio.run(asyncio.wait_for(_once(servers, options), 2 * ANSWER_SECONDS))
    except (OSError, TimeoutError, nats_errors()):
        return None


async def _once(servers: list[str], options: Options) -> list[Connection]:
    import nats

    # Python 3.11's asyncio warns at the end of each TLS connection of what concerns nobody.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1, "connect_timeout": 2}
    client = await nats.connect(servers, error_cb=_ignore, **once, **options)
    try:
        return await roll(client)
    finally:
        await client.close()


async def _ignore(error: Exception) -> None:
    """What goes wrong is raised as well."""


def nats_errors() -> type[Exception]:
    """What nats-py raises.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from nats.errors import Error
    except ImportError:
        raise UsageError("workers on other machines need more packages: pip install podlt[network]") from None
    return Error


class _Entry(msgspec.Struct, frozen=True):
    cid: int
    ip: str = ""
    in_msgs: int = 0
    in_bytes: int = 0
    authorized_user: str = ""
    start: str = ""


class _Page(msgspec.Struct, frozen=True):
    server_id: str
    now: str
    total: int
    connections: list[_Entry] = []


class _Answer(msgspec.Struct, frozen=True):
    data: _Page


async def roll(client: Any, key: bytes | None = None) -> list[Connection]:
    """The workers' connections, on all servers; or one worker's.

    Args:
        client: of nats-py, connected to the system's account.

    Raises:
        InvalidProofError: a server's answer is malformed; nats.errors.Error: no server answers.
    """
    found: list[Connection] = []
    offset, more = 0, True
    while more:
        asked = {"auth": True, "acc": ACCOUNT, "limit": PAGE, "offset": offset}
        if key is not None:
            asked["user"] = key.hex()
        pages = await _ask_all(client, asked)
        for page in pages:
            found += [one for entry in page.connections if (one := _connection(page, entry)) is not None]
        offset += PAGE
        more = any(page.total > offset for page in pages)
    return found


async def cut(client: Any, connection: Connection) -> None:
    """Ends a connection; one that has ended already is no error.

    Raises:
        nats.errors.Error: the server does not answer.
    """
    asked = json.dumps({"cid": connection.number}).encode()
    await client.request(f"$SYS.REQ.SERVER.{connection.server}.KICK", asked, timeout=ANSWER_SECONDS)


async def _ask_all(client: Any, asked: dict[str, Any]) -> list[_Page]:
    """What every server answers: the first one that does is waited for, the others of a cluster for a moment more."""
    raw = json.dumps(asked).encode()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    pages: list[_Page] = []
    try:
        await client.publish(_ALL, raw, reply=inbox)
        wait = ANSWER_SECONDS
        others = len(client.servers) > 1
        while not pages or others:
            try:
                message = await subscription.next_msg(timeout=wait)
            except TimeoutError:
                if pages:
                    break
                raise
            pages.append(_page(message.data))
            wait = 0.3
    finally:
        await subscription.unsubscribe()
    return pages


def _page(raw: bytes) -> _Page:
    try:
        return msgspec.json.decode(raw, type=_Answer).data
    except msgspec.DecodeError as error:
        raise InvalidProofError(f"malformed list of connections: {error}") from None


def _connection(page: _Page, entry: _Entry) -> Connection | None:
    """A worker's connection; None if it is the manager's own, or is not admitted yet."""
    name = entry.authorized_user
    if len(name) != 64 or not _HEX.issuperset(name):
        return None
    age = _seconds(page.now) - _seconds(entry.start)
    return Connection(page.server_id, entry.cid, bytes.fromhex(name), entry.ip, entry.in_msgs, entry.in_bytes, age)


def _seconds(text: str) -> float:
    """A time of the server's (RFC 3339), in seconds since 1970."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidProofError(f"malformed time {text[:40]!r}") from None
