"""The workers of one's own machine: all there from the beginning, with keys that are in the run's directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from podlt.engine.interface import Engine, Job
from podlt.engine.local.engine import LocalEngine
from podlt.engine.local.process import HostProcess, starting


class LocalMachine:
    """The workplace `local`.

    Args:
        processes: how many host workers, 0 for one a core.
        cheats: worker number (as text) -> what it does.
        kind: what a process runs, if not what it usually is.
    """

    name = "local"
    keeps_keys = True

    def __init__(
        self, processes: int = 0, cheats: Mapping[str, str] | None = None, kind: type[HostProcess] | None = None
    ) -> None:
        self._processes, self._cheats, self._kind = processes, cheats or {}, kind

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Processes that import PyTorch while the manager captures the program."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with starting(min(self._processes or cores, workers), self._kind) as processes:
            yield lambda job: LocalEngine.for_job(job, self._cheats, processes)
