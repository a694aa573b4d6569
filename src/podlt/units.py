"""The units that entries and messages are made of: typed, and range-checked when they are decoded.

Each name is one thing everywhere: a `Round` is never a count of examples, a `Digest` never a key.
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
"""A number of examples, rounds or shards."""

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


def utc_text(at: int) -> str:
    """A moment as a date and a time in UTC, by arithmetic alone: what verifies reads no clock, and knows no calendar.

    Args:
        at: seconds since 1970.
    """
    days, second = divmod(at, 86_400)
    if not 0 <= days < 2_932_897:  # until the year 9999
        return f"second {at} since 1970"
    # Years that begin in March, so that a leap day is a year's last; 719,468 days from the first one to 1970.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day, month = day - (153 * month + 2) // 5 + 1, month + 3 if month < 10 else month - 9
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{era * 400 + year + (month <= 2):04}-{month:02}-{day:02} {clock} UTC"
