"""The manager's server of blobs over real TLS: what a worker may do, and what nobody may."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podlt.crypto import SigningKey, blob_digest
from podlt.errors import InvalidProofError, PodltError
from podlt.network.access import tokens
from podlt.network.blobs import endpoint as http
from podlt.network.blobs import http_client, transfer
from podlt.network.blobs.endpoint import BlobEndpoint, Limits
from podlt.network.blobs.http_client import BlobClient, is_inside
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import BadBlobError, TransferError, download, upload
from podlt.network.token_bucket import TokenBucket

WORKER, STRANGER = SigningKey(bytes(32)), SigningKey(b"\1" * 32)
DATA = np.random.default_rng(3).integers(0, 256, 300_000, np.uint8).tobytes()
DIGEST = blob_digest(DATA)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transfer, http):
        monkeypatch.setattr(module, "RANGE", 2**16)
    monkeypatch.setattr(http, "STEP", 2**14)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "podlt")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
    certificate = builder.not_valid_after(now + datetime.timedelta(9)).sign(key, hashes.SHA256())
    (folder / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pkcs8, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, clear))
    return folder / "certificate", folder / "key"


class Place:
    """A server and what is around it."""

    def __init__(self, endpoint: BlobEndpoint, store: BlobStore, port: int, fingerprint: bytes, tmp: Path) -> None:
        self.endpoint, self.store, self.port, self.fingerprint = endpoint, store, port, fingerprint
        self.url = f"https://127.0.0.1:{port}"
        self.worker_store = BlobStore(tmp / "worker", 2**30)

    def client(self, key: SigningKey = WORKER, **how: object) -> BlobClient:
        return BlobClient(self.url, self.fingerprint, key, **how)  # type: ignore[arg-type]

    async def raw(self, method: str, path: str, purpose: tokens.Purpose = "read", **how: object) -> tuple[int, str]:
        """A question in whatever words."""
        digest = bytes.fromhex(path[-64:])
        line = tokens.write(WORKER, purpose, digest, self.fingerprint, int(1000 * time.time()))
        headers = {"Authorization": line} | how.pop("headers", {})  # type: ignore[call-overload, operator]
        connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(self.fingerprint))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.url + path, headers=headers, **how) as response,  # type: ignore[arg-type]
        ):
            return response.status, (await response.read()).decode(errors="replace")


Case = Callable[[Place], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(tmp_path: Path, pems: tuple[Path, Path]) -> Play:
    """Starts a server that holds DATA, plays a case, and stops it."""

    def run(case: Case, limits: Limits | None = None, clock: Callable[[], float] = time.time) -> None:
        @asynccontextmanager
        async def place() -> AsyncIterator[Place]:
            store = BlobStore(tmp_path / "manager", 2**30)
            store.put(DATA)
            endpoint = BlobEndpoint(store, *pems, lambda key, digest: key == WORKER.public, limits=limits, clock=clock)
            port = await endpoint.start("127.0.0.1")
            try:
                yield Place(endpoint, store, port, tokens.fingerprint(pems[0].read_bytes()), tmp_path)
            finally:
                await endpoint.stop()

        async def whole() -> None:
            async with place() as there:
                await asyncio.wait_for(case(there), 120)

        asyncio.run(whole())

    return run


def test_a_worker_fetches_a_blob_in_ranges(play: Play) -> None:
    async def case(place: Place) -> None:
        async with place.client() as client:
            await download(place.worker_store, DIGEST, len(DATA), client.fetch_range, 2**20)
            assert await client.fetch_range(DIGEST, 7, 1) == DATA[7:8]
        assert place.worker_store.open(DIGEST).tobytes() == DATA
        status, text = await place.raw("GET", f"/blobs/{DIGEST.hex()}")
        assert status == 200 and len(text) > 0

    play(case)


def test_a_stranger_and_a_blob_for_others_are_refused(play: Play) -> None:
    async def case(place: Place) -> None:
        async with place.client(STRANGER) as client:
            for digest in (DIGEST, bytes(32)):  # not even whether it is there is said
                with pytest.raises(TransferError, match="refused with 403"):
                    await client.fetch_range(digest, 0, 10)
        async with place.client() as client:
            with pytest.raises(TransferError, match="refused with 404"):
                await client.fetch_range(bytes(32), 0, 10)
            for purpose in (client.progress(DIGEST, 10), client.send(DIGEST, 10, 0, b"x")):
                with pytest.raises(TransferError, match="refused with 403"):
                    await purpose

    play(case)


def test_a_manager_is_inside_a_network_only_by_a_connection_that_shows_its_certificate(
    play: Play, pems: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def device(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=401)

    async def case(place: Place) -> None:
        assert await is_inside(place.url, place.fingerprint)
        assert not await is_inside(place.url, bytes(32)), "another's certificate"
        assert not await is_inside("https://127.0.0.1:1", place.fingerprint), "nobody is there"
        for url in (place.url.replace("https", "http"), f"{place.url}/reboot?", "nonsense", "https://[", ""):
            assert not await is_inside(url, place.fingerprint), url
            with pytest.raises(InvalidProofError, match="expected https://HOST:PORT"):
                BlobClient(url, place.fingerprint, WORKER)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*pems)
        application = web.Application()
        application.router.add_get("/{rest:.*}", device)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        assert not await is_inside(f"https://127.0.0.1:{port}", place.fingerprint), "a device's certificate is known"
        await runner.cleanup()
        monkeypatch.setattr(http_client, "is_global", lambda address: address == "127.0.0.1")
        assert not await is_inside(place.url, place.fingerprint), "it is outside"

    play(case)
    assert asked == ["/blobs/" + "00" * 32]


def test_another_certificate_than_the_invitations_is_not_talked_to(play: Play) -> None:
    async def case(place: Place) -> None:
        place.fingerprint = bytes(32)
        async with place.client() as client:
            with pytest.raises(TransferError, match="certificate is not the one that the setup names"):
                await client.fetch_range(DIGEST, 0, 10)

    play(case)


@pytest.mark.parametrize("wrong_by", [-86_400, 86_400])
def test_a_worker_whose_clock_is_wrong_learns_the_time(play: Play, wrong_by: float) -> None:
    async def case(place: Place) -> None:
        async with place.client(clock=lambda: time.time() + wrong_by) as client:
            assert await client.fetch_range(DIGEST, 0, 10) == DATA[:10]

    play(case)


def test_only_a_pass_for_this_blob_this_purpose_and_this_server_counts() -> None:
    server, now = b"\7" * 32, 10**12
    line = tokens.write(WORKER, "read", DIGEST, server, now)
    assert tokens.check(line, "read", DIGEST, server, now) == WORKER.public
    other = STRANGER.public.hex() + line[6 + 64 :]
    for bad in (
        "",
        "Podlt",
        line + "0",
        line[:-2],
        line + " ",
        "Basic" + line[5:],
        "Podlt " + other,
        line.replace(".", ","),
    ):
        with pytest.raises(InvalidProofError):
            tokens.check(bad, "read", DIGEST, server, now)
    for purpose, blob, place in (("write", DIGEST, server), ("read", bytes(32), server), ("read", DIGEST, bytes(32))):
        with pytest.raises(InvalidProofError, match="not signed"):
            tokens.check(line, purpose, blob, place, now)  # type: ignore[arg-type]
    for late in (now + tokens.LIFETIME // 2, now - tokens.LIFETIME // 2 - 1, now + 10**10):
        with pytest.raises(InvalidProofError, match="expired, or valid for too long"):
            tokens.check(line, "read", DIGEST, server, late)


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=0-300000", "bytes=-5", "bytes=5-", "bytes=0-1,3-4", "lines=0-1", "bytes=0-" + 30 * "9"],
)
def test_a_range_that_is_not_one_of_the_blob_is_refused(play: Play, asked: str) -> None:
    async def case(place: Place) -> None:
        assert (await place.raw("GET", f"/blobs/{DIGEST.hex()}", headers={"Range": asked}))[0] == 416

    play(case)


def test_paths_lead_nowhere_else(play: Play) -> None:
    async def case(place: Place) -> None:
        for path in ("/", "/blobs/", f"/blobs/../manager/{DIGEST.hex()}", f"/blobs/%2e%2e/{DIGEST.hex()}"):
            padded = path if path.endswith(DIGEST.hex()) else path + "?" + DIGEST.hex()
            assert (await place.raw("GET", padded))[0] == 404
        assert (await place.raw("DELETE", f"/blobs/{DIGEST.hex()}"))[0] == 405

    play(case)


def test_an_update_that_is_expected_is_uploaded_and_checked(play: Play) -> None:
    async def case(place: Place) -> None:
        update = DATA[::-1]
        digest = place.worker_store.put(update)
        done = place.endpoint.expect(WORKER.public, digest, len(update))
        assert place.endpoint.expect(WORKER.public, digest, len(update)) is done
        async with place.client() as client:
            await upload(place.worker_store, digest, client)
            assert done.done() and place.store.open(digest).tobytes() == update
            await upload(place.worker_store, digest, client)  # the answer was lost: it is told again
            place.endpoint.cancel(WORKER.public, digest)
            with pytest.raises(TransferError, match="refused with 403"):
                await upload(place.worker_store, digest, client)

    play(case)


def test_an_upload_is_gone_on_with_after_the_server_was_replaced(play: Play) -> None:
    update = DATA[::-1]
    digest = blob_digest(update)

    async def first(place: Place) -> None:
        place.endpoint.expect(WORKER.public, digest, len(update))
        async with place.client() as client:
            await client.send(digest, len(update), 0, update[: 2**16])
            with pytest.raises(OSError, match="409: 65536 of 300000 bytes are here"):
                await client.send(digest, len(update), 0, update[: 2**16])

    async def second(place: Place) -> None:
        done = place.endpoint.expect(WORKER.public, digest, len(update))
        async with place.client() as client:
            assert await client.progress(digest, len(update)) == 2**16
            place.worker_store.put(update)
            await upload(place.worker_store, digest, client)
        assert done.done() and place.store.verify(digest)

    play(first)
    play(second)


def test_a_wrong_update_is_deleted_and_its_sender_is_named(play: Play) -> None:
    async def case(place: Place) -> None:
        digest = blob_digest(b"promised")
        done = place.endpoint.expect(WORKER.public, digest, 8)
        other = place.endpoint.expect(STRANGER.public, digest, 8)  # a replica with the same promise, which keeps it
        async with place.client() as client, place.client(STRANGER) as replica:
            await replica.send(digest, 8, 0, b"prom")
            with pytest.raises(BadBlobError):
                await client.send(digest, 8, 0, b"rubbish!")
            with pytest.raises(BadBlobError, match=WORKER.public.hex()) as caught:
                await done
            assert caught.value.sender == WORKER.public.hex() and not place.store.has(digest)
            await replica.send(digest, 8, 4, b"ised")
            await other
        assert place.store.open(digest).tobytes() == b"promised"

    play(case)


def test_nobody_is_blamed_for_bytes_that_were_here_before_the_server(play: Play) -> None:
    async def case(place: Place) -> None:
        digest = place.worker_store.put(b"promised")
        with place.store.partial(digest, 8, owner=WORKER.public) as partial:
            partial.append(b"???")
        done = place.endpoint.expect(WORKER.public, digest, 8)
        async with place.client() as client:
            await upload(place.worker_store, digest, client)
        await done
        assert place.store.verify(digest)

    play(case)


def test_an_upload_takes_no_more_than_was_promised(play: Play) -> None:
    async def case(place: Place) -> None:
        digest = blob_digest(b"promised")
        place.endpoint.expect(WORKER.public, digest, 8)
        path, start = f"/uploads/{digest.hex()}", {http.OFFSET: "0"}

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield bytes(2**14)

        assert (await place.raw("PATCH", path, "write", headers=start, data=endless()))[0] == 413
        assert (await place.raw("PATCH", path, "write", headers=start, data=bytes(2**16 + 1)))[0] == 413
        assert (await place.raw("PATCH", path, "write", headers=start, data=b"too long!"))[0] == 409
        assert (await place.raw("PATCH", path, "write", headers={http.OFFSET: "3"}, data=b"mised"))[0] == 409
        assert (await place.raw("PATCH", path, "write", headers={http.OFFSET: "-0"}, data=b"x"))[0] == 409
        assert place.store.used() == len(DATA)
        # and what looks compressed is not unpacked
        headers = start | {"Content-Encoding": "gzip"}
        assert (await place.raw("PATCH", path, "write", headers=headers, data=b"promised"))[0] == 200
        assert place.store.verify(digest)

    play(case)


def test_a_full_folder_is_said_and_may_be_tried_again(play: Play) -> None:
    async def case(place: Place) -> None:
        digest = place.worker_store.put(b"promised")
        place.endpoint.expect(WORKER.public, digest, 8)
        place.store.limit = len(DATA) + 7
        async with place.client() as client:
            with pytest.raises(TransferError, match="answers 507"):
                await upload(place.worker_store, digest, client, attempts=2)
            place.store.limit = len(DATA) + 8
            await upload(place.worker_store, digest, client)

    play(case)


async def _talk(place: Place, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=context)
    writer.write(data)
    return reader, writer


def test_half_a_message_and_silence_is_cut_off_and_its_bytes_are_kept(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.1)

    async def case(place: Place) -> None:
        digest = place.worker_store.put(b"promised")
        place.endpoint.expect(WORKER.public, digest, 8)
        line = tokens.write(WORKER, "write", digest, place.fingerprint, int(1000 * time.time()))
        head = f"PATCH /uploads/{digest.hex()} HTTP/1.1\r\nHost: x\r\nAuthorization: {line}\r\nUpload-Offset: 0\r\n"
        silent = [b"", b"GET /blo", head.encode(), head.encode() + b"Content-Length: 8\r\n\r\nprom"]
        links = [await _talk(place, data) for data in silent]
        for reader, writer in links:
            rest = await asyncio.wait_for(reader.read(), 30)
            assert rest == b"" or b"408" in rest
            writer.close()
        async with place.client() as client:
            assert await client.progress(digest, 8) == 4

    play(case, limits=Limits(idle_seconds=0.5))


def test_a_worker_that_comes_back_need_not_wait_for_its_old_connection(play: Play) -> None:
    async def case(place: Place) -> None:
        digest = place.worker_store.put(b"promised")
        done = place.endpoint.expect(WORKER.public, digest, 8)
        line = tokens.write(WORKER, "write", digest, place.fingerprint, int(1000 * time.time()))
        head = f"PATCH /uploads/{digest.hex()} HTTP/1.1\r\nHost: x\r\nAuthorization: {line}\r\nUpload-Offset: 0\r\n"
        reader, writer = await _talk(place, head.encode() + b"Content-Length: 8\r\n\r\nprom")
        while place.store.used() < len(DATA) + 4:
            await asyncio.sleep(0.01)
        async with place.client() as client:
            await asyncio.wait_for(upload(place.worker_store, digest, client), 30)
        await done
        with pytest.raises((ConnectionError, AssertionError)):
            assert await reader.read()
        writer.close()

    play(case, limits=Limits(idle_seconds=3600))


def test_a_reader_that_does_not_read_is_cut_off(play: Play) -> None:
    big = bytes(16 * 2**20)

    async def case(place: Place) -> None:
        digest = place.store.put(big)
        line = tokens.write(WORKER, "read", digest, place.fingerprint, int(1000 * time.time()))
        head = f"GET /blobs/{digest.hex()} HTTP/1.1\r\nHost: x\r\nAuthorization: {line}\r\n\r\n"
        reader, writer = await _talk(place, head.encode())
        await asyncio.sleep(1.0)
        got = 0
        with pytest.raises((ConnectionError, AssertionError)):
            while data := await asyncio.wait_for(reader.read(2**20), 30):
                got += len(data)
            assert got >= len(big)
        writer.close()

    play(case, limits=Limits(idle_seconds=0.5))


def test_more_requests_or_connections_than_allowed_are_turned_away(play: Play) -> None:
    async def case(place: Place) -> None:
        async with place.client() as client:
            answers = [client.fetch_range(DIGEST, 0, 2**16) for _ in range(6)]
            results = await asyncio.gather(*answers, return_exceptions=True)
        busy = [result for result in results if isinstance(result, OSError)]
        assert busy and all("429" in str(result) for result in busy)
        assert any(result == DATA[: 2**16] for result in results)
        held = [await _talk(place, b"") for _ in range(8)]
        async with place.client() as client:
            with pytest.raises(OSError):
                await client.fetch_range(DIGEST, 0, 1)
        for _, writer in held:
            writer.close()
        async with place.client() as client:
            while True:  # until the server knows that they are gone
                with suppress(OSError):
                    assert await client.fetch_range(DIGEST, 0, 1) == DATA[:1]
                    break
                await asyncio.sleep(0.02)

    play(case, limits=Limits(requests=1, connections=8, rate=2e5))


def test_a_download_survives_cuts_of_the_connection(play: Play) -> None:
    async def case(place: Place) -> None:
        left = [100_000, 30_000, 150_000, 2**30]  # bytes that each connection lets through

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            room = left.pop(0) if left else 2**30
            there, back = await asyncio.open_connection("127.0.0.1", place.port)

            async def outward() -> None:
                while data := await reader.read(2**14):
                    back.write(data)

            task = asyncio.ensure_future(outward())
            while room > 0 and (data := await there.read(2**13)):
                room -= len(data)
                writer.write(data)
                await writer.drain()
            task.cancel()
            writer.transport.abort()
            back.transport.abort()

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        place.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with place.client() as client:
            await download(place.worker_store, DIGEST, len(DATA), client.fetch_range, 2**20, window=1)
        assert place.worker_store.verify(DIGEST) and len(left) <= 1
        server.close()

    play(case)


def test_a_bucket_holds_to_its_rate_whatever_the_clock_does() -> None:
    bucket = TokenBucket(rate=100, burst=50)
    assert bucket.take(50, 1000.0) == 0
    assert bucket.take(100, 1000.0) == pytest.approx(1.0)
    assert bucket.take(10, 900.0) == pytest.approx(1.1)
    assert bucket.take(0, 901.1) == pytest.approx(0.0)
    assert bucket.take(60, 9999.0) == pytest.approx(0.1)


def test_who_is_not_admitted_fetches_at_a_rate_that_all_such_workers_share(
    tmp_path: Path, pems: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    members: set[bytes] = set()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    limits = Limits(newcomer_rate=1e5, newcomers_rate=1.5e5)
    store = BlobStore(tmp_path / "store", 2**30)
    endpoint = BlobEndpoint(store, *pems, lambda *_: True, is_member=members.__contains__, limits=limits)

    async def case() -> None:
        async with asyncio.timeout(60) as silence:
            for key, nbytes in ((b"one", 132_768), (b"two", 32_768), (b"one", 0)):
                await endpoint._pace(key, nbytes, silence)
            members.add(b"one")
            await endpoint._pace(b"one", 10**9, silence)

    with monkeypatch.context() as patch:
        patch.setattr(http.asyncio, "sleep", sleep)
        asyncio.run(case())
    assert waits[:3] == pytest.approx([1.0, 132_768 / 1.5e5, 1.0], abs=0.05) and waits[3] == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{}", "https://[::ffff:127.0.0.1]:{}", "https://localhost:{}", "https://2130706433:{}",
        "https://0x7f.1:{}", "https://0.0.0.0:{}", "https://127.1:{}",
    ],
)  # fmt: skip
def test_a_server_in_ones_own_network_is_asked_by_no_name_of_it_that_the_invitation_does_not_have(url: str) -> None:
    """A listener counts connections: there must be none, whatever the manager calls it."""

    async def test() -> int:
        came: list[object] = []
        server = await asyncio.start_server(lambda reader, writer: came.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with BlobClient(url.format(port), bytes(32), WORKER, named=named) as client:
            with suppress(PodltError, OSError):
                await asyncio.wait_for(client.fetch_range(bytes(32), 0, 10), 0.5)
        server.close()
        return len(came)

    named = ["manager.example"]
    assert asyncio.run(test()) == 0
    named, url = ["127.0.0.1"], "https://127.0.0.1:{}"
    assert asyncio.run(test()) > 0
