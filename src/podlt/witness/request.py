"""The body of an add-checkpoint request: the size that the witness saw last, a consistency proof, a checkpoint.

Source: c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from podlt.errors import InvalidProofError

MOST_PROOF = 63
MAX_BODY = 16 * 1024
"""The longest body that is read: a proof of 63 lines is below 3,000 bytes, a note below 4,096."""

SIZE_TYPE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_HASH = re.compile(r"[A-Za-z0-9+/]{43}=")


class AddCheckpoint(msgspec.Struct, frozen=True):
    """A request.

    Attributes:
        old: size of the tree that the witness is said to have seen last.
        proof: that the tree of that size is a prefix.
        note: the checkpoint, a signed note.
    """

    old: int
    proof: list[bytes]
    note: str

    def body(self) -> bytes:
        """It as the protocol has it."""
        lines = [f"old {self.old}", *(base64.b64encode(node).decode() for node in self.proof), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.note.encode()

    @classmethod
    def of_body(cls, body: bytes) -> AddCheckpoint:
        """Reads a request.

        Raises:
            InvalidProofError: malformed.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise InvalidProofError("malformed request: no UTF-8") from None
        head, blank, note = text.partition("\n\n")
        first, *proof = head.split("\n")
        match = _OLD.fullmatch(first)
        if not blank or match is None or len(proof) > MOST_PROOF:
            raise InvalidProofError("malformed request: expected an old size, a proof, an empty line, a checkpoint")
        return cls(int(match[1]), [_node(line) for line in proof], note)


def _node(line: str) -> bytes:
    if _HASH.fullmatch(line) is None:
        raise InvalidProofError("malformed request: a line of the proof is no hash")
    try:
        node = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise InvalidProofError("malformed request: a line of the proof is no hash") from None
    if base64.b64encode(node).decode() != line:
        raise InvalidProofError("malformed request: a line of the proof is not in its canonical encoding")
    return node
