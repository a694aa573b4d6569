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
from podlt.execution.worker_runtime import EXECUTION_ERRORS, Executed, WorkerRuntime
from podlt.program.ir import Program
from podlt.protocol.messages import Committed, JoinSignatures, JoinTerms
from podlt.protocol.worker import Worker

RESULTS_AT_ONCE = 8
"""How many commitments travel together."""

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
        digest = crypto.blob_digest(parameters.data) if proof else b""
        self._hashing = time.perf_counter() - started
        self._batch = batch
        self._runtime.hold(parameters, digest)
        try:
            yield
        finally:
            self._runtime.release()
            self._batch = {}

    def work(self, deal: frames.Deal, slot: Slot, emit: Emit) -> None:
        """Executes tasks within `inputs`.

        Args:
            deal: the tasks, at least one.
            slot: where the update of a task goes (uint8); it is whole when its commitment is emitted.
            emit: takes the results, a few commitments at a time.
        """
        results = _Results(deal.tasks[0].task.round, self._hashing)
        self._hashing = 0.0
        for dealt in deal.tasks:
            examples = {name: values[dealt.start : dealt.stop] for name, values in self._batch.items()}
            try:
                if deal.proof:
                    results.add(self._runtime.execute(dealt.seat, dealt.holder, dealt.task, examples, slot(dealt)))
                else:
                    self._runtime.compute(dealt.holder, dealt.task, examples, slot(dealt))
                results.done.append(dealt.seat)
            except EXECUTION_ERRORS as error:
                place = {"round": dealt.task.round, "seat": dealt.seat, "holder": dealt.holder}
                emit(frames.ExecutionFailed(**place, message=str(error)))
            if len(results.done) >= RESULTS_AT_ONCE:
                emit(results.take())
        if results.done:
            emit(results.take())

    def open(self, round: int) -> frames.HostOpenings:
        """Every opening that the workers owe in a round."""
        return frames.HostOpenings(round=round, opened=self._runtime.open(round))


class _Results:
    """Results that wait to be sent together.

    Args:
        round: of the tasks.
        proof: seconds that the proof took before the first of them.
    """

    def __init__(self, round: int, proof: float) -> None:
        self._round, self._proof, self._compute = round, proof, 0.0
        self._committed: list[Committed] = []
        self._faked: list[int] = []
        self.done: list[int] = []

    def add(self, executed: Executed) -> None:
        self._committed.append(executed.committed)
        self._faked.extend([executed.committed.seat] if executed.faked else [])
        self._proof += executed.proof
        self._compute += executed.compute

    def take(self) -> frames.Results:
        """The results so far; the batch is empty afterwards."""
        results = frames.Results(
            round=self._round,
            committed=self._committed,
            done=self.done,
            faked=self._faked,
            proof_seconds=self._proof,
            compute_seconds=self._compute,
        )
        self._committed, self._faked, self.done = [], [], []
        self._proof = self._compute = 0.0
        return results
