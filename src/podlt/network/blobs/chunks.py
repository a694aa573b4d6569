"""A blob as messages that may come late, twice or in any order, and the blob again.

A chunk says which blob it is of, how long that is, and where it begins. Whoever takes chunks knows the blob's
digest and length beforehand, from a message that it trusts: no chunk makes it take memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from podlt.crypto import KEY_BYTES as DIGEST_BYTES
from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.network.blobs import sparse
from podlt.network.blobs.disk import Buffer, flat
from podlt.network.blobs.transfer import BadBlobError

CHUNK = 480 * 1024
"""How many bytes of the blob a message carries: a frame takes 512 KiB (docs/WIRE.md)."""

HEADER = struct.Struct(f">{DIGEST_BYTES}sQQ")
"""Digest, length of the blob, where the chunk begins."""


def split(
    digest: bytes, data: Buffer, chunk: int = CHUNK, *, before: bytes = b"", thin: bool = False
) -> Iterator[bytes]:
    """The messages that carry a blob, each at most `chunk` bytes and a header long; an empty blob has one.

    Args:
        before: bytes that each message begins with; whoever takes it removes them.
        thin: leaves out zeros where that is shorter (see `sparse`).
    """
    view = flat(data)
    for offset in range(0, max(len(view), 1), chunk):
        part = view[offset : offset + chunk]
        yield message(digest, len(view), offset, part, before=before, thin=thin)


def message(digest: bytes, size: int, offset: int, data: Buffer, *, before: bytes = b"", thin: bool = False) -> bytes:
    """One message of a blob: the bytes are copied once, and never again on their way."""
    parts = sparse.packed(np.asarray(data)) if thin else [data]
    return b"".join((before, HEADER.pack(digest, size, offset), *map(flat, parts)))


def offsets(size: int) -> range:
    """Where the chunks of a blob of so many bytes begin."""
    return range(0, max(size, 1), CHUNK)


def offsets_of(size: int, wanted: Sequence[tuple[int, int]]) -> list[int]:
    """Where the chunks begin that were asked for by offset and length; each once, however often it was asked for.

    Raises:
        InvalidProofError: a range is not one chunk of a blob of so many bytes.
    """
    for offset, length in wanted:
        if offset not in offsets(size) or length != min(CHUNK, size - offset):
            raise InvalidProofError(f"invalid range: expected one chunk of {CHUNK} bytes, got {length} at {offset}")
    return list(dict.fromkeys(offset for offset, _ in wanted))


def chunk_at(digest: bytes, data: np.ndarray, offset: int, *, before: bytes = b"") -> bytes:
    """The message of the chunk that begins at an offset; `before` as in `split`."""
    return message(digest, len(data), offset, data[offset : offset + CHUNK], before=before)


class Assembler:
    """Puts blobs together from their chunks.

    Args:
        limit: the longest blob.
        memory: the most bytes that blobs under way may take together, those excepted for which the caller brings the
            memory.
        chunk: as the sender splits.

    Attributes:
        ignored: how many chunks came twice, or of blobs that were not announced.
    """

    def __init__(self, limit: int, memory: int, chunk: int = CHUNK) -> None:
        self.limit, self.memory, self.chunk = limit, memory, chunk
        self.ignored = 0
        self._blobs: dict[bytes, _Blob] = {}

    def announce(self, digest: bytes, size: int, into: np.ndarray | None = None) -> None:
        """Says that a blob will come; to say the same twice is to say it once.

        Args:
            into: uint8 memory of at least `size` bytes to put it into.

        Raises:
            StorageError: longer than the limit, or no memory left for it: said before any is taken.
            InvalidProofError: announced before with another length.
        """
        known = self._blobs.get(digest)
        if known is not None:
            if known.data.nbytes != size:
                message = f"blob {digest.hex()[:16]}…: announced with another length"
                raise InvalidProofError(message, expected=known.data.nbytes, actual=size)
            return
        if not 0 <= size <= self.limit:
            raise StorageError(f"blob {digest.hex()[:16]}…: too large: {size} bytes (limit {self.limit})")
        if into is None:
            taken = sum(blob.data.nbytes for blob in self._blobs.values() if blob.owned)
            if taken + size > self.memory:
                free = self.memory - taken
                raise StorageError(
                    f"blob {digest.hex()[:16]}…: not enough memory: {size} bytes needed, {free} of {self.memory} free"
                )
        data = np.empty(size, np.uint8) if into is None else into[:size]
        assert data.nbytes == size and data.dtype == np.uint8
        self._blobs[digest] = _Blob(data, into is None, bytearray(max(1, -(-size // self.chunk))))

    def take(self, message: Buffer) -> np.ndarray | None:
        """Takes a message of `split`.

        Returns:
            The blob, uint8, if it is whole now; None if not, and for chunks that came before or were not announced.

        Raises:
            InvalidProofError: the message is malformed.
            BadBlobError: the blob is whole and is not what its digest says: its chunks are forgotten, and may come
                again.
        """
        view = flat(message)
        if len(view) < HEADER.size:
            raise InvalidProofError("chunk too short", expected=HEADER.size, actual=len(view))
        digest, size, offset = HEADER.unpack_from(view)
        blob = self._blobs.get(digest)
        if blob is not None and size != blob.data.nbytes:
            name = f"chunk of blob {digest.hex()[:16]}…: another length than announced"
            raise InvalidProofError(name, expected=blob.data.nbytes, actual=size)
        return self.fill(digest, offset, view[HEADER.size :])

    def fill(self, digest: bytes, offset: int, data: Buffer) -> np.ndarray | None:
        """Takes one chunk, as it is or packed, as `take`; for chunks that were asked for (see `missing`)."""
        blob, view = self._blobs.get(digest), flat(data)
        if blob is None:
            self.ignored += 1
            return None
        index, rest = divmod(offset, self.chunk)
        expected = min(self.chunk, blob.data.nbytes - offset)
        if rest or not 0 <= index < len(blob.present) or len(view) > expected:
            name = f"chunk of blob {digest.hex()[:16]}… at {offset}: invalid offset or length"
            raise InvalidProofError(name, expected=expected, actual=len(view))
        if blob.present[index]:
            self.ignored += 1
            return None
        sparse.unpack(view, blob.data[offset : offset + expected])
        blob.present[index] = 1
        blob.count += 1
        return self._finished(digest, blob) if blob.count == len(blob.present) else None

    def missing(self, digest: bytes, most: int = 64) -> list[tuple[int, int]]:
        """Offset and length of the first chunks that have not come, `most` of them; none if it is not under way."""
        blob, index = self._blobs.get(digest), -1
        found: list[tuple[int, int]] = []
        while blob is not None and len(found) < most and (index := blob.present.find(0, index + 1)) >= 0:
            offset = index * self.chunk
            found.append((offset, min(self.chunk, blob.data.nbytes - offset)))
        return found

    def forget(self, digest: bytes) -> None:
        """Takes back what `announce` said."""
        self._blobs.pop(digest, None)

    def _finished(self, digest: bytes, blob: _Blob) -> np.ndarray:
        if blob_digest(blob.data.data) == digest:
            del self._blobs[digest]
            return blob.data
        blob.present, blob.count = bytearray(len(blob.present)), 0
        raise BadBlobError(f"digest mismatch after {blob.data.nbytes} bytes", digest)


class _Blob:
    """A blob under way: its memory, and one byte a chunk that says whether it came."""

    __slots__ = ("count", "data", "owned", "present")

    def __init__(self, data: np.ndarray, owned: bool, present: bytearray) -> None:
        self.data, self.owned, self.present, self.count = data, owned, present, 0
