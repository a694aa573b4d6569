"""The manager's own server of large blobs: HTTPS with ranges, for workers that carry a pass.

    GET   /blobs/DIGEST     a blob, or the one range that is asked for, from the disk or from memory
    HEAD  /uploads/DIGEST   how much of an update that was asked for has come (Upload-Offset)
    PATCH /uploads/DIGEST   its next bytes, from Upload-Offset on

A worker reads what the manager lets it read, and writes what the manager expects of it: a digest and a length, known
before a byte comes. What a stranger can take is a connection for a few seconds.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
from aiohttp import web

from podlt.errors import InvalidProofError, StorageError
from podlt.network.access import tokens
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import RANGE, BadBlobError, in_thread
from podlt.network.token_bucket import TokenBucket

STEP = 2**20
"""How many bytes of a blob are in memory at once, for each request."""

HANDSHAKE_SECONDS = 10.0

LINGER_SECONDS = 1.0
"""How long the rest of a request that was refused is read and thrown away, so that the answer is not lost."""

OFFSET, TIME = "Upload-Offset", "Podlt-Time"
"""Headers: how many bytes of an upload are here; the server's time in milliseconds, with each pass that it refuses."""

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})")


class Limits(msgspec.Struct, frozen=True):
    """What one worker, and all together, may take.

    Attributes:
        rate: bytes a second for each worker, both ways together; None for any.
        newcomer_rate: for each worker that is not admitted.
        newcomers_rate: for all together that are not admitted.
        requests: of one worker at once.
        connections: of all.
        idle_seconds: until a connection is cut on which nothing happens.
    """

    rate: float | None = None
    newcomer_rate: float = 4 * 2**20
    newcomers_rate: float = 16 * 2**20
    requests: int = 8
    connections: int = 4096
    idle_seconds: float = 30.0


class _Upload:
    """What is expected of a worker.

    Attributes:
        trusted: whether all its bytes came to this process, so that wrong ones are the worker's own fault.
        offset: how many bytes have come, as far as is known.
    """

    def __init__(self, size: int) -> None:
        self.size, self.trusted, self.offset = size, False, 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())  # need not be asked for
        self._lock = asyncio.Lock()
        self._request: web.Request | None = None

    @asynccontextmanager
    async def taken_over(self, request: web.Request) -> AsyncIterator[None]:
        """Cuts an earlier request for the same: a worker that asks again has lost its connection, and we not yet."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        async with self._lock:
            self._request = request
            try:
                yield
            finally:
                self._request = None


class BlobEndpoint:
    """Serves a store.

    Args:
        store: whose blobs.
        certificate: a file of PEM.
        private_key: a file of PEM.
        may_read: (public key, digest) -> whether that worker may have that blob now: asked for each request.
        is_member: whether the worker of a public key is admitted.
        clock: seconds since 1970.
        memory: blobs (flat uint8) that are served besides the store's, until they are taken out of it.
    """

    def __init__(
        self,
        store: BlobStore,
        certificate: Path,
        private_key: Path,
        may_read: Callable[[bytes, bytes], bool],
        *,
        is_member: Callable[[bytes], bool] = lambda key: True,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        memory: Mapping[bytes, np.ndarray] = MappingProxyType({}),
    ) -> None:
        self._store, self._may_read, self._clock, self._memory = store, may_read, clock, memory
        self._is_member = is_member
        self._limits = limits or Limits()
        self._certificate, self._private_key = certificate, private_key
        self._fingerprint = b""
        self._uploads: dict[tuple[bytes, bytes], _Upload] = {}
        self._busy: Counter[bytes] = Counter()
        self._buckets: dict[bytes, TokenBucket] = {}
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "0.0.0.0", port: int = 0) -> int:
        """Listens, and returns the port.

        Raises:
            OSError: a file cannot be read, or it cannot listen there.
        """
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.minimum_version = ssl.TLSVersion.TLSv1_3
        secure.load_cert_chain(self._certificate, self._private_key)
        self._fingerprint = tokens.fingerprint(self._certificate.read_bytes())
        application = web.Application()
        blob = "{digest:[0-9a-f]{64}}"
        application.router.add_get(f"/blobs/{blob}", self._get, allow_head=False)
        application.router.add_head(f"/uploads/{blob}", self._progress)
        application.router.add_patch(f"/uploads/{blob}", self._append)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=self._limits.idle_seconds,
            auto_decompress=False,  # a few bytes would become many
            lingering_time=LINGER_SECONDS,
            read_bufsize=STEP,
        )
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connect, host, port, ssl=secure, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError:
            await self._runner.cleanup()
            raise
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Cuts all connections; uploads under way can go on after the next start."""
        if self._server is not None and self._runner is not None:
            self._server.close()
            await self._runner.cleanup()
        for upload in self._uploads.values():
            upload.done.cancel()

    def expect(self, key: bytes, digest: bytes, size: int) -> asyncio.Future[None]:
        """Lets a worker upload a blob; to expect the same twice is to expect it once.

        Args:
            key: its public key.
            digest: of the update that it committed to.
            size: of the update, in bytes.

        Returns:
            Done when the blob is in the store; fails with BadBlobError, that names the key, if it sent another.
        """
        upload = self._uploads.setdefault((key, digest), _Upload(size))
        if self._store.has(digest) and not upload.done.done():
            upload.done.set_result(None)
        return upload.done

    def expected(self) -> list[tuple[bytes, bytes]]:
        """Key and digest of every upload that is expected; for any thread."""
        return list(self._uploads)

    def progress(self, key: bytes, digest: bytes) -> int:
        """How many bytes of an upload that is expected have come; for any thread."""
        upload = self._uploads.get((key, digest))
        return 0 if upload is None else upload.offset

    def cancel(self, key: bytes, digest: bytes) -> None:
        """Expects it no longer; to be called for each `expect`, when its round is over."""
        upload = self._uploads.pop((key, digest), None)
        if upload is not None:
            upload.done.cancel()

    def _connect(self) -> asyncio.BaseProtocol:
        assert self._runner is not None and self._runner.server is not None
        if len(self._runner.server.connections) >= self._limits.connections:
            return _Refusal()
        return self._runner.server()

    @asynccontextmanager
    async def _caller(self, request: web.Request, purpose: tokens.Purpose) -> AsyncIterator[tuple[bytes, bytes]]:
        """Who asks for what, once it is known that the asker holds the key and asks for no more than its share."""
        digest, now = bytes.fromhex(request.match_info["digest"]), int(1000 * self._clock())
        try:
            key = tokens.check(request.headers.get("Authorization", ""), purpose, digest, self._fingerprint, now)
        except InvalidProofError as error:
            raise _last(web.HTTPUnauthorized(text=str(error), headers={TIME: str(now)})) from None
        allowed = self._may_read(key, digest) if purpose == "read" else (key, digest) in self._uploads
        if not allowed:
            raise _last(web.HTTPForbidden(text="this key may not have this blob now"))
        if self._busy[key] >= self._limits.requests:
            raise web.HTTPTooManyRequests(text="too many requests at once")
        self._busy[key] += 1
        try:
            yield key, digest
        except StorageError as error:
            raise _last(web.HTTPInsufficientStorage(text=str(error))) from None
        except TimeoutError:
            raise _last(
                web.HTTPRequestTimeout(text=f"timed out: no bytes for {self._limits.idle_seconds:.0f} s")
            ) from None
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        async with self._caller(request, "read") as (key, digest):
            held = self._memory.get(digest)
            if held is None and not self._store.has(digest):
                raise web.HTTPNotFound(text="no such blob")
            size = self._store.size(digest) if held is None else held.nbytes
            asked = request.headers.get("Range")
            start, stop = (0, size) if asked is None else _range(asked, size)
            response = web.StreamResponse(status=200 if asked is None else 206)
            response.content_type, response.content_length = "application/octet-stream", stop - start
            if asked is not None:
                response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            try:
                await self._send(request, response, key, digest, start, stop, held)
            except (StorageError, TimeoutError):  # too late for another status: the end is missing, and that is seen
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        key: bytes,
        digest: bytes,
        start: int,
        stop: int,
        held: np.ndarray | None,
    ) -> None:
        """Sends a range, as fast as it is taken, but no slower than a MiB in the idle time."""
        async with asyncio.timeout(self._limits.idle_seconds) as idle_timeout:
            await response.prepare(request)
            for offset in range(start, stop, STEP):
                length = min(STEP, stop - offset)
                await self._pace(key, length, idle_timeout)
                if held is None:
                    data: bytes | memoryview = await in_thread(self._store.read, digest, offset, length)
                elif self._memory.get(digest) is held:
                    data = held[offset : offset + length].data
                else:
                    raise StorageError("blob withdrawn")
                await response.write(data)
            await response.write_eof()

    async def _progress(self, request: web.Request) -> web.Response:
        async with self._caller(request, "write") as (key, digest):
            upload = self._uploads[key, digest]
            async with upload.taken_over(request):
                return web.Response(headers={OFFSET: str(self._offset(key, digest, upload))})

    async def _append(self, request: web.Request) -> web.Response:
        async with self._caller(request, "write") as (key, digest):
            upload, length = self._uploads[key, digest], request.content_length
            if length is None or length > RANGE:
                raise _last(web.HTTPRequestEntityTooLarge(RANGE, length or 0))
            async with upload.taken_over(request):
                offset = self._offset(key, digest, upload)
                if request.headers.get(OFFSET) != str(offset) or offset + length > upload.size:
                    raise _last(web.HTTPConflict(text=f"{offset} of {upload.size} bytes are here"))
                if not self._store.has(digest):
                    await self._take(request, key, digest, upload)
                return web.Response(headers={OFFSET: str(self._offset(key, digest, upload))})

    async def _take(self, request: web.Request, key: bytes, digest: bytes, upload: _Upload) -> None:
        """Appends a request's bytes, as they come; checks the blob after the last."""
        with self._store.partial(digest, upload.size, owner=key) as partial:
            upload.trusted = upload.trusted or not partial.resumed
            async with asyncio.timeout(self._limits.idle_seconds) as idle_timeout:
                async for data in request.content.iter_chunked(STEP):
                    await in_thread(partial.append, data)
                    upload.offset = partial.offset
                    await self._pace(key, len(data), idle_timeout)
            if partial.offset < upload.size:
                return
            if not await in_thread(partial.finish):
                if not upload.trusted:  # some of it was here before this process: nobody can be blamed
                    raise _last(web.HTTPConflict(text=f"0 of {upload.size} bytes are here"))
                error = BadBlobError(f"digest mismatch after {upload.size} bytes", digest, key.hex())
                if not upload.done.done():
                    upload.done.set_exception(error)
                raise _last(web.HTTPUnprocessableEntity(text=str(error)))
        for (_, other), waiting in self._uploads.items():  # replicas commit to the same update
            if other == digest and not waiting.done.done():
                waiting.done.set_result(None)

    def _offset(self, key: bytes, digest: bytes, upload: _Upload) -> int:
        """How many bytes of an upload are here."""
        if self._store.has(digest):
            return upload.size
        with self._store.partial(digest, upload.size, owner=key) as partial:
            return partial.offset

    async def _pace(self, key: bytes, nbytes: int, idle_timeout: asyncio.Timeout) -> None:
        """Bytes came or went: holds the worker to its rate, and waits the idle time for the next ones."""
        now, seconds, limits = asyncio.get_running_loop().time(), 0.0, self._limits
        rates = [(key, limits.rate)]
        if not self._is_member(key):
            rates += [(key, limits.newcomer_rate)] if limits.rate is None else []
            rates.append((b"", limits.newcomers_rate))
        for name, rate in rates:
            if rate is not None:
                bucket = self._buckets.setdefault(name, TokenBucket(rate, 2 * STEP))
                seconds = max(seconds, bucket.take(nbytes, now))
        idle_timeout.reschedule(now + seconds + self._limits.idle_seconds)
        await asyncio.sleep(seconds)


class _Refusal(asyncio.Protocol):
    """What a connection gets that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _range(asked: str, size: int) -> tuple[int, int]:
    """Where the range of a request begins and ends."""
    found = _RANGE.fullmatch(asked)
    if found is not None:
        start, stop = int(found[1]), int(found[2]) + 1
        if start < stop <= size:
            return start, stop
    raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})


def _last(error: web.HTTPException) -> web.HTTPException:
    """An answer after which the connection is closed: to try again costs a handshake."""
    error.force_close()
    return error
