"""A worker's carrier of large blobs, on a thread of its own: fetches them into memory, and uploads updates from there.

A job that fails is not lost: whoever asked for it hears of it, and gives it again; it goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np

from podlt.crypto import SigningKey, blob_digest
from podlt.errors import InvalidProofError, PodltError
from podlt.extras import needed_by
from podlt.network.background import Background
from podlt.network.blobs import delta
from podlt.network.blobs.disk import Buffer, flat
from podlt.network.blobs.transfer import BadBlobError, FetchRange, InMemory, Taker, fetch_rest, in_thread, upload

ATTEMPTS = 6
"""How many failures in a row, with no byte between them, end a job: then whoever asked for it looks again."""

Result = TypeVar("Result")


class Destination(Taker, Protocol):
    """Memory that takes a blob."""

    def finish(self, digest: bytes) -> None:
        """All bytes are there. Raises InvalidProofError if they are not what the digest says."""


class Whole:
    """Memory that takes a blob as it is.

    Args:
        data: uint8, as long as the blob.
    """

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.size, self.offset = data, data.nbytes, 0

    def append(self, data: Buffer) -> None:
        """See `transfer.Taker`."""
        view = flat(data)
        self.data[self.offset : self.offset + len(view)] = np.frombuffer(view, np.uint8)
        self.offset += len(view)

    def finish(self, digest: bytes) -> None:
        """See `Destination`."""
        if blob_digest(self.data.data) != digest:
            self.offset = 0
            raise BadBlobError(f"digest mismatch after {self.size} bytes", digest)


class Changed:
    """Parameters that take what changed in them; what they were before is lost as it comes.

    Args:
        state: the parameters, uint8.
        size: of the encoding.
        result: the digest of the parameters after it.
    """

    def __init__(self, state: np.ndarray, size: int, result: bytes) -> None:
        self._state, self._result = state, result
        self._decoder, self._done = delta.DeltaDecoder(state, state.nbytes), 0
        self.size, self.offset = size, 0

    def append(self, data: Buffer) -> None:
        """See `transfer.Taker`.

        Raises:
            InvalidProofError: it is malformed.
        """
        for part in self._decoder.feed(data):
            self._state[self._done : self._done + part.nbytes] = part
            self._done += part.nbytes
        self.offset += len(flat(data))

    def finish(self, digest: bytes) -> None:
        """See `Destination`; it is the result that must be right."""
        self._decoder.finish()
        delta.check(blob_digest(self._state.data), self._result)


class TransferEnded(NamedTuple):
    """A fetch ended: of what, into which place, and with which error, if any; or an upload (no place) failed."""

    digest: bytes
    place: Destination | None
    error: Exception | None


class BlobTransfers:
    """Carries blobs between a manager's server and this process.

    Args:
        urls: of the server, by different names.
        fingerprint: SHA-256 of its certificate.
        keys: of the identities.
        named: hosts that may be asked although only a local network has their addresses; None for all.
    """

    def __init__(
        self,
        urls: Sequence[str],
        fingerprint: bytes,
        keys: Iterable[SigningKey],
        named: Collection[str] | None = None,
    ) -> None:
        self._named = named
        self._urls, self._fingerprint = list(urls), fingerprint
        self._keys = {key.public: key for key in keys}
        self._http, self._buckets = _modules()
        self._ended: deque[TransferEnded] = deque()
        self._jobs: dict[tuple[bytes, bytes], asyncio.Task[None]] = {}
        self._clients: dict[tuple[bytes, int], Any] = {}
        self._failures = 0
        self._stack = AsyncExitStack()
        self._uploads = asyncio.Lock()
        self._background = Background("podlt-transfers")

    def fetch(self, key: bytes, digest: bytes, place: Destination, urls: Sequence[str] = (), part: int = 0) -> None:
        """Begins to fetch a blob, or resumes it; nothing if that is being done already.

        Args:
            key: whose it is, for the manager.
            place: takes it.
            urls: of its objects in an object store, if it is there.
            part: bytes of each of these objects. The manager's own server is asked where there are none, or where one
                cannot be had.
        """
        self._do((b"", digest), lambda: self._fetch(key, digest, place, urls, part), place)

    def send(self, key: bytes, digest: bytes, data: np.ndarray) -> None:
        """Begins to upload a blob, or resumes it; nothing if that is being done already.

        Args:
            data: its bytes (uint8), which must not change until the upload ended or was cancelled.
        """
        self._do((key, digest), lambda: self._send(key, digest, data), None)

    def ended(self) -> list[TransferEnded]:
        """What ended since the last call, uploads that went well excepted."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._ended.popleft())
        return found

    def move(self, urls: Sequence[str], fingerprint: bytes) -> None:
        """The server is elsewhere: what is begun from now on goes there."""

        async def move() -> None:
            self._urls, self._fingerprint = list(urls), fingerprint
            self._clients = {}  # that of object stores as well: what it may ask depends on where the server is

        self._background.call(move())

    @property
    def busy(self) -> bool:
        """Whether anything is being carried."""
        return bool(self._jobs) or bool(self._ended)

    @property
    def moved(self) -> int:
        """How many bytes came and went."""
        return sum(client.moved for client in list(self._clients.values()))

    def cancel(self, key: bytes, digest: bytes) -> None:
        """Ends a job (a fetch has no key); when this returns, its memory is not touched any more."""

        async def end() -> None:
            task = self._jobs.get((key, digest))
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

        if (key, digest) in self._jobs:
            self._background.call(end())

    def close(self) -> None:
        """Ends all jobs, and the thread."""
        self._background.end(self._stack.aclose)

    # -- on the thread -----------------------------------------------------------------------------------------------

    async def _fetch(self, key: bytes, digest: bytes, place: Destination, urls: Sequence[str], part: int) -> None:
        if urls:
            with suppress(PodltError):
                await self._from(await self._bucket(urls, part), digest, place)
                return
            if isinstance(place, Changed):  # half of it may be there, and wrong: the whole is asked for then
                raise InvalidProofError("the delta cannot be fetched from the object store")
        client = await self._client(key)
        await self._from(client.fetch_range, digest, place)

    async def _from(self, fetch_range: FetchRange, digest: bytes, place: Destination) -> None:
        await fetch_rest(place, digest, fetch_range, attempts=ATTEMPTS)
        await in_thread(place.finish, digest)

    async def _send(self, key: bytes, digest: bytes, data: np.ndarray) -> None:
        client = await self._client(key)
        async with self._uploads:  # one after another: what another identity has sent need not be sent again
            await upload(InMemory(data), digest, client, attempts=ATTEMPTS)

    async def _client(self, key: bytes) -> Any:
        name = self._failures % len(self._urls)
        if (key, name) not in self._clients:
            client = self._http.BlobClient(self._urls[name], self._fingerprint, self._keys[key], named=self._named)
            self._clients[key, name] = await self._stack.enter_async_context(client)
        return self._clients[key, name]

    async def _bucket(self, urls: Sequence[str], part: int) -> FetchRange:
        if (b"", 0) not in self._clients:
            client = self._buckets.ObjectClient(self._is_inside)
            self._clients[b"", 0] = await self._stack.enter_async_context(client)
        client = self._clients[b"", 0]

        async def fetch_range(digest: bytes, offset: int, length: int) -> Buffer:
            found: Buffer = await client.fetch_range(urls, part, digest, offset, length)
            return found

        return fetch_range

    async def _is_inside(self) -> bool:
        """Whether the manager's server is inside a local network, as a connection to it shows."""
        url = self._urls[self._failures % len(self._urls)]
        if self._named is not None and urlsplit(url).hostname not in self._named:
            return False
        return bool(await self._http.is_inside(url, self._fingerprint))

    def _do(
        self, name: tuple[bytes, bytes], work: Callable[[], Coroutine[Any, Any, None]], place: Destination | None
    ) -> None:
        async def run() -> None:
            error: Exception | None = None
            try:
                await work()
            except Exception as failed:
                error = failed
                self._failures += 1  # the next attempt by another name of the server
            finally:
                self._jobs.pop(name, None)
            if place is not None or error is not None:
                self._ended.append(TransferEnded(name[1], place, error))

        async def begin() -> None:
            if name not in self._jobs:
                self._jobs[name] = asyncio.ensure_future(run())

        if name not in self._jobs:
            self._background.call(begin())


def _modules() -> tuple[Any, Any]:
    try:
        from podlt.network.blobs import http_client, object_client
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return http_client, object_client
