"""A run's directory, server and gate as a manager has them, and clients: honest ones, and ones that write raw bytes."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats

from podlt.crypto import SigningKey
from podlt.network.access.certificate import client_context
from podlt.network.access.invitation import Invitation, channel_of
from podlt.network.access.policy import AccessPolicy
from podlt.network.access.registry import Registry
from podlt.network.nats.gate import Gate
from podlt.network.nats.login import manager_options, worker_options
from podlt.network.nats.server import NatsServer

MANAGER = SigningKey(b"manager".ljust(32, b"."))
CHANNEL = channel_of(MANAGER.public)


def worker_key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


def milliseconds() -> int:
    return time.time_ns() // 10**6


class GateRun:
    """Everything of one manager; `gone` are the keys that were cut off, with the reasons, and `said` its lines."""

    def __init__(self, run: Path, **options: Any) -> None:
        self.run = run
        self.gone: list[tuple[bytes, str]] = []
        self.said: list[str] = []
        self.server = NatsServer(run / "nats", MANAGER, host="127.0.0.1", tell=self.said.append, **options)
        self.server.start()
        self.register = Registry(run)
        self.register.set_place(self.server.urls, self.server.certificate)
        self.gate = self.new_gate()

    def new_gate(self) -> Gate:
        gate = Gate(
            self.register,
            MANAGER,
            [self.server.url],
            self.server.certificate,
            gone=lambda key, reason: self.gone.append((key, reason)),
            tell=self.said.append,
        )
        gate.start()
        return gate

    def invite(self, uses: int = 100, **options: Any) -> Invitation:
        return self.register.invite(MANAGER, uses=uses, now=milliseconds(), **options)

    def change(self, what: str, *arguments: Any) -> None:
        self.register.change(lambda state: _changed(state, what, arguments))

    async def link(self) -> Any:
        """The manager's client on the run's subjects."""
        options = manager_options(MANAGER, self.server.certificate)
        return await nats.connect(self.server.url, connect_timeout=30, **options)

    def close(self) -> None:
        self.gate.close()
        self.server.stop()


def _changed(state: AccessPolicy, what: str, arguments: tuple[Any, ...]) -> AccessPolicy:
    after: AccessPolicy = getattr(state, what)(*arguments)
    return after


@contextmanager
def gate_run(run: Path, **options: Any) -> Iterator[GateRun]:
    stands = GateRun(run, **options)
    try:
        yield stands
    finally:
        stands.close()


async def enter(invitation: Invitation, key: SigningKey, *, websocket: bool = False, **more: Any) -> Any:
    """A worker's client."""
    how = {"allow_reconnect": False, "connect_timeout": 30, "error_cb": _ignore, **more}
    return await nats.connect(invitation.urls(websocket=websocket), **worker_options(invitation, key), **how)


async def _ignore(error: Exception) -> None:
    pass


def up(key: SigningKey, rest: str = "m") -> str:
    return f"podlt.{CHANNEL}.up.{key.public.hex()}.{rest}"


def down(key: SigningKey, rest: str = "m") -> str:
    return f"podlt.{CHANNEL}.down.{key.public.hex()}.{rest}"


async def eventually(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        await asyncio.sleep(0.02)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 120))


class Raw:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, info: dict[str, Any]) -> None:
        self.reader, self.writer, self.info = reader, writer, info

    @classmethod
    async def connect(cls, server: NatsServer) -> Raw:
        tls = client_context(server.certificate)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls, server_hostname="x")
        line = await reader.readline()
        return cls(reader, writer, json.loads(line.removeprefix(b"INFO ")))

    async def write(self, data: bytes) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            self.writer.write(data)
            await self.writer.drain()

    async def log_in(self, invitation: Invitation, key: SigningKey, **changed: Any) -> bytes:
        """Logs in as nats-py does, with what is changed; returns what the server says to it."""
        options = worker_options(invitation, key)
        shown = {
            "verbose": False,
            "pedantic": False,
            "protocol": 1,
            "auth_token": options["token"],
            "sig": options["signature_cb"](self.info["nonce"]).decode(),
            **changed,
        }
        await self.write(b"CONNECT " + json.dumps(shown).encode() + b"\r\nPING\r\n")
        return await self.said()

    async def said(self, seconds: float = 30.0) -> bytes:
        """The next line but for what the server says of itself; empty if it closed the connection."""
        try:
            while (line := await asyncio.wait_for(self.reader.readline(), seconds)).startswith(b"INFO "):
                pass
            return line
        except (ConnectionError, ssl.SSLError):
            return b""

    async def end(self, seconds: float = 30.0) -> bytes:
        """All that the server says until it closes the connection.

        Raises:
            TimeoutError: it does not.
        """
        with suppress(ConnectionError, ssl.SSLError):
            return await asyncio.wait_for(self.reader.read(), seconds)
        return b""

    def close(self) -> None:
        self.writer.close()
