"""Blobs in object stores: created once, fetched in ranges, and believed only after their digest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from podlt.crypto import blob_digest
from podlt.errors import StorageError, UsageError
from podlt.network.blobs import object_store, transfer
from podlt.network.blobs.object_store import ObjectStore
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import BadBlobError, TransferError, download

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "OBJECT", 1000)
    monkeypatch.setattr(transfer, "RANGE", 700)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "here", 2**20)


@pytest.fixture(params=["file", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore(f"file://{tmp_path}/remote" if request.param == "file" else "memory:///")


@pytest.mark.parametrize("data", [b"", b"x", DATA, DATA[:2000]])
def test_a_blob_goes_there_and_comes_back(store: BlobStore, remote: ObjectStore, tmp_path: Path, data: bytes) -> None:
    digest, other = store.put(data), BlobStore(tmp_path / "there", 2**20)

    async def there_and_back() -> None:
        await remote.put(store, digest)
        await remote.put(store, digest)
        await download(other, digest, len(data), remote.fetch_range, 2**20)

    asyncio.run(there_and_back())
    assert other.open(digest).tobytes() == data


def test_what_is_there_is_not_overwritten_and_what_is_not_is_added(store: BlobStore, tmp_path: Path) -> None:
    remote, digest = ObjectStore(f"file://{tmp_path}/remote"), store.put(DATA)
    asyncio.run(remote.put(store, digest))
    files = sorted((tmp_path / "remote" / digest.hex()).iterdir())
    assert [file.name for file in files] == [f"{number:06d}" for number in range(11)]
    assert b"".join(file.read_bytes() for file in files) == DATA
    files[0].write_bytes(b"kept as it is")
    files[4].unlink()
    asyncio.run(remote.put(store, digest))
    assert files[0].read_bytes() == b"kept as it is" and files[4].read_bytes() == DATA[4000:5000]


def test_two_that_create_the_same_object_at_once_both_succeed(store: BlobStore, remote: ObjectStore) -> None:
    digest = store.put(DATA)

    async def both() -> None:
        await asyncio.gather(remote.put(store, digest), remote.put(store, digest))
        assert await remote.fetch_range(digest, 990, 1500) == DATA[990:2490]

    asyncio.run(both())


def test_a_store_that_lies_is_found_out(store: BlobStore, tmp_path: Path) -> None:
    remote, digest = ObjectStore(f"file://{tmp_path}/remote"), store.put(DATA)
    asyncio.run(remote.put(store, digest))
    (tmp_path / "remote" / digest.hex() / "000003").write_bytes(bytes(1000))
    other = BlobStore(tmp_path / "there", 2**20)
    with pytest.raises(BadBlobError, match="from the bucket"):
        asyncio.run(download(other, digest, len(DATA), remote.fetch_range, 2**20, sender="the bucket"))
    assert other.used() == 0


def test_what_is_not_there_is_waited_for_and_then_given_up(store: BlobStore, remote: ObjectStore) -> None:
    with pytest.raises(TransferError, match="0 of 10 bytes came"):
        asyncio.run(download(store, blob_digest(b"x"), 10, remote.fetch_range, 2**20, attempts=2))
    with pytest.raises(StorageError):
        asyncio.run(remote.put(store, bytes(32)))


@pytest.mark.parametrize("url", ["", "/tmp/x", "ftp://host/x", "s3:bucket"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of an object store"):
        ObjectStore(url)


@pytest.mark.slow
def test_s3_is_such_a_store(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {**settings, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="podlt")
    remote, digest, other = ObjectStore("s3://podlt/run"), store.put(DATA), BlobStore(tmp_path / "there", 2**20)

    async def there_and_back() -> None:
        await asyncio.gather(remote.put(store, digest), remote.put(store, digest))
        await remote._create(digest, 0, b"not over what is there")
        await download(other, digest, len(DATA), remote.fetch_range, 2**20)

    asyncio.run(there_and_back())
    server.stop()
    assert other.verify(digest)
