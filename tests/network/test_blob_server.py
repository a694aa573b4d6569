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
from podlt.network.blobs import server as depots
from podlt.network.blobs.client import Ended, Porter, Whole
from podlt.network.blobs.server import Depot
from podlt.network.blobs.transfer import BadBlobError, TransferError

WORKER, OTHER = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
RANGE = 2**18
SIZE = 20 * RANGE


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RANGE", RANGE)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


def made(run: Path, **options: object) -> Depot:
    folder = run / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    tls.load_or_create(folder)
    return Depot(run, folder / tls.CERTIFICATE, folder / tls.PRIVATE_KEY, host="127.0.0.1", **options)  # type: ignore[arg-type]


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    one = made(tmp_path / "run")
    yield one
    one.close(empty=True)


@pytest.fixture
def porters() -> Iterator[Callable[..., Porter]]:
    begun: list[Porter] = []

    def begin(depot: Depot, port: int = 0, *keys: SigningKey) -> Porter:
        urls = [f"https://127.0.0.1:{port}"] if port else depot.urls
        begun.append(Porter(urls, depot.fingerprint, keys or [WORKER, OTHER]))
        return begun[-1]

    yield begin
    for porter in begun:
        porter.close()


def random_bytes(seed: int = 0) -> tuple[bytes, np.ndarray]:
    data = np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)
    return blob_digest(data.data), data


def port_of(depot: Depot) -> int:
    return int(depot.urls[0].rpartition(":")[2])


def fetched(porter: Porter, digest: bytes, place: Whole, key: SigningKey = WORKER) -> Ended:
    porter.fetch(key.public, digest, place)
    return until(lambda: next(iter(porter.ended()), None))


def until(found: Callable[[], object], seconds: float = 60.0) -> object:  # type: ignore[misc]
    deadline = time.monotonic() + seconds
    while (result := found()) is None or result is False:
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
    return result


def test_admitted_workers_fetch_what_is_offered_and_nobody_else_does(
    depot: Depot, porters: Callable[..., Porter]
) -> None:
    digest, data = random_bytes()
    porter, place = porters(depot), Whole(np.zeros(SIZE, np.uint8))
    depot.offer(digest, data)
    refused = fetched(porter, digest, place)
    assert isinstance(refused.error, TransferError) and "403" in str(refused.error)
    depot.admitted.add(WORKER.public)
    assert fetched(porter, digest, place).error is None
    assert np.array_equal(place.data, data)
    depot.withdraw(digest)
    assert "403" in str(fetched(porter, digest, Whole(np.zeros(SIZE, np.uint8))).error)
    lines, own = random_bytes(1)
    depot.offer(lines, own, {OTHER.public})
    assert "403" in str(fetched(porter, lines, Whole(np.zeros(SIZE, np.uint8))).error)
    assert fetched(porter, lines, Whole(np.zeros(SIZE, np.uint8)), OTHER).error is None


def test_a_download_that_is_cut_goes_on_where_it_was(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    depot.admitted.add(WORKER.public)
    depot.offer(digest, data)
    wire = Wire(port_of(depot), [SIZE // 3, SIZE // 4, 100, SIZE // 5])
    place = Whole(np.zeros(SIZE, np.uint8))
    assert fetched(porters(depot, wire.port), digest, place).error is None
    assert np.array_equal(place.data, data)
    assert wire.connections >= 4 and SIZE < wire.down < SIZE + 4 * 3 * RANGE


def test_an_upload_that_is_cut_goes_on_where_it_was(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    assert not depot.expect(WORKER.public, digest, SIZE)
    wire = Wire(port_of(depot), [SIZE // 3, SIZE // 4, 100, SIZE // 5])
    porters(depot, wire.port).send(WORKER.public, digest, data)
    (done,) = until(lambda: depot.uploaded() or None)  # type: ignore[misc]
    assert (done.key, done.digest, done.error) == (WORKER.public, digest, "")
    assert np.array_equal(depot.open(digest), data)
    assert wire.connections >= 4 and SIZE < wire.up < SIZE + 4 * 2 * RANGE
    assert depot.expect(OTHER.public, digest, SIZE), "who commits to the same need not send it"


def test_only_what_was_committed_to_is_taken(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    porter = porters(depot)
    porter.send(WORKER.public, digest, data)
    until(lambda: porter.ended() or None)
    assert not depot.store.has(digest) and not depot.uploaded()
    depot.expect(WORKER.public, digest, SIZE)
    wrong = data.copy()
    wrong[SIZE // 2] ^= 1
    porter.send(WORKER.public, digest, wrong)
    (refused,) = until(lambda: depot.uploaded() or None)  # type: ignore[misc]
    assert refused.key == WORKER.public and "are not it" in refused.error
    assert not depot.store.has(digest)


def test_who_is_shut_out_uploads_nothing_more(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    depot.expect(WORKER.public, digest, SIZE)
    depot.shut_out(WORKER.public)
    assert not depot.waiting
    porter = porters(depot)
    porter.send(WORKER.public, digest, data)
    until(lambda: porter.ended() or None)
    assert not depot.store.has(digest) and not depot.uploaded()


def test_blobs_go_with_their_round(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    depot.expect(WORKER.public, digest, SIZE)
    porters(depot).send(WORKER.public, digest, data)
    until(lambda: depot.uploaded() or None)
    update = depot.open(digest)
    depot.clear()
    assert not depot.store.has(digest) and depot.store.used() == 0
    assert np.array_equal(update, data), "what is mapped stays until it is let go"


def test_a_fetch_that_is_cancelled_touches_its_memory_no_more(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    depot.admitted.add(WORKER.public)
    depot.offer(digest, data)
    porter, place = porters(depot), Whole(np.zeros(SIZE, np.uint8))
    porter.fetch(WORKER.public, digest, place)
    until(lambda: place.offset > 0)
    porter.cancel(b"", digest)
    came = place.offset
    place.data[:] = 7
    time.sleep(0.1)
    assert place.offset == came and (place.data == 7).all() and not porter.busy


def test_what_changes_under_a_fetch_is_never_taken_for_the_blob(depot: Depot, porters: Callable[..., Porter]) -> None:
    digest, data = random_bytes()
    depot.admitted.add(WORKER.public)
    changed = data.copy()
    changed[-1] ^= 1
    depot.offer(digest, changed)
    place = Whole(np.zeros(SIZE, np.uint8))
    ended = fetched(porters(depot), digest, place)
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
    depot: Depot, porters: Callable[..., Porter], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, data = random_bytes()
    key = WORKER.public
    porter = porters(depot)
    porter.move(["https://127.0.0.1:1", *depot.urls], depot.fingerprint)
    porter.fetch(key, digest, Whole(np.zeros(SIZE, np.uint8)), [device], SIZE)
    until(lambda: porter.ended() or None)
    porter.move(depot.urls, depot.fingerprint)
    with monkeypatch.context() as outside:
        outside.setattr(http_client, "is_global", lambda address: True)
        porter.fetch(key, digest, Whole(np.zeros(SIZE, np.uint8)), [device], SIZE)
        until(lambda: porter.ended() or None)
    assert not Device.asked
    monkeypatch.setattr(Device, "body", data.tobytes())
    place = Whole(np.zeros(SIZE, np.uint8))
    porter.fetch(key, digest, place, [device], SIZE)
    (ended,) = until(lambda: porter.ended() or None)  # type: ignore[misc]
    assert ended.error is None and Device.asked and np.array_equal(place.data, data)


SERVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_blob_server import SIZE, WORKER, made
depot = made(Path(sys.argv[1]))
depot.expect(WORKER.public, bytes.fromhex(sys.argv[3]), SIZE)
print(depot.urls[0], flush=True)
while not (done := depot.uploaded()):
    time.sleep(0.01)
print(repr(done[0].error), flush=True)
sys.stdin.read()
"""


def test_a_manager_that_is_killed_is_found_again_and_the_upload_goes_on(
    tmp_path: Path, porters: Callable[..., Porter], monkeypatch: pytest.MonkeyPatch
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
    fingerprint = depots.tokens.fingerprint((run / "nats" / tls.CERTIFICATE).read_bytes())
    wire = Wire(int(url.rpartition(":")[2]), [])
    porter = Porter([f"https://127.0.0.1:{wire.port}"], fingerprint, [WORKER])
    try:
        porter.send(WORKER.public, digest, data)
        until(lambda: wire.up > SIZE // 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        part = next((run / depots.FOLDER / "partial").iterdir()).stat().st_size
        assert 0 < part < SIZE
        second = server()
        assert second.stdout is not None
        assert second.stdout.readline().strip() == url

        def done() -> bool:
            porter.send(WORKER.public, digest, data)  # as the manager asks again and again
            return (run / depots.FOLDER / digest.hex()[:2] / digest.hex()).exists()

        until(done)
        assert second.stdout.readline().strip() == "''"
        second.kill()
        second.wait()
        assert wire.up < SIZE + 4 * RANGE, "the first part was not sent again"
    finally:
        porter.close()


def test_a_port_that_somebody_else_has_is_said(tmp_path: Path, depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depots, "PORT_SECONDS", 0.3)
    with pytest.raises(UsageError, match="is taken by another program"):
        made(tmp_path / "other", port=port_of(depot))
