"""Records <-> bytes, with exactly one encoding each.

Records (log entries, messages) are MessagePack as msgspec writes it: maps with the field names in the order of
their definition, integers in their shortest form. A decoder that accepts a second encoding of the same record
would let two different byte strings pass as one entry; so what was decoded is encoded again and must be equal.

Documents that people read (recipes, programs) are JSON: keys sorted, no spaces, no NaN.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from podlt.errors import InvalidProofError

MAX_RECORD = 16 * 2**20
"""The longest record that is decoded, in bytes: checked before any memory is taken."""

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(record: Any) -> bytes:
    """The one encoding of a record."""
    return _encoder.encode(record)


Buffer = bytes | memoryview

COPIED = 4096
"""Shorter byte strings are encoded like any other value."""


def encode_before(record: Any, name: str, length: int) -> bytes:
    """The one encoding of a record but for the bytes of its last field, `name`, which are so many."""
    bare = _encoder.encode(msgspec.structs.replace(record, **{name: b""}))
    if length < 2**8:
        return bare[:-1] + bytes([length])
    form, kind = (">BH", 0xC5) if length < 2**16 else (">BI", 0xC6)
    return bare[:-2] + struct.pack(form, kind, length)


def encode_with(record: Any, name: str, parts: Sequence[Buffer]) -> bytes:
    """The one encoding of a record whose last field, `name`, has the bytes of some parts; each is copied once."""
    return b"".join((encode_before(record, name, sum(map(len, parts))), *parts))


def named_fields(record: msgspec.Struct) -> list[tuple[str, Any]]:
    """The fields of a record by the names that its encoding gives them, in order."""
    names = zip(record.__struct_encode_fields__, record.__struct_fields__, strict=True)
    return [(encoded, getattr(record, name)) for encoded, name in names]


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are no document of a type."""


class Decoder(Generic[T]):
    """Decodes records of one type, strictly.

    Args:
        kind: the type, or union of types, that is accepted.
        long: types whose last field may be very many bytes, and the field's name: these are not encoded again.
    """

    def __init__(self, kind: Any, long: Mapping[Any, str] | None = None) -> None:
        self._decoder, self._long = msgspec.msgpack.Decoder(kind), long or {}

    def decode(self, data: Buffer) -> T:
        """The record whose one encoding is `data`.

        Raises:
            InvalidProofError: malformed, too long, out of range, or not the canonical encoding.
        """
        if len(data) > MAX_RECORD:
            raise InvalidProofError(f"record of {len(data)} bytes is longer than {MAX_RECORD}")
        try:
            record = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise InvalidProofError(f"malformed record: {error}") from None
        except (RecursionError, UnicodeDecodeError) as error:
            raise InvalidProofError(f"malformed record: {type(error).__name__}") from None
        if not self._is_canonical(record, data):
            raise InvalidProofError("record is not in its canonical encoding")
        return record  # type: ignore[no-any-return]

    def _is_canonical(self, record: Any, data: Buffer) -> bool:
        name = self._long.get(type(record))
        if name is not None and (length := len(getattr(record, name))) >= COPIED:
            before = encode_before(record, name, length)  # what comes after it can only be the field's bytes
            return len(data) == len(before) + length and bytes(data[: len(before)]) == before
        return bool(_encoder.encode(record) == bytes(data))  # a memoryview is compared byte by byte


def to_json(document: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: a float that is not finite.
    """
    return json.dumps(document, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=False).encode()


def from_json(data: bytes) -> Any:
    """The document whose canonical JSON is `data`.

    Raises:
        InvalidProofError: malformed, or not the canonical encoding (duplicate keys, spaces, another order).
    """
    if len(data) > MAX_RECORD:
        raise InvalidProofError(f"document of {len(data)} bytes is longer than {MAX_RECORD}")
    try:
        document = json.loads(data)
        again = to_json(document)
    except (ValueError, RecursionError) as error:
        raise InvalidProofError(f"malformed document: {error}") from None
    if again != data:
        raise InvalidProofError("document is not in its canonical encoding")
    return document
