"""The averaged updates that a run stores, as far as they are here."""

from __future__ import annotations

import numpy as np

from podlt.errors import StorageError
from podlt.manager.weights import Average, Weights
from podlt.store.run_files import RunFiles

NEAR_RELATIVE, NEAR_ABSOLUTE = 1e-3, 1e-4
"""How far an average may be from one that another machine's PyTorch rounded: relative to each value, or to the
largest."""


class StoredUpdates:
    """The updates of a run.

    Args:
        files: the run.
        weights: whose update's layout they follow.
    """

    def __init__(self, files: RunFiles, weights: Weights) -> None:
        self._files, self._layout = files, weights.update_layout

    def read(self, round: int) -> np.ndarray | None:
        """The bytes (uint8) of a round's update; one that is too long is cut, and so is not what the log names.

        Raises:
            StorageError: it cannot be read.
        """
        file = self._files.update_file(round)
        if file is None:
            return None
        try:
            with file:
                return np.frombuffer(bytearray(file.read(self._layout.nbytes + 1)), np.uint8)
        except OSError as error:
            raise StorageError(f"the update of round {round} cannot be read: {error.strerror or error}") from None

    def is_near(self, round: int, average: Average) -> bool:
        """Whether what was applied differs from an average by no more than another machine's rounding."""
        raw, size = self.read(round), self._layout.float_bytes
        if raw is None or len(raw) != len(average.data):
            return False
        applied, here = (data[:size].view(np.float32) for data in (raw, average.data))
        bound = NEAR_ABSOLUTE * float(np.abs(here).max(initial=0.0))
        return bool(np.allclose(applied, here, rtol=NEAR_RELATIVE, atol=bound))
