"""Blobs in an object store: a directory, S3, Google's or Azure's, or memory (through obstore).

A blob lies there in objects of 16 MiB, `DIGEST/NUMBER`, each put only if it is not there. So nothing is overwritten
by whoever may only create, an upload that was cut goes on where it was, and no more than an object is in memory. The
store is not trusted: whoever fetches checks the digest, as with any sender.
"""

from __future__ import annotations

import datetime
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from podlt.errors import UsageError
from podlt.network.blobs.jobs import TransferError
from podlt.wire.messages import MOST_URLS

OBJECT = 2**24
"""How long each object is, except for a blob's last. Blobs of more than 4 GiB are cut into larger ones, so that a
message can name them all."""

URL_SECONDS = 6 * 3600
"""For how long the addresses of objects are good."""

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
                self._store: Any = LocalStore(folder, mkdir=True, automatic_cleanup=True)
            else:
                self._store = from_url(url)
        except (BaseError, ValueError, OSError) as error:
            raise UsageError(f"{url}: cannot be used: {error}") from None

    async def put(self, data: np.ndarray, digest: bytes, part: int = OBJECT) -> None:
        """Copies a blob (uint8) there, in objects of `part` bytes, as far as it is not there.

        Raises:
            TransferError: the object store does not take it.
        """
        for number, start in enumerate(range(0, max(data.nbytes, 1), part)):
            if not await self._is_there(digest, number):
                await self._create(digest, number, data[start : start + part].data)

    async def urls(self, digest: bytes, size: int, part: int) -> list[str]:
        """Where each object of a blob can be read, by whoever knows the address, for a while.

        Raises:
            TransferError: this kind of store cannot give such addresses.
        """
        names = [_name(digest, number) for number in range(max(1, -(-size // part)))]
        if self.url.startswith(("file:", "http:", "https:")):
            return [f"{self.url.rstrip('/')}/{name}" for name in names]
        try:
            return list(await obstore.sign_async(self._store, "GET", names, datetime.timedelta(seconds=URL_SECONDS)))
        except (BaseError, OSError, TypeError, ValueError) as error:
            raise TransferError(f"{self.url}: no addresses can be signed: {_first_line(error)}", digest) from None

    async def remove(self, digest: bytes, size: int, part: int) -> None:
        """Deletes a blob's objects; what cannot be deleted stays, and does no harm."""
        names = [_name(digest, number) for number in range(max(1, -(-size // part)))]
        with suppress(BaseError, OSError):
            await self._store.delete_async(names)

    async def _is_there(self, digest: bytes, number: int) -> bool:
        try:
            await self._store.head_async(_name(digest, number))
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise TransferError(f"{self.url}: {_first_line(error)}", digest) from None
        return True

    async def _create(self, digest: bytes, number: int, data: memoryview) -> None:
        try:
            await self._store.put_async(_name(digest, number), data, mode="create")
        except AlreadyExistsError:
            pass  # another one was faster
        except (BaseError, OSError) as error:
            raise TransferError(f"{self.url}: {_first_line(error)}", digest) from None


def part_of(size: int) -> int:
    """How long the objects of a blob are, so that they are not too many to be named in a message."""
    return OBJECT * max(1, -(-size // (OBJECT * MOST_URLS)))


def _name(digest: bytes, number: int) -> str:
    return f"{digest.hex()}/{number:06d}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
