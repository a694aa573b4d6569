"""What the engines `local` and `ray` share: workers that neither come nor go, and the memory of their rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from podlt.crypto import SigningKey, blob_digest
from podlt.engine.interface import DurableEntries, Job, Lost, Member, WorkerPace
from podlt.engine.local import frames
from podlt.engine.shared_memory import RunMemory
from podlt.execution.setup import ExecutionSetup
from podlt.log.merkle import EMPTY_ROOT
from podlt.program.layout import state_layout, update_layout
from podlt.protocol.entries import Begin, identity
from podlt.protocol.fingerprint import SignedFingerprint
from podlt.protocol.messages import JoinSignatures, JoinTerms, TreeSize


def host_setup(job: Job) -> frames.HostSetup:
    """What hosts need of a job, before there is a run, and without their workers."""
    return frames.HostSetup(
        execution=ExecutionSetup(b"", job.fields, job.batch_size, job.local_steps, job.local_lr, job.task_examples),
        program=job.program.to_bytes(),
        seen=TreeSize(0, EMPTY_ROOT),
        workers=[],
        slots=len(job.seeds),
    )


def hosted_workers(job: Job, cheats: Mapping[str, str]) -> list[frames.Hosted]:
    """The workers of a job, in the order of their numbers.

    Args:
        job: has their keys.
        cheats: worker number (as text) -> what it does.
    """
    return [frames.Hosted(number, seed, cheats.get(str(number), "")) for number, seed in enumerate(job.seeds)]


def run_memory(job: Job) -> RunMemory:
    """Memory for a job's parameters, updates and examples.

    Raises:
        EngineError: there is not enough.
    """
    state, update = state_layout(job.program).nbytes, update_layout(job.program).nbytes
    return RunMemory.allocate(state, update, len(job.seeds), job.fields, job.batch_size)


class FixedMembers:
    """The part of an `Engine` that is about who is there, and about memory. What hosts a worker and dies is replaced.

    Args:
        setup: what every host needs, without its workers.
        workers: all of them, in the order of their numbers.
        memory: of the run.
    """

    elastic = aggregates = trusted = False

    def __init__(self, setup: frames.HostSetup, workers: Sequence[frames.Hosted], memory: RunMemory) -> None:
        self._setup, self._memory = setup, memory
        self._keys = [SigningKey(worker.seed).public for worker in workers]

    # -- memory ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes (uint8); the manager alone writes them, between rounds."""
        return self._memory.state.bytes

    def batch(self, buffer: int, examples: int) -> dict[str, np.ndarray]:
        """Where the examples of a batch go, field by field."""
        return self._memory.batch.views(buffer, examples)

    def slot(self, seat: int, holder: int) -> np.ndarray:
        """The update (uint8 bytes) of the task that was dealt to `seat`, whoever holds it."""
        return self._memory.slot(seat)

    def digest(self, seat: int, holder: int) -> bytes:
        """The digest of that update."""
        return blob_digest(self.slot(seat, holder).data)

    def gone(self, number: int) -> None:
        """Nothing to do: what it holds is dealt again."""

    def paces(self) -> list[WorkerPace]:
        """Nothing: workers of one host take turns."""
        return []

    # -- members -----------------------------------------------------------------------------------------------------

    def _enter_run(self, begin: Begin, seen: TreeSize) -> None:
        """From now on hosts are set up for a run."""
        execution = msgspec.structs.replace(self._setup.execution, run=identity(begin))
        self._setup = msgspec.structs.replace(self._setup, execution=execution, seen=seen)

    def _signed(self, joins: Mapping[int, JoinSignatures]) -> list[Member]:
        """All workers, with what each signed: its number, no deposit, and the tree head that was there."""
        seen = self._setup.seen
        terms = [JoinTerms(number, 0, seen.size, seen.root) for number in range(len(self._keys))]
        return [Member(key, terms[number], joins[number]) for number, key in enumerate(self._keys)]

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Never asked: members come with their signatures."""
        raise AssertionError("workers of this machine sign when they start")

    def arrivals(self, seconds: float) -> list[Member]:
        """Nobody comes later."""
        return []

    def departures(self) -> list[Lost]:
        """Nobody leaves."""
        return []

    def admitted(self, member: Member, number: int) -> None:
        """Nothing to do: the numbers are those of the keys."""
        assert self._keys[number] == member.key

    def refused(self, member: Member, reason: str) -> None:
        """Nothing to do: a worker that was evicted is dealt nothing."""

    def released(self, number: int, reason: str) -> None:
        """Nothing to do: it is dealt nothing."""

    def ask_fingerprints(self, *asked: object) -> None:
        """Nothing to do: their keys are in the run's directory, so that their word proves nothing."""

    def fingerprints(self, seconds: float = 0.0) -> list[SignedFingerprint]:
        """None."""
        return []

    def receipt(self, receipt: DurableEntries) -> None:
        """Nothing to do: whoever may read the log has it."""

    def finish(self, outcome: str, reason: str) -> None:
        """Nothing to do: `close` ends what hosts the workers."""
