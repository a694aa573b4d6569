"""What the blobs ask of the file system: hashing, locking and flushing files without holding them in memory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from blake3 import blake3

from podlt.errors import StorageError

STEP = 2**22
"""How many bytes are read, hashed and written at once."""

Buffer = bytes | bytearray | memoryview | np.ndarray


def flat(data: Buffer) -> memoryview:
    """The bytes of anything that has some, without a copy."""
    view: Any = data
    view = memoryview(view)
    return view.cast("B") if view.nbytes else memoryview(b"")


def write_all(file: FileIO, view: memoryview) -> int:
    """Writes all of it, also where the system takes a part at a time; returns how much that is."""
    done = 0
    while done < len(view):
        done += file.write(view[done:])
    return done


def hash_file(descriptor: int) -> bytes:
    """The digest of an open file's bytes, a few MiB at a time."""
    state, buffer, offset = blake3(), bytearray(STEP), 0
    while count := os.preadv(descriptor, [buffer], offset):
        state.update(memoryview(buffer)[:count])
        offset += count
    return state.digest()


def read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    """One range of an open file.

    Raises:
        StorageError: the file ends before it does.
    """
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if not count:
            raise StorageError(f"a blob became shorter than {offset + length} bytes while it was read")
        done += count
    return bytes(data)


def alone(path: Path) -> FileIO:
    """Opens a partial file that nobody else has open.

    Raises:
        StorageError: somebody has.
    """
    while True:
        with said(path, "written"):
            file = FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        if not _lock(file):
            file.close()
            raise StorageError(f"{path}: this blob is being fetched already")
        try:
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        file.close()  # whoever had it gave it its name, or swept it away, before we had the lock


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(path: Path) -> int:
    """Deletes a file that nobody is writing; returns how many bytes that frees."""
    try:
        with path.open("rb") as file:
            if not _lock(file):
                return 0
            path.unlink()
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def said(path: Path, done: str) -> Iterator[None]:
    """Turns the system's errors into ours, which say where."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be {done}: {error.strerror or error}") from None
