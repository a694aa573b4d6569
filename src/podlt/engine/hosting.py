"""The workers of one host, a process or an actor: frames of the engine in, frames out, the runtime in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from podlt import crypto
from podlt.engine.local import frames
from podlt.execution.conformance import conformance
from podlt.execution.setup import Conformance
from podlt.execution.worker_runtime import EXECUTION_ERRORS, WorkerRuntime
from podlt.program.ir import Program
from podlt.protocol.messages import Committed, JoinSignatures, JoinTerms
from podlt.protocol.worker import Worker

RESULTS_AT_ONCE = 8
"""How many tasks are checked, computed and committed to together; their commitments travel together."""

Slot = Callable[[frames.DealtTask], np.ndarray]
Emit = Callable[[frames.Results | frames.ExecutionFailed], object]


class HostedWorkers:
    """Workers whose keys the manager's machine has, in one run.

    Args:
        runtime: what executes their tasks.
        setup: as it came; its workers join by `join`.
        conformance: what this machine says of its arithmetic.

    Attributes:
        state_bytes: size of the parameters' layout.
        update_bytes: size of an update's layout.
    """

    def __init__(self, runtime: WorkerRuntime, setup: frames.HostSetup, conformance: Conformance) -> None:
        self._runtime, self._run, self._seen = runtime, setup.execution.run, setup.seen
        self._conformance = conformance
        self.state_bytes, self.update_bytes = runtime.state_bytes, runtime.update_bytes
        self._batch: Mapping[str, np.ndarray] = {}
        self._hashing = 0.0

    @classmethod
    def load(cls, setup: frames.HostSetup) -> HostedWorkers:
        """Checks the program of a setup, and this machine's arithmetic.

        Raises:
            InvalidProofError: the program is none that may be executed.
        """
        runtime = WorkerRuntime.load(Program.from_bytes(setup.program), setup.execution)
        return cls(runtime, setup, conformance(runtime.arithmetic))

    def join(self, workers: Sequence[frames.Hosted]) -> frames.Ready:
        """Takes identities in; gives their signatures on joining the run, without a deposit.

        Raises:
            UsageError: a cheat that there is not.
        """
        joins: list[JoinSignatures] = []
        for hosted in workers:
            worker = Worker(hosted.number, crypto.SigningKey(hosted.seed), self._run)
            self._runtime.add(worker, cheat=hosted.cheat, secret=hosted.seed)
            joins.append(worker.join(JoinTerms(hosted.number, 0, self._seen.size, self._seen.root)))
        return frames.Ready(joins=joins, conformance=self._conformance)

    @contextmanager
    def inputs(self, parameters: np.ndarray, batch: Mapping[str, np.ndarray], *, proof: bool = True) -> Iterator[None]:
        """What tasks within start from: nobody writes to it.

        Args:
            parameters: the state's bytes (uint8), beginning at a multiple of 64.
            batch: the round's examples, by field.
            proof: false only for measuring.
        """
        started = time.perf_counter()
        digest = self._digest_of(parameters) if proof else b""
        self._hashing = time.perf_counter() - started
        self._batch = batch
        self._runtime.hold(parameters, digest)
        try:
            yield
        finally:
            self._runtime.release()
            self._batch = {}

    @staticmethod
    def _digest_of(parameters: np.ndarray) -> bytes:
        return crypto.blob_digest(parameters.data)

    def work(self, deal: frames.Deal, slot: Slot, emit: Emit, *, shared: bool = False) -> None:
        """Executes tasks within `inputs`.

        Args:
            deal: the tasks, at least one.
            slot: where the update of a task goes (uint8); it is whole when its commitment is emitted.
            emit: takes the results, a few commitments at a time.
            shared: whether the examples lie in memory in which the manager hashed them: then only the first task's of a
                few are hashed again, so that a machine that errs is found.
        """
        round, hashing = deal.tasks[0].task.round, self._hashing
        self._hashing = 0.0
        for start in range(0, len(deal.tasks), RESULTS_AT_ONCE):
            tasks, together = deal.tasks[start : start + RESULTS_AT_ONCE], _Together(round, hashing)
            hashing, unknown = 0.0, tasks[:1] if shared else tasks
            self._execute(tasks, slot, emit, together, unknown if deal.proof else None)
            if together.done:
                emit(together.results())

    def _execute(
        self,
        tasks: Sequence[frames.DealtTask],
        slot: Slot,
        emit: Emit,
        together: _Together,
        unknown: Sequence[frames.DealtTask] | None,
    ) -> None:
        """Checks the inputs of some tasks, computes all of them, and commits to all: what is done in a row is quick.

        One after the other, each of the three would find that the task before it had put its code and tables out of
        the processor's cache.

        Args:
            tasks: to be executed.
            slot: as in `work`.
            emit: takes failures.
            together: takes the rest.
            unknown: those of the tasks whose examples are to be hashed, or None without the proof.
        """
        started = time.perf_counter()
        ready = [dealt for dealt in tasks if unknown is None or self._is_ready(dealt, emit, hashed=dealt in unknown)]
        checked = time.perf_counter()
        done = [dealt for dealt in ready if self._is_computed(dealt, slot, emit, together)]
        computed = time.perf_counter()
        for dealt in done:
            together.done.append(dealt.seat)
            if unknown is not None:
                committed = self._runtime.commit(dealt.seat, dealt.holder, dealt.task, slot(dealt))
                together.committed.append(committed)
        together.compute += computed - checked
        together.proof += checked - started + time.perf_counter() - computed

    def _is_ready(self, dealt: frames.DealtTask, emit: Emit, *, hashed: bool) -> bool:
        """Whether a task names the inputs at hand; says so where it does not."""
        try:
            self._runtime.check_inputs(dealt.task, self._examples(dealt) if hashed else None)
        except EXECUTION_ERRORS as error:
            emit(_failure(dealt, error))
            return False
        return True

    def _is_computed(self, dealt: frames.DealtTask, slot: Slot, emit: Emit, together: _Together) -> bool:
        """Whether a task could be executed; says so where it could not."""
        try:
            if self._runtime.compute(dealt.holder, dealt.task, self._examples(dealt), slot(dealt)):
                together.faked.append(dealt.seat)
        except EXECUTION_ERRORS as error:
            emit(_failure(dealt, error))
            return False
        return True

    def _examples(self, dealt: frames.DealtTask) -> dict[str, np.ndarray]:
        return {name: values[dealt.start : dealt.stop] for name, values in self._batch.items()}

    def open(self, round: int) -> frames.HostOpenings:
        """Every opening that the workers owe in a round."""
        return frames.HostOpenings(round=round, opened=self._runtime.open(round))


class _Together:
    """Tasks that are done together.

    Args:
        round: of the tasks.
        proof: seconds that the proof took before them.
    """

    def __init__(self, round: int, proof: float) -> None:
        self._round, self.proof, self.compute = round, proof, 0.0
        self.committed: list[Committed] = []
        self.faked: list[int] = []
        self.done: list[int] = []

    def results(self) -> frames.Results:
        """As they are sent."""
        return frames.Results(
            round=self._round,
            committed=self.committed,
            done=self.done,
            faked=self.faked,
            proof_seconds=self.proof,
            compute_seconds=self.compute,
        )


def _failure(dealt: frames.DealtTask, error: Exception) -> frames.ExecutionFailed:
    return frames.ExecutionFailed(round=dealt.task.round, seat=dealt.seat, holder=dealt.holder, message=str(error))
