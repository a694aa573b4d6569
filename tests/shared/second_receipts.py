"""3.18 of docs/SPEC.md, a second time: whether a receipt convicts a manager. It imports nothing of podlt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from second_draws import Entry, digest, u64
from second_rules import signed


def holds(receipt: list[object], identity: bytes, manager: bytes) -> bool:
    """The signature is the manager's, and the path leads from the commitment to the root (RFC 6962, 2.1.1)."""
    round, attempt, size, root, signature, index, proof, commitment = receipt
    text = identity + u64(round) + u64(attempt) + u64(size) + root  # type: ignore[arg-type, operator]
    leaf = hashlib.sha256(b"\x00" + msgspec.msgpack.encode(commitment)).digest()
    return signed(manager, digest("receipt/1", text), signature) and leads(leaf, index, size, list(proof)) == root  # type: ignore[arg-type, call-overload]


def leads(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a path gives, read from its end: the tree of `size` leaves splits at the largest power below."""
    if size <= 1:
        return leaf if (index, size, path) == (0, 1, []) else None
    if not path or not 0 <= index < size:
        return None
    half = 1 << ((size - 1).bit_length() - 1)
    if index < half:
        below = leads(leaf, index, half, path[:-1])
        return below and hashlib.sha256(b"\x01" + below + path[-1]).digest()
    below = leads(leaf, index - half, size - half, path[:-1])
    return below and hashlib.sha256(b"\x01" + path[-1] + below).digest()


def outcome(receipt: list[object], entries: Sequence[Entry], identity: bytes, manager: bytes) -> str:
    """ "logged", "anew", "beyond" or "convicts", by the log's entries; "nothing" for a receipt that does not hold."""
    if not holds(receipt, identity, manager):
        return "nothing"
    round, attempt, commitment = receipt[0], receipt[1], receipt[7]
    opened = [x for x in entries if x["kind"] == "open/4" and x["round"] == round]
    if not opened:
        return "beyond"
    if opened[0]["attempt"] != attempt:
        return "anew" if opened[0]["attempt"] > attempt else "convicts"
    made = [c for x in entries if x["kind"] == "commit/4" and x["round"] == round for c in x["commitments"]]
    return "logged" if commitment in made else "convicts"
