"""Where the updates of a round are: one slot for each holder of each task, so that nobody writes into another's."""

from __future__ import annotations

import numpy as np

from podlt.protocol.round import Copy


class UpdateSlots:
    """The updates of one attempt at a round.

    Args:
        nbytes: of an update.
        as_files: whether they are uploaded: then a slot is the file of the upload, mapped, once it has come.
    """

    def __init__(self, nbytes: int, *, as_files: bool) -> None:
        self._nbytes, self._as_files = nbytes, as_files
        self._slots: dict[Copy, np.ndarray] = {}
        self._spare: list[np.ndarray] = []
        self._digests: dict[Copy, bytes] = {}

    def begin(self, count: int) -> None:
        """A round of so many tasks begins: what came in the one before is not needed any more."""
        if not self._as_files:
            self._spare = [*self._slots.values(), *self._spare][:count]
        self._slots, self._digests = {}, {}

    def deal(self, copy: Copy) -> None:
        """A task is dealt: nothing has come of it."""
        self._digests.pop(copy, None)
        if self._as_files:
            self._slots.pop(copy, None)

    def view(self, copy: Copy) -> np.ndarray:
        """The update of a task (uint8)."""
        if copy not in self._slots:
            assert not self._as_files, "it has not come"
            self._slots[copy] = self._spare.pop() if self._spare else np.zeros(self._nbytes, np.uint8)
        return self._slots[copy]

    def came(self, copy: Copy, digest: bytes, file: np.ndarray | None) -> None:
        """An update is whole, and has this digest."""
        self._digests[copy] = digest
        if file is not None:
            self._slots[copy] = file

    def digest(self, copy: Copy) -> bytes:
        """The digest of an update that has come: it was compared with its bytes when they came."""
        return self._digests[copy]
