"""Clients that mean harm on the WebSocket port: nothing is easier there than on the other."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from gate_runs import GateRun, enter, gate_run, run, up
from test_hostile import Others, fresh, memory

from podlt.network.access.certificate import client_context
from podlt.network.nats import login
from podlt.network.nats.configuration import MOST_PAYLOAD

UPGRADE = (
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: {key}\r\n\r\n"
)


@pytest.fixture(scope="module")
def stands(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with gate_run(tmp_path_factory.mktemp("run"), websocket=0) as doorstep_:
        yield doorstep_


def frame(data: bytes, claims: int | None = None) -> bytes:
    """A binary frame as clients send it, masked by zeros, which may claim another length than it has."""
    return b"\x82\xff" + struct.pack("!Q", len(data) if claims is None else claims) + bytes(4) + data


class Web:
    """A client of the WebSocket port that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, stands: GateRun) -> Web:
        port = int(next(url for url in stands.server.urls if url.startswith("wss:")).rsplit(":", 1)[1])
        tls = client_context(stands.server.certificate)
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="x"))

    async def upgrade(self) -> dict[str, Any]:
        """Becomes a WebSocket; returns what the server says of itself."""
        self.writer.write(UPGRADE.format(key=base64.b64encode(os.urandom(16)).decode()).encode())
        assert b" 101 " in await self.reader.readuntil(b"\r\n\r\n")
        text = await self.reader.readuntil(b"\r\n")
        found: dict[str, Any] = json.loads(text[text.index(b"{") :])
        return found

    async def log_in(self, stands: GateRun, key: Any) -> None:
        info = await self.upgrade()
        options = login.worker_options(stands.invite(), key)
        shown = {
            "verbose": False,
            "pedantic": False,
            "auth_token": options["token"],
            "sig": options["signature_cb"](info["nonce"]).decode(),
        }
        self.writer.write(frame(b"CONNECT " + json.dumps(shown).encode() + b"\r\nPING\r\n"))
        assert b"PONG" in await asyncio.wait_for(self.reader.readuntil(b"PONG"), 10)


@pytest.mark.parametrize("size", [2**32, MOST_PAYLOAD + 1, 2**63])
def test_a_message_that_claims_to_be_huge_ends_its_connection_alone(stands: GateRun, size: int) -> None:
    async def test() -> None:
        hostile, others, before = fresh(), await Others.begin(stands, fresh()), memory(stands)
        web = await Web.connect(stands)
        await web.log_in(stands, hostile)
        web.writer.write(frame(f"PUB {up(hostile)} {size}\r\n".encode() + b"x" * 100_000))
        await asyncio.wait_for(web.reader.read(), 10)  # until the server has closed it
        assert memory(stands) - before < 32 * 2**20
        await others.go_on()
        await others.end()

    run(test())


@pytest.mark.parametrize(
    "rubbish",
    [
        frame(b"PING\r\n", claims=2**62),
        frame(b"x" * 70_000, claims=2**40),
        b"\xff" * 5000,
        b"\x82\x05hello",  # not masked
        b"\x89\xff" + struct.pack("!Q", 2**20) + bytes(4) + bytes(2**20),  # a ping frame of a megabyte
        os.urandom(20_000),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("inside", [False, True])
def test_frames_that_are_none_keep_nobody_waiting_and_take_no_memory(
    stands: GateRun, rubbish: bytes, inside: bool
) -> None:
    async def test() -> None:
        others, before = await Others.begin(stands, fresh()), memory(stands)
        web = await Web.connect(stands)
        await (web.log_in(stands, fresh()) if inside else web.upgrade())
        web.writer.write(rubbish)
        await others.go_on()
        assert memory(stands) - before < 32 * 2**20
        web.writer.close()
        await others.end()

    run(test())


@pytest.mark.slow
def test_half_of_an_upgrade_and_requests_that_are_none_are_cut_off(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path, websocket=0) as stands:
            others = await Others.begin(stands)
            halves = [await Web.connect(stands) for _ in range(12)]
            for number, half in enumerate(halves):
                half.writer.write((b"GET / HTTP/1.1\r\nHost:", b"POST / HTTP/1.1\r\n\r\n", b"\x00" * 100)[number % 3])
            await others.go_on()
            late = await enter(stands.invite(), fresh(), websocket=True)
            await asyncio.wait_for(asyncio.gather(*(half.reader.read() for half in halves)), 15)
            await others.go_on()
            await late.close()
            await others.end()

    run(test())
