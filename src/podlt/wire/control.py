"""What the two ends of a session's connection say to each other about the connection itself (docs/WIRE.md).

A connection carries all identities of a worker process. Each message has a number before it that says whose it is: an
identity's, which the server gave out when it logged in, everybody's, or the connection's own, for these records.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.canonical import Decoder, encode
from podlt.errors import InvalidProofError
from podlt.units import Count, PublicKey, Signature, Text
from podlt.wire.messages import MAX_MESSAGE, Raw

VERSION = 1
"""Of these records and of what is signed to log in."""

PATH = "/session"
CONTROL, EVERYBODY = 0xFFFE, 0xFFFF
"""Numbers that are no identity's: records of the connection, and messages for all."""

INDEX = struct.Struct(">H")
LONGEST_FRAME = INDEX.size + MAX_MESSAGE
LONGEST_LOGIN = 4096
"""Bytes of a frame from a connection on which nobody was let in yet."""

MOST_IDENTITIES = 1024
"""Of one connection."""

COPIED = 4096
"""Longer messages are views of their frames."""

NONCE_BYTES = 32
LOGIN_CREDIT = 512 * 1024
"""Bytes that may be sent before anybody was let in: the logins of all identities."""


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every record has: its kind."""


class Challenge(Control, frozen=True, tag="challenge"):
    """The server's first words: what is to be signed, and how many bytes may come before it grants more."""

    version: Count
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    credit: Count


class Login(Control, frozen=True, tag="login"):
    """An identity logs in: by which invitation, and what it is willing to owe. Signed: see `access.login`."""

    key: PublicKey
    secret: Annotated[bytes, Meta(max_length=16)] = b""
    deposit: Count = 0
    signature: Signature = bytes(64)


class LoggedIn(Control, frozen=True, tag="logged_in"):
    """An identity was let in: its messages, both ways, have this number before them."""

    key: PublicKey
    index: Annotated[int, Meta(ge=0, lt=MOST_IDENTITIES)]


class LoginRefused(Control, frozen=True, tag="login_refused"):
    """An identity was not let in, or is not any more; it may log in again after so many seconds, or (None) never."""

    key: PublicKey
    reason: Text
    seconds: Count | None = None


class Logout(Control, frozen=True, tag="logout"):
    """An identity has nothing to do here any more."""

    index: Annotated[int, Meta(ge=0, lt=MOST_IDENTITIES)]


class Credit(Control, frozen=True, tag="credit"):
    """The worker may have sent so many bytes since the connection began: payloads of all frames, with their numbers."""

    limit: Count


FromServer = Challenge | LoggedIn | LoginRefused | Credit
FromClient = Login | Logout

_from_server: Decoder[FromServer] = Decoder(FromServer)
_from_client: Decoder[FromClient] = Decoder(FromClient)


def from_server(body: Raw) -> FromServer:
    """A record of the server's. Raises InvalidProofError if it is malformed."""
    return _from_server.decode(body)


def from_client(body: Raw) -> FromClient:
    """A record of a worker process's. Raises InvalidProofError if it is malformed."""
    return _from_client.decode(body)


def frame(record: Control) -> bytes:
    """The payload of the frame that carries a record."""
    return INDEX.pack(CONTROL) + encode(record)


def split(payload: bytes | bytearray) -> tuple[int, Raw]:
    """Number and message of a payload.

    Raises:
        InvalidProofError: it is shorter than a number.
    """
    if len(payload) < INDEX.size:
        raise InvalidProofError("malformed frame: no number before the message")
    message = memoryview(payload).toreadonly()[INDEX.size :]
    return INDEX.unpack_from(payload)[0], bytes(message) if len(message) < COPIED else message
