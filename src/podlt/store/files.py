"""Files that are there whole or not at all: written to a `.part` file, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from podlt.errors import StorageError


def write_whole(path: Path, data: bytes | memoryview, *, mode: int = 0o644, durable: bool = True) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never a part.

    Args:
        durable: it is on the disk when this returns; else only a killed process leaves it whole, not a power cut.

    Raises:
        StorageError: it could not be written (a full disk, no permission); no part is left behind.
    """
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None


def make_whole(path: Path, make: Callable[[Path], None], *, mode: int = 0o644) -> None:
    """Like `write_whole`, for a file that something else makes: it is given where.

    Raises:
        StorageError: it could not be made; nothing is left behind.
    """
    part = path.with_name(path.name + ".part")
    try:
        make(part)
        part.chmod(mode)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Has what was written to a file on the disk; nothing where there is none.

    Raises:
        StorageError: it could not be.
    """
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None


def read_whole(path: Path, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        StorageError: missing, unreadable, or longer than `limit` bytes.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise StorageError(f"{path}: {size} bytes, more than the limit of {limit}")
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None


def append_lines(path: Path, lines: Sequence[bytes], *, durable: bool = True) -> None:
    """Adds lines to a file, all on the disk when this returns, in place of an unfinished line that a crash has left.

    Args:
        path: of the file; made if it is not there.
        lines: without their ends.
        durable: else they are on the disk when the system sees fit.

    Raises:
        StorageError: they could not be written; the file is then as it was.
    """
    try:
        with path.open("a+b", buffering=0) as file:
            size = _whole_lines(file)
            file.truncate(size)
            data = b"".join(line + b"\n" for line in lines)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _whole_lines(file: BinaryIO) -> int:
    """How many bytes of a file are whole lines."""
    start = file.seek(0, os.SEEK_END)
    while start > 0:
        size, start = start, max(0, start - 2**16)
        file.seek(start)
        end = file.read(size - start).rfind(b"\n")
        if end >= 0:
            return start + end + 1
    return 0


def append_line(path: Path, line: bytes) -> None:
    """Adds a line to a file of figures that is no part of the proof.

    Raises:
        StorageError: it could not be written.
    """
    try:
        with path.open("ab") as file:
            file.write(line + b"\n")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
