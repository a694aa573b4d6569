"""The units that entries and messages are made of: typed, and range-checked when they are decoded.

Each name is one thing everywhere: a `Round` is never a count of lines, a `Digest` never a key.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_INT = 2**63 - 1

MOST_SECONDS = 1e6
"""Longer than any task takes: where a worker says that it took longer, it does not tell the truth."""

WorkerId = Annotated[int, Meta(ge=0, lt=2**20)]
"""A worker's number in its run, in the order of joining."""

Seat = Annotated[int, Meta(ge=0, lt=2**25)]
"""One of the places that a worker has in a round: `slot * 2**20 + worker` (`protocol.shares`)."""

Level = Annotated[int, Meta(ge=-5, le=5)]
"""How fast a worker is, in steps of two: 0 is usual (`protocol.shares`)."""

Round = Annotated[int, Meta(ge=0, lt=2**40)]
"""A round's number, from 0 over the whole run."""

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""A number of lines, rounds or fragments."""

Millis = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""Milliseconds since 1970-01-01 UTC, by the manager's clock."""

Credits = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""An amount of pay, in whole credits."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A SHA-256 or BLAKE3 digest."""

PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""An Ed25519 public key (RFC 8032)."""

Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""An Ed25519 signature (RFC 8032)."""

Salt = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""What hides a digest inside a commitment until it is revealed."""

MAX_TEXT = 4096
"""Characters of a text."""

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""A short text for people."""

Operator = Annotated[str, Meta(max_length=100)]
"""Who runs a worker, as the manager's invitation names it; empty for nobody else."""
