"""What a manager says of an object store is not believed: workers look nowhere else for it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from podlt.network.addresses import is_global
from podlt.network.blobs.object_client import ObjectClient
from podlt.network.blobs.transfer import TransferError

DIGEST = bytes(range(32))
DATA = bytes(range(250)) * 4


async def inside() -> bool:
    return True


async def outside() -> bool:
    return False


def fetch(urls: list[str], part: int, offset: int, length: int, *, private: bool = True) -> bytes:
    async def ask() -> bytes:
        async with ObjectClient(inside if private else outside) as client:
            return bytes(await client.fetch_range(urls, part, DIGEST, offset, length))

    return asyncio.run(ask())


def objects(folder: Path, part: int = 300) -> list[str]:
    (folder / DIGEST.hex()).mkdir()
    for number, start in enumerate(range(0, len(DATA), part)):
        (folder / DIGEST.hex() / f"{number:06d}").write_bytes(DATA[start : start + part])
    return [f"file://{folder}/{DIGEST.hex()}/{number:06d}" for number in range(-(-len(DATA) // part))]


@pytest.mark.parametrize(("offset", "length"), [(0, 1000), (299, 2), (300, 300), (950, 50), (10, 0)])
def test_ranges_may_lie_in_several_objects(tmp_path: Path, offset: int, length: int) -> None:
    assert fetch(objects(tmp_path), 300, offset, length, private=False) == DATA[offset : offset + length]


def test_only_files_that_are_named_as_objects_are_read(tmp_path: Path) -> None:
    urls = objects(tmp_path)
    (tmp_path / "secret").write_bytes(DATA)
    other = tmp_path / "other" / DIGEST.hex()
    other.mkdir(parents=True)
    (other / "000000").symlink_to(tmp_path / "secret")
    os.mkfifo(other / "000001")
    with pytest.raises(TransferError, match="not that of an object"):
        fetch([f"file://{tmp_path}/secret"], 300, 0, 10)
    with pytest.raises(TransferError, match="not that of an object"):
        fetch(urls[1:], 300, 0, 10)
    for start in (0, 300):
        with pytest.raises(OSError):
            fetch([f"file://{other}/{number:06d}" for number in range(2)], 300, start, 10)
    with pytest.raises(TransferError, match="in none of its 4 objects"):
        fetch(urls, 300, 1200, 1)


def test_servers_inside_a_network_are_asked_only_for_a_manager_inside_one() -> None:
    asked: list[str] = []

    async def run() -> None:
        async def answer(request: web.Request) -> web.Response:
            asked.append(request.path)
            if request.path == "/elsewhere":
                raise web.HTTPFound("http://127.0.0.1:1/")
            return web.Response(body=DATA[10:20], status=206)

        application = web.Application()
        application.router.add_get("/{rest:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        url = f"http://127.0.0.1:{port}"
        async with ObjectClient(outside) as strict:
            for host in (url, url.replace("127.0.0.1", "localhost"), f"https://127.0.0.1:{port}", "https://10.0.0.1"):
                with pytest.raises(TransferError, match="inside a local network"):
                    await strict.fetch_range([f"{host}/x?signature"], 100, DIGEST, 10, 10)
            with pytest.raises(TransferError, match="no address of an object store"):
                await strict.fetch_range(["ftp://example.org/x"], 100, DIGEST, 10, 10)
        assert not asked
        async with ObjectClient(inside) as client:
            assert await client.fetch_range([f"{url}/x?signature"], 100, DIGEST, 10, 10) == DATA[10:20]
            with pytest.raises(TransferError, match="answers 302"):
                await client.fetch_range([f"{url}/elsewhere?signature"], 100, DIGEST, 10, 10)
            with pytest.raises(TransferError, match="10 bytes") as told:
                await client.fetch_range([f"{url}/x?signature"], 100, DIGEST, 10, 11)
            assert "signature" not in str(told.value)
        await runner.cleanup()

    asyncio.run(run())


LOCAL = ["2130706433", "127.1", "0x7f.1", "127.0.0.1.", "\uff11\uff12\uff17.0.0.1"]
LOCAL += ["[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]"]


@pytest.mark.parametrize("host", LOCAL)
def test_no_way_to_write_a_local_address_is_overlooked(host: str) -> None:
    with pytest.raises((TransferError, OSError), match=r"inside a local network|DNS"):
        fetch([f"https://{host}:1/x"], 100, 0, 10, private=False)


def test_a_name_that_stands_for_another_address_the_next_time_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["93.184.216.34", "127.0.0.1"]
    connected: list[str] = []

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        address = answers.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def connect(self: object, *args: object, addr_infos: list[tuple[object, ...]], **how: object) -> None:
        connected.append(addr_infos[0][4][0])  # type: ignore[index]
        raise OSError("cut")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr(aiohttp.TCPConnector, "_wrap_create_connection", connect)

    async def run() -> None:
        async with ObjectClient(outside) as client:
            assert client._session is not None and isinstance(client._session.connector, aiohttp.TCPConnector)
            with pytest.raises(OSError):
                await client.fetch_range(["https://store.example/x"], 100, DIGEST, 0, 10)
            client._session.connector.clear_dns_cache()
            with pytest.raises(TransferError, match="inside a local network"):
                await client.fetch_range(["https://store.example/x"], 100, DIGEST, 0, 10)

    asyncio.run(run())
    assert connected == ["93.184.216.34"] and not answers


def test_addresses_of_local_networks_are_known() -> None:
    for address in ("127.0.0.1", "192.168.1.7", "100.64.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "2002:a00:1::"):
        assert not is_global(address)
    assert not is_global("64:ff9b::a00:1") and not is_global("nonsense") and not is_global("")
    for address in ("93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"):
        assert is_global(address)


@pytest.mark.parametrize(
    "address",
    ["224.0.0.1", "ff02::1", "fe80::1", "169.254.169.254", "::ffff:192.168.1.1", "0.0.0.0", "::", "240.0.0.1", "::1"],
)
def test_addresses_that_reach_a_local_network_are_not_the_internets(address: str) -> None:
    assert not is_global(address)
