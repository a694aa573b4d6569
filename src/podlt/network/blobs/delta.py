"""Parameters for somebody who has those of the round before: what changed, or the whole, whichever is smaller.

Each part of a few MiB is one record: the same as before, the difference, or the new bytes. The difference is that
of the words' bit patterns, as whole numbers modulo 2**32, so that nothing is ever rounded; a step of the optimiser
changes most floats by few units in the last place, so the difference is small where an XOR (a carry flips a run of
bits) is not: 3 to 6 % shorter, measured on steps of 1e-3 to 1e-6. Its sign goes into the lowest bit, equal bytes of
all words are put together (the high ones are nearly all zero), and Zstandard takes out what repeats.

    encoding  = "podlt-d1", length of the parameters (u64), records
    record    = kind (u8), length of what follows (u32), that many bytes

A receiver decompresses into memory of the size that it expects, and nothing that an encoding claims takes more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError
from podlt.extras import needed_by
from podlt.network.blobs.disk import Buffer, flat
from podlt.network.blobs.store import BlobStore

try:
    import zstandard
except ImportError as error:
    raise needed_by("the network engine", error) from None

PART = 2**22
"""How many bytes of the parameters a record stands for; the last may have fewer."""

HEADER = struct.Struct(">8sQ")
RECORD = struct.Struct(">BI")
MAGIC = b"podlt-d1"

SAME, RAW, WHOLE, DELTA = range(4)
"""Kinds: as before (empty); the bytes themselves; their planes, compressed; the difference's planes, compressed."""

LEVEL = 1
"""Zstandard's: higher ones took up to three times as long, and made it no smaller."""

WINDOW = 2 * PART
"""The most memory that a frame may ask its decompressor for."""


def bound(size: int) -> int:
    """No encoding of parameters of `size` bytes is longer than this."""
    return HEADER.size + size + RECORD.size * -(-size // PART)


class Base(Protocol):
    """Parameters of before: an array, or a file that looks like one."""

    @property
    def nbytes(self) -> int:
        """Their length."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Some of them, uint8."""


def encode(new: np.ndarray, base: Base | None) -> Iterator[bytes]:
    """The encoding of parameters, part by part: for `BlobStore.put_stream`, or to be joined.

    Args:
        new: flat uint8.
        base: what the receiver has, of the same length, or None if it has nothing; a part of it may be overwritten as
            soon as its record was given.
    """
    assert base is None or base.nbytes == new.nbytes
    yield HEADER.pack(MAGIC, new.nbytes)
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    for start in range(0, new.nbytes, PART):
        part = new[start : start + PART]
        kind, payload = _smallest(part, None if base is None else base[start : start + PART], compressor)
        yield RECORD.pack(kind, len(payload)) + payload


def decode(encoded: Buffer, base: np.ndarray | None, out: np.ndarray, digest: bytes) -> None:
    """Writes the parameters that an encoding stands for.

    Args:
        encoded: all of it, such as a memory map.
        base: flat uint8, what the sender believes that we have.
        out: flat uint8, of the length that the parameters must have; may be `base` itself, which is lost then if this
            raises.
        digest: of the parameters.

    Raises:
        InvalidProofError: malformed, for another length, larger than it says, or the result is not what it must be.
    """
    start = 0
    for part in parts(encoded, base, out.nbytes):
        out[start : start + part.nbytes] = part
        start += part.nbytes
    check(blob_digest(flat(out)), digest)


def decode_to(store: BlobStore, encoded: Buffer, base: np.ndarray | None, size: int, digest: bytes) -> None:
    """Like `decode`, into a store of blobs: for parameters that need not fit into memory.

    Raises:
        InvalidProofError: as `decode`, and nothing is left in the store.
        StorageError: no room.
    """
    found = store.put_stream(parts(encoded, base, size), size)
    if found != digest:
        store.discard(found)
    check(found, digest)


def parts(encoded: Buffer, base: np.ndarray | None, size: int) -> Iterator[np.ndarray]:
    """The parameters, part by part (uint8), unchecked as a whole: see `decode`.

    Raises:
        InvalidProofError: malformed, for another length than `size`, or larger than it says.
    """
    decoder = DeltaDecoder(base, size)
    yield from decoder.feed(encoded)
    decoder.finish()


def check(found: bytes, digest: bytes) -> None:
    """Raises: InvalidProofError: what was decoded is not what it must be."""
    if found != digest:
        message = "parameters are not what was announced: other ones were here before, or the encoding is wrong"
        raise InvalidProofError(message, expected=digest, actual=found)


class DeltaDecoder:
    """Takes an encoding as it comes, in any cuts, and gives the parameters part by part.

    What it keeps of the encoding is less than a record, however long that is.

    Args:
        base: flat uint8, of `size` bytes; a part of it may be overwritten as soon as its successor was given.
        size: of the parameters.

    Raises:
        InvalidProofError: the base has another size.
    """

    def __init__(self, base: np.ndarray | None, size: int) -> None:
        if base is not None and base.nbytes != size:
            raise InvalidProofError("parameters before are of another length", expected=size, actual=base.nbytes)
        self._base, self._size, self._start = base, size, 0
        self._rest = memoryview(b"")
        self._begun = False
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)

    def feed(self, data: Buffer) -> Iterator[np.ndarray]:
        """The next parts (uint8), as far as they are known now.

        Raises:
            InvalidProofError: malformed, for another length than `size`, or larger than it says.
        """
        view = flat(data)
        if len(self._rest):
            view = memoryview(b"".join((self._rest, view)))
        if not self._begun and len(view) >= HEADER.size:
            if HEADER.unpack_from(view) != (MAGIC, self._size):
                raise InvalidProofError(f"not an encoding of {self._size} bytes of parameters")
            self._begun, view = True, view[HEADER.size :]
        while self._begun and self._start < self._size and len(view) >= RECORD.size:
            length = min(PART, self._size - self._start)
            kind, taken = RECORD.unpack_from(view)
            if taken > length:
                raise _malformed(self._start, f"its record has {taken} bytes")
            if len(view) < RECORD.size + taken:
                break
            before = None if self._base is None else self._base[self._start : self._start + length]
            payload, view = view[RECORD.size : RECORD.size + taken], view[RECORD.size + taken :]
            part = _part(kind, payload, before, length, self._start, self._decompressor)
            self._start += length
            yield part
        self._rest = memoryview(bytes(view))

    def finish(self) -> None:
        """There is no more of the encoding.

        Raises:
            InvalidProofError: it is cut off, or something follows its end.
        """
        if not self._begun:
            raise InvalidProofError(f"not an encoding of {self._size} bytes of parameters")
        if self._start < self._size:
            raise _malformed(self._start, "its record is cut off")
        if len(self._rest):
            raise _malformed(self._size, f"{len(self._rest)} bytes follow its end")


def _smallest(part: np.ndarray, before: np.ndarray | None, compressor: zstandard.ZstdCompressor) -> tuple[int, bytes]:
    """The kind and payload of the shortest record; the whole is tried where the difference saves less than a quarter.

    Weights as such are rarely shorter than nine tenths; where they are, their differences are shorter still.
    """
    kind, payload = RAW, part.tobytes()
    if before is not None:
        if np.array_equal(part, before):
            return SAME, b""
        difference = compressor.compress(_planes(_fold(_words(part) - _words(before))))
        if len(difference) < len(payload):
            kind, payload = DELTA, difference
        if 4 * len(difference) < 3 * part.nbytes:
            return kind, payload
    whole = compressor.compress(_planes(_words(part)))
    return (WHOLE, whole) if len(whole) < len(payload) else (kind, payload)


def _part(
    kind: int,
    payload: memoryview,
    before: np.ndarray | None,
    length: int,
    start: int,
    decompressor: zstandard.ZstdDecompressor,
) -> np.ndarray:
    """The bytes that one record stands for."""
    if kind == RAW and len(payload) == length:
        return np.frombuffer(payload, np.uint8)
    if kind == WHOLE:
        return _unplanes(payload, length, start, decompressor).view(np.uint8)[:length]
    if before is None and kind in (SAME, DELTA):
        raise _malformed(start, "it builds on parameters that are not here")
    assert before is not None or kind not in (SAME, DELTA)
    if kind == SAME and not payload:
        return before  # type: ignore[return-value]
    if kind == DELTA:
        words = _unfold(_unplanes(payload, length, start, decompressor))
        words += _words(before)  # type: ignore[arg-type]
        return words.view(np.uint8)[:length]
    raise _malformed(start, f"its record is of kind {kind} and has {len(payload)} bytes")


def _unplanes(payload: memoryview, length: int, start: int, decompressor: zstandard.ZstdDecompressor) -> np.ndarray:
    """Words (uint32) from compressed planes: decompressed into as much memory as they must take, no more."""
    planes = np.empty((4, -(-length // 4)), np.uint8)
    room, done = flat(planes), 0
    reader: Any = decompressor.stream_reader(payload, read_across_frames=True)
    try:
        while done < len(room) and (count := reader.readinto(room[done:])):
            done += count
        excess = reader.read(1)
    except zstandard.ZstdError as error:
        raise _malformed(start, str(error)) from None
    if done < len(room) or excess:
        raise _malformed(start, f"it holds {'more' if excess else 'fewer'} than {len(room)} bytes")
    return np.ascontiguousarray(planes.T).view("<u4").reshape(-1)


def _planes(words: np.ndarray) -> bytes:
    """All words' lowest bytes, then all their second ones, and so on."""
    return words.view(np.uint8).reshape(-1, 4).T.tobytes()


def _words(data: np.ndarray) -> np.ndarray:
    """Bytes as little-endian words; up to three zeros fill the last one."""
    if data.nbytes % 4:
        data = np.concatenate([data, np.zeros(-data.nbytes % 4, np.uint8)])
    return data.view("<u4")


def _fold(words: np.ndarray) -> np.ndarray:
    """Differences modulo 2**32 to numbers that are small for small differences of either sign: 0, -1, 1, -2, ..."""
    signed = words.view("<i4")
    return ((signed << 1) ^ (signed >> 31)).view("<u4")


def _unfold(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint32(1)) ^ (~(words & np.uint32(1)) + np.uint32(1))


def _malformed(start: int, why: str) -> InvalidProofError:
    return InvalidProofError(f"encoding of parameters, at their byte {start}: {why}")
