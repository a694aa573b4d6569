"""Large byte strings on disk, named by their digest.

A file has its name only once its bytes were hashed and flushed to the disk, and is never written again. So whatever
can be opened is right, readers need no lock, and several processes may share a folder. Nothing here holds more than
a few MiB in memory, however large a blob is.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from blake3 import blake3

from podlt.crypto import KEY_BYTES as DIGEST_BYTES
from podlt.errors import StorageError
from podlt.network.blobs.disk import (
    STEP,
    Buffer,
    alone,
    flat,
    flush_folder,
    hash_file,
    read_exactly,
    said,
    sweep,
    write_all,
)

RESERVE = 64 * 2**20
"""How many bytes of the disk are left free: the log of the run needs them more."""


class BlobStore:
    """A folder of blobs.

    Args:
        folder: made if it is not there.
        limit: the most bytes that it may hold, partial files included.
        reserve: free bytes that are always left on its disk.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, folder: Path, limit: int, *, reserve: int = RESERVE) -> None:
        self.folder, self.limit, self.reserve = folder, limit, reserve
        self._parts = folder / "partial"
        with said(folder, "made"):
            self._parts.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: Buffer) -> bytes:
        """Keeps some bytes, and returns their digest; to keep them twice is to keep them once.

        Raises:
            StorageError: no room, or it cannot be written.
        """
        view = flat(data)
        digest = blake3(view).digest()
        if not self.has(digest):
            self.put_stream((view[start : start + STEP] for start in range(0, len(view), STEP)), len(view))
        return digest

    def put_file(self, path: Path) -> bytes:
        """Keeps a copy of a file.

        Raises:
            StorageError: no room, or it cannot be read or written.
        """
        with said(path, "read"), path.open("rb") as file:
            return self.put_stream(iter(lambda: file.read(STEP), b""), os.fstat(file.fileno()).st_size)

    def put_stream(self, parts: Iterable[Buffer], limit: int) -> bytes:
        """Keeps what comes in parts, and returns the digest of the whole.

        Args:
            limit: the most bytes that may come; room for as many must be there before the first is taken.

        Raises:
            StorageError: more came, no room, or it cannot be written; nothing is left behind.
        """
        self.check_room(limit)
        part = self._parts / f"new-{secrets.token_hex(8)}"
        try:
            with said(part, "written"), alone(part) as file:
                state, size = blake3(), 0
                for data in parts:
                    view = flat(data)
                    size += len(view)
                    if size > limit:
                        raise StorageError(f"{self.folder}: a blob is longer than its limit of {limit} bytes")
                    state.update(view)
                    write_all(file, view)
                digest = state.digest()
                self._name(part, file.fileno(), digest)
                return digest
        finally:
            part.unlink(missing_ok=True)

    def has(self, digest: bytes) -> bool:
        """Whether the blob is here, whole."""
        return self.path(digest).exists()

    def size(self, digest: bytes) -> int:
        """The length of a blob in bytes.

        Raises:
            StorageError: it is not here.
        """
        path = self.path(digest)
        with said(path, "read"):
            return path.stat().st_size

    def open(self, digest: bytes) -> np.ndarray:
        """A blob's bytes, uint8, as a read-only map of its file: taken from disk where they are looked at.

        Raises:
            StorageError: it is not here.
        """
        path = self.path(digest)
        with said(path, "read"):
            if path.stat().st_size == 0:
                return _frozen(np.empty(0, np.uint8))
            return np.memmap(path, np.uint8, "r")

    def read(self, digest: bytes, offset: int, length: int) -> bytes:
        """One range of a blob.

        Raises:
            StorageError: the blob is not here, or ends before the range does.
        """
        path = self.path(digest)
        with said(path, "read"), path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if offset < 0 or length < 0 or offset + length > size:
                raise StorageError(f"{path}: bytes {offset} to {offset + length} of {size} were asked for")
            return read_exactly(file.fileno(), offset, length)

    def verify(self, digest: bytes) -> bool:
        """Reads a whole blob again; if its bytes have changed since, the file is deleted.

        Returns:
            Whether the blob is here, and right.
        """
        if not self.has(digest):
            return False
        path = self.path(digest)
        with said(path, "read"), path.open("rb", buffering=0) as file:
            if hash_file(file.fileno()) == digest:
                return True
        self.discard(digest)
        return False

    def discard(self, digest: bytes) -> None:
        """Deletes a blob; who has it open keeps what is open."""
        self.path(digest).unlink(missing_ok=True)

    def partial(self, digest: bytes, size: int, owner: bytes = b"") -> Partial:
        """The beginning of a blob that is being fetched, to be gone on with: see `Partial`.

        Args:
            owner: whose bytes they are, where several may send the same blob and each answers for its own.

        Raises:
            StorageError: somebody else is at it, or there is no room for the rest.
        """
        name = digest.hex() + ("-" + owner.hex() if owner else "")
        return Partial(self, self._parts / name, digest, size)

    def keep(self, digests: Iterable[bytes]) -> int:
        """Deletes all other blobs, and what was left of fetching them; returns how many bytes that frees.

        What is being written at this moment stays, and so does what was begun of a blob that is to be kept.
        """
        wanted, freed = {digest.hex() for digest in digests}, 0
        for path in self._files():
            if path.name.partition("-")[0] not in wanted:
                with said(path, "deleted"):
                    freed += sweep(path)
        return freed

    def used(self) -> int:
        """How many bytes the folder holds, partial files included."""
        return sum(_size(path) for path in self._files())

    def check_room(self, nbytes: int) -> None:
        """Makes sure that so many more bytes fit, before any of them is taken.

        Raises:
            StorageError: they do not, with what there is and what is needed.
        """
        used = self.used()
        if used + nbytes > self.limit:
            raise StorageError(
                f"{self.folder}: no room for {_mib(nbytes)}: it holds {_mib(used)}, and may hold {_mib(self.limit)}"
            )
        free = shutil.disk_usage(self.folder).free
        if nbytes + self.reserve > free:
            raise StorageError(
                f"{self.folder}: no room for {_mib(nbytes)}: {_mib(free)} are free on the disk, "
                f"and {_mib(self.reserve)} are to stay free"
            )

    def _name(self, part: Path, descriptor: int, digest: bytes) -> None:
        """Gives a file that was checked its name, for good."""
        os.fchmod(descriptor, 0o400)
        os.fsync(descriptor)  # before the name: after a power cut, a name stands for all the bytes or is not there
        path = self.path(digest)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        os.replace(part, path)  # over the same bytes at worst
        for folder in (path.parent, self.folder):
            flush_folder(folder)

    def path(self, digest: bytes) -> Path:
        """Where the file of a blob is, if it is here."""
        assert len(digest) == DIGEST_BYTES
        name = digest.hex()
        return self.folder / name[:2] / name

    def _files(self) -> Iterator[Path]:
        for folder in list(self.folder.iterdir()):
            if folder.is_dir():
                yield from folder.iterdir()


class Partial:
    """The first bytes of a blob, in a file that outlives its process; a context manager that holds the file alone.

    Attributes:
        offset: how many bytes are there.
        resumed: whether some were when it was opened.
    """

    def __init__(self, store: BlobStore, path: Path, digest: bytes, size: int) -> None:
        self._store, self._path, self._digest, self.size = store, path, digest, size
        self._file = alone(path)
        try:
            self.offset = os.fstat(self._file.fileno()).st_size
            if self.offset > size:
                self.restart()
            store.check_room(size - self.offset)
        except BaseException:
            self._close()
            raise
        self.resumed = self.offset > 0

    def append(self, data: Buffer) -> None:
        """Adds the next bytes.

        Raises:
            StorageError: they are too many, or cannot be written; what was written before stays.
        """
        view = flat(data)
        if self.offset + len(view) > self.size:
            raise StorageError(f"{self._path}: {self.offset + len(view)} bytes of {self.size} came")
        with said(self._path, "written"):
            self.offset += write_all(self._file, view)

    def finish(self) -> bool:
        """Makes a blob of it if all bytes are there and are right, and deletes it if they are not.

        The digest is taken of what the file holds, not of what was meant to be written.

        Returns:
            Whether it is in the store now.
        """
        with said(self._path, "read"), self._path.open("rb", buffering=0) as file:
            if self.offset != self.size or hash_file(file.fileno()) != self._digest:
                self.restart()
                return False
            self._store._name(self._path, file.fileno(), self._digest)
            return True

    def restart(self) -> None:
        """Forgets all bytes."""
        with said(self._path, "written"):
            self._file.truncate(0)
        self.offset, self.resumed = 0, False

    def _close(self) -> None:
        if not self.offset:  # nothing to resume
            self._path.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it got its name, or went, in between
        return 0


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB"
