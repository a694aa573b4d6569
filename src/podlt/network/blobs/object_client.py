"""A worker's way to objects in an object store, by addresses that the manager gave: the digest says whether to believe.

What the manager names is asked of others, so little of it is taken: files only where they are named as objects are, and
of servers only such as are on the same side of the network's border as the manager is. What is checked is the address
that is connected to: a name may stand for another one the next time it is looked up.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp
from yarl import URL

from podlt.network.addresses import is_global
from podlt.network.blobs.disk import Buffer, read_exactly
from podlt.network.blobs.http_client import AGAIN, CONNECT_SECONDS, READ_SECONDS, InsideError, OutwardResolver
from podlt.network.blobs.transfer import TransferError, in_thread


class ObjectClient:
    """Fetches ranges of blobs that lie in objects. An asynchronous context manager.

    Args:
        private: whether servers with addresses that only a local network has may be asked; called only when there is
            such an address, and not again once it may.

    Attributes:
        moved: how many bytes came.
    """

    def __init__(self, private: Callable[[], Awaitable[bool]]) -> None:
        self._private, self._may = private, False
        self._session: aiohttp.ClientSession | None = None
        self.moved = 0

    async def __aenter__(self) -> ObjectClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=OutwardResolver(self._may_inside)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            auto_decompress=False,
            read_bufsize=2**20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch_range(self, urls: Sequence[str], part: int, digest: bytes, offset: int, length: int) -> Buffer:
        """One range of a blob that lies at `urls`, in objects of `part` bytes.

        Raises:
            OSError: it did not come: worth another attempt.
            TransferError: it cannot be had there.
        """
        found = []
        while length > 0:
            number, start = divmod(offset, part)
            if number >= len(urls):
                raise TransferError(f"byte {offset} is in none of its {len(urls)} objects", digest)
            taken = min(length, part - start)
            found.append(await self._read(urls[number], digest, number, start, taken))
            offset, length, self.moved = offset + taken, length - taken, self.moved + taken
        return found[0] if len(found) == 1 else b"".join(found)

    async def _read(self, url: str, digest: bytes, number: int, start: int, length: int) -> bytes:
        if url.startswith("file://"):
            path = Path(url.removeprefix("file://"))
            if (path.parent.name, path.name) != (digest.hex(), f"{number:06d}"):
                raise TransferError("its address is not that of an object", digest, url)
            return await in_thread(_read_file, path, start, length)
        return await self._ask(url, digest, start, length)

    async def _ask(self, address: str, digest: bytes, start: int, length: int) -> bytes:
        """A range of an object that a server has. A manager must not look around in our network through us."""
        assert self._session is not None, "to be used as a context manager"
        url = _parsed(address, digest)
        where = str(url.with_query(None))  # the query is a signature, and not for any log
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        try:
            await self._check(url)
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status in AGAIN:
                    raise ConnectionError(f"{where} answers {response.status}")
                if response.status != 206 or response.content_length != length:
                    raise TransferError(f"answers {response.status}, {response.content_length} bytes", digest, where)
                return await response.content.readexactly(length)
        except InsideError:
            what = "this object store is inside a local network, and the manager is not"
            raise TransferError(what, digest, str(url.origin())) from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError) as error:
            raise ConnectionError(f"{where}: {type(error).__name__}") from None

    async def _check(self, url: URL) -> None:
        """What the resolver does not see: an address in place of a name, and an object store without TLS.

        Raises:
            InsideError: it may not be asked.
        """
        host = url.raw_host or ""
        literal = ":" in host or host.replace(".", "").isdigit()
        if (url.scheme == "http" or (literal and not is_global(host))) and not await self._may_inside(host):
            raise InsideError

    async def _may_inside(self, host: str) -> bool:
        self._may = self._may or await self._private()
        return self._may


def _parsed(address: str, digest: bytes) -> URL:
    """A URL as aiohttp will take it: what is checked has to be what is asked."""
    try:
        url = URL(address)
        port = url.port
    except ValueError:
        raise TransferError("no address of an object store", digest) from None
    if url.scheme not in ("https", "http") or not url.raw_host or not port:
        raise TransferError("no address of an object store", digest, url.scheme)
    return url


def _read_file(path: Path, start: int, length: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size < start + length:
            raise OSError(f"{path}: is no object of {start + length} bytes")
        return read_exactly(descriptor, start, length)
    finally:
        os.close(descriptor)
