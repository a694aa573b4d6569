"""What a manager says of an object store is not believed: workers look nowhere else for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web

from podlt.network.buckets import BucketClient, is_private
from podlt.network.transfer import TransferError

DIGEST = bytes(range(32))
DATA = bytes(range(250)) * 4


def fetch(urls: list[str], part: int, offset: int, length: int, *, private: bool = True) -> bytes:
    async def ask() -> bytes:
        async with BucketClient(private) as client:
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
        async with BucketClient(False) as strict:
            for host in (url, url.replace("127.0.0.1", "localhost"), f"https://127.0.0.1:{port}", "https://10.0.0.1"):
                with pytest.raises(TransferError, match="inside a local network"):
                    await strict.fetch_range([f"{host}/x?signature"], 100, DIGEST, 10, 10)
            with pytest.raises(TransferError, match="no address of an object store"):
                await strict.fetch_range(["ftp://example.org/x"], 100, DIGEST, 10, 10)
        assert not asked
        async with BucketClient(True) as client:
            assert await client.fetch_range([f"{url}/x?signature"], 100, DIGEST, 10, 10) == DATA[10:20]
            with pytest.raises(TransferError, match="answers 302"):
                await client.fetch_range([f"{url}/elsewhere?signature"], 100, DIGEST, 10, 10)
            with pytest.raises(TransferError, match="10 bytes") as told:
                await client.fetch_range([f"{url}/x?signature"], 100, DIGEST, 10, 11)
            assert "signature" not in str(told.value)
        await runner.cleanup()

    asyncio.run(run())


def test_a_manager_is_inside_a_network_by_its_address() -> None:
    assert (
        is_private("https://127.0.0.1:4430") and is_private("https://192.168.1.7:1") and is_private("https://[::1]:1")
    )
    assert not is_private("https://93.184.216.34:4430") and not is_private("nonsense")
