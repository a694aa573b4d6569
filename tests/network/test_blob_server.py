"""The manager's server of large blobs and the worker's carrier: real sockets, cut and killed in the middle."""

from __future__ import annotations

import signal
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

from podlt.crypto import SigningKey, blob_digest
from podlt.errors import UsageError
from podlt.network.access import certificate as tls
from podlt.network.blobs import http_client, transfer
from podlt.network.blobs import server as server_module
from podlt.network.blobs.client import BlobTransfers, TransferEnded, Whole
from podlt.network.blobs.server import BlobServer
from podlt.network.blobs.transfer import BadBlobError, TransferError

WORKER, OTHER = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
RANGE = 2**18
SIZE = 20 * RANGE


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RANGE", RANGE)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


def made(run: Path, **options: object) -> BlobServer:
    folder = run / "server"
    folder.mkdir(parents=True, exist_ok=True)
    tls.load_or_create(folder)
    one = BlobServer(run, folder / tls.CERTIFICATE, folder / tls.PRIVATE_KEY, host="127.0.0.1", **options)  # type: ignore[arg-type]
    one.start()
    return one


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BlobServer]:
    one = made(tmp_path / "run")
    yield one
    one.close(empty=True)


@pytest.fixture
def carriers() -> Iterator[Callable[..., BlobTransfers]]:
    begun: list[BlobTransfers] = []

    def begin(server: BlobServer, port: int = 0, *keys: SigningKey) -> BlobTransfers:
        urls = [f"https://127.0.0.1:{port}"] if port else server.urls
        begun.append(BlobTransfers(urls, server.fingerprint, keys or [WORKER, OTHER]))
        return begun[-1]

    yield begin
    for carrier in begun:
        carrier.close()


def random_bytes(seed: int = 0) -> tuple[bytes, np.ndarray]:
    data = np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)
    return blob_digest(data.data), data


def port_of(server: BlobServer) -> int:
    return int(server.urls[0].rpartition(":")[2])


def fetched(carrier: BlobTransfers, digest: bytes, place: Whole, key: SigningKey = WORKER) -> TransferEnded:
    carrier.fetch(key.public, digest, place)
    return until(lambda: next(iter(carrier.ended()), None))


def until(found: Callable[[], object], seconds: float = 60.0) -> object:  # type: ignore[misc]
    deadline = time.monotonic() + seconds
    while (result := found()) is None or result is False:
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
    return result


def test_admitted_workers_fetch_what_is_offered_and_nobody_else_does(
    server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    digest, data = random_bytes()
    carrier, place = carriers(server), Whole(np.zeros(SIZE, np.uint8))
    server.offer(digest, data)
    refused = fetched(carrier, digest, place)
    assert isinstance(refused.error, TransferError) and "403" in str(refused.error)
    server.admitted.add(WORKER.public)
    assert fetched(carrier, digest, place).error is None
    assert np.array_equal(place.data, data)
    server.withdraw(digest)
    assert "403" in str(fetched(carrier, digest, Whole(np.zeros(SIZE, np.uint8))).error)
    lines, own = random_bytes(1)
    server.offer(lines, own, {OTHER.public})
    assert "403" in str(fetched(carrier, lines, Whole(np.zeros(SIZE, np.uint8))).error)
    assert fetched(carrier, lines, Whole(np.zeros(SIZE, np.uint8)), OTHER).error is None


def test_a_download_that_is_cut_goes_on_where_it_was(
    server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    digest, data = random_bytes()
    server.admitted.add(WORKER.public)
    server.offer(digest, data)
    wire = Wire(port_of(server), [SIZE // 3, SIZE // 4, 100, SIZE // 5])
    place = Whole(np.zeros(SIZE, np.uint8))
    assert fetched(carriers(server, wire.port), digest, place).error is None
    assert np.array_equal(place.data, data)
    assert wire.connections >= 4 and SIZE < wire.down < SIZE + 4 * 3 * RANGE


def test_an_upload_that_is_cut_goes_on_where_it_was(server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    digest, data = random_bytes()
    assert not server.expect(WORKER.public, digest, SIZE)
    wire = Wire(port_of(server), [SIZE // 3, SIZE // 4, 100, SIZE // 5])
    carriers(server, wire.port).send(WORKER.public, digest, data)
    (done,) = until(lambda: server.uploaded() or None)  # type: ignore[misc]
    assert (done.key, done.digest, done.error) == (WORKER.public, digest, "")
    assert np.array_equal(server.open(digest), data)
    assert wire.connections >= 4 and SIZE < wire.up < SIZE + 4 * 2 * RANGE
    assert server.expect(OTHER.public, digest, SIZE), "who commits to the same need not send it"


def test_only_what_was_committed_to_is_taken(server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    digest, data = random_bytes()
    carrier = carriers(server)
    carrier.send(WORKER.public, digest, data)
    until(lambda: carrier.ended() or None)
    assert not server.store.has(digest) and not server.uploaded()
    server.expect(WORKER.public, digest, SIZE)
    wrong = data.copy()
    wrong[SIZE // 2] ^= 1
    carrier.send(WORKER.public, digest, wrong)
    (refused,) = until(lambda: server.uploaded() or None)  # type: ignore[misc]
    assert refused.key == WORKER.public and "digest mismatch" in refused.error
    assert not server.store.has(digest)


def test_who_is_shut_out_uploads_nothing_more(server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    digest, data = random_bytes()
    server.expect(WORKER.public, digest, SIZE)
    server.shut_out(WORKER.public)
    assert not server.waiting
    carrier = carriers(server)
    carrier.send(WORKER.public, digest, data)
    until(lambda: carrier.ended() or None)
    assert not server.store.has(digest) and not server.uploaded()


def test_blobs_go_with_their_round(server: BlobServer, carriers: Callable[..., BlobTransfers]) -> None:
    digest, data = random_bytes()
    server.expect(WORKER.public, digest, SIZE)
    carriers(server).send(WORKER.public, digest, data)
    until(lambda: server.uploaded() or None)
    update = server.open(digest)
    server.clear()
    assert not server.store.has(digest) and server.store.used() == 0
    assert np.array_equal(update, data), "what is mapped stays until it is let go"


def test_a_fetch_that_is_cancelled_touches_its_memory_no_more(
    server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    digest, data = random_bytes()
    server.admitted.add(WORKER.public)
    server.offer(digest, data)
    carrier, place = carriers(server), Whole(np.zeros(SIZE, np.uint8))
    carrier.fetch(WORKER.public, digest, place)
    until(lambda: place.offset > 0)
    carrier.cancel(b"", digest)
    came = place.offset
    place.data[:] = 7
    time.sleep(0.1)
    assert place.offset == came and (place.data == 7).all() and not carrier.busy


def test_what_changes_under_a_fetch_is_never_taken_for_the_blob(
    server: BlobServer, carriers: Callable[..., BlobTransfers]
) -> None:
    digest, data = random_bytes()
    server.admitted.add(WORKER.public)
    changed = data.copy()
    changed[-1] ^= 1
    server.offer(digest, changed)
    place = Whole(np.zeros(SIZE, np.uint8))
    ended = fetched(carriers(server), digest, place)
    assert isinstance(ended.error, BadBlobError) and place.offset == 0


class Device(BaseHTTPRequestHandler):
    """What stands in a worker's own network, and may be an object store."""

    asked: ClassVar[list[str]] = []
    body = b""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = self.body[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
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
    server: BlobServer, carriers: Callable[..., BlobTransfers], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, data = random_bytes()
    key = WORKER.public
    carrier = carriers(server)
    carrier.move(["https://127.0.0.1:1", *server.urls], server.fingerprint)
    carrier.fetch(key, digest, Whole(np.zeros(SIZE, np.uint8)), [device], SIZE)
    until(lambda: carrier.ended() or None)
    carrier.move(server.urls, server.fingerprint)
    with monkeypatch.context() as outside:
        outside.setattr(http_client, "is_global", lambda address: True)
        carrier.fetch(key, digest, Whole(np.zeros(SIZE, np.uint8)), [device], SIZE)
        until(lambda: carrier.ended() or None)
    assert not Device.asked
    monkeypatch.setattr(Device, "body", data.tobytes())
    place = Whole(np.zeros(SIZE, np.uint8))
    carrier.fetch(key, digest, place, [device], SIZE)
    (ended,) = until(lambda: carrier.ended() or None)  # type: ignore[misc]
    assert ended.error is None and Device.asked and np.array_equal(place.data, data)


SERVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_blob_server import SIZE, WORKER, made
server = made(Path(sys.argv[1]))
server.expect(WORKER.public, bytes.fromhex(sys.argv[3]), SIZE)
print(server.urls[0], flush=True)
while not (done := server.uploaded()):
    time.sleep(0.01)
print(repr(done[0].error), flush=True)
sys.stdin.read()
"""


def test_a_manager_that_is_killed_is_found_again_and_the_upload_goes_on(
    tmp_path: Path, carriers: Callable[..., BlobTransfers], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, data = random_bytes()
    here = str(Path(__file__).parent)

    def server() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVER, str(tmp_path / "run"), here, digest.hex()]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    first = server()
    assert first.stdout is not None
    url = first.stdout.readline().strip()
    run = tmp_path / "run"
    fingerprint = server_module.tokens.fingerprint((run / "server" / tls.CERTIFICATE).read_bytes())
    wire = Wire(int(url.rpartition(":")[2]), [])
    carrier = BlobTransfers([f"https://127.0.0.1:{wire.port}"], fingerprint, [WORKER])
    try:
        carrier.send(WORKER.public, digest, data)
        until(lambda: wire.up > SIZE // 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        part = next((run / server_module.FOLDER / "partial").iterdir()).stat().st_size
        assert 0 < part < SIZE
        second = server()
        assert second.stdout is not None
        assert second.stdout.readline().strip() == url

        def done() -> bool:
            carrier.send(WORKER.public, digest, data)  # as the manager asks again and again
            return (run / server_module.FOLDER / digest.hex()[:2] / digest.hex()).exists()

        until(done)
        assert second.stdout.readline().strip() == "''"
        second.kill()
        second.wait()
        assert wire.up < SIZE + 4 * RANGE, "the first part was not sent again"
    finally:
        carrier.close()


def test_a_port_that_somebody_else_has_is_said(
    tmp_path: Path, server: BlobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PORT_SECONDS", 0.3)
    with pytest.raises(UsageError, match="is used by another program"):
        made(tmp_path / "other", port=port_of(server))
