"""The workplace `nats`: a run whose workers are wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from podlt.engine.interface import Engine, Job
from podlt.network.checks import expected
from podlt.network.engine import PATIENCE, NetworkEngine
from podlt.network.link import ManagerLink
from podlt.network.messages import BEAT


class Elsewhere:
    """Other machines.

    Args:
        connect: makes the manager's link for a run, once its directory and keys are there;
        patience: seconds of silence after which a worker is gone; beat: how often workers give a sign of life.
    """

    name = "nats"
    keeps_keys = False

    def __init__(self, connect: Callable[[Job], ManagerLink], patience: float = PATIENCE, beat: float = BEAT) -> None:
        self._connect, self._patience, self._beat = connect, patience, beat

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Nothing to begin before the run has its keys."""
        yield self._engine

    def _engine(self, job: Job) -> Engine:
        arithmetic = expected(job.program.arithmetic)
        link = self._connect(job)
        try:
            return NetworkEngine(job, link, arithmetic, patience=self._patience, beat=self._beat)
        except BaseException:
            link.close()
            raise
