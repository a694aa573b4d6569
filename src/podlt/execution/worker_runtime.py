"""The workers of one process, whatever brings their tasks and takes their updates: they check, execute, sign and open.

A process executes its workers' tasks one after another on one thread, on one copy of the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from podlt import crypto
from podlt.data.dataset import fragment_digest_of
from podlt.engine.local import frames
from podlt.errors import PodltError
from podlt.execution.adversary import Execute, Execution, cheating, watched
from podlt.execution.conformance import conformance
from podlt.execution.task_executor import TaskExecutor, as_batch
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.validate import validate
from podlt.protocol.messages import Committed, JoinSignatures, JoinTerms, Opened, Task
from podlt.protocol.worker import Worker

BATCH = 8
"""How many commitments travel together."""

Slot = Callable[[frames.DealtTask], np.ndarray]
Tell = Callable[[frames.Results | frames.ExecutionFailed], None]


class WorkerRuntime:
    """Identities that share a process, a program and its parameters.

    Args:
        setup: of the run; its workers join by `join`.

    Attributes:
        conformance: what this machine says of its arithmetic; state_bytes, update_bytes: the sizes of the layouts.

    Raises:
        InvalidProofError: the program is none that may be executed.
    """

    def __init__(self, setup: frames.HostSetup) -> None:
        program = Program.from_bytes(setup.program)
        validate(program, lines=setup.block_lines)
        self._run, self._seen = setup.run, setup.seen
        self._program_digest, self._fields = program.digest, setup.fields
        self.conformance = conformance(program.arithmetic)
        self._executor = TaskExecutor(program, setup.local_steps, setup.local_lr)
        self._layout, self._update = state_layout(program), update_layout(program)
        self.state_bytes, self.update_bytes = self._layout.nbytes, self._update.nbytes
        self._workers: dict[int, Worker] = {}
        self._execute: dict[int, Execute] = {}
        self._copied = False
        self._parameters, self._hashing = b"", 0.0

    def join(self, workers: Sequence[frames.Hosted]) -> list[JoinSignatures]:
        """Takes identities in; returns their signatures on joining the run, without a deposit."""
        self._copied = self._copied or any(h.cheat == "copycat" for h in workers)
        honest = watched(self.execute) if self._copied else self.execute
        for h in workers:
            self._workers[h.number] = Worker(h.number, crypto.SigningKey(h.seed), self._run)
            self._execute[h.number] = cheating(h.cheat, self.execute, h.seed) if h.cheat else honest
        size, root = self._seen.size, self._seen.root
        return [self._workers[h.number].join(JoinTerms(h.number, 0, size, root)) for h in workers]

    def execute(self, work: Execution) -> None:
        """The honest execution: writes the update of a fragment, a pure function of the task."""
        self._executor(work.state, work.batch, work.task.randomness, work.out)

    @contextmanager
    def inputs(self, parameters: np.ndarray, block: Mapping[str, np.ndarray], *, proof: bool = True) -> Iterator[None]:
        """What tasks within start from: nobody writes to it.

        Args:
            parameters: the state's bytes (uint8), beginning at a multiple of 64; block: the round's lines, by field;
            proof: false only for measuring.
        """
        started = time.perf_counter()
        self._parameters = crypto.blob_digest(parameters.data) if proof else b""
        self._hashing = time.perf_counter() - started
        self._block, self._state = block, self._layout.views(parameters)
        try:
            with self._executor.unchanging(self._state):
                yield
        finally:
            self._block, self._state = {}, {}

    def work(self, deal: frames.Deal, slot: Slot, tell: Tell) -> None:
        """Executes tasks within `inputs`.

        Args:
            slot: where the update of a task goes (uint8); it is whole when its commitment is told;
            tell: takes the answers, a few commitments at a time.
        """
        batch = _Batch(deal.pieces[0].task.round, self._hashing)
        self._hashing = 0.0
        for piece in deal.pieces:
            try:
                self._piece(piece, slot(piece), batch, proof=deal.proof)
            except (PodltError, RuntimeError, IndexError, ValueError) as error:
                place = {"round": piece.task.round, "seat": piece.seat, "holder": piece.holder}
                tell(frames.ExecutionFailed(**place, message=str(error)))
            if len(batch.done) >= BATCH:
                tell(batch.take())
        if batch.done:
            tell(batch.take())

    def open(self, round: int) -> list[Opened]:
        """Every opening that the workers owe in a round."""
        return [opened for worker in self._workers.values() for opened in worker.open(round)]

    def _piece(self, piece: frames.DealtTask, slot: np.ndarray, batch: _Batch, *, proof: bool) -> None:
        started = time.perf_counter()
        arrays = {name: values[piece.start : piece.stop] for name, values in self._block.items()}
        if proof:
            self._check_inputs(piece.task, arrays)
        checked = time.perf_counter()
        self._update.clear_gaps(slot)  # they count for the digest
        work = Execution(piece.task, self._state, as_batch(arrays), slot)
        self._execute[piece.holder](work)
        executed = time.perf_counter()
        if proof:
            digest = crypto.blob_digest(slot.data)
            batch.committed.append(self._workers[piece.holder].commit(piece.seat, piece.task, digest))
        batch.done.append(piece.seat)
        batch.faked.extend([piece.seat] if work.faked else [])
        batch.compute += executed - checked
        batch.proof += checked - started + time.perf_counter() - executed

    def _check_inputs(self, task: Task, arrays: Mapping[str, np.ndarray]) -> None:
        """A worker signs only what it has seen: the task must be about the program, parameters and lines at hand."""
        fragment = fragment_digest_of(self._fields, arrays)
        expected = (self._run, self._program_digest, self._parameters, fragment)
        if (task.run, task.program, task.parameters, task.fragment) != expected:
            raise PodltError("the task names other inputs than those that arrived")


class _Batch:
    """Answers that wait to be sent together."""

    def __init__(self, round: int, proof: float) -> None:
        self.round = round
        self._reset()
        self.proof = proof

    def _reset(self) -> None:
        self.committed: list[Committed] = []
        self.done: list[int] = []
        self.faked: list[int] = []
        self.proof = self.compute = 0.0

    def take(self) -> frames.Results:
        results = frames.Results(
            round=self.round,
            committed=self.committed,
            done=self.done,
            faked=self.faked,
            proof_seconds=self.proof,
            compute_seconds=self.compute,
        )
        self._reset()
        return results
