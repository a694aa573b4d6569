"""The parts of the checker, each against what it stands for in Python: encodings, digests, signatures, dice, models."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from blake3 import blake3
from examples_drawn import ALL, examples
from hypothesis import given

from podlt.canonical import encode, from_json, to_json
from podlt.crypto import SigningKey, digest, is_signed_raw
from podlt.dice import Dice
from podlt.errors import InvalidProofError, NotCheckedError
from podlt.protocol import entries as e
from protocol.test_tampering import LOG

from .conftest import Node

BODIES = [body for _, _, body in LOG.entries()]
MUTATIONS = 100_000 if ALL else 2000

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
TORSION = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point of order 8."""


def is_read(body: bytes) -> str:
    try:
        e.decode(body)
    except InvalidProofError:
        return "Broken"
    except NotCheckedError:
        return "NotChecked"
    return ""


def mutated(body: bytes, dice: random.Random) -> bytes:
    """A record with a few bytes changed, left out or put in."""
    raw = bytearray(body)
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(min(len(raw), 400))
        kind = dice.randrange(4)
        if kind == 0:
            raw[place] = dice.randrange(256)
        elif kind == 1:
            raw[place] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del raw[place]
        else:
            raw.insert(place, dice.choice([0xC0, 0xCC, 0xCD, 0xCF, 0xD0, 0xC4, 0xD9, 0xDC, 0x00, 0x91]))
    return bytes(raw)


def test_both_read_the_same_of_records_with_changed_bytes(node: Node) -> None:
    dice = random.Random(1)
    short = [body for body in BODIES if len(body) < 2000]
    records = [*BODIES, *(mutated(dice.choice(short), dice) for _ in range(MUTATIONS))]
    found = node.ask("decode", records=records)
    expected = [is_read(record) for record in records]
    differing = [
        (theirs, ours, record.hex()) for theirs, ours, record in zip(found, expected, records, strict=True)
        if theirs.partition(":")[0] != ours
    ]  # fmt: skip
    assert differing == []
    assert expected.count("") < len(BODIES) + MUTATIONS / 4


def packed(*parts: Any) -> bytes:
    return b"".join(part if isinstance(part, bytes) else encode(part) for part in parts)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x80",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81" * 50_000,
        encode({"kind": "resume/4", "at": 2**63}),
        encode({"kind": "resume/4", "at": -1}),
        encode({"kind": "resume/4", "at": 0, "at2": 0}),
        encode({"at": 0, "kind": "resume/4"}),
        encode({"kind": "resume/4", "at": 2**63 - 1}),
        encode({"kind": "resume/4", "at": 2**53 + 1}),
        encode({"kind": "resume/5", "at": 0}),
        encode({"kind": "resume/3", "at": 0}),
        encode({"kind": "other/9", "x": [1]}),
        packed(b"\x82", "kind", "resume/4", "at", b"\xcc\x05"),
        packed(b"\xde\x00\x02", "kind", "resume/4", "at", 5),
        packed(b"\x82\xd9\x04kind", "resume/4", "at", 5),
        packed(b"\x82", "kind", "resume/4", "at", b"\xcb", bytes(8)),
        encode({"kind": "close/4", "outcome": "stopped", "reason": "x" * 4097, "at": 0}),
        encode({"kind": "close/4", "outcome": "stopped", "reason": "\U0001f600" * 4096, "at": 0}),
        packed(b"\x84", "kind", "close/4", "outcome", "stopped", "reason", b"\xa3\xed\xa0\x80", "at", 0),
        packed(b"\x84", "kind", "close/4", "outcome", "stopped", "reason", b"\xa1\xff", "at", 0),
        encode({"kind": "withdraw/4", "worker": 2**20, "reason": "", "at": 0}),
    ],
)
def test_both_read_the_same_of_hostile_records(node: Node, record: bytes) -> None:
    assert node.ask("decode", records=[record])[0].partition(":")[0] == is_read(record)


def is_document(raw: bytes) -> bool:
    try:
        from_json(raw)
    except InvalidProofError:
        return False
    return True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@examples(10 if not ALL else 300)
@given(st.lists(VALUES, min_size=5, max_size=20), st.randoms(use_true_random=False))
def test_both_know_a_document_from_what_is_none(node: Node, values: list[Any], dice: random.Random) -> None:
    raw = []
    for value in values:
        try:
            raw.append(to_json(value))
        except ValueError:  # an infinite float, half a surrogate
            continue
        text = bytearray(raw[-1])
        text[dice.randrange(len(text))] = dice.choice(b' 0123456789.eE+-",:{}[]\\u\n\xff')
        raw.append(bytes(text))
    assert node.ask("documents", documents=raw) == [is_document(one) for one in raw]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1.0",
        b"1.",
        b"-0",
        b"-0.0",
        b"1e5",
        b"100000.0",
        b"1e16",
        b"1e+16",
        b"1e-05",
        b"0.0001",
        b"NaN",
        b"Infinity",
        b"1e999",
        b'"\\u0041"',
        b'"\\u001f"',
        b'"\\u001F"',
        b'"\\n"',
        b'"\\u000a"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        '{"\uffff":1,"\U00010000":1}'.encode(),
        '{"\U00010000":1,"\uffff":1}'.encode(),
        b'{"a":1,}',
        b"[1,]",
        b"[1 ,2]",
        b"\xef\xbb\xbf1",
        b"01",
        b"1 ",
        b"{}",
        b"[]",
        b"[" * 5000,
        b"9" * 400,
        b'"\x7f"',
    ],
)
def test_both_take_one_encoding_of_a_document_only(node: Node, raw: bytes) -> None:
    assert node.ask("documents", documents=[raw]) == [is_document(raw)]


def test_floats_are_written_as_in_python(node: Node) -> None:
    dice = random.Random(2)
    values = [struct.unpack("<d", dice.randbytes(8))[0] for _ in range(500)] + [10.0**n for n in range(-20, 25)]
    values = [value for value in values if value - value == 0] + [0.1, 123456.789, 5e-324, 2.0**60, 0.03]
    assert node.ask("floats", values=values) == [repr(value) for value in values]


def test_digests_are_those_of_the_libraries(node: Node) -> None:
    dice = random.Random(3)
    sizes = [*range(0, 200, 7), 55, 56, 63, 64, 1023, 1024, 1025, 2048, 2049, 3072, 4097, 8192, 31_744, 100_001]
    data = [dice.randbytes(size) for size in sizes]
    expected = [[hashlib.sha256(raw).hexdigest(), *[blake3(raw).hexdigest()] * 2] for raw in data]
    assert node.ask("digests", data=data) == expected


def test_dice_fall_as_in_python(node: Node) -> None:
    seed = digest("test/1", b"dice")
    numbers = [n for n in (1, 2, 3, 50, 2**20, 10**6, 1_030_000, 2_000_000, 2**21) for _ in range(50)]
    samples = [[50, 50], [1000, 7], [2**20, 20], [1, 1]]
    dice = Dice(seed)
    expected = [[dice.below(n) for n in numbers], [dice.sample(n, k) for n, k in samples]]
    assert node.ask("draws", seed=seed, numbers=numbers, samples=samples) == expected


Point = tuple[int, int]


def added(p: Point, q: Point) -> Point:
    (x1, y1), (x2, y2) = p, q
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(scalar: int, point: Point) -> Point:
    result: Point = (0, 1)
    for bit in f"{scalar:b}":
        result = added(result, result)
        result = added(result, point) if bit == "1" else result
    return result


def point_of(raw: bytes) -> Point:
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x * pow(2, (P - 1) // 4, P) % P if v * x * x % P == -u % P else x
    return (P - x if x & 1 != raw[31] >> 7 else x), y


def bytes_of(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def edge_cases() -> list[tuple[bytes, bytes, bytes]]:
    """Signatures on which implementations of Ed25519 differ: key or R of small order or not canonical, S too large."""
    key = SigningKey(digest("edge/1"))
    good = key.sign_raw(b"message")
    found = [(key.public, b"message", good), (key.public, b"massage", good), (key.public, b"message", bytes(64))]
    s = int.from_bytes(good[32:], "little")
    found.append((key.public, b"message", good[:32] + (s + L).to_bytes(32, "little")))
    small = [bytes(32), b"\1" + bytes(31), TORSION, (P - 1).to_bytes(32, "little"), (P + 1).to_bytes(32, "little")]
    small += [bytes([*raw[:31], raw[31] | 0x80]) for raw in small]
    for raw in small:
        found += [(raw, b"m%d" % i, raw + bytes(32)) for i in range(8)]
        found += [(key.public, b"m", raw + good[32:]), (raw, b"m", good)]
    base = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    for i in range(24):  # a key with a part of small order: the equation holds only where its multiple is zero
        a, r = 987_654_321 + i, 123_456_789 + i
        public = bytes_of(added(times(a, base), point_of(TORSION)))
        start, message = bytes_of(times(r, base)), b"%d" % i
        h = int.from_bytes(hashlib.sha512(start + public + message).digest(), "little") % L
        found.append((public, message, start + ((r + h * a) % L).to_bytes(32, "little")))
    return found


def test_both_take_the_same_signatures_for_good(node: Node) -> None:
    cases = edge_cases()
    expected = [is_signed_raw(*case) for case in cases]
    assert node.ask("signatures", signed=cases) == expected
    assert expected.count(True) > 1, "the good one, and some whose part of small order vanishes"


def test_a_browser_without_ed25519_says_so_of_two_claims(node: Node, tmp_path: Path) -> None:
    from .conftest import bundle_of
    from .test_agreement import DOCUMENTS

    found = node.ask("verify", bundle=bundle_of(LOG, DOCUMENTS), witnesses=[], signatures=False)
    outcomes = {row["name"]: row["outcome"] for row in found["findings"]}
    assert outcomes["HEADS"] == outcomes["SIGNATURES"] == "not checked" and outcomes["DRAWS"] == "holds"
    assert found["exitCode"] == 4
