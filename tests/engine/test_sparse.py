"""Updates go without their zeros, and come out with the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import InvalidProofError
from podlt.exact.cpu.kernels import compress
from podlt.execution import sparse_kernels
from podlt.execution.sparse import packed
from podlt.execution.sparse_kernels import pack, room_for, unpack

words = st.lists(st.sampled_from([0, 0, 0, 1, 0x80000000, 0x3F800000, 0xFFFFFFFF]), max_size=200)


@pytest.fixture(scope="module", autouse=True, params=["16 words at once", "a word at a time"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both loops give the same bytes; a processor without AVX-512 has one of them."""
    wide = request.param == "16 words at once"
    if wide and not compress.available():
        pytest.skip("this processor has no AVX-512")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_kernels, "WIDE", wide)
        yield


@given(words=words, rest=st.binary(max_size=3))
def test_an_update_comes_out_as_it_went_in_and_is_never_longer(words: list[int], rest: bytes) -> None:
    update = np.frombuffer(np.array(words, "<u4").tobytes() + rest, np.uint8)
    out = np.full(len(update), 7, np.uint8)
    sent = packed(update)
    unpack(sent, out)
    assert out.tobytes() == update.tobytes() and len(sent) <= len(update)


def test_what_is_half_zeros_takes_little_more_than_half() -> None:
    words = np.arange(10_000, dtype="<u4")
    words[::2] = 0
    assert len(packed(words.view(np.uint8))) < 0.54 * words.nbytes


def test_negative_zeros_are_kept() -> None:
    numbers = np.zeros(100, np.float32)
    numbers[[3, 50]] = -0.0
    out = np.empty(400, np.uint8)
    sent = packed(numbers.view(np.uint8))
    assert len(sent) == 16 + 8
    unpack(sent, out)
    assert out.tobytes() == numbers.tobytes()


@given(words=words, offset=st.integers(0, 3))
def test_what_came_may_begin_at_any_byte(words: list[int], offset: int) -> None:
    update = np.array(words, "<u4").view(np.uint8)
    out = np.full(len(update), 7, np.uint8)
    unpack(memoryview(bytes(offset) + bytes(packed(update)))[offset:], out)
    assert out.tobytes() == update.tobytes()


@given(data=st.binary(max_size=400), length=st.integers(0, 400))
def test_bytes_that_are_no_packed_update_are_refused_or_fill_it(data: bytes, length: int) -> None:
    out = np.full(length, 7, np.uint8)
    try:
        unpack(memoryview(data), out)
    except InvalidProofError:
        return
    again = np.empty(length, np.uint8)
    unpack(packed(out), again)
    assert again.tobytes() == out.tobytes()


def test_an_update_that_is_cut_short_is_refused() -> None:
    update = np.zeros(4000, np.uint8)
    update[:8] = 1
    sent = packed(update)
    for cut in (len(sent) - 4, 10, 0):
        with pytest.raises(InvalidProofError, match="no update of 4000"):
            unpack(sent[:cut], np.empty(4000, np.uint8))


@given(words=words, rest=st.binary(max_size=3))
def test_the_kernel_packs_as_numpy_does(words: list[int], rest: bytes) -> None:
    update = np.frombuffer(np.array(words, "<u4").tobytes() + rest, np.uint8)
    room = np.full(room_for(len(update)), 7, np.uint8)
    count = pack(update, room)
    assert (room[:count].tobytes() or update.tobytes()) == packed(update).tobytes()


def test_nothing_is_packed_where_there_is_no_room() -> None:
    update = np.zeros(4000, np.uint8)
    assert pack(update, np.empty(room_for(4000), np.uint8)) == len(packed(update)) == 128
    assert pack(update, np.empty(room_for(4000) - 1, np.uint8)) == 0


def test_a_bit_behind_the_last_word_is_refused() -> None:
    update = np.zeros(400, np.uint8)
    sent = bytearray(packed(update))
    sent[100 // 8] |= 1 << 100 % 8
    with pytest.raises(InvalidProofError, match="no update of 400"):
        unpack(memoryview(sent), np.empty(400, np.uint8))
    with pytest.raises(InvalidProofError, match="no update of 400"):
        unpack(memoryview(bytes(sent) + b"abcd"), np.empty(400, np.uint8))
