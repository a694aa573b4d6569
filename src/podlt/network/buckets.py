"""A worker's way to objects in an object store, by addresses that the manager gave: the digest says whether to believe.

What the manager names is asked of others, so little of it is taken: files only where they are named as objects are, and
of servers only such as are on the same side of the network's border as the manager is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from podlt.network.disk import Buffer, read_exactly
from podlt.network.http_client import AGAIN, CONNECT_SECONDS, READ_SECONDS
from podlt.network.transfer import TransferError, in_thread


class BucketClient:
    """Fetches ranges of blobs that lie in objects. An asynchronous context manager.

    Args:
        private: whether servers with addresses that only a local network has may be asked.

    Attributes:
        moved: how many bytes came.
    """

    def __init__(self, private: bool) -> None:
        self._private = private
        self._session: aiohttp.ClientSession | None = None
        self._checked: set[str] = set()
        self.moved = 0

    async def __aenter__(self) -> BucketClient:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False, read_bufsize=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch_range(self, urls: Sequence[str], part: int, digest: bytes, offset: int, length: int) -> Buffer:
        """One range of a blob that lies at `urls`, in objects of `part` bytes.

        Raises:
            OSError: it did not come: worth another attempt; TransferError: it cannot be had there.
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
        await self._check(url, digest)
        assert self._session is not None, "to be used as a context manager"
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        where = url.partition("?")[0]  # what follows is a signature, and not for any log
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status in AGAIN:
                    raise ConnectionError(f"{where} answers {response.status}")
                if response.status != 206 or response.content_length != length:
                    raise TransferError(f"answers {response.status}, {response.content_length} bytes", digest, where)
                return await response.content.readexactly(length)
        except (aiohttp.ClientError, asyncio.IncompleteReadError) as error:
            raise ConnectionError(f"{where}: {type(error).__name__}") from None

    async def _check(self, url: str, digest: bytes) -> None:
        """Whether a server may be asked: a manager must not look around in our network through us.

        Raises:
            TransferError: it may not; OSError: its name is not known at present.
        """
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host in self._checked:
            return
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise TransferError("no address of an object store", digest, host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        known = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        inside = any(not ipaddress.ip_address(one[4][0]).is_global for one in known)
        if (inside or parts.scheme == "http") and not self._private:
            raise TransferError("this object store is inside a local network, and the manager is not", digest, host)
        self._checked.add(host)


def is_private(url: str) -> bool:
    """Whether a server, by its URL, is inside a local network."""
    host = urlsplit(url).hostname or ""
    try:
        known = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        return any(not ipaddress.ip_address(address).is_global for address in known)
    except (OSError, ValueError):
        return False


def _read_file(path: Path, start: int, length: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size < start + length:
            raise OSError(f"{path}: is no object of {start + length} bytes")
        return read_exactly(descriptor, start, length)
    finally:
        os.close(descriptor)
