"""Tree heads signed by the manager, as C2SP checkpoints inside signed notes.

The text is three lines (origin, size, base64 of the root), a blank line, and a signature line that any tool
for signed notes can check. Source: c2sp.org/tlog-checkpoint and c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

import msgspec

from podlt.crypto import SigningKey, is_signed_raw
from podlt.errors import InvalidProofError

MAX_NOTE = 4096
_ED25519 = b"\x01"
_ORIGIN = re.compile(r"podlt\.run/[0-9a-f]{64}")
_NOTE = re.compile(
    r"(?P<text>(?P<origin>[^\n]{1,200})\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n)"
    r"\n— (?P<name>[^\n +]{1,200}) (?P<signature>[A-Za-z0-9+/]{91}=)\n"
)


class Head(msgspec.Struct, frozen=True):
    """A tree head: the log named `origin` had `size` entries and this Merkle root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed part of the checkpoint."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(run: bytes) -> str:
    """The name of a run's log: unique, as the run's identity is a digest."""
    return f"podlt.run/{run.hex()}"


def is_origin(name: object) -> bool:
    """Whether it is what `origin_of` gives for some run."""
    return isinstance(name, str) and _ORIGIN.fullmatch(name) is not None


def sign_head(head: Head, key: SigningKey) -> str:
    """The checkpoint as a signed note; the key's name is the log's origin."""
    text = head.text()
    blob = _key_id(head.origin, key.public) + key.sign_raw(text.encode())
    return f"{text}\n— {head.origin} {base64.b64encode(blob).decode()}\n"


def open_head(note: str, key: bytes, origin: str) -> Head:
    """The tree head inside a note that `key` signed for the log `origin`.

    Raises:
        InvalidProofError: malformed, another log's, or not signed by the key.
    """
    match = _NOTE.fullmatch(note) if len(note) <= MAX_NOTE else None
    if match is None:
        raise InvalidProofError("malformed checkpoint")
    if match["name"] != match["origin"]:
        raise InvalidProofError("checkpoint of one log, signed for another")
    head = Head(match["origin"], int(match["size"]), _b64(match["root"]))
    if head.origin != origin:
        raise InvalidProofError("checkpoint of another log", expected=origin, actual=head.origin)
    blob = _b64(match["signature"])
    if blob[:4] != _key_id(origin, key):
        raise InvalidProofError("checkpoint is not signed by this run's manager")
    if not is_signed_raw(key, match["text"].encode(), blob[4:]):
        raise InvalidProofError("signature of the checkpoint does not hold")
    return head


def _key_id(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key).digest()[:4]


def _b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidProofError("malformed base64 in a checkpoint") from None
    if base64.b64encode(data).decode() != text:
        raise InvalidProofError("checkpoint is not in its canonical encoding")
    return data
