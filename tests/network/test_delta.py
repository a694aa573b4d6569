"""Parameters as differences: the same bits at the other end, never longer than the whole, and no bomb goes off."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError
from podlt.network.blobs import delta
from podlt.network.blobs.store import BlobStore

dice = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PART", 256)


def encoded(new: np.ndarray, base: np.ndarray | None) -> bytes:
    return b"".join(delta.encode(new, base))


def decoded(data: bytes, base: np.ndarray | None, size: int, digest: bytes) -> np.ndarray:
    out = np.full(size, 7, np.uint8)
    delta.decode(data, base, out, digest)
    return out


def digest_of(values: np.ndarray) -> bytes:
    return blob_digest(values.view(np.uint8).data)


def floats(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count, np.float32)


@given(data=st.data(), size=st.integers(0, 700), has_base=st.booleans())
def test_whatever_is_encoded_comes_back_bit_for_bit(data: st.DataObject, size: int, has_base: bool) -> None:
    new = data.draw(arrays(np.uint8, size))
    base = data.draw(arrays(np.uint8, size)) if has_base else None
    message = encoded(new, base)
    assert len(message) <= delta.bound(size)
    assert np.array_equal(decoded(message, base, size, digest_of(new)), new)


@given(pairs=arrays(np.uint32, (2, 150)))
def test_any_two_bit_patterns_have_an_exact_difference(pairs: np.ndarray) -> None:
    new, base = pairs.view(np.uint8)  # infinities, NaNs, zeros of both signs: bits are bits
    assert np.array_equal(decoded(encoded(new, base), base, 600, digest_of(new)), new)


@pytest.mark.parametrize("new, base", [(0, 2**32 - 1), (2**31, 0), (2**31 - 1, 2**31), (5, 6), (6, 5)])
def test_differences_that_wrap_around_are_exact(new: int, base: int) -> None:
    one, other = np.array([new] * 40, np.uint32).view(np.uint8), np.array([base] * 40, np.uint32).view(np.uint8)
    message = encoded(one, other)
    assert message[delta.HEADER.size] in (delta.DELTA, delta.WHOLE)
    assert np.array_equal(decoded(message, other, 160, digest_of(one)), one)


def test_parameters_may_be_changed_where_they_are() -> None:
    base = floats(1000, 1)
    new = base - np.float32(1e-4) * floats(1000, 2)
    message = encoded(new.view(np.uint8), base.view(np.uint8))
    state = base.view(np.uint8).copy()
    delta.decode(message, state, state, digest_of(new))
    assert np.array_equal(state.view(np.float32), new)


def test_a_step_of_training_is_much_shorter_than_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PART", 2**16)
    base = floats(100_000, 1)
    new = base - np.float32(1e-5) * floats(100_000, 2)
    short, whole = encoded(new.view(np.uint8), base.view(np.uint8)), encoded(new.view(np.uint8), None)
    assert len(short) < 0.5 * new.nbytes and len(short) < 0.6 * len(whole) <= 0.6 * delta.bound(new.nbytes)


def test_each_part_takes_the_shortest_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PART", 4096)
    strikes = dice.integers(0, 256, 4 * 4096, np.uint8)
    base, new = strikes.copy(), strikes.copy()
    new[4096:8192] = dice.integers(0, 256, 4096, np.uint8)  # nothing in common with what was there
    new[8192:12288].view(np.uint32)[:] += 3
    new[12288:] = 9
    kinds = [record[0] for record in list(delta.encode(new, base))[1:]]
    assert kinds == [delta.SAME, delta.RAW, delta.DELTA, delta.WHOLE]
    assert np.array_equal(decoded(encoded(new, base), base, new.nbytes, digest_of(new)), new)


@given(data=st.data())
def test_a_changed_or_cut_encoding_never_passes_for_other_parameters(data: st.DataObject) -> None:
    base = floats(200, 1)
    new = base + np.float32(1e-3) * floats(200, 2)
    message = bytearray(encoded(new.view(np.uint8), base.view(np.uint8)))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    message = message[: data.draw(st.sampled_from([len(message), len(message) - 1]) | st.integers(0, len(message)))]
    try:
        result = decoded(bytes(message), base.view(np.uint8), 800, digest_of(new))
    except InvalidProofError:
        return
    assert np.array_equal(result.view(np.float32), new)  # a bit of the compressed frame that means nothing


def test_another_base_is_noticed() -> None:
    base, other = floats(100, 1), floats(100, 3)
    new = base + np.float32(1e-3)
    message = encoded(new.view(np.uint8), base.view(np.uint8))
    for wrong, reason in ((other, "not what was announced"), (None, "not here"), (other[:99], "another length")):
        before = None if wrong is None else wrong.view(np.uint8)
        with pytest.raises(InvalidProofError, match=reason):
            decoded(message, before, 400, digest_of(new))


def test_another_length_than_expected_is_refused() -> None:
    message = encoded(np.zeros(100, np.uint8), None)
    for size in (99, 101, 2**40):
        with pytest.raises(InvalidProofError, match="not an encoding of"):
            next(delta.parts(message, None, size))


@pytest.mark.parametrize("kind, length", [(delta.SAME, 4), (delta.RAW, 99), (4, 0), (255, 7), (delta.RAW, 0)])
def test_records_that_mean_nothing_are_refused(kind: int, length: int) -> None:
    message = delta.HEADER.pack(delta.MAGIC, 100) + delta.RECORD.pack(kind, length) + bytes(length)
    with pytest.raises(InvalidProofError, match=f"is of kind {kind} and has {length} bytes"):
        list(delta.parts(message, np.zeros(100, np.uint8), 100))


def test_bytes_after_the_end_are_refused() -> None:
    message = encoded(np.zeros(100, np.uint8), None)
    with pytest.raises(InvalidProofError, match="1 bytes follow"):
        list(delta.parts(message + b"\0", None, 100))


@contextmanager
def little_memory(nbytes: int) -> Iterator[None]:
    """More than so many bytes of new memory are not to be had."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def frame(size: int, said: bool, window: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window, write_content_size=said)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    if said:
        return compressor.compress(bytes(size))
    stream = compressor.compressobj()
    return b"".join(stream.compress(bytes(2**20)) for _ in range(size // 2**20)) + stream.flush()


@pytest.mark.parametrize("kind", [delta.WHOLE, delta.DELTA])
@pytest.mark.parametrize("bomb", ["grows", "says so", "wide window", "claims only"])
def test_a_bomb_is_refused_without_taking_memory(monkeypatch: pytest.MonkeyPatch, kind: int, bomb: str) -> None:
    size = 2**20
    monkeypatch.setattr(delta, "PART", size)
    payload = {
        "grows": lambda: frame(2**30, False, 20),
        "says so": lambda: frame(2**28, True, 20),
        "wide window": lambda: frame(2**20, False, 27),
        # single segment, a content size of 8 bytes that says 2**50, one raw block: RFC 8878, 3.1.1
        "claims only": lambda: (
            bytes.fromhex("28b52ffd e0") + (2**50).to_bytes(8, "little") + bytes.fromhex("090000 00")
        ),
    }[bomb]()
    message = delta.HEADER.pack(delta.MAGIC, size) + delta.RECORD.pack(kind, len(payload)) + payload
    base, out = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    with little_memory(64 * 2**20), pytest.raises(InvalidProofError):
        delta.decode(message, base, out, bytes(32))


def test_parameters_can_go_from_store_to_store(tmp_path: Path) -> None:
    here, there = BlobStore(tmp_path / "here", 2**20), BlobStore(tmp_path / "there", 2**20)
    base = floats(1000, 1)
    new = base + np.float32(1e-3)
    old_digest, new_digest = (here.put(values.view(np.uint8)) for values in (base, new))
    there.put(base.view(np.uint8))
    sent = here.put_stream(delta.encode(here.open(new_digest), here.open(old_digest)), delta.bound(4000))
    delta.decode_to(there, here.open(sent), there.open(old_digest), 4000, new_digest)
    assert there.open(new_digest).tobytes() == new.tobytes()
    with pytest.raises(InvalidProofError, match="not what was announced"):
        delta.decode_to(there, here.open(sent), there.open(new_digest), 4000, new_digest)
    assert there.used() == 8000


def test_the_format_is_what_the_specification_says() -> None:
    new, base = np.array([1, 2, 3, 4, 5], np.uint8), np.array([1, 2, 3, 4, 5], np.uint8)
    head = b"podlt-d1" + (5).to_bytes(8, "big")
    assert encoded(new, base) == head + bytes([delta.SAME, 0, 0, 0, 0])
    assert encoded(new, None) == head + bytes([delta.RAW, 0, 0, 0, 5, 1, 2, 3, 4, 5])
    near = np.array([8, 4, 0, 0, 0, 4, 0, 0] * 8, np.uint32).view(np.uint8)
    after = (near.view(np.uint32) - np.uint32(1)).view(np.uint8)
    payload = zstandard.ZstdCompressor().compress(bytes([1] * 64) + bytes(192))
    message = b"podlt-d1" + (256).to_bytes(8, "big") + bytes([delta.DELTA, 0, 0, 0, len(payload)]) + payload
    assert np.array_equal(decoded(message, near, 256, digest_of(after)), after)
