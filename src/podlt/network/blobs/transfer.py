"""Fetching and sending blobs over any link: in ranges, gone on with after a cut, checked at the end.

Nothing here knows what carries the bytes. To fetch takes one function that gives a range; to send takes something
that says how far it came and takes the next range. Memory: a few ranges, however large the blob is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from podlt.errors import PodltError, StorageError
from podlt.network.blobs.disk import Buffer
from podlt.network.blobs.store import BlobStore

RANGE = 2**22
"""How many bytes are asked for at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between one failure and the next attempt: doubled each time that nothing came in between."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FetchRange = Callable[[bytes, int, int], Awaitable[Buffer]]
"""(digest, offset, length) -> the bytes. An `OSError` (a cut, a time-out) is tried again."""


class TransferError(PodltError):
    """A blob could not be fetched or sent; what came of it stays, to be gone on with.

    Attributes:
        digest: of the blob.
        sender: whoever it should have come from, as the caller named it.
    """

    def __init__(self, message: str, digest: bytes, sender: str = "") -> None:
        super().__init__(f"blob {digest.hex()[:16]}…{f' from {sender}' if sender else ''}: {message}")
        self.digest, self.sender = digest, sender


class BadBlobError(TransferError):
    """All bytes came, and they are not the blob: whoever sent them is at fault. They are deleted."""


class Source(Protocol):
    """Where the bytes of blobs come from: a `BlobStore`, or `InMemory`."""

    def size(self, digest: bytes) -> int:
        """The length of a blob."""

    def read(self, digest: bytes, offset: int, length: int) -> Buffer:
        """One range of it."""


class InMemory:
    """One blob, uint8, as a source: nothing is copied."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data

    def size(self, digest: bytes) -> int:
        """The length of the blob."""
        return self._data.nbytes

    def read(self, digest: bytes, offset: int, length: int) -> Buffer:
        """One range of it."""
        return self._data[offset : offset + length].data


class Taker(Protocol):
    """What takes a blob's bytes in order: `blobs.Partial`, or memory."""

    size: int
    offset: int

    def append(self, data: Buffer) -> None:
        """Takes the next bytes; `offset` says then how many there were."""


class Sink(Protocol):
    """The other end of an upload."""

    async def progress(self, digest: bytes, size: int) -> int:
        """How many bytes it has; all of them: it has checked them too."""

    async def send(self, digest: bytes, size: int, offset: int, data: Buffer) -> None:
        """Adds the next bytes. An `OSError` is tried again, after asking for `progress`."""


async def download(
    store: BlobStore,
    digest: bytes,
    size: int,
    fetch_range: FetchRange,
    limit: int,
    *,
    sender: str = "",
    window: int = 2,
    attempts: int = 5,
) -> None:
    """Fetches a blob into a store, unless it is there.

    Args:
        digest: of the blob, as announced.
        size: of the blob, in bytes, as announced.
        limit: the longest blob that is taken from this sender.
        sender: its name, for errors.
        window: how many ranges are asked for ahead.
        attempts: how many failures in a row, with no byte between them, are one too many.

    Raises:
        StorageError: longer than the limit, or no room: said before a byte is asked for.
        TransferError: the sender is gone for too long.
        BadBlobError: it sent something else.
    """
    if not 0 <= size <= limit:
        raise StorageError(f"blob {digest.hex()[:16]}…: too large: {size} bytes announced (limit {limit})")
    while not store.has(digest):
        with store.partial(digest, size) as partial:
            resumed = partial.resumed
            await fetch_rest(partial, digest, fetch_range, sender=sender, window=window, attempts=attempts)
            if await in_thread(partial.finish):
                return
        if not resumed:  # else the first bytes may be another sender's fault, or a power cut's: all of it once more
            raise BadBlobError(f"digest mismatch after {size} bytes", digest, sender)


async def fetch_rest(
    partial: Taker, digest: bytes, fetch_range: FetchRange, *, sender: str = "", window: int = 2, attempts: int = 5
) -> None:
    """Appends ranges, in order, until all bytes are there; unchecked. Arguments and errors as `download`.

    May be called again with the same taker after an error: it goes on where that is.
    """
    failures = 0
    while partial.offset < partial.size:
        before = partial.offset
        try:
            await _fetch_in_order(partial, digest, fetch_range, sender, window)
        except OSError as error:
            failures = failures + 1 if partial.offset == before else 1
            if failures >= attempts:
                why = f"{type(error).__name__}: {error}"
                raise TransferError(f"{partial.offset} of {partial.size} bytes came; {why}", digest, sender) from None
            await _pause(failures)


async def _fetch_in_order(partial: Taker, digest: bytes, fetch_range: FetchRange, sender: str, window: int) -> None:
    """Asks for up to `window` ranges ahead of the one that is awaited, and appends each in its turn."""
    ahead: deque[tuple[int, asyncio.Task[Buffer]]] = deque()
    asked = partial.offset
    try:
        while partial.offset < partial.size:
            while asked < partial.size and len(ahead) < window:
                length = min(RANGE, partial.size - asked)
                ahead.append((length, asyncio.ensure_future(_coroutine(fetch_range, digest, asked, length))))
                asked += length
            length, task = ahead[0]
            data = await task
            ahead.popleft()
            if len(data) != length:
                raise BadBlobError(f"range of wrong length: expected {length} bytes, got {len(data)}", digest, sender)
            await in_thread(partial.append, data)
    finally:
        for _, task in ahead:
            task.cancel()
        await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)


async def _coroutine(fetch_range: FetchRange, digest: bytes, offset: int, length: int) -> Buffer:
    return await fetch_range(digest, offset, length)


async def upload(store: Source, digest: bytes, sink: Sink, *, attempts: int = 5) -> None:
    """Sends a blob, from where the other end says that it has come.

    Raises:
        StorageError: the blob is not here.
        TransferError: the other end is gone for too long, or refuses it.
    """
    size, failures, best = store.size(digest), 0, -1
    while True:
        try:
            offset = await sink.progress(digest, size)
            if offset > best:
                best, failures = offset, 0
            while offset < size:
                data = await in_thread(store.read, digest, offset, min(RANGE, size - offset))
                await sink.send(digest, size, offset, data)
                offset += len(data)
            return
        except OSError as error:
            failures += 1
            if failures >= attempts:
                raise TransferError(f"could not be sent: {type(error).__name__}: {error}", digest) from None
            await _pause(failures)


async def in_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Runs what waits for the disk in a thread; a task that is cancelled waits for it, as its file is closed next."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _pause(failures: int) -> None:
    await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))
