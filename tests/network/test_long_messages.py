"""Messages with a blob in their last field: one encoding each, as of all records, though they are not encoded again."""

from __future__ import annotations

import msgspec
import pytest

from podlt.canonical import encode
from podlt.errors import InvalidProofError
from podlt.wire import messages as m

SIZES = [0, 1, 255, 256, 4095, 4096, 65_535, 65_536, m.INLINE]


def done(data: bytes) -> m.TaskDone:
    signed = {"commitment": bytes(32), "signature": bytes(64), "update": bytes(32)}
    blob = memoryview(data)
    return m.TaskDone(deal_id=bytes(8), seat=3, proof_seconds=0.5, compute_seconds=1.5, data=blob, **signed)


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_its_one_encoding_however_its_blob_is_given(size: int) -> None:
    blob = bytes(range(256)) * (size // 256) + bytes(size % 256)
    whole, halves = done(blob), [memoryview(blob)[: size // 2], memoryview(blob)[size // 2 :]]
    assert m.record(whole) == m.record(done(b""), halves) == encode(whole)
    assert m.from_worker(memoryview(m.record(whole))) == whole
    parameters = m.Parameters(digest=bytes(32), size=size, urls=["https://a"], part=7, data=memoryview(blob))
    assert m.record(parameters) == encode(parameters) and m.from_manager(m.record(parameters)) == parameters


@pytest.mark.parametrize("size", [4096, 65_535, 65_536])
def test_another_encoding_of_a_message_with_a_long_blob_is_refused(size: int) -> None:
    raw = m.record(done(bytes(size)))
    before = raw[: len(raw) - size]
    head = 3 if size < 65_536 else 5
    name = before[: len(before) - head]
    if size < 65_536:
        with pytest.raises(InvalidProofError, match="canonical"):  # a length of four bytes, where two will do
            m.from_worker(name + b"\xc6" + size.to_bytes(4, "big") + bytes(size))
    seconds = encode("compute_seconds")
    short = before.replace(seconds + encode(1.5), seconds + b"\xca\x3f\xc0\x00\x00")  # a float of 32 bits
    assert short != before
    fields = msgspec.msgpack.decode(raw)
    last = {"data": fields.pop("data"), **fields}
    for other in (short + bytes(size), encode({"kind": last.pop("kind"), **last}), raw + b"\x00", raw[:-1]):
        with pytest.raises(InvalidProofError):
            m.from_worker(other)
