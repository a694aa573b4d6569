"""Updates on their way in: each into a file without a name, mapped into memory; nothing of it outlives the manager."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.execution.sparse_kernels import unpack
from podlt.network.http import HttpConnection

RESERVE = 64 * 2**20
"""How many bytes of the disk are left free: the log of the run needs them more."""


def check_room(folder: Path, nbytes: int) -> None:
    """Makes sure that so many bytes fit on the disk.

    Raises:
        StorageError: they do not, with what there is and what is needed.
    """
    free = shutil.disk_usage(folder).free
    if nbytes + RESERVE > free:
        raise StorageError(
            f"{folder}: no room for {_mib(nbytes)}: {_mib(free)} are free on the disk, and {_mib(RESERVE)} are to stay "
            "free"
        )


class UploadFile:
    """The bytes of one update.

    Args:
        folder: on whose disk.
        size: how many there will be, at least 1: room for them is taken at once.

    Attributes:
        data: all of them, to be written to.

    Raises:
        StorageError: no room.
    """

    def __init__(self, folder: Path, size: int) -> None:
        check_room(folder, size)
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (until `close`)
            os.posix_fallocate(self._file.fileno(), 0, size)
            self.data = memoryview(mmap.mmap(self._file.fileno(), size))
        except OSError as error:
            what = "no room" if error.errno == errno.ENOSPC else error.strerror
            raise StorageError(f"{folder}: cannot take an update of {_mib(size)}: {what}") from None

    def is_right(self, digest: bytes) -> bool:
        """Whether the bytes are those of a digest."""
        return blob_digest(self.data) == digest

    def open(self) -> np.ndarray:
        """The bytes (uint8), mapped anew: to write to them changes no file."""
        size = len(self.data)
        return np.frombuffer(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY), np.uint8)

    def close(self) -> None:
        """Lets the file go; what `open` gave stays."""
        self._file.close()


class Upload:
    """What is expected of a worker.

    Attributes:
        size: of the update.
        file: what has come of it, as it is sent.
        offset: how many bytes that is.
        connection: by which it comes at present.
    """

    def __init__(self, size: int) -> None:
        self.size, self.offset = size, 0
        self.file: UploadFile | None = None
        self.connection: HttpConnection | None = None
        self.lock = asyncio.Lock()

    def is_right(self, folder: Path, digest: bytes) -> bool:
        """Whether what came is the blob; what was packed is not any more then.

        Raises:
            StorageError: no room for it.
        """
        assert self.file is not None
        came = self.file
        if len(came.data) != self.size:
            self.file = UploadFile(folder, self.size)
            try:
                unpack(came.data, np.frombuffer(self.file.data, np.uint8))
            except InvalidProofError:
                return False
            finally:
                came.close()
        return self.file.is_right(digest)


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB"
