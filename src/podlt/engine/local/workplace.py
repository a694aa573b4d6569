"""The workers of one's own machine, as an engine: all there from the beginning, with keys that the run keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from podlt.crypto import SigningKey
from podlt.engine.interface import Engine, Job, Member
from podlt.engine.local import frames
from podlt.engine.local.engine import LocalEngine
from podlt.engine.local.process import HostProcess, starting
from podlt.engine.members import FixedMembers
from podlt.execution.setup import ExecutionSetup
from podlt.log.merkle import EMPTY_ROOT
from podlt.program.layout import state_layout, update_layout
from podlt.protocol.entries import Begin, identity
from podlt.protocol.messages import TreeSize


class LocalWorkers(FixedMembers, LocalEngine):
    """The engine `local`, whose workers neither come nor go.

    Args:
        job: of the run; cheats: worker number (as text) -> what it does; hosts: processes, taken out of the list.

    Raises:
        EngineError: there is not enough memory for the shared regions.
    """

    def __init__(self, job: Job, cheats: Mapping[str, str], hosts: list[HostProcess]) -> None:
        setup = frames.HostSetup(
            execution=ExecutionSetup(b"", job.fields, job.block_lines, job.local_steps, job.local_lr),
            program=job.program.to_bytes(),
            seen=TreeSize(0, EMPTY_ROOT),
            workers=[],
            slots=len(job.seeds),
        )
        hosted = [frames.Hosted(number, seed, cheats.get(str(number), "")) for number, seed in enumerate(job.seeds)]
        super().__init__(setup, state_layout(job.program).nbytes, update_layout(job.program).nbytes, hosted, hosts)
        self._keys = [SigningKey(seed).public for seed in job.seeds]

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Starts the workers in a run; they are all there, in the order of their numbers."""
        return self._signed(self.start(identity(begin), seen), seen)


class LocalMachine:
    """The workplace `local`.

    Args:
        processes: how many host workers, 0 for one a core; cheats: worker number (as text) -> what it does.
    """

    name = "local"
    keeps_keys = True

    def __init__(self, processes: int = 0, cheats: Mapping[str, str] | None = None) -> None:
        self._processes, self._cheats = processes, cheats or {}

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Processes that import PyTorch while the manager captures the program."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with starting(min(self._processes or cores, workers)) as hosts:
            yield lambda job: LocalWorkers(job, self._cheats, hosts)
