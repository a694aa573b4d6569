"""Memory that the manager's process and the workers' processes share: one copy of parameters, batch and updates."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from podlt.data.dataset import DTYPES
from podlt.data.field import Field
from podlt.errors import EngineError

ALIGNMENT = 64
"""Stock kernels may round differently on data that are aligned differently: it is the same in every process."""


class Region:
    """Anonymous shared memory, given to child processes by its file descriptor.

    Args:
        nbytes: its size.
        descriptor: of a region that another process made.

    Attributes:
        bytes: the memory (uint8); at least `ALIGNMENT` of them.

    Raises:
        EngineError: there is not enough memory; raised before anything is written to it.
    """

    def __init__(self, nbytes: int, descriptor: int | None = None) -> None:
        self.nbytes = max(nbytes, ALIGNMENT)
        self.descriptor = create(self.nbytes) if descriptor is None else descriptor
        self._map = mmap.mmap(self.descriptor, self.nbytes)
        self.bytes: np.ndarray = np.frombuffer(self._map, dtype=np.uint8)

    def close(self) -> None:
        """Gives the descriptor back; the memory goes with the last view of it."""
        os.close(self.descriptor)


def create(nbytes: int) -> int:
    """The descriptor of anonymous memory.

    Raises:
        EngineError: there is not enough; raised before anything is written to it.
    """
    descriptor, available = None, _available()
    if nbytes > available:
        # The system would give page after page, and end some process when none is left.
        raise EngineError(
            f"no {nbytes / 2**20:.0f} MiB of shared memory: {available / 2**20:.0f} MiB are free on this machine"
        )
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("podlt")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.truncate(descriptor, nbytes)
        if nbytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, nbytes)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise EngineError(f"no {nbytes / 2**20:.0f} MiB of shared memory: {error.strerror}") from None
    return descriptor


def _available() -> int:
    """How many bytes of memory can be taken without swapping, as far as the system says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return sys.maxsize


class BatchBuffer:
    """Room for the examples of two batches (one is filled while the other is worked on), field by field.

    Args:
        fields: the fields of an example.
        examples: the most examples that a batch holds.
        descriptor: of a buffer that another process made.
    """

    def __init__(self, fields: Sequence[Field], examples: int, descriptor: int | None = None) -> None:
        self.fields = list(fields)
        self._places: list[tuple[Field, int, int]] = []
        offset = 0
        for field in fields:
            self._places.append((field, offset, field.row_bytes))
            offset += -(-field.row_bytes * examples // ALIGNMENT) * ALIGNMENT
        self._half = offset
        self.region = Region(2 * offset, descriptor)

    def views(self, buffer: int, examples: int) -> dict[str, np.ndarray]:
        """The first `examples` examples of a buffer: name -> array (examples, *shape), without a copy."""
        result = {}
        for field, offset, width in self._places:
            start = buffer * self._half + offset
            raw = self.region.bytes[start : start + width * examples]
            result[field.name] = raw.view(DTYPES[field.dtype]).reshape(examples, *field.shape)
        return result


class RunMemory:
    """What a run's manager shares with the hosts of its workers.

    Args:
        state: the parameters.
        updates: one update after another, a slot for each seat.
        batch: the examples of two batches.
        update_bytes: size of an update.
    """

    def __init__(self, state: Region, updates: Region, batch: BatchBuffer, update_bytes: int) -> None:
        self.state, self.updates, self.batch, self.update_bytes = state, updates, batch, update_bytes

    @classmethod
    def allocate(
        cls, state_bytes: int, update_bytes: int, slots: int, fields: Sequence[Field], examples: int
    ) -> RunMemory:
        """Memory for a run.

        Args:
            state_bytes: size of the parameters' layout.
            update_bytes: size of an update's layout.
            slots: how many updates there are in a round.
            fields: the fields of an example.
            examples: the most examples that a batch holds.

        Raises:
            EngineError: there is not enough.
        """
        with ExitStack() as undo:  # what was taken is given back where the rest cannot be had
            state = Region(state_bytes)
            undo.callback(state.close)
            updates = Region(slots * update_bytes)
            undo.callback(updates.close)
            memory = cls(state, updates, BatchBuffer(fields, examples), update_bytes)
            undo.pop_all()
        return memory

    @property
    def descriptors(self) -> list[int]:
        """Of the parameters, the batch and the updates, as hosts take them."""
        return [self.state.descriptor, self.batch.region.descriptor, self.updates.descriptor]

    def slot(self, seat: int) -> np.ndarray:
        """The update (uint8) of a seat."""
        return self.updates.bytes[seat * self.update_bytes : (seat + 1) * self.update_bytes]

    def close(self) -> None:
        """Gives the memory back."""
        for region in (self.state, self.updates, self.batch.region):
            region.close()
