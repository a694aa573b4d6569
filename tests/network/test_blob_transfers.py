"""A worker's carrier of large blobs: wires that are cut, managers that are killed, object stores that lie."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from cutting import Wire
from web import Web, until

from podlt.addresses import is_global
from podlt.crypto import SigningKey, blob_digest
from podlt.errors import InvalidProofError, PodltError, UsageError
from podlt.network.bandwidth import Bandwidth
from podlt.network.blobs import client, https_connection, object_store
from podlt.network.blobs.client import BlobTransfers, TransferEnded
from podlt.network.blobs.https_connection import place_of
from podlt.network.blobs.jobs import BadBlobError, BlobBuffer, BlobJob
from podlt.network.blobs.object_store import ObjectStore
from podlt.network.blobs.objects import ObjectError, fetch_objects
from podlt.network.blobs.server import BlobServer

WORKER, OTHER = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
SIZE = 5 * 2**20
DATA = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
DIGEST = blob_digest(DATA.data)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    one = Web(tmp_path / "web")
    yield one
    one.close()


@pytest.fixture
def server(web: Web, tmp_path: Path) -> Iterator[BlobServer]:
    one = web.blobs(tmp_path / "run")
    one.admitted.add(WORKER.public)
    yield one
    one.close()


@pytest.fixture
def carriers(web: Web) -> Iterator[Callable[..., BlobTransfers]]:
    begun: list[BlobTransfers] = []

    def begin(port: int = 0, **options: object) -> BlobTransfers:
        urls = [f"https://127.0.0.1:{port or web.port}"]
        begun.append(BlobTransfers(urls, web.host.fingerprint, [WORKER, OTHER], **options))  # type: ignore[arg-type]
        return begun[-1]

    yield begin
    for carrier in begun:
        carrier.close()


def empty() -> BlobBuffer:
    return BlobBuffer(np.zeros(SIZE, np.uint8))


def ended(carrier: BlobTransfers) -> TransferEnded:
    found: TransferEnded = until(lambda: next(iter(carrier.ended()), None))
    return found


def fetched(carrier: BlobTransfers, place: BlobBuffer, digest: bytes = DIGEST) -> TransferEnded:
    carrier.fetch(WORKER.public, digest, place)
    return ended(carrier)


def test_a_download_that_is_cut_goes_on_where_it_was(
    web: Web, server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    server.offer(DIGEST, DATA)
    wire, place = Wire(web.port, [SIZE // 3, SIZE // 4, 100, SIZE // 5]), empty()
    assert fetched(carriers(wire.port), place).error is None
    assert np.array_equal(place.data, DATA)
    assert wire.connections == 5 and SIZE < wire.down < 1.2 * SIZE


def test_an_upload_that_is_cut_goes_on_where_it_was(
    web: Web, server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    assert not server.expect(WORKER.public, DIGEST, SIZE)
    wire = Wire(web.port, [SIZE // 3, SIZE // 4, 100, SIZE // 5])
    carriers(wire.port).send(WORKER.public, DIGEST, DATA)
    (done,) = until(lambda: server.uploaded() or None)
    assert (done.key, done.digest, done.error) == (WORKER.public, DIGEST, "")
    assert np.array_equal(server.open(DIGEST), DATA)
    assert wire.connections >= 5 and SIZE < wire.up < 1.5 * SIZE


def test_a_connection_is_used_again(web: Web, server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    server.offer(DIGEST, DATA)
    wire = Wire(web.port, [])
    carrier = carriers(wire.port)
    for _ in range(3):
        assert fetched(carrier, empty()).error is None
    server.expect(WORKER.public, DIGEST, SIZE)
    carrier.send(WORKER.public, DIGEST, DATA)
    until(lambda: server.uploaded() or None)
    assert wire.connections == 1


def test_what_is_refused_or_wrong_is_said(server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    carrier = carriers()
    assert "answers 403: this key may not have this blob now" in str(fetched(carrier, empty()).error)
    changed = DATA.copy()
    changed[-1] ^= 1
    server.offer(DIGEST, changed)
    place = empty()
    assert isinstance(fetched(carrier, place).error, BadBlobError) and place.offset == 0
    server.expect(WORKER.public, DIGEST, SIZE)
    carrier.send(WORKER.public, DIGEST, changed)
    assert isinstance(ended(carrier).error, BadBlobError)
    (refused,) = until(lambda: server.uploaded() or None)
    assert refused.key == WORKER.public and "digest mismatch" in refused.error
    server.shut_out(WORKER.public)
    carrier.send(WORKER.public, DIGEST, DATA)
    assert "no such update is expected" in str(ended(carrier).error)


def test_a_certificate_that_the_setup_does_not_name_is_not_talked_to(web: Web, server: BlobServer) -> None:
    carrier = BlobTransfers(web.host.urls, bytes(32), [WORKER])
    assert "is not the one that the setup names" in str(fetched(carrier, empty()).error)
    carrier.close()


@pytest.mark.parametrize("wrong_by", [-86_400_000, 86_400_000])
def test_a_worker_whose_clock_is_wrong_learns_the_time(
    server: BlobServer, carriers: Callable[..., BlobTransfers], wrong_by: int
) -> None:
    server.offer(DIGEST, DATA)
    carrier = carriers(wall=lambda: time.time_ns() // 10**6 + wrong_by)
    assert fetched(carrier, empty()).error is None


def test_a_fetch_that_is_cancelled_touches_its_memory_no_more(
    server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    big = np.ones(64 * 2**20, np.uint8)
    digest = blob_digest(big.data)
    server.offer(digest, big)
    carrier, place = carriers(), BlobBuffer(np.zeros(big.nbytes, np.uint8))
    carrier.fetch(WORKER.public, digest, place)
    until(lambda: place.offset > 0)
    carrier.cancel(b"", digest)
    came = place.offset
    place.data[:] = 7
    time.sleep(0.05)
    assert place.offset == came < big.nbytes and (place.data == 7).all() and not carrier.busy
    server.offer(DIGEST, DATA)
    assert fetched(carrier, empty()).error is None, "others go on"


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2], str(Path(sys.argv[2]).parent / "shared")
from test_blob_transfers import DIGEST, SIZE, WORKER, Web
web = Web(Path(sys.argv[1]) / "web", int(sys.argv[3]))
server = web.blobs(Path(sys.argv[1]) / "run")
server.expect(WORKER.public, DIGEST, SIZE)
print(web.port, flush=True)
while not (done := server.uploaded()):
    time.sleep(0.01)
print(repr(done[0].error), flush=True)
sys.stdin.read()
"""


def test_an_upload_begins_anew_where_the_manager_was_killed(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)

    def manager(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), here, str(port)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    first = manager(0)
    assert first.stdout is not None
    port = int(first.stdout.readline())
    import hashlib

    from podlt.access import certificate as tls

    fingerprint = hashlib.sha256(tls.load_or_create(tmp_path / "web")).digest()
    wire = Wire(port, [])
    carrier = BlobTransfers([f"https://127.0.0.1:{wire.port}"], fingerprint, [WORKER])
    try:
        carrier.send(WORKER.public, DIGEST, DATA)
        until(lambda: wire.up > SIZE // 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not list((tmp_path / "run" / "blobs").iterdir()), "nothing of it stays on the disk"
        second = manager(port)
        assert second.stdout is not None and int(second.stdout.readline()) == port
        lines: list[str] = []
        threading.Thread(target=lambda: lines.append(second.stdout.readline().strip()), daemon=True).start()

        def done() -> bool:
            carrier.send(WORKER.public, DIGEST, DATA)  # as the manager asks again and again
            return bool(lines)

        until(done)
        assert lines == ["''"]
        second.kill()
        second.wait()
    finally:
        carrier.close()


# -- servers that a manager names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "127.1"]
)
def test_a_server_in_ones_own_network_is_asked_by_no_name_of_it_that_the_invitation_does_not_have(host: str) -> None:
    """A listener counts connections: there must be none, whatever the manager calls it."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    carrier = BlobTransfers([f"https://{host}:{listening.getsockname()[1]}"], bytes(32), [WORKER], ["manager.example"])
    carrier.fetch(WORKER.public, DIGEST, empty())
    assert ended(carrier).error is not None
    with pytest.raises(TimeoutError):
        listening.accept()
    carrier.close()
    listening.close()


def test_only_the_origin_of_an_https_server_is_a_server() -> None:
    assert place_of("https://[::1]:44") == ("https", "::1", 44) and place_of("https://a.example").port == 443
    wrong = ["http://a:1", "https://a:1/reboot?", "https://u@a:1", "https://a:99999", "https://a\uff0e:1", "nonsense"]
    for url in [*wrong, "https://[", "", "https://a:1 HTTP/1.1\r\nX:"]:
        with pytest.raises(InvalidProofError, match="expected https://HOST:PORT"):
            place_of(url)


def test_addresses_of_local_networks_are_known() -> None:
    inside = ["127.0.0.1", "192.168.1.7", "100.64.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "2002:a00:1::"]
    inside += ["224.0.0.1", "ff02::1", "fe80::1", "169.254.169.254", "::ffff:192.168.1.1", "0.0.0.0", "::", "240.0.0.1"]
    for address in [*inside, "64:ff9b::a00:1", "nonsense", ""]:
        assert not is_global(address)
    for address in ("93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"):
        assert is_global(address)


# -- object stores -----------------------------------------------------------------------------------------------------


class Device(BaseHTTPRequestHandler):
    """What stands in a worker's own network, and may be an object store."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = DATA[int(first) : int(last) + 1].tobytes()
        self.send_response(302 if "elsewhere" in self.path else 206)
        self.send_header("Content-Length", str(len(part) - ("short" in self.path)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def device() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Device)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    Device.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/reboot"
    server.shutdown()
    server.server_close()


def test_a_manager_is_not_inside_a_workers_network_because_it_says_so(
    web: Web,
    server: BlobServer,
    carriers: Callable[..., BlobTransfers],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carrier = carriers(1)
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    carrier.fetch(WORKER.public, DIGEST, empty(), [device], SIZE)
    ended(carrier)
    carrier.move(web.host.urls, bytes(32))
    carrier.fetch(WORKER.public, DIGEST, empty(), [device], SIZE)
    ended(carrier)
    carrier.move(web.host.urls, web.host.fingerprint)
    with monkeypatch.context() as outside:
        outside.setattr(client, "is_global", lambda address: True)
        carrier.fetch(WORKER.public, DIGEST, empty(), [device], SIZE)
        ended(carrier)
    assert not Device.asked
    place = empty()
    carrier.fetch(WORKER.public, DIGEST, place, [device], SIZE)
    assert ended(carrier).error is None and Device.asked and np.array_equal(place.data, DATA)


def objects(urls: list[str], part: int, offset: int, stop: int, *, private: bool = True) -> bytes:
    """What is fetched of objects that hold the first 1000 bytes of DATA."""
    place = BlobBuffer(np.zeros(stop, np.uint8))
    place.offset = offset
    fetch_objects(urls, part, DIGEST, place, BlobJob(Bandwidth()), lambda: private)
    return place.data[offset:].tobytes()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / DIGEST.hex()).mkdir()
    for number, start in enumerate(range(0, 1000, 300)):
        (tmp_path / DIGEST.hex() / f"{number:06d}").write_bytes(DATA[start : min(start + 300, 1000)].tobytes())
    return [f"file://{tmp_path}/{DIGEST.hex()}/{number:06d}" for number in range(4)]


@pytest.mark.parametrize(("offset", "stop"), [(0, 1000), (299, 301), (300, 600), (950, 1000), (10, 10)])
def test_ranges_may_lie_in_several_objects(files: list[str], offset: int, stop: int) -> None:
    assert objects(files, 300, offset, stop, private=False) == DATA[offset:stop].tobytes()


def test_only_files_that_are_named_as_objects_are_read(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    other = tmp_path / "other" / DIGEST.hex()
    other.mkdir(parents=True)
    (other / "000000").symlink_to(tmp_path / "secret")
    os.mkfifo(other / "000001")
    for wrong in ([f"file://{tmp_path}/secret"], files[1:]):
        with pytest.raises(ObjectError, match="not that of an object"):
            objects(wrong, 300, 0, 10)
    for start in (0, 300):
        with pytest.raises(OSError):
            objects([f"file://{other}/{number:06d}" for number in range(2)], 300, start, start + 10)
    for part in (300, 0):
        with pytest.raises(ObjectError, match="in none of its 4 objects"):
            objects(files, part, 1200, 1201)


LOCAL = ["2130706433", "127.1", "0x7f.1", "127.0.0.1", "10.0.0.1", "localhost", "[::1]", "[::ffff:10.0.0.1]"]
LOCAL += ["[64:ff9b::7f00:1]", "\uff11\uff12\uff17.0.0.1"]


@pytest.mark.parametrize("host", LOCAL)
def test_no_way_to_write_a_local_address_is_overlooked(host: str) -> None:
    with pytest.raises((PodltError, OSError), match=r"inside a local network|not known|expected https"):
        objects([f"https://{host}:1/x"], 100, 0, 10, private=False)


def test_a_server_of_objects_that_does_otherwise_is_done_without_and_its_signature_is_not_logged(device: str) -> None:
    assert objects([device], SIZE, 10, 20) == DATA[10:20].tobytes()
    for url in (f"{device}/elsewhere?signature", f"{device}/short?signature"):
        with pytest.raises(ObjectError, match=r"answers (302|206), (10|9) bytes") as said:
            objects([url], SIZE, 10, 20)
        assert "signature" not in str(said.value)
    with pytest.raises(ObjectError, match="has no TLS"):
        objects([device], SIZE, 0, 10, private=False)
    with pytest.raises(InvalidProofError):
        objects(["ftp://example.org/x"], SIZE, 0, 10)


def test_a_name_that_stands_for_another_address_the_next_time_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, connected = ["93.184.216.34", "127.0.0.1"], list[str]()

    def resolve(host: str, port: int, **how: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (answers.pop(0), port))]

    def connect(self: socket.socket, where: tuple[str, int]) -> None:
        connected.append(where[0])
        raise OSError("cut")

    monkeypatch.setattr(https_connection.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(https_connection.socket, "socket", type("Cut", (socket.socket,), {"connect": connect}))
    with pytest.raises(OSError, match="cut"):
        objects(["https://store.example/x"], 100, 0, 10, private=False)
    with pytest.raises(ObjectError, match="inside a local network"):
        objects(["https://store.example/x"], 100, 0, 10, private=False)
    assert connected == ["93.184.216.34"] and not answers


@pytest.mark.parametrize("size", [0, 1, 10_240, 2000])
def test_a_blob_goes_to_an_object_store_and_comes_back(tmp_path: Path, size: int) -> None:
    data, store = DATA[:size], ObjectStore(f"file://{tmp_path}/remote")
    digest, place = blob_digest(data.data), BlobBuffer(np.zeros(size, np.uint8))

    async def put() -> list[str]:
        await asyncio.gather(store.put(data, digest, 1000), store.put(data, digest, 1000))
        return await store.urls(digest, size, 1000)

    fetch_objects(asyncio.run(put()), 1000, digest, place, BlobJob(Bandwidth()), lambda: False)
    place.check(digest)


def test_what_is_there_is_not_overwritten_and_what_is_not_is_added(tmp_path: Path) -> None:
    store, data = ObjectStore(f"file://{tmp_path}/remote"), DATA[:10_240]
    asyncio.run(store.put(data, DIGEST, 1000))
    files = sorted((tmp_path / "remote" / DIGEST.hex()).iterdir())
    assert [file.name for file in files] == [f"{number:06d}" for number in range(11)]
    files[0].write_bytes(b"kept as it is")
    files[4].unlink()
    asyncio.run(store.put(data, DIGEST, 1000))
    assert files[0].read_bytes() == b"kept as it is" and files[4].read_bytes() == data[4000:5000].tobytes()
    asyncio.run(store.remove(DIGEST, 10_240, 1000))
    assert not (tmp_path / "remote" / DIGEST.hex()).exists()


@pytest.mark.parametrize("url", ["", "/tmp/x", "ftp://host/x", "s3:bucket"])
def test_other_urls_are_no_object_stores(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of an object store"):
        ObjectStore(url)


@pytest.mark.slow
def test_s3_is_such_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {**settings, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="podlt")
    store, place = ObjectStore("s3://podlt/run"), empty()

    async def put() -> list[str]:
        await asyncio.gather(store.put(DATA, DIGEST, 2**20), store.put(DATA, DIGEST, 2**20))
        await store._create(DIGEST, 0, memoryview(b"not over what is there"))
        return await store.urls(DIGEST, SIZE, 2**20)

    fetch_objects(asyncio.run(put()), 2**20, DIGEST, place, BlobJob(Bandwidth()), lambda: True)
    server.stop()
    place.check(DIGEST)


def test_objects_are_no_longer_than_a_message_can_name() -> None:
    assert object_store.part_of(1) == object_store.OBJECT
    assert -(-(2**40) // object_store.part_of(2**40)) <= 256
