"""The files of a run's rounds: a line of figures and the update of each, a checkpoint every so many."""

from __future__ import annotations

import msgspec
import numpy as np

from podlt import canonical
from podlt.crypto import SigningKey
from podlt.manager.directory import RunDirectory
from podlt.manager.weights import Weights, write_update
from podlt.recipe import TrainingSpec
from podlt.store.files import append_line
from podlt.store.round_figures import RoundFigures
from podlt.store.run_names import ROUNDS


class RoundFiles:
    """Writes them.

    Args:
        directory: of the run.
        training: says how often to checkpoint, and whether old files stay.
        weights: whose state a checkpoint is.
        key: the manager's, which signs checkpoints.
    """

    def __init__(self, directory: RunDirectory, training: TrainingSpec, weights: Weights, key: SigningKey) -> None:
        self._directory, self._training, self._weights, self._key = directory, training, weights, key

    def write(self, update: np.ndarray, figures: RoundFigures) -> None:
        """Writes what a round's entries speak of; to be called before these are written.

        Args:
            update: the round's average, uint8 bytes.
            figures: of the round.
        """
        append_line(self._directory.path / ROUNDS, canonical.to_json(msgspec.to_builtins(figures)))
        write_update(self._directory.update(figures.round), update)

    def is_checkpoint(self, rounds: int) -> bool:
        """Whether there is to be a checkpoint after so many rounds."""
        return rounds % self._training.checkpoint_every == 0

    def checkpoint(self, rounds: int, run: bytes) -> None:
        """Writes the state after so many rounds, whose entries are on the disk; removes what is not wanted any more.

        Args:
            rounds: how many were trained.
            run: the run's identity.
        """
        self._weights.save(self._directory.checkpoint(rounds), run, self._key)
        if self._training.history == "last":
            self._prune(rounds - self._training.checkpoint_every)

    def _prune(self, first: int) -> None:
        """Removes what lies before the checkpoint before the last one."""
        start = self._directory.checkpoint(0)  # what the log begins with stays
        for path in [*self._directory.updates.iterdir(), *self._directory.checkpoints.iterdir()]:
            if path.stem.isdigit() and int(path.stem) < first and path != start:
                path.unlink()
