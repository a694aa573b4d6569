"""Blobs in chunks: any order, any number of times, and nothing that was not announced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.network.blobs import sparse
from podlt.network.blobs.chunks import HEADER, Assembler, message, split
from podlt.network.blobs.transfer import BadBlobError

CHUNK = 64
blobs = st.binary(max_size=CHUNK * 6)


def announced(data: bytes, into: np.ndarray | None = None) -> Assembler:
    assembler = Assembler(2**20, 2**20, CHUNK)
    assembler.announce(blob_digest(data), len(data), into)
    return assembler


@given(data=blobs, dice=st.randoms(use_true_random=False), own=st.booleans())
def test_chunks_in_any_order_and_many_times_make_the_blob_once(data: bytes, dice: object, own: bool) -> None:
    digest = blob_digest(data)
    into = np.full(len(data) + 5, 7, np.uint8) if own else None
    assembler, chunks = announced(data, into), list(split(digest, data, CHUNK))
    sent = chunks + dice.choices(chunks, k=4)  # type: ignore[attr-defined]
    dice.shuffle(sent)  # type: ignore[attr-defined]
    results = [result for chunk in sent if (result := assembler.take(chunk)) is not None]
    assert [result.tobytes() for result in results] == [data]
    assert assembler.ignored == 4 and not assembler.missing(digest)
    if into is not None:
        assert np.shares_memory(results[0], into) or not data
        assert into.tobytes() == data + b"\7" * 5


@given(data=st.binary(min_size=1, max_size=CHUNK * 6), dice=st.randoms(use_true_random=False))
def test_what_is_missing_is_named_and_can_be_filled(data: bytes, dice: object) -> None:
    digest = blob_digest(data)
    assembler, chunks = announced(data), list(split(digest, data, CHUNK))
    lost = set(dice.sample(range(len(chunks)), dice.randint(1, len(chunks))))  # type: ignore[attr-defined]
    for index, chunk in enumerate(chunks):
        assert index in lost or assembler.take(chunk) is None
    missing = assembler.missing(digest)
    assert [offset // CHUNK for offset, _ in missing] == sorted(lost)
    assert assembler.missing(digest, most=1) == missing[:1]
    results = [assembler.fill(digest, offset, data[offset : offset + length]) for offset, length in missing]
    assert results[-1] is not None and results[-1].tobytes() == data and results[:-1] == [None] * (len(missing) - 1)


@given(data=st.binary(min_size=1, max_size=CHUNK * 4), dice=st.randoms(use_true_random=False))
def test_a_changed_chunk_is_found_at_the_end_and_the_blob_may_come_again(data: bytes, dice: object) -> None:
    digest = blob_digest(data)
    assembler, chunks = announced(data), list(split(digest, data, CHUNK))
    which = dice.randrange(len(chunks))  # type: ignore[attr-defined]
    forged = bytearray(chunks[which])
    where = dice.randrange(HEADER.size, len(forged))  # type: ignore[attr-defined]
    forged[where] ^= 1 << dice.randrange(8)  # type: ignore[attr-defined]
    with pytest.raises(BadBlobError) as caught:
        for chunk in [*chunks[:which], bytes(forged), *chunks[which + 1 :]]:
            assembler.take(chunk)
    assert caught.value.digest == digest
    assert assembler.missing(digest, 99) == [
        (start, min(CHUNK, len(data) - start)) for start in range(0, len(data), CHUNK)
    ]
    assert [assembler.take(chunk) for chunk in chunks][-1] is not None


def is_packed(data: bytes, length: int) -> bool:
    try:
        sparse.unpack(data, np.empty(length, np.uint8))
    except InvalidProofError:
        return False
    return True


@given(data=blobs, junk=st.binary(max_size=2 * CHUNK), offset=st.integers(0, 8 * CHUNK) | st.integers(0, 2**64 - 1))
def test_a_chunk_that_the_sender_would_not_cut_is_refused(data: bytes, junk: bytes, offset: int) -> None:
    digest, into = blob_digest(data), np.full(len(data), 7, np.uint8)
    cuts = {start: min(CHUNK, len(data) - start) for start in range(0, max(1, len(data)), CHUNK)}
    assume(cuts.get(offset) != len(junk) and not is_packed(junk, cuts.get(offset, 0)))
    with pytest.raises(InvalidProofError, match=r"invalid offset or length|not a packed chunk"):
        announced(data, into).take(message(digest, len(data), offset, junk))
    with pytest.raises(InvalidProofError, match="another length than announced"):
        announced(data, into).take(message(digest, len(data) + 1, offset, junk))
    assert into.tobytes() == b"\7" * len(data)


@pytest.mark.parametrize("cut", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + CHUNK - 1])
def test_a_message_that_is_cut_short_is_refused(cut: int) -> None:
    data = bytes(range(200))
    chunk = next(split(blob_digest(data), data, CHUNK))
    with pytest.raises(InvalidProofError):
        announced(data).take(chunk[:cut])


def test_a_blob_that_was_not_announced_takes_no_memory() -> None:
    assembler = Assembler(2**20, 2**20, CHUNK)
    for chunk in split(blob_digest(b"x" * 500), b"x" * 500, CHUNK):
        assert assembler.take(chunk) is None
    assert assembler.ignored == 8 and not assembler.missing(blob_digest(b"x" * 500))


def test_limits_hold_before_memory_is_taken() -> None:
    assembler = Assembler(1000, 1500, CHUNK)
    with pytest.raises(StorageError, match="limit 1000"):
        assembler.announce(b"\1" * 32, 2**60)
    assembler.announce(b"\1" * 32, 1000)
    assembler.announce(b"\1" * 32, 1000)
    with pytest.raises(StorageError, match="500 of 1500 free"):
        assembler.announce(b"\2" * 32, 501)
    assembler.announce(b"\2" * 32, 501, np.empty(501, np.uint8))  # brought along: not ours
    assembler.forget(b"\1" * 32)
    assembler.announce(b"\3" * 32, 1000)
    with pytest.raises(InvalidProofError, match="another length"):
        assembler.announce(b"\3" * 32, 999)


def test_a_message_is_a_header_and_its_bytes() -> None:
    digest = bytes(range(32))
    assert next(split(digest, b"abc")) == digest + (3).to_bytes(8, "big") + bytes(8) + b"abc"
