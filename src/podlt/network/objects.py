"""Blobs in an object store: a directory, S3, Google's or Azure's, or memory (through obstore).

A blob lies there in objects of 16 MiB, `DIGEST/NUMBER`, each put only if it is not there. So nothing is overwritten
by whoever may only create, an upload that was cut goes on where it was, and no more than an object is in memory. The
store is not trusted: whoever fetches checks the digest, as with any sender.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from podlt.errors import UsageError
from podlt.network.blobs import BlobStore
from podlt.network.transfer import TransferError, in_thread

OBJECT = 2**24
"""How long each object is, except for a blob's last."""

_URL = re.compile(r"(file|memory|s3|gs|az|abfs|abfss|https)://.*")


class ObjectStore:
    """An object store, which takes its credentials from the environment as its own tools do.

    Args:
        url: "file:///folder", "memory:///", "s3://bucket/prefix", "gs://…", "az://…".

    Raises:
        UsageError: not such a URL, or it cannot be used as it is configured.
    """

    def __init__(self, url: str) -> None:
        if not _URL.fullmatch(url):
            raise UsageError(
                f"{url}: is no URL of an object store: expected file:///…, s3://…, gs://…, az://… or memory:///"
            )
        self.url = url
        try:
            if url.startswith("file://"):
                folder = Path(url.removeprefix("file://"))
                self._store: Any = LocalStore(folder, mkdir=True)
            else:
                self._store = from_url(url)
        except (BaseError, ValueError, OSError) as error:
            raise UsageError(f"{url}: cannot be used: {error}") from None

    async def put(self, store: BlobStore, digest: bytes) -> None:
        """Copies a blob there, as far as it is not there.

        Raises:
            StorageError: the blob is not in `store`; TransferError: the object store does not take it.
        """
        size = store.size(digest)
        for start in range(0, max(size, 1), OBJECT):
            if not await self._is_there(digest, start):
                data = await in_thread(store.read, digest, start, min(OBJECT, size - start))
                await self._create(digest, start, data)

    async def fetch_range(self, digest: bytes, offset: int, length: int) -> bytes:
        """One range of a blob, for `transfer.download`.

        Raises:
            OSError: it did not come (not there yet, a cut): worth another attempt.
        """
        parts = []
        while length > 0:
            start = offset % OBJECT
            taken = min(length, OBJECT - start)
            try:
                part = await self._store.get_range_async(_name(digest, offset), start=start, length=taken)
            except (BaseError, OSError) as error:
                raise ConnectionError(f"{self.url}: {_first_line(error)}") from None
            parts.append(bytes(part))
            offset, length = offset + taken, length - taken
        return b"".join(parts)

    async def _is_there(self, digest: bytes, start: int) -> bool:
        try:
            await self._store.head_async(_name(digest, start))
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise TransferError(_first_line(error), digest, self.url) from None
        return True

    async def _create(self, digest: bytes, start: int, data: bytes) -> None:
        try:
            await self._store.put_async(_name(digest, start), data, mode="create")
        except AlreadyExistsError:
            pass  # another one was faster
        except (BaseError, OSError) as error:
            raise TransferError(_first_line(error), digest, self.url) from None


def _name(digest: bytes, offset: int) -> str:
    return f"{digest.hex()}/{offset // OBJECT:06d}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
