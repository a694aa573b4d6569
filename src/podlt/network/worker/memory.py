"""Memory for the updates of a worker process, which stay until their round is over."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from podlt.engine.shared_memory import ALIGNMENT
from podlt.errors import StorageError


class UpdateMemory:
    """Buffers of one size, each used again once it was given back.

    Args:
        nbytes: size of an update.
        folder: where large updates lie, in files without a name; in this process's memory where there is none.
    """

    def __init__(self, nbytes: int, folder: Path | None) -> None:
        self._nbytes, self._folder = nbytes, folder
        self._spare: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """A buffer (uint8), whatever it holds, at a multiple of 64.

        Raises:
            StorageError: the disk has no room for it.
        """
        return self._spare.pop() if self._spare else self._allocate()

    def give_back(self, update: np.ndarray) -> None:
        """A buffer is free again."""
        self._spare.append(update)

    def _allocate(self) -> np.ndarray:
        """A large update is a file's: there are as many as identities, and each is read but once."""
        if self._folder is None:
            memory = np.zeros(self._nbytes + ALIGNMENT, np.uint8)
            start = -memory.ctypes.data % ALIGNMENT
            return memory[start : start + self._nbytes]
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, self._nbytes)  # a full disk is found now, or kills us later
                return np.frombuffer(mmap.mmap(file.fileno(), self._nbytes), np.uint8)
        except OSError as error:
            raise StorageError(f"{self._folder}: no room for an update: {error.strerror}") from None
