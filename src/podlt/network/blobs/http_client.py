"""A worker's way to the manager's server of blobs: its certificate is the one of the invitation, or nothing is said."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, PodltError
from podlt.network.access import tokens
from podlt.network.addresses import is_global
from podlt.network.blobs.disk import Buffer
from podlt.network.blobs.endpoint import OFFSET, TIME
from podlt.network.blobs.transfer import BadBlobError, TransferError

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

CONNECT_SECONDS, READ_SECONDS = 15.0, 30.0
"""How long to wait for a connection, and for the next bytes of an answer."""

AGAIN = {408, 409, 429, 500, 502, 503, 504, 507}
"""Answers after which the same may succeed later."""


_NO_BLOB = bytes(32)


class _Pin(aiohttp.Fingerprint):
    """The certificate that a server must show.

    Attributes:
        peer: the address of the last server that showed it, as the socket has it; "" before.
    """

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(fingerprint)
        self.peer = ""

    def check(self, transport: asyncio.Transport) -> None:
        """Raises ServerFingerprintMismatch if it is another."""
        super().check(transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])


async def is_inside(url: str, fingerprint: bytes) -> bool:
    """Whether the manager's server is inside a local network: by a connection to it, not by what it is called.

    What the manager names as its server may be anything. So there has to be one that shows its certificate (before that
    nothing is said), and answers as only such a server does: a certificate that is known of some device is not enough.

    Returns:
        False as well if there is no such connection.
    """
    pin = _Pin(fingerprint)
    timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
    try:
        asked = f"{_origin(url)}/blobs/{_NO_BLOB.hex()}"
        connector = aiohttp.TCPConnector(ssl=pin, limit=1, force_close=True)  # one: the address is that of who answers
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(asked, allow_redirects=False) as response,
        ):
            known = response.status == 401 and _number(response.headers.get(TIME), 0) > 0  # we showed no pass
    except (OSError, PodltError, aiohttp.ClientError):
        return False
    return known and pin.peer != "" and not is_global(pin.peer)


class InsideError(Exception):
    """A server has an address that only a local network has, and may not be asked."""


class OutwardResolver(AbstractResolver):
    """Looks names up, and gives nothing but addresses that may be connected to.

    Args:
        private: whether a host may have an address that only a local network has; called only when it has one.
    """

    def __init__(self, private: Callable[[str], Awaitable[bool]]) -> None:
        self._private, self._plain = private, aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            InsideError: one of them may not be connected to.
            OSError: its name is not known at present.
        """
        found = await self._plain.resolve(host, port, family)
        if not all(is_global(one["host"]) for one in found) and not await self._private(host):
            raise InsideError(f"{host} is inside a local network, and the invitation does not name it")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._plain.close()


class BlobClient:
    """Fetches and sends blobs: give `fetch_range` to `transfer.download`, and the client itself to `transfer.upload`.

    An asynchronous context manager.

    Args:
        url: such as "https://manager.example:4430".
        fingerprint: the SHA-256 of the server's certificate.
        key: whose passes it writes.
        named: hosts that may be asked although only a local network has their addresses; None for all.
        clock: seconds since 1970; may be wrong: the server's time is learnt from it.

    Attributes:
        moved: how many bytes came and went.

    Raises:
        InvalidProofError: the URL is none of a server of blobs.
    """

    def __init__(
        self,
        url: str,
        fingerprint: bytes,
        key: SigningKey,
        *,
        named: Collection[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._named = named
        self._url, self._fingerprint, self._key, self._clock = _origin(url), fingerprint, key, clock
        self._ahead = 0  # milliseconds that the server's clock is ahead of ours
        self._session: aiohttp.ClientSession | None = None
        self.moved = 0

    async def __aenter__(self) -> BlobClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=aiohttp.Fingerprint(self._fingerprint), resolver=OutwardResolver(self._may_inside)
            ),
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

    async def fetch_range(self, digest: bytes, offset: int, length: int) -> bytes:
        """One range of a blob.

        Raises:
            OSError: the link is cut, or the server is busy: worth another attempt.
            TransferError: it refuses, or is another server.
        """
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = (await self._ask("GET", "read", digest, headers, expected=length))[1]
        self.moved += length
        return answer

    async def progress(self, digest: bytes, size: int) -> int:
        """How many bytes of an upload the server has.

        Raises:
            OSError: as `fetch_range`.
            TransferError: as `fetch_range`.
        """
        return (await self._ask("HEAD", "write", digest, {}))[0]

    async def send(self, digest: bytes, size: int, offset: int, data: Buffer) -> None:
        """The next bytes of an upload.

        Raises:
            OSError: as `fetch_range`.
            TransferError: as `fetch_range`.
            BadBlobError: these were the last, and it is another blob.
        """
        await self._ask("PATCH", "write", digest, {OFFSET: str(offset)}, data=data)
        self.moved += len(data)

    async def _ask(
        self,
        method: str,
        purpose: tokens.Purpose,
        digest: bytes,
        headers: dict[str, str],
        *,
        data: Buffer | None = None,
        expected: int = 0,
    ) -> tuple[int, bytes]:
        """One question, once more if our clock was wrong; returns Upload-Offset and the `expected` bytes."""
        try:
            for deal_id in range(2):
                status, offset, answer = await self._once(method, purpose, digest, headers, data, expected)
                if status != 401 or deal_id:
                    break
        except InsideError as error:
            raise TransferError(str(error), digest, self._url) from None
        except aiohttp.ServerFingerprintMismatch:
            raise TransferError(
                "the server's certificate is not the one that the setup names", digest, self._url
            ) from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError) as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from None
        if status in AGAIN:
            raise ConnectionError(f"{self._url} answers {status}: {answer.decode(errors='replace')}")
        if status == 422:
            raise BadBlobError("digest mismatch, as the server computed it", digest)
        if not 200 <= status < 300:
            raise TransferError(f"refused with {status}: {answer.decode(errors='replace')}", digest, self._url)
        return offset, answer

    async def _may_inside(self, host: str) -> bool:
        return self._named is None or host in self._named

    async def _once(
        self,
        method: str,
        purpose: tokens.Purpose,
        digest: bytes,
        headers: dict[str, str],
        data: Buffer | None,
        expected: int,
    ) -> tuple[int, int, bytes]:
        assert self._session is not None, "to be used as a context manager"
        if not may_ask(self._url, self._named):
            raise InsideError(f"{self._url} is inside a local network, and the invitation does not name it")
        now = int(1000 * self._clock()) + self._ahead
        headers = headers | {"Authorization": tokens.write(self._key, purpose, digest, self._fingerprint, now)}
        folder = "blobs" if purpose == "read" else "uploads"
        url = f"{self._url}/{folder}/{digest.hex()}"
        async with self._session.request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            if response.status == 401:
                self._ahead += _number(response.headers.get(TIME), now) - now
            if response.status == 206 and response.content_length != expected:
                raise TransferError(f"{response.content_length} bytes for a range of {expected}", digest, self._url)
            if response.status == 206:
                answer = await response.content.readexactly(expected)
            else:
                answer = await response.content.read(500)
            return response.status, _number(response.headers.get(OFFSET), 0), answer


def may_ask(url: str, named: Collection[str] | None) -> bool:
    """Whether a server may be asked as far as its URL says: a name may still stand for an address that may not."""
    host = URL(url).raw_host or ""
    literal = ":" in host or (host.replace(".", "").isalnum() and host.split(".")[-1][:1].isdigit())
    return named is None or host in named or not literal or is_global(host)


def _origin(url: str) -> str:
    """The URL of a server, which a manager named: without TLS no certificate is looked at, and a path would be asked.

    Raises:
        InvalidProofError: it has another scheme than https, or more than a host and a port.
    """
    try:
        parts = URL(url)
        plain = parts.scheme == "https" and parts.raw_host and parts == parts.origin()
    except ValueError:
        plain = False
    if not plain:
        raise InvalidProofError(f"the manager's server of blobs: expected https://HOST:PORT, got {url[:200]!r}")
    return str(parts.origin())


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and len(text) < 16 and text.isdecimal() else default
