"""Encodings, digests and keys: what everything else rests on."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import msgspec
import nacl.bindings as sodium
import pytest
from hypothesis import given

from podlt import canonical, crypto
from podlt.canonical import MAX_RECORD, Decoder, encode
from podlt.errors import InvalidProofError
from podlt.units import MAX_INT, Count, Digest, WorkerId, utc_text


class Inner(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    worker: WorkerId
    digest: Digest


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="record/1", tag_field="kind"):
    count: Count
    number: float
    name: str
    inner: list[Inner]


DECODER: Decoder[Record] = Decoder(Record)
INNERS = st.builds(Inner, st.integers(0, 2**20 - 1), st.binary(min_size=32, max_size=32))
RECORDS = st.builds(
    Record,
    count=st.integers(0, MAX_INT),
    number=st.floats(allow_nan=False),
    name=st.text(max_size=10),
    inner=st.lists(INNERS, max_size=4),
)
SAMPLE = Record(count=7, number=1.0, name="x", inner=[Inner(3, bytes(32))])


# -- records: one encoding each ----------------------------------------------------------------------------------------


@given(RECORDS)
def test_a_record_comes_back_from_its_encoding(record: Record) -> None:
    assert DECODER.decode(encode(record)) == record


@given(RECORDS, st.data())
def test_no_other_bytes_decode_to_a_record_unless_they_are_its_encoding(record: Record, data: st.DataObject) -> None:
    raw = bytearray(encode(record))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        action = data.draw(st.sampled_from(["set", "insert", "delete"]))
        if action == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif action == "insert":
            raw.insert(place, data.draw(st.integers(0, 255)))
        elif len(raw) > 1:
            del raw[place]
    try:
        found = DECODER.decode(bytes(raw))
    except InvalidProofError:
        return
    assert encode(found) == bytes(raw)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_are_an_encoding(raw: bytes) -> None:
    try:
        found = DECODER.decode(raw)
    except InvalidProofError:
        return
    assert encode(found) == raw


def fields() -> list[tuple[bytes, bytes]]:
    """The sample's encoding as pairs of encoded name and encoded value."""
    values = {"kind": "record/1", **msgspec.to_builtins(SAMPLE, builtin_types=(bytes,))}
    return [(encode(name), encode(value)) for name, value in values.items()]


def packed(pairs: list[tuple[bytes, bytes]], head: bytes | None = None) -> bytes:
    return (head or bytes([0x80 | len(pairs)])) + b"".join(name + value for name, value in pairs)


def test_second_encodings_of_the_same_record_are_refused() -> None:
    good = fields()
    assert packed(good) == encode(SAMPLE) and DECODER.decode(packed(good)) == SAMPLE
    count = next(i for i, (name, _) in enumerate(good) if name == encode("count"))
    name, number = encode("count"), encode("number")

    def replaced(value: bytes, key: bytes = name) -> list[tuple[bytes, bytes]]:
        return [(k, value if k == key else v) for k, v in good]

    seconds = {
        "duplicate key": [*good, good[count]],
        "duplicate key with another value": [good[0], (name, encode(1)), *good[1:]],
        "another order": [good[0], *good[:0:-1]],
        "unknown key": [*good, (encode("more"), encode(1))],
        "missing key": good[:-1],
        "long integer": replaced(b"\xcd\x00\x07"),
        "signed integer": replaced(b"\xd3" + (7).to_bytes(8, "big")),
        "integer where a float belongs": replaced(encode(1), number),
        "short float": replaced(b"\xca\x3f\x80\x00\x00", number),
        "float where an integer belongs": replaced(encode(7.0)),
    }
    for what, pairs in seconds.items():
        with pytest.raises(InvalidProofError):
            pytest.fail(f"{what} was accepted: {DECODER.decode(packed(pairs))}")
    for head in (b"\xde\x00\x05", b"\xdf\x00\x00\x00\x05"):
        with pytest.raises(InvalidProofError):
            DECODER.decode(packed(good, head))
    with pytest.raises(InvalidProofError):
        DECODER.decode(packed(good) + b"\x00")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",  # an array of 2**32 - 1 items
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xdb\xff\xff\xff\xff",  # a string of 4 GiB
        b"\xc6\xff\xff\xff\xff",  # bytes of 4 GiB
        b"\xc9\xff\xff\xff\xff\x01",  # an extension of 4 GiB
        b"\x85\xa4kind\xa8record/1\xa5inner\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        bytes(MAX_RECORD + 1),
    ],
)
def test_huge_and_deep_records_are_refused_before_they_take_memory(raw: bytes) -> None:
    with pytest.raises(InvalidProofError):
        DECODER.decode(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": 2**63},
        {"count": True},
        {"name": None},
        {"inner": [Inner(2**20, bytes(32))]},
        {"inner": [Inner(0, bytes(31))]},
        {"inner": [[0, bytes(32), 1]]},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidProofError):
        DECODER.decode(encode(msgspec.structs.replace(SAMPLE, **change)))


# -- documents ---------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_a_document_comes_back_from_its_encoding(document: object) -> None:
    assert canonical.from_json(canonical.to_json(document)) == document


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[NaN]",
        b"[Infinity]",
        b"1.0e0",
        b"[1,]",
        b"\xff",
        b"",
        b'"\\u0061"',
        b'"\\ud800"',
        b"[" * 100_000,
        b"9" * 5000,
        b"-0",
        b"\xef\xbb\xbf1",
        '"a"'.encode("utf-16"),
    ],
)
def test_documents_in_another_encoding_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidProofError):
        canonical.from_json(raw)


def test_a_number_that_is_not_finite_is_no_document() -> None:
    with pytest.raises(ValueError):
        canonical.to_json([float("nan")])


# -- digests and keys --------------------------------------------------------------------------------------------------


def test_a_digest_is_what_the_specification_says() -> None:
    name = b"podlt/draw/1"
    parts = [b"", b"abc"]
    spelled = bytes([len(name)]) + name + b"".join(len(p).to_bytes(8, "big") + p for p in parts)
    assert crypto.digest("draw/1", *parts) == hashlib.sha256(spelled).digest()


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_two_lists_of_parts_never_share_a_digest(one: list[bytes], two: list[bytes]) -> None:
    assert (crypto.digest("d/1", *one) == crypto.digest("d/1", *two)) == (one == two)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_signature_holds_for_its_key_domain_and_message_only(message: bytes, other: bytes) -> None:
    key, stranger = crypto.SigningKey(bytes(32)), crypto.SigningKey(b"\x01" * 32)
    signature = key.sign("d/1", message)
    assert crypto.is_signed(key.public, "d/1", message, signature)
    assert not crypto.is_signed(stranger.public, "d/1", message, signature)
    assert not crypto.is_signed(key.public, "e/1", message, signature)
    assert crypto.is_signed(key.public, "d/1", other, signature) == (message == other)


def test_signatures_are_those_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = crypto.SigningKey(seed)
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign_raw(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert crypto.is_signed_raw(key.public, b"", key.sign_raw(b""))


def test_second_forms_of_a_signature_and_weak_keys_are_refused() -> None:
    key, order = crypto.SigningKey(bytes(32)), 2**252 + 27742317777372353535851937790883648493
    good = key.sign_raw(b"m")
    scalar = int.from_bytes(good[32:], "little")
    malleable = good[:32] + (scalar + order).to_bytes(32, "little")
    for key_bytes, signature in (
        (key.public, malleable),
        (key.public, good[:63]),
        (key.public, b""),
        (key.public[:31], good),
        (bytes(32), bytes(64)),  # a point of small order: every message would pass
        (b"\x01" + bytes(31), b"\x01" + bytes(63)),
        (bytes([0xEE]) + b"\xff" * 30 + b"\x7f", good),  # not the one encoding of a point
    ):
        assert not crypto.is_signed_raw(key_bytes, b"m", signature)
    assert sodium.crypto_sign_PUBLICKEYBYTES == crypto.KEY_BYTES


def test_a_key_does_not_show_its_secret() -> None:
    key = crypto.SigningKey(b"\x07" * 32)
    assert key.seed().hex() not in repr(key) and "0707" not in repr(key)


def test_a_commitment_binds_task_key_update_and_salt() -> None:
    parts = [bytes([i]) * 32 for i in range(3)] + [bytes(16)]
    base = crypto.commitment(*parts)
    for i, part in enumerate(parts):
        assert crypto.commitment(*parts[:i], bytes([9]) + part[1:], *parts[i + 1 :]) != base


@given(st.integers(0, 253402300799))
def test_a_date_by_arithmetic_is_that_of_the_calendar(at: int) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    assert utc_text(at) == expected.strftime("%Y-%m-%d %H:%M:%S UTC")


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    assert utc_text(253402300799) == "9999-12-31 23:59:59 UTC"
    assert utc_text(253402300800) == "second 253402300800 since 1970" and utc_text(-1) == "second -1 since 1970"
