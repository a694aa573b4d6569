"""A worker's carrier of large blobs, on threads of its own: fetches them into memory, and uploads updates from there.

A job that fails is not lost: whoever asked for it hears of it, and gives it again; it goes on where it was.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from podlt.access import tokens
from podlt.addresses import is_global
from podlt.crypto import SigningKey
from podlt.errors import PodltError
from podlt.execution import sparse
from podlt.network.bandwidth import Bandwidth
from podlt.network.blobs.https_connection import AGAIN, Answer, HttpsConnection, InsideError, Place, place_of
from podlt.network.blobs.jobs import BadBlobError, BlobBuffer, BlobJob, TransferError
from podlt.network.blobs.objects import fetch_objects

ATTEMPTS = 6
"""How many failures in a row, with no byte between them, end a job: then whoever asked for it looks again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between one failure and the next attempt: doubled each time that nothing came in between."""

FETCHERS = 3
_NO_BLOB = "/blobs/" + "00" * 32


class TransferEnded(NamedTuple):
    """A fetch ended: of what, into which place, and with which error, if any; or an upload (no place) failed."""

    digest: bytes
    place: BlobBuffer | None
    error: Exception | None


class BlobTransfers:
    """Carries blobs between a manager's server and this process.

    Args:
        urls: of the server, by different names.
        fingerprint: SHA-256 of its certificate.
        keys: of the identities.
        named: hosts that may be asked although only a local network has their addresses; None for all.
        wall: milliseconds since 1970; may be wrong: the server's time is learnt from it.
        bandwidth: how fast bytes of blobs may go.
    """

    def __init__(
        self,
        urls: Sequence[str],
        fingerprint: bytes,
        keys: Iterable[SigningKey],
        named: Collection[str] | None = None,
        wall: Callable[[], int] = lambda: time.time_ns() // 10**6,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self._bandwidth = bandwidth or Bandwidth()
        self._urls, self._fingerprint, self._named, self._wall = list(urls), fingerprint, named, wall
        self._keys = {key.public: key for key in keys}
        self._ahead = self._failures = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE  # the fingerprint decides
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._ended: deque[TransferEnded] = deque()
        self._jobs: dict[tuple[bytes, bytes], BlobJob] = {}
        self._idle: deque[HttpsConnection] = deque()
        self._fetches, self._uploads = (queue.SimpleQueue[Callable[[], None] | None]() for _ in range(2))
        for work in [self._fetches] * FETCHERS + [self._uploads]:  # one upload after another
            threading.Thread(target=_work, args=(work,), name="podlt-transfers", daemon=True).start()

    def fetch(self, key: bytes, digest: bytes, place: BlobBuffer, urls: Sequence[str] = (), part: int = 0) -> None:
        """Begins to fetch a blob, or resumes it; nothing if that is being done already.

        Args:
            key: whose it is, for the manager.
            place: takes it.
            urls: of its objects in an object store, if it is there.
            part: bytes of each of these objects. The manager's own server is asked where there are none, or where one
                cannot be had.
        """

        def work(job: BlobJob) -> None:
            if urls:
                with suppress(PodltError, OSError):
                    fetch_objects(urls, part, digest, place, job, self._is_inside)
                    place.check(digest)
                    return
            self._again(digest, job, lambda: place.offset, lambda: self._fetch(key, digest, place, job))
            place.check(digest)

        self._do((b"", digest), work, place, self._fetches)

    def send(self, key: bytes, digest: bytes, data: np.ndarray) -> None:
        """Begins to upload a blob, or resumes it; nothing if that is being done already.

        Args:
            data: its bytes (uint8), which must not change until the upload ended or was cancelled.
        """
        came = [0]

        def work(job: BlobJob) -> None:
            sent, size = sparse.packed(data), data.nbytes
            self._again(digest, job, lambda: came[0], lambda: self._send(key, digest, sent, size, came, job))

        self._do((key, digest), work, None, self._uploads)

    def ended(self) -> list[TransferEnded]:
        """What ended since the last call, uploads that went well excepted."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._ended.popleft())
        return found

    def move(self, urls: Sequence[str], fingerprint: bytes) -> None:
        """The server is elsewhere: what is begun from now on goes there."""
        self._urls, self._fingerprint = list(urls), fingerprint
        self._drop()

    @property
    def busy(self) -> bool:
        """Whether anything is being carried."""
        return bool(self._jobs) or bool(self._ended)

    def cancel(self, key: bytes, digest: bytes) -> None:
        """Ends a job (a fetch has no key); when this returns, its memory is not touched any more."""
        job = self._jobs.pop((key, digest), None)
        if job is not None:
            job.cancel()

    def close(self) -> None:
        """Ends all jobs, and the threads."""
        for name in list(self._jobs):
            self.cancel(*name)
        for _ in range(FETCHERS):
            self._fetches.put(None)
        self._uploads.put(None)
        self._drop()

    # -- on a thread -------------------------------------------------------------------------------------------------

    def _do(
        self,
        name: tuple[bytes, bytes],
        work: Callable[[BlobJob], None],
        place: BlobBuffer | None,
        where: queue.SimpleQueue[Callable[[], None] | None],
    ) -> None:
        if name in self._jobs:
            return
        job = self._jobs[name] = BlobJob(self._bandwidth)

        def run() -> None:
            error: Exception | None = None
            try:
                job.check()
                work(job)
            except Exception as failed:
                error = failed
            if job.cancelled.is_set():
                return
            if error is not None:
                self._failures += 1  # the next attempt by another name of the server
            if place is not None or error is not None:
                self._ended.append(TransferEnded(name[1], place, error))
            if self._jobs.get(name) is job:
                del self._jobs[name]

        where.put(run)

    def _again(self, digest: bytes, job: BlobJob, offset: Callable[[], int], attempt: Callable[[], None]) -> None:
        """Tries until it succeeds, or too often fails with no byte between."""
        failures = 0
        while True:
            before = offset()
            try:
                attempt()
                return
            except InsideError as error:
                raise TransferError(str(error), digest) from None
            except OSError as error:
                failures = failures + 1 if offset() == before else 1
                if failures >= ATTEMPTS:
                    why = f"{type(error).__name__}: {error}"
                    raise TransferError(f"stopped after {offset()} bytes; {why}", digest) from None
                job.cancelled.wait(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))
                job.check()

    def _fetch(self, key: bytes, digest: bytes, place: BlobBuffer, job: BlobJob) -> None:
        if place.offset == place.size > 0:
            return
        headers = {"Range": f"bytes={place.offset}-{place.size - 1}"} if place.offset else {}
        connection, answer = self._ask(key, "GET", "read", digest, headers, job)
        try:
            whole = place.size - place.offset
            if answer.status not in (200, 206) or answer.number("content-length") != whole:
                raise self._refusal(connection, answer, digest)
            if (answer.status == 206) != bool(place.offset):
                raise TransferError("another range than the one that was asked for", digest)
            job.receive(connection, place, place.size)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    def _send(self, key: bytes, digest: bytes, data: memoryview, whole: int, came: list[int], job: BlobJob) -> None:
        """Sends the rest of an update of `whole` bytes, packed or not."""
        size, offset = len(data), came[0]
        headers = {"Content-Length": str(size - offset), "Expect": "100-continue"}
        if size < whole:
            headers["Content-Encoding"] = "podlt-zeros"
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        connection, answer = self._ask(key, "PUT", "write", digest, headers, job)
        try:
            if answer.status == 100:
                job.send(connection, data[offset:])
                answer = connection.answer()
            if answer.status not in (200, 201):
                goes_on = answer.number("upload-offset")
                if answer.status == 409 and goes_on is not None and goes_on < size:
                    came[0] = goes_on
                raise self._refusal(connection, answer, digest)
        except BaseException:
            connection.close()
            raise
        if answer.status == 201:
            self._idle.append(connection)
        else:
            connection.close()

    def _refusal(self, connection: HttpsConnection, answer: Answer, digest: bytes) -> Exception:
        text = f"the server answers {answer.status}: {connection.text(answer)}"
        if answer.status in AGAIN:
            return ConnectionError(text)
        if answer.status == 422:
            return BadBlobError("digest mismatch, as the server computed it", digest)
        return TransferError(text, digest)

    def _ask(
        self, key: bytes, method: str, purpose: tokens.Purpose, digest: bytes, headers: dict[str, str], job: BlobJob
    ) -> tuple[HttpsConnection, Answer]:
        """One request, once more if our clock was wrong."""
        for last in (False, True):
            connection = self._connection(job)
            try:
                now = self._wall() + self._ahead
                token = tokens.write(self._keys[key], purpose, digest, self._fingerprint, now)
                headers = headers | {"Authorization": token}
                answer = connection.ask(method, f"/blobs/{digest.hex()}", headers)
            except BaseException:
                connection.close()
                raise
            theirs = answer.number("podlt-time")
            if answer.status != 401 or theirs is None or last:
                break
            self._ahead += theirs - now
            connection.close()
        return connection, answer

    def _connection(self, job: BlobJob) -> HttpsConnection:
        with suppress(IndexError):
            while True:
                connection = self._idle.popleft()
                if connection.is_usable():
                    job.made(connection.sock)
                    return connection
                connection.close()
        place = place_of(self._urls[self._failures % len(self._urls)])
        return HttpsConnection(place, self._may_inside, self._context, self._fingerprint, job.made)

    def _drop(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.popleft().close()

    def _may_inside(self, host: str) -> bool:
        return self._named is None or host in self._named

    def _is_inside(self) -> bool:
        """Whether the manager's server is inside a local network: by a connection to it, not by what it is called.

        What the manager names as its server may be anything. So there has to be one that shows its certificate (before
        that nothing is said), and answers as only such a server does: a certificate that is known of some device is
        not enough.
        """
        try:
            place: Place = place_of(self._urls[self._failures % len(self._urls)])
            connection = HttpsConnection(place, self._may_inside, self._context, self._fingerprint)
        except (OSError, InsideError, PodltError):
            return False
        try:
            answer = connection.ask("GET", _NO_BLOB, {})
            known = answer.status == 401 and bool(answer.number("podlt-time"))  # we showed no token
            return known and not is_global(connection.peer)
        except OSError:
            return False
        finally:
            connection.close()


def _work(work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (one := work.get()) is not None:
        one()
