"""A worker's folder: made for its owner alone, and locked by the process that works there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from podlt.errors import StorageError, UsageError


def make_folder(path: Path) -> None:
    """Makes a worker's folder, for its owner alone.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be made: {error.strerror}") from None


def lock(folder: Path) -> int:
    """Locks a folder against a second worker while this process lives; returns the descriptor that does.

    Raises:
        UsageError: another worker runs there.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(f"{folder}: another worker runs in this folder; give this one its own with --folder") from None
    return descriptor
