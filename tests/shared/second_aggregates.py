"""Section 7 of docs/SPEC.md in plain whole numbers: a second check of a round's sum. It imports nothing of podlt.

Slow, for small updates without a divisor or with one. What an update's sections are is read from its layout, as the
caller gives it: where the gradients end, and where the divisor is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import msgspec
from blake3 import blake3
from second_draws import digest
from second_rules import signed

P = 2**61 - 1


@dataclass
class Shape:
    """Of an update: float32 values, where its gradients end, where its divisor is (None without one), its gaps."""

    floats: int
    end: int
    divisor: int | None
    gaps: set[int]

    def section(self, place: int) -> int:
        """7.1"""
        if self.divisor is None:
            return 0
        return 1 if place == self.divisor else 0 if place < self.end else 2


def binary32(value: Fraction) -> float:
    """To nearest even; values here are far from the largest and, but for zero, may be subnormal."""
    if value == 0:
        return 0.0
    e = abs(value.numerator).bit_length() - value.denominator.bit_length()
    e -= abs(value) < Fraction(2) ** e
    unit = Fraction(2) ** max(e - 23, -149)
    return float(Fraction(round(value / unit)) * unit)


def average(sums: Sequence[int], exponents: Sequence[int], shape: Shape, examples: int) -> bytes:
    """7.2: the float32 part of the average."""
    units = [Fraction(2) ** (e - 42) for e in exponents]
    values = [binary32(n * units[shape.section(i)]) for i, n in enumerate(sums)]
    over = [float(examples), 1.0, float(examples)]
    if shape.divisor is not None:
        over[0] = values[shape.divisor] or 1.0
    out = [0.0 if i in shape.gaps else quotient(v, over[shape.section(i)]) for i, v in enumerate(values)]
    return struct.pack(f"<{len(out)}f", *out)


def quotient(value: float, by: float) -> float:
    """In binary32; what is not 0 keeps its sign."""
    return binary32(Fraction(value) / Fraction(by)) if value else value


def polynomial(numbers: Sequence[int], x: int) -> int:
    """7.4"""
    total = 0
    for n in reversed(numbers):
        total = (total * x + n) % P
    return total


def outcome(
    raw: bytes | None,
    round: int,
    identity: bytes,
    update: bytes,
    examples: int,
    shape: Shape,
    shards: Sequence[dict[tuple[int, int], bytes]],
    clipped: dict[int, dict[int, int]],
    key_of: Callable[[int], bytes],
) -> str:
    """7.6: "holds", "fails" or "not checked".

    `shards` has of each the (seat, holder) whose result was accepted -> its digest; `clipped` shard -> part ->
    exponent; `update` is `apply.update`.
    """
    if raw is None:
        return "not checked"
    try:
        length = int.from_bytes(raw[:8], "big")
        head = msgspec.msgpack.decode(raw[8 : 8 + length])
        (number, exponents, claimed), width = head["terms"], head["width"]
        body = raw[8 + length :]
    except (msgspec.DecodeError, KeyError, ValueError, TypeError):
        return "fails"
    if len(raw) < 8 + length or number != round or head["count"] != shape.floats or len(body) != width * shape.floats:
        return "fails"
    sums = [int.from_bytes(body[i : i + width], "little", signed=True) for i in range(0, len(body), width)]
    if any(abs(n) > 2**42 * len(shards) for n in sums):
        return "fails"
    if blake3(b"".join(n.to_bytes(8, "little", signed=True) for n in sums)).digest() != claimed:
        return "fails"
    whole = average(sums, exponents, shape, examples) + head["rest"]
    if blake3(whole + bytes(-len(whole) % 64)).digest() != update:
        return "fails"
    drawn = digest("fingerprint-points/1", identity, msgspec.msgpack.encode(head["terms"]))
    points = [int.from_bytes(drawn[k : k + 8], "big") % P for k in (0, 8)]
    largest, values = [-1000] * len(exponents), [0, 0]
    for shard, accepted in enumerate(shards):
        scaling = [clipped.get(shard, {}).get(part, 0) for part in (0, 1)]
        words = []
        for seat, holder, found, signature in head["words"]:
            if (seat, holder) not in accepted:
                continue
            said = [identity, head["terms"], seat, accepted[seat, holder], scaling, found]
            if signed(key_of(holder), digest("fingerprint/1", msgspec.msgpack.encode(said)), signature):
                words.append(found)
        if not words or any(word != words[0] for word in words):
            return "not checked"
        largest = [max(pair) for pair in zip(largest, words[0][0], strict=True)]
        values = [(a + b) % P for a, b in zip(values, words[0][1], strict=True)]
        if shard == 0 and words[0][2] != blake3(head["rest"]).digest():
            return "not checked"
    same = values == [polynomial(sums, x) for x in points]
    return "holds" if same and largest == list(exponents) else "not checked"
