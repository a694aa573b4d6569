"""Room on disks: who writes much asks first, and a message names the file and the disk that was full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from podlt.errors import StorageError


def free_bytes(folder: Path) -> int | None:
    """How much room the disk of a folder has for who runs this; None where the file system does not say.

    Raises:
        OSError: there is no such folder.
    """
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None


def require_room(target: Path, size: int) -> None:
    """Refuses to begin what cannot end.

    Args:
        target: what is to be written.
        size: in bytes, at least.

    Raises:
        StorageError: its disk has less room.
        OSError: the folder is not there.
    """
    free = free_bytes(target.parent)
    if free is not None and free < size:
        raise no_room(target, size)


def no_room(target: Path, size: int) -> StorageError:
    """The error of a target that does not fit: nothing of it was kept.

    Args:
        target: what was to be written.
        size: in bytes, at least.
    """
    free = free_bytes(target.parent)
    said = "" if free is None else f"{free:,} bytes are free, which is not enough"
    if free is not None and free < size:
        said = f"expected {size:,} bytes or more, {free:,} are free"
    where = f"no room on the disk of {target.parent.absolute()}" + (f": {said}" if said else "")
    return StorageError(f"{target}: {where}. Nothing of it was kept; choose another disk")


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
