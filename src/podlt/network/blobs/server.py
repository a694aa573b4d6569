"""The manager's server of large blobs, on a thread of its own: what workers may fetch now, and what they upload.

What is fetched lies in the manager's memory (parameters, lines) or on its disk (differences), and is served from there.
What is uploaded goes into a file, which the manager maps: neither is copied, however large it is.
"""

from __future__ import annotations

import asyncio
import mmap
import threading
from collections import deque
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from podlt.errors import PodltError, StorageError, UsageError
from podlt.extras import needed_by
from podlt.network.access import tokens
from podlt.network.addresses import bracketed, is_any, own_address
from podlt.network.background import CLOSE_SECONDS, Background
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import InMemory
from podlt.network.settings import load_settings, save_settings

FOLDER = "blobs"
"""Of a run: its large blobs while they are needed."""

PORT_SECONDS = 5.0
"""How long the port may still be held by a manager that was killed."""

Result = TypeVar("Result")


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
    """A blob that may be fetched: `data` if it is in memory, and by whom."""

    data: np.ndarray | None
    readers: Container[bytes]


class BlobServer:
    """Serves and takes large blobs for one run, from `start` to `close`.

    Args:
        folder: the run's directory.
        certificate: a file of PEM.
        private_key: a file of PEM.
        host: where to listen.
        port: where to listen, 0 for any port that is free, and then always the same one.
        names: hosts by which workers reach this machine.
        bucket: the URL of an object store, if parameters go through one.

    Attributes:
        store: what is on the disk.
        used: whether anything may be there since `clear`.
        admitted: the keys that may fetch what is for all.
        urls: of the server.
        fingerprint: SHA-256 of its certificate.
    """

    store: BlobStore

    def __init__(
        self,
        folder: Path,
        certificate: Path,
        private_key: Path,
        *,
        host: str = "0.0.0.0",
        port: int = 0,
        names: Sequence[str] = (),
        bucket: str = "",
    ) -> None:
        self._folder, self._certificate, self._private_key = folder, certificate, private_key
        self._host, self._port, self._names, self._bucket_url = host, port, list(names), bucket
        self._bucket: Any = None
        self._objects: Any = None
        self._endpoint: Any = None
        self._stored: list[tuple[bytes, int, int]] = []
        self.admitted: set[bytes] = set()
        self.used = True
        self.fingerprint, self.urls = b"", list[str]()
        self._offered: dict[bytes, _Offered] = {}
        self._memory: dict[bytes, np.ndarray] = {}
        self._expected: set[tuple[bytes, bytes]] = set()
        self._arrived: deque[Uploaded] = deque()
        self._background = Background("podlt-blobs")

    def start(self) -> None:
        """Listens.

        Raises:
            UsageError: it cannot listen there, the object store is none, or a package is missing.
            StorageError: the folder cannot be made.
        """
        endpoint, self._objects = _modules()
        self.store = BlobStore(self._folder / FOLDER, 2**60)
        self._bucket = self._objects.ObjectStore(self._bucket_url) if self._bucket_url else None
        self.fingerprint = tokens.fingerprint(self._certificate.read_bytes())
        self._endpoint = endpoint.BlobEndpoint(
            self.store,
            self._certificate,
            self._private_key,
            self._may_read,
            is_member=lambda key: key in self.admitted,
            memory=self._memory,
        )
        try:
            port = self._listen(self._folder, self._host, self._port)
        except BaseException:
            self._background.end()
            raise
        known = self._names or [own_address() if is_any(self._host) else self._host]
        self.urls = [f"https://{bracketed(name)}:{port}" for name in known]

    # -- what may be fetched -----------------------------------------------------------------------------------------

    def offer(self, digest: bytes, data: np.ndarray | None, readers: Container[bytes] | None = None) -> None:
        """Lets workers fetch a blob.

        Args:
            data: its bytes (uint8), which must not change until `withdraw`; None if it is in the store.
            readers: whose keys may; those of all admitted workers unless given.
        """
        if data is not None:
            self._memory[digest] = data
        self.used = self.used or data is None
        self._offered[digest] = _Offered(data, self.admitted if readers is None else readers)

    def withdraw(self, digest: bytes) -> None:
        """Nobody may fetch it any more; who is at it is cut off."""
        self._offered.pop(digest, None)
        self._memory.pop(digest, None)

    def _may_read(self, key: bytes, digest: bytes) -> bool:
        offered = self._offered.get(digest)
        return offered is not None and key in offered.readers

    # -- what is uploaded --------------------------------------------------------------------------------------------

    def expect(self, key: bytes, digest: bytes, size: int) -> bool:
        """Lets a worker upload what it committed to.

        Returns:
            Whether it is here already, as somebody else has uploaded it.
        """
        self.used = True
        if self.store.has(digest):
            return True
        self._expected.add((key, digest))
        self._background.call(self._expect(key, digest, size))
        return False

    async def _expect(self, key: bytes, digest: bytes, size: int) -> None:
        def over(done: asyncio.Future[None]) -> None:
            if not done.cancelled():
                self._arrived.append(Uploaded(key, digest, str(done.exception() or "")))

        self._endpoint.expect(key, digest, size).add_done_callback(over)

    def shut_out(self, key: bytes) -> None:
        """A worker is gone: it fetches what is for all no more, and nothing is expected of it."""
        self.admitted.discard(key)

        async def cancel() -> None:
            for known, digest in self._endpoint.expected():
                if known == key:
                    self._endpoint.cancel(key, digest)

        if any(known == key for known, _ in self._expected):
            self._expected = {one for one in self._expected if one[0] != key}
            self._background.call(cancel())

    def uploaded(self) -> list[Uploaded]:
        """Uploads that ended since the last call."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._arrived.popleft())
        self._expected -= {(one.key, one.digest) for one in found}
        return found

    @property
    def waiting(self) -> bool:
        """Whether an upload is expected."""
        return bool(self._expected)

    def progress(self, key: bytes, digest: bytes) -> int:
        """How many bytes of an upload have come."""
        return int(self._endpoint.progress(key, digest))

    def open(self, digest: bytes) -> np.ndarray:
        """The bytes of an upload that is here (uint8): a map of its file. To write to it changes no file."""
        path = self.store.path(digest)
        with path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)

    def clear(self, keep: Iterable[bytes] = ()) -> None:
        """A round is over: nothing is expected any more, and blobs that nobody needs are deleted."""
        if not self.used:
            return
        self.used = False

        async def cancel(expected: set[tuple[bytes, bytes]]) -> None:
            for key, digest in expected:
                self._endpoint.cancel(key, digest)

        self._background.call(cancel(set(self._endpoint.expected())))
        self._expected, self._arrived = set(), deque()
        self.store.keep(keep)
        if self._bucket is not None:
            old, self._stored = (
                self._stored[:-1],
                self._stored[-1:],
            )  # of the last, somebody may be fetching the end still
            for digest, size, part in old:
                self._background.start(self._bucket.remove(digest, size, part))

    # -- through an object store -------------------------------------------------------------------------------------

    def carry(self, digest: bytes, data: np.ndarray | None) -> Future[Stored] | None:
        """Puts a blob into the object store, if there is one.

        Args:
            data: its bytes, which must not change meanwhile; None if it is in the store.
        """
        if self._bucket is None:
            return None
        bucket = self._bucket
        source = self.store if data is None else InMemory(data)
        size = source.size(digest)
        part, self.used = self._objects.part_of(size), True

        async def put() -> Stored:
            self._stored.append((digest, size, part))
            await bucket.put(source, digest, part)
            return Stored(await bucket.urls(digest, size, part), part)

        return self._background.start(put())

    def spoiled(self, digest: bytes) -> None:
        """What is in the object store may not be the blob: it must not be found there again."""
        for known, size, part in self._stored:
            if known == digest and self._bucket is not None:
                self._background.call(self._bucket.remove(digest, size, part))

    # -- the thread --------------------------------------------------------------------------------------------------

    def close(self, *, empty: bool = False) -> None:
        """Ends the server.

        Args:
            empty: deletes all blobs; else uploads can go on when the run does.
        """
        with suppress(PodltError, OSError, TimeoutError):
            self._background.start(self._endpoint.stop()).result(CLOSE_SECONDS)
            if empty and self._bucket is not None:
                for one in self._stored:
                    self._background.start(self._bucket.remove(*one)).result(CLOSE_SECONDS)
        if empty:
            with suppress(StorageError):
                self.store.keep(())
        self._background.end()

    def _listen(self, run: Path, host: str, port: int) -> int:
        """Listens at the port of before, if there is one; returns the port, which is kept."""
        known = port or load_settings(run).port
        tries = int(PORT_SECONDS / 0.1)
        for attempt in range(tries):
            try:
                found = self._background.call(self._endpoint.start(host, known))
                break
            except OSError as error:
                if attempt + 1 == tries or not known:
                    what = f"port {known} is used by another program, and workers know this run by it: stop that one"
                    raise UsageError(f"large blobs cannot be served on {host}: {what if known else error}") from None
                threading.Event().wait(0.1)
        save_settings(run, port=found)
        return int(found)


def _modules() -> tuple[Any, Any]:
    try:
        from podlt.network.blobs import endpoint, object_store
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return endpoint, object_store
