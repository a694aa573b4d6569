"""A worker's way to objects in an object store, by addresses that the manager gave: the digest says whether to believe.

What the manager names is asked of others, so little of it is taken: files only where they are named as objects are, and
of servers only such as are on the same side of the network's border as the manager is.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from podlt.errors import PodltError
from podlt.network.blobs.https_connection import HttpsConnection, InsideError, place_of
from podlt.network.blobs.jobs import BlobBuffer, BlobJob


class ObjectError(PodltError):
    """A blob cannot be had of an object store."""


def fetch_objects(
    urls: Sequence[str], part: int, digest: bytes, place: BlobBuffer, job: BlobJob, may_inside: Callable[[], bool]
) -> None:
    """Fetches the rest of a blob that lies in objects of `part` bytes; unchecked.

    Args:
        may_inside: whether servers with addresses that only a local network has may be asked; called when there is one.

    Raises:
        ObjectError: it cannot be had there.
        OSError: it did not come.
    """
    while place.offset < place.size:
        number, start = divmod(place.offset, part) if part > 0 else (len(urls), 0)
        if number >= len(urls):
            raise ObjectError(f"byte {place.offset} is in none of its {len(urls)} objects")
        stop = min(place.size, (number + 1) * part)
        url = urls[number]
        if url.startswith("file://"):
            path = Path(url.removeprefix("file://"))
            if (path.parent.name, path.name) != (digest.hex(), f"{number:06d}"):
                raise ObjectError("its address is not that of an object")
            _read_file(path, start, place, stop, job)
        else:
            _ask(url, start, place, stop, job, may_inside)


def _ask(url: str, start: int, place: BlobBuffer, stop: int, job: BlobJob, may_inside: Callable[[], bool]) -> None:
    """A range of an object that a server has. A manager must not look around in our network through us."""
    server = place_of(url, ("https", "http"), origin=False)
    parts, length = urlsplit(url), stop - place.offset
    context = ssl.create_default_context() if server.scheme == "https" else None
    if context is None and not may_inside():
        raise ObjectError("this object store has no TLS, and the manager is outside")
    try:
        connection = HttpsConnection(server, lambda host: may_inside(), context, made=job.made)
    except InsideError:
        raise ObjectError("this object store is inside a local network, and the manager is not") from None
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Connection": "close"}
        answer = connection.ask("GET", path, headers)
        if answer.status != 206 or answer.number("content-length") != length:
            got = f"{answer.status}, {answer.headers.get('content-length')} bytes"
            raise ObjectError(f"{server.netloc} answers {got}")  # the query is a signature, and not for any log
        job.receive(connection, place, stop)
    finally:
        connection.close()


def _read_file(path: Path, start: int, place: BlobBuffer, stop: int, job: BlobJob) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status, length = os.fstat(descriptor), stop - place.offset
        if not stat.S_ISREG(status.st_mode) or status.st_size < start + length:
            raise OSError(f"{path}: is no object of {start + length} bytes")
        with job.touching:
            job.check()
            while place.offset < stop:
                count = os.preadv(descriptor, [place.data.data[place.offset : stop]], start)
                if not count:
                    raise OSError(f"{path}: became shorter")
                place.offset, start = place.offset + count, start + count
    finally:
        os.close(descriptor)
