"""Records <-> bytes, with exactly one encoding each.

Records (log entries, messages) are MessagePack as msgspec writes it: maps with the field names in the order of
their definition, integers in their shortest form. A decoder that accepts a second encoding of the same record
would let two different byte strings pass as one entry; so what was decoded is encoded again and must be equal.

Documents that people read (recipes, programs) are JSON: keys sorted, no spaces, no NaN.
"""

from __future__ import annotations

import json
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
    """

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)

    def decode(self, data: bytes | memoryview) -> T:
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
        if _encoder.encode(record) != data:
            raise InvalidProofError("record is not in its canonical encoding")
        return record  # type: ignore[no-any-return]


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
