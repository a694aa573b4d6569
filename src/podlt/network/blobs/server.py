"""The manager's large blobs: what workers may fetch now, from its memory, and what they upload, into files.

    GET, HEAD  /blobs/DIGEST    a blob, or the range that is asked for
    PUT        /blobs/DIGEST    an update that the manager asked for, from where it broke off

A worker reads what the manager lets it read, and writes what the manager expects of it: a digest and a length, known
before a byte comes. Requests are answered on the thread of the run's server; all else may be called on any other.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Container
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from podlt.access import tokens
from podlt.errors import InvalidProofError, PodltError, StorageError
from podlt.execution import sparse
from podlt.extras import needed_by
from podlt.network.background import CLOSE_SECONDS, Background
from podlt.network.blobs.allowance import Allowance
from podlt.network.blobs.uploads import Upload, UploadFile, check_room
from podlt.network.http import STEP, Headers, HttpConnection, HttpError
from podlt.network.token_bucket import TokenBucket
from podlt.store.run_names import BLOBS

"""Of a run: the disk of its uploads."""

PATH = "/blobs/"

OFFSET, TIME, PACKED = "Upload-Offset", "Podlt-Time", "podlt-zeros"
"""Headers: how many bytes of an upload are here; the server's time in milliseconds, with each token that it refuses.
And the `Content-Encoding` of an update without its zeros (see `sparse`)."""

NEWCOMERS_RATE = 16 * 2**20
"""Bytes a second for all together who are not admitted."""

FOR_EVER = "max-age=31536000, immutable"
"""How long a cache may hold a blob: its name is its digest."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
_PART = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class Uploaded(NamedTuple):
    """An upload that was expected is over: `error` says what was wrong with it, if anything."""

    key: bytes
    digest: bytes
    error: str


class Stored(NamedTuple):
    """A blob in an object store: where its objects are, and how long each is."""

    urls: list[str]
    part: int


class _Offered(NamedTuple):
    """A blob that may be fetched, by whom, and whether a cache may give it to others."""

    data: np.ndarray
    readers: Container[bytes]
    shared: bool


class BlobServer:
    """Gives and takes large blobs for one run.

    Args:
        folder: the run's directory.
        bucket: the URL of an object store, if parameters go through one.
        clock: milliseconds since 1970.

    Attributes:
        admitted: the keys that may fetch what is for all.
        urls: of the run's server.
        fingerprint: SHA-256 of its certificate.

    Raises:
        UsageError: the object store is none.
        MissingPackageError: what an object store needs is not installed.
    """

    def __init__(
        self, folder: Path, bucket: str = "", clock: Callable[[], int] = lambda: time.time_ns() // 10**6
    ) -> None:
        self._folder, self._clock = folder / BLOBS, clock
        self._objects: Any = None
        self._bucket: Any = None
        if bucket:
            self._objects = _object_store()
            self._bucket = self._objects.ObjectStore(bucket)
        self._stored: list[tuple[bytes, int, int]] = []
        self.admitted: set[bytes] = set()
        self.fingerprint, self.urls = b"", list[str]()
        self._offered: dict[bytes, _Offered] = {}
        self._allowances: dict[bytes, Allowance] = {}
        self._newcomers = TokenBucket(NEWCOMERS_RATE, 2 * STEP)
        self._uploads: dict[tuple[bytes, bytes], Upload] = {}
        self._whole: dict[bytes, UploadFile] = {}
        self._sent: set[tuple[bytes, bytes]] = set()
        self._arrived: deque[Uploaded] = deque()
        self._background = Background("podlt-objects")

    def start(self, urls: list[str], fingerprint: bytes) -> None:
        """Workers find it at these URLs, by a certificate of this fingerprint.

        Raises:
            StorageError: the folder cannot be made.
        """
        self.urls, self.fingerprint = urls, fingerprint
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be made: {error.strerror}") from None

    # -- what may be fetched -----------------------------------------------------------------------------------------

    def offer(
        self, digest: bytes, data: np.ndarray, readers: Container[bytes] | None = None, *, shared: bool = True
    ) -> None:
        """Lets workers fetch a blob.

        Args:
            data: its bytes (uint8), which must not change until `withdraw`.
            readers: whose keys may; those of all admitted workers unless given.
            shared: a cache in between may give it to others who know its digest.
        """
        self._offered[digest] = _Offered(data, self.admitted if readers is None else readers, shared)

    def withdraw(self, digest: bytes) -> None:
        """Nobody may fetch it any more; who is at it is cut off."""
        self._offered.pop(digest, None)

    def allow(self, key: bytes, need: int) -> None:
        """A round begins, in which a worker needs so many bytes: see `Allowance`."""
        self._allowances.setdefault(key, Allowance(need)).renew(need)

    # -- what is uploaded --------------------------------------------------------------------------------------------

    def expect(self, key: bytes, digest: bytes, size: int) -> bool:
        """Lets a worker upload what it committed to; to expect the same twice is to expect it once.

        Whether somebody else has uploaded the same does not matter: nobody is to learn by it that there is such a one.

        Returns:
            Whether this worker has uploaded it already.
        """
        if (key, digest) in self._sent:
            return True
        self._uploads.setdefault((key, digest), Upload(size))
        return False

    def uploaded(self) -> list[Uploaded]:
        """Uploads that ended since the last call."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._arrived.popleft())
        return found

    @property
    def waiting(self) -> bool:
        """Whether an upload is expected, or has ended and was not asked for."""
        return bool(self._uploads) or bool(self._arrived)

    def progress(self, key: bytes, digest: bytes) -> int:
        """How many bytes of an upload have come."""
        upload = self._uploads.get((key, digest))
        return upload.offset if upload is not None else 0

    def open(self, digest: bytes) -> np.ndarray:
        """The bytes of an upload that is here (uint8). To write to them changes nobody else's."""
        return self._whole[digest].open()

    def check_room(self, nbytes: int) -> None:
        """Raises: StorageError: so many bytes do not fit on the disk."""
        check_room(self._folder, nbytes)

    def shut_out(self, key: bytes) -> None:
        """A worker is gone: it fetches what is for all no more, and nothing is expected of it."""
        self.admitted.discard(key)
        self._allowances.pop(key, None)
        self._uploads = {name: upload for name, upload in self._uploads.items() if name[0] != key}
        self._sent = {name for name in self._sent if name[0] != key}

    def clear(self) -> None:
        """A round is over: nothing is expected any more, and what was uploaded is deleted."""
        self._uploads, self._arrived, self._sent = {}, deque(), set()
        whole, self._whole = self._whole, {}
        for file in whole.values():
            file.close()
        # Of the last object somebody may be fetching the end still.
        old, self._stored = self._stored[:-1], self._stored[-1:]
        for one in old:
            self._background.start(self._bucket.remove(*one))

    def close(self, *, complete: bool = False) -> None:
        """Ends; deletes objects in the object store as well, where the run is complete."""
        self.clear()
        self._offered.clear()
        with suppress(PodltError, OSError, TimeoutError):
            for one in self._stored if complete else []:
                self._background.start(self._bucket.remove(*one)).result(CLOSE_SECONDS)
        self._background.end()

    # -- through an object store -------------------------------------------------------------------------------------

    def carry(self, digest: bytes, data: np.ndarray) -> Future[Stored] | None:
        """Puts a blob into the object store, if there is one; its bytes must not change meanwhile."""
        if self._bucket is None:
            return None
        bucket, size = self._bucket, data.nbytes
        part = self._objects.part_of(size)

        async def put() -> Stored:
            self._stored.append((digest, size, part))
            await bucket.put(data, digest, part)
            return Stored(await bucket.urls(digest, size, part), part)

        return self._background.start(put())

    def spoiled(self, digest: bytes) -> None:
        """What is in the object store may not be the blob: it must not be found there again."""
        for known, size, part in self._stored:
            if known == digest and self._bucket is not None:
                self._background.call(self._bucket.remove(digest, size, part))

    # -- requests, on the server's thread ----------------------------------------------------------------------------

    async def answer(self, http: HttpConnection) -> None:
        """Answers a request for a path below `PATH`."""
        name = http.path.removeprefix(PATH)
        purposes: dict[str, tokens.Purpose] = {"GET": "read", "HEAD": "read", "PUT": "write"}
        if http.method not in purposes:
            raise HttpError(405, headers={"Allow": "GET, HEAD, PUT"})
        if not _DIGEST.fullmatch(name):
            raise HttpError(404, "not found")
        digest, now = bytes.fromhex(name), self._clock()
        purpose = purposes[http.method]
        try:
            key = tokens.check(http.headers.get("authorization", ""), purpose, digest, self.fingerprint, now)
        except InvalidProofError as error:
            raise HttpError(401, str(error), {TIME: str(now)}) from None
        if purpose == "write":
            await self._take(http, key, digest)
        else:
            await self._give(http, key, digest)

    async def _give(self, http: HttpConnection, key: bytes, digest: bytes) -> None:
        offered = self._offered.get(digest)
        if offered is None or key not in offered.readers:  # not even whether it is there is said
            raise HttpError(403, "this key may not have this blob now")
        if key in self.admitted:
            http.identify(key)
        size = offered.data.nbytes
        allowance = self._allowances.get(key)
        if allowance is None:
            allowance = self._allowances[key] = Allowance(size)
        tag = f'"{digest.hex()}"'
        scope = "public" if offered.shared else "private"
        fields = {"ETag": tag, "Cache-Control": f"{scope}, {FOR_EVER}", "Accept-Ranges": "bytes"}
        if http.headers.get("if-none-match") == tag:
            await http.begin(304, 0, fields)
            return
        if not allowance.has_any(time.monotonic()):
            raise HttpError(429, "more bytes than this worker needs", {"Retry-After": "2"}, close=False)
        start, stop = _range(http.headers, tag, size)
        status, fields = 200, fields | {"Content-Type": "application/octet-stream"}
        if stop - start < size:
            status, fields = 206, fields | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        await http.begin(status, stop - start, fields)
        if http.method == "HEAD":
            return
        view = offered.data.data
        for offset in range(start, stop, STEP):
            part = view[offset : min(offset + STEP, stop)]
            allowance.spend(len(part), time.monotonic())
            if key not in self.admitted and (wait := self._newcomers.take(len(part), time.monotonic())):
                http.delay(wait)
                await asyncio.sleep(wait)
            if self._offered.get(digest) is not offered or key not in offered.readers:
                raise ConnectionAbortedError  # it was withdrawn: its bytes may change
            await http.send(part)

    async def _take(self, http: HttpConnection, key: bytes, digest: bytes) -> None:
        upload = self._uploads.get((key, digest))
        if upload is None:
            raise HttpError(403, "no such update is expected of this key now")
        http.identify(key)
        if upload.connection is not None:  # a worker that asks again has lost its connection, and we not yet
            upload.connection.abort()
        async with upload.lock:
            upload.connection = http
            try:
                await self._append(http, key, digest, upload)
            finally:
                upload.connection = None

    async def _append(self, http: HttpConnection, key: bytes, digest: bytes, upload: Upload) -> None:
        """Takes the rest of an upload, as it comes; checks it after the last byte."""
        if (key, digest) in self._sent:  # its answer was lost
            await http.respond(200, headers={OFFSET: str(upload.size)})
            return
        packed = http.headers.get("content-encoding") == PACKED
        start, total = _part(http.headers, http.length)
        if total != upload.size and not (packed and total < upload.size <= sparse.MOST):
            raise HttpError(413, f"expected the {upload.size - start} bytes that are missing")
        if upload.file is not None and len(upload.file.data) != total:
            upload.file, upload.offset = None, 0  # it is sent otherwise than before
        if start != upload.offset:
            raise HttpError(409, "the upload goes on elsewhere", {OFFSET: str(upload.offset)})
        try:
            if upload.file is None:
                upload.file = await asyncio.to_thread(UploadFile, self._folder, total)
            while http.length:
                upload.offset += await http.receive(upload.file.data[upload.offset :])
                if self._uploads.get((key, digest)) is not upload:
                    raise ConnectionAbortedError  # nobody waits for it any more
            is_right = await asyncio.to_thread(upload.is_right, self._folder, digest)
        except StorageError as error:
            raise HttpError(507, str(error)) from None
        if is_right:
            self._is_whole(key, digest, upload)
            await http.respond(201)
        else:
            upload.file, upload.offset = None, 0
            what = f"digest mismatch after {upload.size} bytes"
            self._arrived.append(Uploaded(key, digest, what))
            raise HttpError(422, what)

    def _is_whole(self, key: bytes, digest: bytes, upload: Upload) -> None:
        """A worker's update is here; of those that are the same the first is kept."""
        assert upload.file is not None
        if self._uploads.get((key, digest)) is not upload:
            return
        if self._whole.setdefault(digest, upload.file) is not upload.file:
            upload.file.close()
        del self._uploads[key, digest]
        self._sent.add((key, digest))
        self._arrived.append(Uploaded(key, digest, ""))


def _range(headers: Headers, tag: str, size: int) -> tuple[int, int]:
    """Where the range that is asked for begins and ends; of what is no single range, all."""
    asked = headers.get("range", "")
    found = _RANGE.fullmatch(asked)
    if found is None or headers.get("if-range", tag) != tag:
        return 0, size
    start, stop = int(found[1]), min(int(found[2] or size - 1) + 1, size)
    if not start < stop:
        raise HttpError(416, headers={"Content-Range": f"bytes */{size}"}, close=False)
    return start, stop


def _part(headers: Headers, length: int) -> tuple[int, int]:
    """Where the body of a PUT begins, and how long all of it is, of which these are the last bytes."""
    asked = headers.get("content-range")
    if asked is None:
        return 0, length
    found = _PART.fullmatch(asked)
    if found is not None:
        start, last, total = map(int, found.groups())
        if last == total - 1 and start + length == total:
            return start, total
    raise HttpError(400, "expected Content-Range: bytes START-LAST/SIZE, up to the end")


def _object_store() -> Any:
    try:
        from podlt.network.blobs import object_store
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return object_store
