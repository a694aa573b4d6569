"""Signed notes of C2SP with any number of signatures, and witnesses' cosignatures over checkpoints.

A tree head of ours has one signature, its manager's (`tree_head`). A witness signs the same text with the time at which
it saw that the log had only grown. Sources: c2sp.org/signed-note, c2sp.org/tlog-cosignature (Ed25519, cosignature/v1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

import msgspec

from podlt.crypto import KEY_BYTES, SigningKey, is_signed_raw
from podlt.errors import InvalidProofError
from podlt.log.tree_head import Head

COSIGNATURE = b"\x04"
"""The type of a key that cosigns by Ed25519."""

MOST_SIGNATURES = 64
_DASH = "— "
_NAME = re.compile(r"[^\s+]{1,200}")
_LINE = re.compile(r"— (?P<name>[^\s+]{1,200}) (?P<signature>[A-Za-z0-9+/]{8,5000}={0,2})")
_HEAD = re.compile(r"(?P<origin>[^\n]{1,200})\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n")


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature of a note.

    Attributes:
        name: of the key.
        key_id: four bytes by which the key is known.
        signature: what follows them.
    """

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """It as a line of a note."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


class WitnessKey(msgspec.Struct, frozen=True):
    """Who a witness is: its name and its public key, written as a verifier key (`NAME+ID+KEY`).

    Attributes:
        name: a schema-less URL; it need not lead anywhere.
        key: Ed25519, 32 bytes.
    """

    name: str
    key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a signature line names the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + COSIGNATURE + self.key).digest()[:4]

    def text(self) -> str:
        """The verifier key."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(COSIGNATURE + self.key).decode()}"

    @classmethod
    def of_text(cls, text: str) -> WitnessKey:
        """Reads a verifier key.

        Raises:
            InvalidProofError: it is none of this type.
        """
        name, _, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        found = cls(name, raw[1:])
        if not _NAME.fullmatch(name) or raw[:1] != COSIGNATURE or len(raw) != 1 + KEY_BYTES:
            raise InvalidProofError("malformed witness key: expected NAME+ID+KEY, as podlt witness prints it")
        if found.key_id.hex() != identity:
            raise InvalidProofError("malformed witness key: its identifier is of another key: copied with a mistake")
        return found

    def cosigned_at(self, head: Head, signature: NoteSignature) -> int:
        """When the witness cosigned a head, in seconds since 1970.

        Raises:
            InvalidProofError: another key's, or it does not hold.
        """
        if (signature.name, signature.key_id) != (self.name, self.key_id):
            raise InvalidProofError("the cosignature is of another witness")
        time, signed = signature.signature[:8], signature.signature[8:]
        at = int.from_bytes(time, "big")
        if len(time) != 8 or at >= 2**63 or not is_signed_raw(self.key, cosigned_message(head, at), signed):
            raise InvalidProofError("the cosignature does not hold")
        return at


def cosigned_message(head: Head, at: int) -> bytes:
    """What a witness signs: a header, the time, and the checkpoint's text."""
    return f"cosignature/v1\ntime {at}\n{head.text()}".encode()


def cosign(head: Head, at: int, name: str, key: SigningKey) -> NoteSignature:
    """A witness' signature over a head, which it has found to be consistent with all that it saw before.

    Args:
        at: seconds since 1970.
        name: of the witness.
        key: its own, for nothing else.
    """
    signature = at.to_bytes(8, "big") + key.sign_raw(cosigned_message(head, at))
    return NoteSignature(name, WitnessKey(name, key.public).key_id, signature)


def parse_signatures(text: str) -> list[NoteSignature]:
    """The signature lines of a note, in their order.

    Raises:
        InvalidProofError: malformed.
    """
    lines = text.split("\n")
    if lines.pop() or not 0 < len(lines) <= MOST_SIGNATURES:
        raise InvalidProofError("malformed signature lines")
    return [_signature(line) for line in lines]


def parse_checkpoint(note: str) -> tuple[Head, list[NoteSignature]]:
    """A checkpoint without extension lines, and its signatures, none of which was checked.

    Raises:
        InvalidProofError: malformed.
    """
    text, blank, signatures = note.partition("\n\n")
    match = _HEAD.fullmatch(f"{text}\n")
    if not blank or match is None:
        raise InvalidProofError("malformed checkpoint")
    root = base64.b64decode(match["root"])
    if base64.b64encode(root).decode() != match["root"]:
        raise InvalidProofError("checkpoint is not in its canonical encoding")
    return Head(match["origin"], int(match["size"]), root), parse_signatures(signatures)


def _signature(line: str) -> NoteSignature:
    match = _LINE.fullmatch(line)
    try:
        blob = base64.b64decode(match["signature"], validate=True) if match is not None else b""
    except binascii.Error:
        blob = b""
    if match is None or len(blob) <= 4:
        raise InvalidProofError("malformed signature line")
    return NoteSignature(match["name"], blob[:4], blob[4:])


def cosignature_line(head: Head, signature: NoteSignature) -> str:
    """A cosignature as a run keeps it, without a line feed: size, root, name, signature; all that checking it takes."""
    root = base64.b64encode(head.root).decode()
    return f"{head.size} {root} {signature.line().removeprefix(_DASH).rstrip()}"


def parse_cosignatures(raw: bytes, origin: str) -> list[tuple[Head, NoteSignature]]:
    """The cosignatures that a run keeps, none of which was checked. A line that is none, or cut off, is left out.

    Args:
        raw: the file.
        origin: of the run's log.
    """
    found = []
    for line in raw.decode(errors="replace").split("\n"):
        size, _, rest = line.partition(" ")
        root, _, signature = rest.partition(" ")
        try:
            head, signatures = parse_checkpoint(f"{origin}\n{size}\n{root}\n\n{_DASH}{signature}\n")
        except InvalidProofError:
            continue
        found.append((head, signatures[0]))
    return found
