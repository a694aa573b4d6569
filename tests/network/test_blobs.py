"""The store of blobs: whatever has a name in it is whole and right, and nothing takes room that is not there."""

from __future__ import annotations

import os
import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import blob_digest
from podlt.errors import StorageError
from podlt.network.blobs.store import BlobStore

DATA = bytes(range(256)) * 64


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 2**30)


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_what_is_put_can_be_opened_and_read_in_ranges(store: BlobStore, data: bytes) -> None:
    digest = store.put(data)
    assert digest == blob_digest(data) and store.has(digest) and store.size(digest) == len(data)
    view = store.open(digest)
    assert view.tobytes() == data and view.dtype == np.uint8
    assert store.read(digest, len(data) // 3, len(data) // 2) == data[len(data) // 3 :][: len(data) // 2]


def test_an_open_blob_cannot_be_changed(store: BlobStore) -> None:
    view = store.open(store.put(DATA))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_a_blob_put_twice_is_kept_once(store: BlobStore) -> None:
    assert (
        store.put(DATA) == store.put(np.frombuffer(DATA, np.float32)) == store.put_stream([DATA[:5], DATA[5:]], 2**20)
    )
    assert store.used() == len(DATA)


def test_a_file_is_copied(store: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    assert store.open(store.put_file(path)).tobytes() == DATA and path.read_bytes() == DATA
    with pytest.raises(StorageError, match="missing: cannot be read"):
        store.put_file(tmp_path / "missing")


@pytest.mark.parametrize("offset, length", [(-1, 2), (0, len(DATA) + 1), (len(DATA), 1), (2, -1)])
def test_a_range_outside_of_the_blob_is_refused(store: BlobStore, offset: int, length: int) -> None:
    digest = store.put(DATA)
    with pytest.raises(StorageError, match="were asked for"):
        store.read(digest, offset, length)


def test_a_blob_that_is_not_there_is_said_to_be_missing(store: BlobStore) -> None:
    for use in (store.open, store.size, lambda digest: store.read(digest, 0, 0)):
        with pytest.raises(StorageError, match="No such file"):
            use(bytes(32))
    assert not store.has(bytes(32)) and not store.verify(bytes(32))


def test_a_stream_longer_than_announced_is_cut_off_and_leaves_nothing(store: BlobStore) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield bytes(1000)

    with pytest.raises(StorageError, match="longer than its limit of 5000"):
        store.put_stream(endless(), 5000)
    assert len(taken) == 6 and store.used() == 0


def test_a_folder_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 10_000)
    store.put(bytes(6_000))
    with pytest.raises(StorageError, match="may hold"):
        store.put(b"y" * 5_000)
    with pytest.raises(StorageError, match="may hold"), store.partial(bytes(32), 5_000):
        pass
    assert store.used() == 6_000


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 2**62)
    with pytest.raises(StorageError, match="are free on the disk"):
        store.put_stream(iter(lambda: pytest.fail("was asked for bytes"), b""), 2**60)
    with pytest.raises(StorageError, match="are free on the disk"), store.partial(bytes(32), 2**60):
        pass
    assert store.used() == 0


def test_a_disk_that_fills_up_meanwhile_is_an_error_of_storage_and_leaves_nothing(store: BlobStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            store.put(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.used() == 0


def test_a_partial_file_is_gone_on_with_and_becomes_a_blob(store: BlobStore) -> None:
    digest = blob_digest(DATA)
    with store.partial(digest, len(DATA)) as partial:
        partial.append(DATA[:100])
        assert not partial.resumed
    assert not store.has(digest)
    with store.partial(digest, len(DATA)) as partial:
        assert partial.offset == 100 and partial.resumed
        partial.append(DATA[100:])
        assert partial.finish()
    assert store.open(digest).tobytes() == DATA and store.used() == len(DATA)


def test_a_partial_file_with_wrong_bytes_is_emptied(store: BlobStore) -> None:
    digest = blob_digest(DATA)
    with store.partial(digest, len(DATA)) as partial:
        partial.append(DATA[1:] + b"!")
        assert not partial.finish() and partial.offset == 0
        partial.append(DATA)
        assert partial.finish()
    assert store.verify(digest)


def test_a_partial_file_that_is_too_long_is_begun_anew(store: BlobStore) -> None:
    digest = blob_digest(DATA)
    with store.partial(digest, len(DATA)) as partial:
        partial.append(DATA)
    with store.partial(digest, len(DATA) - 1) as partial:
        assert partial.offset == 0
        with pytest.raises(StorageError, match="bytes of"):
            partial.append(DATA)


def test_only_one_at_a_time_fetches_a_blob(store: BlobStore) -> None:
    with store.partial(bytes(32), 10), pytest.raises(StorageError, match="fetched already"):
        store.partial(bytes(32), 10)
    with store.partial(bytes(32), 10):
        pass
    assert not list((store.folder / "partial").iterdir())


def test_garbage_goes_and_what_is_wanted_or_being_written_stays(store: BlobStore) -> None:
    wanted, unwanted = store.put(DATA), store.put(b"garbage")
    with store.partial(bytes(32), 100) as abandoned:
        abandoned.append(bytes(50))
    with store.partial(b"\1" * 32, 100) as under_way:
        under_way.append(bytes(10))
        assert store.keep([wanted]) == len(b"garbage") + 50
        assert store.has(wanted) and not store.has(unwanted) and store.used() == len(DATA) + 10


def test_an_open_blob_survives_its_deletion(store: BlobStore) -> None:
    digest = store.put(DATA)
    view = store.open(digest)
    store.keep([])
    assert view.tobytes() == DATA and not store.has(digest)


def test_a_blob_that_changed_on_the_disk_is_found_and_deleted(store: BlobStore) -> None:
    digest = store.put(DATA)
    path = store.folder / digest.hex()[:2] / digest.hex()
    assert store.verify(digest) and not os.stat(path).st_mode & 0o222
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + b"!")
    assert not store.verify(digest) and not store.has(digest)


@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
def test_parts_of_any_length_make_the_same_blob(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"), 2**20)
    edges = [0, *sorted(cuts), len(DATA)]
    parts = [DATA[start:stop] for start, stop in pairwise(edges)]
    with store.partial(blob_digest(DATA), len(DATA)) as partial:
        for part in parts:
            partial.append(part)
        assert partial.finish()
    assert store.open(store.put_stream(parts, len(DATA) + 1)).tobytes() == DATA
