"""Memory that a worker's process shares with the one that executes its tasks: a slot has an update, the examples, and
the update as it is sent."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from podlt.engine.shared_memory import ALIGNMENT, create
from podlt.errors import StorageError

PAGE = max(mmap.ALLOCATIONGRANULARITY, 4096)


PROGRESS_BYTES = 8
"""Behind the parameters: the number of the task that is executed, 0 for none. Who dies says so by it."""


def progress_offset(state_bytes: int) -> int:
    """Where that number is: behind parameters of so many bytes."""
    return -(-state_bytes // ALIGNMENT) * ALIGNMENT


def examples_offset(update_bytes: int) -> int:
    """Where in a slot the examples begin: behind the update."""
    return -(-update_bytes // ALIGNMENT) * ALIGNMENT


def packed_offset(update_bytes: int, examples_bytes: int) -> int:
    """Where in a slot the packed update is, if it has room for that: behind the examples."""
    return examples_offset(update_bytes) + -(-examples_bytes // ALIGNMENT) * ALIGNMENT


def stride_of(update_bytes: int, examples_bytes: int, packed_bytes: int) -> int:
    """How many bytes a slot takes."""
    return max(PAGE, -(-(packed_offset(update_bytes, examples_bytes) + packed_bytes) // PAGE) * PAGE)


class Slots:
    """Slots of one size in one file without a name, mapped when they are first used.

    Args:
        stride: bytes of a slot, a multiple of the page size.
        descriptor: of the file.
    """

    def __init__(self, stride: int, descriptor: int) -> None:
        self.stride, self.descriptor = stride, descriptor
        self._views: dict[int, np.ndarray] = {}

    def view(self, slot: int) -> np.ndarray:
        """The memory (uint8) of a slot that was taken."""
        if slot not in self._views:
            mapped = mmap.mmap(self.descriptor, self.stride, offset=slot * self.stride)
            self._views[slot] = np.frombuffer(mapped, np.uint8)
        return self._views[slot]

    def close(self) -> None:
        """Gives the descriptor back; the memory goes with the last view of it."""
        os.close(self.descriptor)


class SlotMemory(Slots):
    """Slots as who gives them out has them.

    Args:
        stride: bytes of a slot, a multiple of the page size.
        most: how many bytes all slots together may take.
        folder: where the file is; in memory where there is none.

    Raises:
        StorageError: there is no such file.
        EngineError: there is no such memory.
    """

    def __init__(self, stride: int, most: int, folder: Path | None = None) -> None:
        super().__init__(stride, create(0) if folder is None else _file(folder))
        self._most, self._count, self._folder = most, 0, folder
        self._spare: list[int] = []

    def take(self) -> int:
        """A slot, whatever it holds.

        Raises:
            StorageError: all that there may be are taken, or there is no room for another.
        """
        if self._spare:
            return self._spare.pop()
        if (self._count + 1) * self.stride > self._most:
            raise StorageError(f"no room for another task: {self._count} take the {self._most >> 20} MiB for tasks")
        try:  # a full disk is found now, or kills us later
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.descriptor, self._count * self.stride, self.stride)
            else:  # macOS
                os.truncate(self.descriptor, (self._count + 1) * self.stride)
        except OSError as error:
            where = f"{self._folder}: " if self._folder is not None else ""
            raise StorageError(f"{where}no room for an update: {error.strerror}") from None
        self._count += 1
        return self._count - 1

    def give_back(self, slot: int) -> None:
        """A slot is free again."""
        self._spare.append(slot)


def _file(folder: Path) -> int:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise StorageError(f"{folder}: no room for updates: {error.strerror}") from None
