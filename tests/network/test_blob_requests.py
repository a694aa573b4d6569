"""Requests for blobs, over TLS, one byte after another: what a worker may do, and what nobody may."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from web import Web, until

from podlt.access import tokens
from podlt.access.certificate import client_context
from podlt.crypto import SigningKey, blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.execution import sparse
from podlt.execution.sparse import packed
from podlt.network import http as http_module
from podlt.network.blobs import server as server_module
from podlt.network.blobs import uploads
from podlt.network.blobs.allowance import TIMES
from podlt.network.blobs.client import BlobTransfers
from podlt.network.blobs.https_connection import HttpsConnection, place_of
from podlt.network.blobs.jobs import BlobBuffer
from podlt.network.blobs.server import BlobServer
from podlt.network.server import listener

WORKER, STRANGER = SigningKey(bytes(32)), SigningKey(b"\1" * 32)
DATA = np.random.default_rng(3).integers(0, 256, 700_000, np.uint8)
DIGEST = blob_digest(DATA.data)
BLOB = f"/blobs/{DIGEST.hex()}"
UPDATE = DATA[::-1].tobytes()
UPDATE_DIGEST = blob_digest(UPDATE)


class Place:
    """A server that offers DATA to the worker, and expects nothing."""

    def __init__(self, tmp: Path) -> None:
        self.web = Web(tmp / "web")
        self.server: BlobServer = self.web.blobs(tmp / "run")
        self.server.admitted.add(WORKER.public)
        self.server.offer(DIGEST, DATA)

    def connect(self) -> http.client.HTTPSConnection:
        context = client_context(self.web.certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.web.port, timeout=60, context=context)

    def ask(
        self, method: str, path: str, body: bytes | None = None, key: SigningKey = WORKER, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """One request on a connection of its own, with a token for what the path names."""
        if method == "PUT" and body is not None:
            return self.upload(path, body, key, headers)
        connection = self.connect()
        if "authorization" not in headers:
            headers["authorization"] = self.token(path, "write" if method == "PUT" else "read", key)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return found

    def upload(
        self, path: str, body: bytes, key: SigningKey, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        """The same with a body, which is sent once the server wants it."""
        context = client_context(self.web.certificate)
        connection = HttpsConnection(place_of(f"https://127.0.0.1:{self.web.port}"), lambda host: True, context)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"Authorization": self.token(path, "write", key), "Content-Length": str(len(body))} | named
        answer = connection.ask("PUT", path, fields | {"Expect": "100-continue"})
        if answer.status == 100:
            connection.sock.sendall(body)
            answer = connection.answer()
        found = answer.status, connection.text(answer).encode(), dict(answer.headers)
        connection.close()
        return found

    def token(self, path: str, purpose: tokens.Purpose = "read", key: SigningKey = WORKER) -> str:
        return self.web.token(key, purpose, bytes.fromhex(path[-64:]))

    def raw(self, data: bytes) -> ssl.SSLSocket:
        """A connection on which these bytes are sent."""
        sock = socket.create_connection(("127.0.0.1", self.web.port), timeout=60)
        secure = client_context(self.web.certificate).wrap_socket(sock)
        with suppress(OSError):  # it may be cut off at once
            secure.sendall(data)
        return secure

    def put(self, length: int = len(UPDATE), **fields: str) -> bytes:
        """The head of an upload of UPDATE."""
        path = f"/blobs/{UPDATE_DIGEST.hex()}"
        lines = {"Host": "x", "Authorization": self.token(path, "write"), "Content-Length": str(length)} | fields
        text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        return f"PUT {path} HTTP/1.1\r\n{text}\r\n".encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.server.close()
    one.web.close()


def closed(sock: socket.socket) -> bool:
    """Whether the other end closes the connection; what it says before is thrown away."""
    with suppress(OSError):
        while sock.recv(2**16):
            pass
    sock.close()
    return True


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_blob_is_read_whole_or_in_a_range_and_named_for_caches(place: Place) -> None:
    place.server.allow(WORKER.public, 10 * DATA.nbytes)
    status, body, headers = place.ask("GET", BLOB)
    assert (status, body) == (200, DATA.tobytes())
    assert headers["etag"] == f'"{DIGEST.hex()}"' and headers["accept-ranges"] == "bytes"
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    for asked, start, stop in (("0-0", 0, 1), ("699990-", 699_990, 700_000), ("5-99999999", 5, 700_000)):
        status, body, headers = place.ask("GET", BLOB, range=f"bytes={asked}")
        assert (status, body) == (206, DATA[start:stop].tobytes())
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/700000"
    assert place.ask("HEAD", BLOB)[2]["content-length"] == "700000"
    assert place.ask("GET", BLOB, if_none_match=f'"{DIGEST.hex()}"')[:2] == (304, b"")
    other = {"range": "bytes=0-9", "if_range": '"other"'}
    assert place.ask("GET", BLOB, **other)[1] == DATA.tobytes()
    for asked in ("bytes=5-4", "bytes=700000-"):
        assert place.ask("GET", BLOB, range=asked)[0] == 416
    for asked in ("examples=0-1", "bytes=0-1,3-4", "bytes=-5", "bytes=x-5"):
        assert place.ask("GET", BLOB, range=asked)[0] == 200, "a server may ignore it (RFC 9110, 14.2)"


def test_lines_are_for_their_readers_alone_and_for_no_shared_cache(place: Place) -> None:
    lines = blob_digest(UPDATE)
    place.server.offer(lines, np.frombuffer(UPDATE, np.uint8), {STRANGER.public}, shared=False)
    path = f"/blobs/{lines.hex()}"
    assert place.ask("GET", path)[0] == 403
    assert place.ask("GET", path, key=STRANGER)[2]["cache-control"].startswith("private, ")


def test_a_stranger_learns_nothing_not_even_what_is_there(place: Place) -> None:
    for path in (BLOB, f"/blobs/{'00' * 32}"):
        assert place.ask("GET", path, key=STRANGER)[:2] == (403, b"this key may not have this blob now")
        assert place.ask("PUT", path, b"x")[0] == 403
    status, _, headers = place.ask("GET", BLOB, authorization="Basic 1")
    assert status == 401 and abs(int(headers["podlt-time"]) - time.time_ns() // 10**6) < 60_000
    wrong = place.token(BLOB, "write")
    assert place.ask("GET", BLOB, authorization=wrong)[0] == 401, "a token to write is none to read"


def test_only_a_token_for_this_blob_this_purpose_and_this_server_counts() -> None:
    server, now = b"\7" * 32, 10**12
    line = tokens.write(WORKER, "read", DIGEST, server, now)
    assert tokens.check(line, "read", DIGEST, server, now) == WORKER.public
    other = STRANGER.public.hex() + line[6 + 64 :]
    wrong = ["", "Podlt", line + "0", line[:-2], line + " ", "Basic" + line[5:], line.replace(".", ",")]
    for bad in [*wrong, "Podlt " + other]:
        with pytest.raises(InvalidProofError):
            tokens.check(bad, "read", DIGEST, server, now)
    for purpose, blob, where in (("write", DIGEST, server), ("read", bytes(32), server), ("read", DIGEST, bytes(32))):
        with pytest.raises(InvalidProofError, match="not signed"):
            tokens.check(line, purpose, blob, where, now)  # type: ignore[arg-type]
    for late in (now + tokens.LIFETIME // 2, now - tokens.LIFETIME // 2 - 1, now + 10**10):
        with pytest.raises(InvalidProofError, match="expired, or valid for too long"):
            tokens.check(line, "read", DIGEST, server, late)


def test_nobody_fetches_much_more_than_it_needs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.server.allow(WORKER.public, DATA.nbytes)
    answers = [place.ask("GET", BLOB)[0] for _ in range(8)]
    assert answers[: int(TIMES)] == [200] * int(TIMES) and answers[-1] == 429
    assert place.ask("GET", BLOB, if_none_match=f'"{DIGEST.hex()}"')[0] == 304, "it costs nothing"
    place.server.allow(WORKER.public, DATA.nbytes)
    assert place.ask("GET", BLOB)[0] == 200, "a round begins"


def test_who_is_not_admitted_shares_a_rate_with_all_others_who_are_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    place.server.offer(DIGEST, DATA, {STRANGER.public, WORKER.public})
    monkeypatch.setattr(server_module.asyncio, "sleep", sleep)
    place.server._newcomers = server_module.TokenBucket(1000.0, 1000.0)
    assert place.ask("GET", BLOB)[0] == 200 and not waits
    assert place.ask("GET", BLOB, key=STRANGER)[0] == 200
    assert waits and max(waits) == pytest.approx(698, abs=2)


def test_who_is_not_admitted_stays_a_stranger_who_has_few_seconds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LOGIN_SECONDS", 0.3)
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    place.server.offer(DIGEST, DATA, {STRANGER.public})
    head = f"GET {BLOB} HTTP/1.1\r\nAuthorization: {place.token(BLOB, key=STRANGER)}\r\n\r\n".encode()
    sock = place.raw(head)
    assert sock.recv(2**16).startswith(b"HTTP/1.1 200 ") and closed(sock)


def test_paths_methods_and_heads_that_mean_nothing_are_refused(place: Place) -> None:
    for path in ("/", "/blobs/", "/nothing", f"/blobs/../{DIGEST.hex()}", f"/blobs/{DIGEST.hex()}/", BLOB.upper()):
        assert place.ask("GET", path, authorization=place.token(BLOB))[0] == 404
    assert place.ask("DELETE", BLOB)[0] == 405
    head = f"GET {BLOB} HTTP/1.1\r\nAuthorization: {place.token(BLOB)}\r\n"
    for wrong in (
        "nonsense\r\n\r\n",
        f"GET {BLOB}\r\n\r\n",
        head.replace("1.1", "1.0") + "\r\n",
        head + "Range: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n",
        head + "no colon\r\n\r\n",
        head + "Transfer-Encoding: chunked\r\n\r\n",
        head + "Content-Length: -1\r\n\r\n",
        head + f"Content-Length: {9 * '9' * 3}\r\n\r\n",
    ):
        sock = place.raw(wrong.encode())
        assert sock.recv(2**16).startswith(b"HTTP/1.1 400 "), wrong
        assert closed(sock)
    assert closed(place.raw(head.encode() + b"X: " + b"x" * 2**16)), "a head without end"


def test_requests_follow_each_other_on_one_connection(place: Place) -> None:
    connection = place.connect()
    for start in (0, 100, 200):
        connection.request("GET", BLOB, headers={"Authorization": place.token(BLOB), "Range": f"bytes={start}-"})
        assert connection.getresponse().read() == DATA[start:].tobytes()
    sock = connection.sock
    head = f"GET {BLOB} HTTP/1.1\r\nAuthorization: {place.token(BLOB)}\r\nRange: bytes=0-9\r\n\r\n".encode()
    sock.sendall(head * 3)  # and none is lost that comes before the answer to another
    came = b""
    while came.count(DATA[:10].tobytes()) < 3:
        came += sock.recv(2**16)
    connection.close()


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_update_that_is_expected_is_taken_and_checked(place: Place) -> None:
    path = f"/blobs/{UPDATE_DIGEST.hex()}"
    assert not place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    sock = place.raw(place.put(Expect="100-continue"))
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(UPDATE)
    assert sock.recv(100).startswith(b"HTTP/1.1 201 ")
    sock.close()
    assert [(one.key, one.error) for one in place.server.uploaded()] == [(WORKER.public, "")]
    assert place.server.open(UPDATE_DIGEST).tobytes() == UPDATE
    assert place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE)), "who sent it need not do so again"
    assert place.ask("PUT", path, UPDATE)[0] == 403, "and may not"


def test_who_uploads_does_not_tell_who_is_compared(place: Place) -> None:
    path, asked = f"/blobs/{UPDATE_DIGEST.hex()}", []
    for key in (WORKER, STRANGER):
        assert not place.server.expect(key.public, UPDATE_DIGEST, len(UPDATE)), "whoever sent the same before"
        asked.append(place.ask("PUT", path, UPDATE, key=key)[:2])
        assert [(one.key, one.error) for one in place.server.uploaded()] == [(key.public, "")]
    assert asked[0] == asked[1] and asked[0][0] == 201
    assert place.server.open(UPDATE_DIGEST).tobytes() == UPDATE and not place.server.waiting


def test_an_upload_goes_on_where_it_was_cut(place: Place) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    sock = place.raw(place.put() + UPDATE[:300_000])
    until(lambda: place.server.progress(WORKER.public, UPDATE_DIGEST) == 300_000)
    sock.close()
    path = f"/blobs/{UPDATE_DIGEST.hex()}"
    status, _, headers = place.ask("PUT", path, UPDATE)
    assert (status, headers["upload-offset"]) == (409, "300000")
    where = f"bytes 300000-{len(UPDATE) - 1}/{len(UPDATE)}"
    assert place.ask("PUT", path, UPDATE[300_000:], content_range=where)[0] == 201
    assert place.server.open(UPDATE_DIGEST).tobytes() == UPDATE


def test_a_worker_that_comes_back_need_not_wait_for_its_old_connection(place: Place) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    old = place.raw(place.put() + UPDATE[:1000])
    until(lambda: place.server.progress(WORKER.public, UPDATE_DIGEST) == 1000)
    where = f"bytes 1000-{len(UPDATE) - 1}/{len(UPDATE)}"
    assert place.ask("PUT", f"/blobs/{UPDATE_DIGEST.hex()}", UPDATE[1000:], content_range=where)[0] == 201
    assert closed(old)


def test_a_wrong_update_is_deleted_and_its_sender_is_named(place: Place) -> None:
    for key in (WORKER, STRANGER):
        place.server.expect(key.public, UPDATE_DIGEST, len(UPDATE))
    path, wrong = f"/blobs/{UPDATE_DIGEST.hex()}", DATA.tobytes()
    assert place.ask("PUT", path, wrong)[0] == 422
    (ended,) = place.server.uploaded()
    assert ended.key == WORKER.public and "digest mismatch" in ended.error
    assert place.ask("PUT", path, UPDATE, key=STRANGER)[0] == 201, "the other's is its own"


@pytest.mark.parametrize(
    ("length", "where", "status"),
    [
        (len(UPDATE) + 1, "", 413),
        (8, "", 413),
        (0, "", 413),
        (10, "bytes 0-9/10", 413),
        (10, "bytes 5-14/*", 400),
        (10, "bytes 5-14/16", 400),
        (10, "bytes 5-15/16", 400),
    ],
)
def test_sizes_that_lie_are_refused_before_anything_is_taken(
    place: Place, length: int, where: str, status: int
) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    sock = place.raw(place.put(length, **({"Content_Range": where} if where else {}), Expect="100-continue"))
    assert sock.recv(100).startswith(f"HTTP/1.1 {status} ".encode())
    assert closed(sock) and place.server._uploads[WORKER.public, UPDATE_DIGEST].file is None


def test_an_update_may_come_without_its_zeros(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    update = np.zeros(len(UPDATE), np.uint8)
    update[::8] = 3
    digest, sent = blob_digest(update.data), bytes(packed(update))
    path, encoding = f"/blobs/{digest.hex()}", {"content_encoding": "podlt-zeros"}
    assert len(sent) < 0.6 * len(update)
    place.server.expect(WORKER.public, digest, update.nbytes)
    assert place.ask("PUT", path, sent)[0] == 413, "it has to say so"
    assert place.ask("PUT", path, sent[:-4], **encoding)[0] == 422
    assert "digest mismatch" in place.server.uploaded()[0].error
    where = f"bytes 5-{len(sent) - 1}/{len(sent)}"
    status, _, headers = place.ask("PUT", path, sent[5:], **encoding, content_range=where)
    assert (status, headers["upload-offset"]) == (409, "0")
    with monkeypatch.context() as long:
        long.setattr(sparse, "MOST", 1000)
        assert place.ask("PUT", path, sent, **encoding)[0] == 413, "only what both ends can have in memory"
    assert place.ask("PUT", path, sent, **encoding)[0] == 201
    assert np.array_equal(place.server.open(digest), update)


def test_a_full_disk_is_said_and_may_be_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    path = f"/blobs/{UPDATE_DIGEST.hex()}"
    with monkeypatch.context() as full:
        full.setattr(uploads, "RESERVE", 2**60)
        status, text, _ = place.ask("PUT", path, UPDATE)
        assert status == 507 and b"are to stay free" in text
        with pytest.raises(StorageError, match="no room"):
            place.server.check_room(1)
    assert place.ask("PUT", path, UPDATE)[0] == 201


def test_what_belongs_to_a_round_goes_with_it(place: Place) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    assert place.ask("PUT", f"/blobs/{UPDATE_DIGEST.hex()}", UPDATE)[0] == 201
    update = place.server.open(UPDATE_DIGEST)
    update[0] ^= 1
    assert place.server.open(UPDATE_DIGEST)[0] == UPDATE[0], "who writes to it changes nobody else's"
    other = bytes(32)
    place.server.expect(WORKER.public, other, 100)
    place.server.clear()
    assert not place.server.waiting and not place.server.uploaded()
    assert not list((place.web.folder.parent / "run" / "blobs").iterdir())
    assert np.array_equal(update[1:], np.frombuffer(UPDATE, np.uint8)[1:]), "what is mapped stays until it is let go"
    assert place.ask("PUT", f"/blobs/{other.hex()}", bytes(100))[0] == 403


def test_who_is_shut_out_reads_and_writes_nothing_more(place: Place) -> None:
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    half = place.raw(place.put() + UPDATE[:1000])
    until(lambda: place.server.progress(WORKER.public, UPDATE_DIGEST) == 1000)
    place.server.shut_out(WORKER.public)
    assert not place.server.waiting
    with suppress(OSError):  # it may be closed already
        half.sendall(UPDATE[1000:])
    assert closed(half) and not place.server.uploaded()
    assert place.ask("GET", BLOB)[0] == 403


# -- slow, silent and many ---------------------------------------------------------------------------------------------


def test_half_a_request_and_silence_is_cut_off_and_its_bytes_are_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(listener, "LOGIN_SECONDS", 0.5)
    place.server.expect(WORKER.public, UPDATE_DIGEST, len(UPDATE))
    known = f"GET {BLOB} HTTP/1.1\r\nRange: bytes=0-0\r\nAuthorization: {place.token(BLOB)}\r\n\r\n".encode()
    silent = [b"G", place.put()[:-2], place.put() + UPDATE[:1000], known, known + b"GET /blo"]
    assert all([closed(sock) for sock in [place.raw(data) for data in silent]])
    assert place.server.progress(WORKER.public, UPDATE_DIGEST) == 1000


def test_a_reader_that_does_not_read_is_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "IDLE_SECONDS", 0.3)
    big = np.zeros(64 * 2**20, np.uint8)
    digest = blob_digest(big.data)
    place.server.offer(digest, big)
    path = f"/blobs/{digest.hex()}"
    sock = place.raw(f"GET {path} HTTP/1.1\r\nAuthorization: {place.token(path)}\r\n\r\n".encode())
    until(lambda: bool(place.web.host.routes.of_key))
    until(lambda: not place.web.host.routes.of_key)
    came = 0
    with suppress(OSError):
        while data := sock.recv(2**20):
            came += len(data)
    assert came < big.nbytes


def test_more_connections_of_a_key_than_it_needs_are_turned_away(place: Place) -> None:
    head = f"GET {BLOB} HTTP/1.1\r\nRange: bytes=0-9\r\nAuthorization: {place.token(BLOB)}\r\n\r\n".encode()
    held = [place.raw(head) for _ in range(http_module.MOST_OF_A_KEY)]
    assert all(sock.recv(2**16).startswith(b"HTTP/1.1 206 ") for sock in held)
    assert place.ask("GET", BLOB)[0] == 429
    for sock in held:
        sock.close()
    until(lambda: place.ask("GET", BLOB, range="bytes=0-9")[0] == 206)


def test_a_blob_that_is_withdrawn_is_cut_off_and_what_changes_is_not_sent(place: Place) -> None:
    big = np.zeros(64 * 2**20, np.uint8)
    digest = blob_digest(big.data)
    place.server.offer(digest, big)
    path = f"/blobs/{digest.hex()}"
    sock = place.raw(f"GET {path} HTTP/1.1\r\nAuthorization: {place.token(path)}\r\n\r\n".encode())
    sock.recv(2**16)
    place.server.withdraw(digest)
    assert closed(sock)


# -- a cache in between ------------------------------------------------------------------------------------------------


def test_a_cache_in_front_of_the_server_asks_it_once_for_each_blob(place: Place) -> None:
    """What WIRE.md says of caches: it forwards the token, shows the run's certificate, and obeys Cache-Control."""
    held: dict[str, tuple[bytes, dict[str, str]]] = {}
    asked: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place.web.folder / "tls.pem", place.web.folder / "tls.key")
    sock = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client = context.wrap_socket(sock.accept()[0], server_side=True)
                head = client.recv(2**16).decode()
                path, fields = head.split(" ")[1], dict(line.split(": ") for line in head.split("\r\n")[1:] if line)
                if path not in held:
                    asked.append(path)
                    status, body, headers = place.ask("GET", path, authorization=fields["Authorization"])
                    if status != 200 or not headers["cache-control"].startswith("public"):
                        client.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
                        continue
                    held[path] = body, headers
                client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(held[path][0])}\r\n\r\n".encode())
                client.sendall(held[path][0])
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    fingerprint = hashlib.sha256(place.web.certificate).digest()
    for _ in range(3):
        transfers = BlobTransfers([f"https://127.0.0.1:{sock.getsockname()[1]}"], fingerprint, [WORKER])
        buffer = BlobBuffer(np.zeros(DATA.nbytes, np.uint8))
        transfers.fetch(WORKER.public, DIGEST, buffer)
        (ended,) = until(lambda one=transfers: one.ended() or None)  # type: ignore[misc]
        transfers.close()
        assert ended.error is None and np.array_equal(buffer.data, DATA)
    assert asked == [BLOB]
    sock.close()
