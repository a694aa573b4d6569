"""Fetching and sending: cut anywhere and gone on with, checked at the end, no more asked for than allowed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import blob_digest
from podlt.errors import StorageError
from podlt.network.blobs import transfer
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import BadBlobError, TransferError, download, upload

DATA = bytes(range(256)) * 40
DIGEST = blob_digest(DATA)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RANGE", 1000)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 2**30)


class Link:
    """A link that fails when it is told to.

    Args:
        data: what the other end has; faults: for each call in turn, whether it fails; True for ever after the last.
    """

    def __init__(self, data: bytes, faults: list[bool] | None = None) -> None:
        self.data, self.faults = data, faults or []
        self.asked: list[int] = []
        self.under_way = self.most = 0

    async def fetch(self, digest: bytes, offset: int, length: int) -> bytes:
        assert digest == DIGEST
        self.asked.append(offset)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.faults and self.faults.pop(0):
            raise ConnectionError("cut")
        return self.data[offset : offset + length]


def test_a_blob_is_fetched_with_few_ranges_ahead(store: BlobStore) -> None:
    link = Link(DATA)
    asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20, window=3))
    assert store.open(DIGEST).tobytes() == DATA
    assert link.asked == list(range(0, len(DATA), 1000)) and link.most <= 3
    asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20))
    assert len(link.asked) == 11  # there already


@given(faults=st.lists(st.booleans(), max_size=40), window=st.integers(1, 4))
def test_cuts_at_any_moment_cost_only_the_ranges_under_way(
    tmp_path_factory: pytest.TempPathFactory, faults: list[bool], window: int
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"), 2**20)
    link = Link(DATA, list(faults))
    asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20, window=window, attempts=50))
    assert store.open(DIGEST).tobytes() == DATA
    assert len(link.asked) <= 11 + sum(faults) * window


def test_a_sender_that_stays_away_is_given_up_and_gone_on_with_later(store: BlobStore) -> None:
    link = Link(DATA, [False] * 4 + [True] * 100)
    with pytest.raises(TransferError, match=r"worker 7: [34]000 of 10240 bytes came; ConnectionError: cut") as caught:
        asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20, sender="worker 7", attempts=3))
    assert not isinstance(caught.value, BadBlobError)
    again = Link(DATA)
    asyncio.run(download(store, DIGEST, len(DATA), again.fetch, 2**20))
    assert again.asked[0] >= 3000 and store.verify(DIGEST)


def test_wrong_bytes_are_deleted_and_their_sender_is_named(store: BlobStore) -> None:
    with pytest.raises(BadBlobError, match="from worker 7") as caught:
        asyncio.run(download(store, DIGEST, len(DATA), Link(DATA[::-1]).fetch, 2**20, sender="worker 7"))
    assert caught.value.sender == "worker 7" and caught.value.digest == DIGEST
    assert store.used() == 0
    asyncio.run(download(store, DIGEST, len(DATA), Link(DATA).fetch, 2**20))


def test_nobody_is_blamed_for_what_another_left_behind(store: BlobStore) -> None:
    with store.partial(DIGEST, len(DATA)) as partial:
        partial.append(b"spoiled by a power cut")
    link = Link(DATA)
    asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20))
    assert store.verify(DIGEST) and link.asked.count(0) == 1


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_range_of_another_length_is_refused(store: BlobStore, extra: int) -> None:
    async def fetch(digest: bytes, offset: int, length: int) -> bytes:
        return bytes(length + extra)

    with pytest.raises(BadBlobError, match="expected 1000 bytes"):
        asyncio.run(download(store, DIGEST, len(DATA), fetch, 2**20))


@pytest.mark.parametrize("size, limit", [(2**40, 2**20), (-1, 2**20), (2**60, 2**62)])
def test_what_is_too_long_is_refused_before_a_byte_is_asked_for(store: BlobStore, size: int, limit: int) -> None:
    link = Link(DATA)
    with pytest.raises(StorageError):
        asyncio.run(download(store, DIGEST, size, link.fetch, limit))
    assert not link.asked and store.used() == 0


def test_an_empty_blob_needs_no_range(store: BlobStore) -> None:
    link = Link(b"")
    asyncio.run(download(store, blob_digest(b""), 0, link.fetch, 0))
    assert store.has(blob_digest(b"")) and not link.asked


def test_a_download_that_is_cancelled_keeps_what_came(store: BlobStore) -> None:
    async def slow(digest: bytes, offset: int, length: int) -> bytes:
        if offset >= 3000:
            await asyncio.sleep(3600)
        return DATA[offset : offset + length]

    async def cancelled() -> None:
        task = asyncio.ensure_future(download(store, DIGEST, len(DATA), slow, 2**20))
        while store.used() < 3000:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    link = Link(DATA)
    asyncio.run(download(store, DIGEST, len(DATA), link.fetch, 2**20))
    assert link.asked[0] == 3000


class Receiver:
    """The other end of an upload, that loses what it is told to lose."""

    def __init__(self, faults: list[bool]) -> None:
        self.faults, self.data = faults, bytearray()

    def _cut(self) -> None:
        if self.faults and self.faults.pop(0):
            raise TimeoutError("cut")

    async def progress(self, digest: bytes, size: int) -> int:
        self._cut()
        return len(self.data)

    async def send(self, digest: bytes, size: int, offset: int, data: bytes) -> None:
        assert digest == DIGEST and size == len(DATA) and offset == len(self.data)
        self.data += data[: len(data) // 2]
        self._cut()
        self.data += data[len(data) // 2 :]


@given(faults=st.lists(st.booleans(), max_size=30))
def test_an_upload_goes_on_where_the_other_end_is(tmp_path_factory: pytest.TempPathFactory, faults: list[bool]) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"), 2**20)
    receiver = Receiver(faults)
    asyncio.run(upload(store, store.put(DATA), receiver, attempts=50))
    assert bytes(receiver.data) == DATA


def test_an_upload_to_nobody_is_given_up(store: BlobStore) -> None:
    with pytest.raises(TransferError, match="could not be sent: TimeoutError"):
        asyncio.run(upload(store, store.put(DATA), Receiver([True] * 99), attempts=3))
    with pytest.raises(StorageError):
        asyncio.run(upload(store, bytes(32), Receiver([])))
