"""Updates go without their zeros, and come out with the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError
from podlt.network.blobs import sparse
from podlt.network.blobs.chunks import CHUNK, HEADER, Assembler, message, split

words = st.lists(st.sampled_from([0, 0, 0, 1, 0x80000000, 0x3F800000, 0xFFFFFFFF]), max_size=200)


def joined(chunk: np.ndarray) -> bytes:
    return b"".join(bytes(part) for part in sparse.packed(chunk))


@given(words=words, rest=st.binary(max_size=3))
def test_a_chunk_comes_out_as_it_went_in_and_is_never_longer(words: list[int], rest: bytes) -> None:
    chunk = np.frombuffer(np.array(words, "<u4").tobytes() + rest, np.uint8)
    out = np.full(len(chunk), 7, np.uint8)
    packed = joined(chunk)
    sparse.unpack(packed, out)
    assert out.tobytes() == chunk.tobytes()
    assert len(packed) <= len(chunk)


def test_what_is_half_zeros_takes_little_more_than_half() -> None:
    words = np.arange(10_000, dtype="<u4")
    words[::2] = 0
    assert len(joined(words.view(np.uint8))) < 0.54 * words.nbytes


def test_negative_zeros_are_kept() -> None:
    numbers = np.zeros(100, np.float32)
    numbers[[3, 50]] = -0.0
    out = np.empty(400, np.uint8)
    packed = joined(numbers.view(np.uint8))
    assert len(packed) == 13 + 8
    sparse.unpack(packed, out)
    assert out.tobytes() == numbers.tobytes()


@given(data=st.binary(max_size=100), length=st.integers(0, 120))
def test_bytes_that_are_no_packed_chunk_are_refused_or_fill_it(data: bytes, length: int) -> None:
    out = np.full(length, 7, np.uint8)
    try:
        sparse.unpack(data, out)
    except InvalidProofError:
        return
    again = np.empty(length, np.uint8)
    sparse.unpack(joined(out), again)
    assert again.tobytes() == out.tobytes()


def test_an_update_arrives_in_packed_chunks_in_any_order() -> None:
    update = np.zeros(2 * CHUNK + 400, np.uint8)
    update[::4][:1000] = 9  # the first chunk has few numbers, the others none
    update[-4:] = 1
    digest = blob_digest(update.data)
    parts = list(split(digest, update, thin=True))
    assert len(parts) == 3 and sum(map(len, parts)) < update.nbytes / 20
    assembler = Assembler(update.nbytes, update.nbytes)
    assembler.announce(digest, update.nbytes)
    results = [assembler.take(part) for part in (parts[2], parts[0])]
    assert results == [None, None]
    (offset, length) = assembler.missing(digest)[0]
    whole = assembler.take(message(digest, update.nbytes, offset, update[offset : offset + length], thin=True))
    assert whole is not None and whole.tobytes() == update.tobytes()


def test_a_chunk_that_is_cut_short_is_refused() -> None:
    update = np.zeros(4000, np.uint8)
    update[:8] = 1
    digest = blob_digest(update.data)
    assembler = Assembler(4000, 4000)
    assembler.announce(digest, 4000)
    (only,) = split(digest, update, thin=True)
    for cut in (len(only) - 4, HEADER.size + 10, HEADER.size):
        with pytest.raises(InvalidProofError, match="packed chunk of 4000"):
            assembler.take(only[:cut])
    assert assembler.take(only) is not None
