"""Fingerprints of updates: what makes a round's average provable without executing a task. docs/SPEC.md, section 7.

An update is a list of whole numbers once the unit of its round is known; its fingerprint is the polynomial that has
them as coefficients, at two points of the field of p = 2**61 - 1. Fingerprints add up as updates do. The points follow
from the sum that the manager claims, so that it cannot choose a sum that fits them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest, is_signed
from podlt.units import Count, Digest, Round, Seat, Signature, WorkerId

PRIME = 2**61 - 1
POINTS = 2
MOST_UNITS = 3
"""Of an update: gradients, their divisor, and buffers are added up in units of their own."""

FINGERPRINT = "fingerprint/1"

Exponent = Annotated[int, Meta(ge=-126, le=128)]
"""e of the largest value of a section: it is below 2**e."""

Value = Annotated[int, Meta(ge=0, lt=PRIME)]


class SumTerms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sum of a round's updates that a manager claims, before it knows their fingerprints.

    Attributes:
        round: of training.
        exponents: of the largest value of each section; values are rounded to multiples of 2**(exponent - 42).
        sums: the digest of the sums, as 64-bit integers.
    """

    round: Round
    exponents: Annotated[list[Exponent], Meta(min_length=1, max_length=MOST_UNITS)]
    sums: Digest

    def points(self, run: bytes) -> list[int]:
        """Where fingerprints are evaluated: two numbers below p."""
        drawn = digest("fingerprint-points/1", run, encode(self))
        return [int.from_bytes(drawn[8 * k : 8 * k + 8], "big") % PRIME for k in range(POINTS)]


class Fingerprint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a worker says of its update, after it was scaled as the round's clipping says.

    Attributes:
        largest: the exponent of its largest value, of each section.
        values: the polynomial at the two points.
        rest: the digest of what is no float32 in the update.
    """

    largest: Annotated[list[Exponent], Meta(min_length=1, max_length=MOST_UNITS)]
    values: Annotated[list[Value], Meta(min_length=POINTS, max_length=POINTS)]
    rest: Digest


class SignedFingerprint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A fingerprint, and its worker's signature: also over the round's terms, the update's digest and its scaling."""

    seat: Seat
    holder: WorkerId
    fingerprint: Fingerprint
    signature: Signature


class ScaledPart(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A part of the update of a seat's task was scaled by 2**-exponent: see `entries.ClippedPart`."""

    seat: Seat
    part: Annotated[int, Meta(ge=0, le=1)]
    exponent: Annotated[int, Meta(ge=1, le=1024)]


def message(
    run: bytes, terms: SumTerms, seat: int, update: bytes, scaling: tuple[int, int], found: Fingerprint
) -> bytes:
    """What a worker signs.

    Args:
        run: the run's identity.
        terms: of the round.
        seat: whose task it was.
        update: the digest of the update.
        scaling: the exponent by which each of its two parts was scaled down, 0 for none.
        found: the fingerprint.
    """
    return encode((run, terms, seat, update, scaling, found))


def sign(
    key: SigningKey,
    run: bytes,
    terms: SumTerms,
    place: tuple[int, int],
    update: bytes,
    scaling: tuple[int, int],
    found: Fingerprint,
) -> SignedFingerprint:
    """A worker's word; arguments as of `message`, `place` is seat and holder."""
    signature = key.sign(FINGERPRINT, message(run, terms, place[0], update, scaling, found))
    return SignedFingerprint(*place, found, signature)


def holds(
    key: bytes, run: bytes, terms: SumTerms, signed: SignedFingerprint, update: bytes, scaling: tuple[int, int]
) -> bool:
    """Whether a worker, by its public key, signed that; arguments as of `message`."""
    text = message(run, terms, signed.seat, update, scaling, signed.fingerprint)
    return is_signed(key, FINGERPRINT, text, signed.signature)


def total(found: Iterable[Fingerprint]) -> tuple[list[int], list[int]]:
    """The largest exponents of some fingerprints, and the sum of their values modulo p."""
    every = list(found)
    values = [sum(one.values[k] for one in every) % PRIME for k in range(POINTS)]
    return [max(column) for column in zip(*(one.largest for one in every), strict=True)], values


class AggregateHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="aggregate/1", tag_field="kind"):
    """What a round's file has before its sums: everything that proves them.

    Attributes:
        terms: of the round.
        count: how many sums follow.
        width: bytes of each, little-endian, in two's complement: as few as the largest needs.
        rest: what is no float32 in the average.
        words: the fingerprints of workers, ascending by seat and holder.
    """

    terms: SumTerms
    count: Count
    width: Annotated[int, Meta(ge=1, le=8)]
    rest: Annotated[bytes, Meta(max_length=2**24)]
    words: list[SignedFingerprint]
