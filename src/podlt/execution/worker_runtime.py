"""The runtime of workers, whatever brings their tasks: checks a task's inputs, executes it, commits to the update.

A process executes its workers' tasks one after another on one thread, on one copy of the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec
import numpy as np
import torch

from podlt import crypto
from podlt.data.dataset import shard_digest_of
from podlt.errors import EngineError, InvalidProofError, PodltError, UnsupportedError
from podlt.exact.portable.devices import CPU
from podlt.execution.adversary import Execute, Execution, cheating, watched
from podlt.execution.aggregate import fingerprint
from podlt.execution.setup import ExecutionSetup
from podlt.execution.task_executor import TaskExecutor, as_batch
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.machine import MAX_BYTES, machine_bytes
from podlt.program.memory import MemoryNeedError
from podlt.program.validate import validate
from podlt.protocol.fingerprint import Fingerprint
from podlt.protocol.messages import Committed, Opened, Task
from podlt.protocol.worker import Worker

EXECUTION_ERRORS = (PodltError, RuntimeError, IndexError, ValueError)
"""What executing a validated program on examples of the right form may raise: such a task fails, and no process
ends."""


class Computed(msgspec.Struct, frozen=True):
    """A task that was executed.

    Attributes:
        digest: of its update.
        faked: whether the worker cheated.
        proof: seconds for checking and hashing.
        compute: seconds for the task itself.
    """

    digest: bytes
    faked: bool
    proof: float
    compute: float


class WorkerRuntime:
    """Executes tasks of one run for the workers of one process.

    Args:
        program: a validated program.
        setup: of the run.
        memory: the most bytes that a task's tensors may take.
        device: where tasks are computed, as `exact.portable.devices` names it.

    Attributes:
        arithmetic: the program's.
        device: as given.
        state_bytes: size of the parameters' layout.
        update_bytes: size of an update's layout.
        example_bytes: size of one line.
    """

    def __init__(self, program: Program, setup: ExecutionSetup, memory: int = MAX_BYTES, device: str = CPU) -> None:
        self._run, self._program_digest, self._fields = setup.run, program.digest, setup.fields
        self._executor = TaskExecutor(program, setup.local_steps, setup.local_lr, memory, device)
        self._layout, self._update_layout = state_layout(program), update_layout(program)
        self.arithmetic, self.device = program.arithmetic, device
        self.state_bytes, self.update_bytes = self._layout.nbytes, self._update_layout.nbytes
        self.example_bytes = sum(field.row_bytes for field in setup.fields)
        self._workers: dict[int, Worker] = {}
        self._cheats: dict[int, Execute] = {}
        self._honest: Execute = self._execute_program
        self._state: Mapping[str, torch.Tensor] = {}
        self._parameters = b""
        self._unchanging = ExitStack()

    @classmethod
    def load(cls, program: Program, setup: ExecutionSetup, memory: int = 0, device: str = CPU) -> WorkerRuntime:
        """A runtime for a program that came from elsewhere.

        What a task may take is this machine's to say, not the program's: its plan is checked here where the run has
        one, and each task again before the first of its size is executed.

        Args:
            program: as it was decoded.
            setup: of the run.
            memory: the most bytes that a task's tensors may take; 0 for all of this machine's.
            device: where tasks are computed.

        Raises:
            InvalidProofError: the program is none that may be executed.
            EngineError: a task of it takes more memory than that, or its arithmetic has no table on the device.
        """
        allowed = min(memory or MAX_BYTES, machine_bytes())
        examples = setup.task_examples or (setup.batch_size if program.micro_batch_size else 0)
        try:
            validate(program, examples=-(-examples // setup.local_steps), max_bytes=allowed)
        except MemoryNeedError as error:
            whose = "that are left of --memory" if memory and memory <= allowed else "that this machine has"
            raise EngineError(
                f"this run needs more memory than the {allowed >> 20} MiB {whose}: {error.reason}"
            ) from None
        try:
            return cls(program, setup, allowed, device)
        except UnsupportedError as error:
            raise EngineError(f"this machine cannot work for the run: {error}") from None

    def add(self, worker: Worker, *, cheat: str = "", secret: bytes = b"") -> None:
        """Takes a worker in; one of the same number makes way for it.

        Args:
            worker: its side of the protocol.
            cheat: what it does instead of working (`podlt.execution.adversary`).
            secret: the cheater's own, to draw from.

        Raises:
            UsageError: no such cheat.
        """
        self._workers[worker.number] = worker
        self.admit(worker.number, cheat, secret)

    def admit(self, number: int, cheat: str, secret: bytes) -> None:
        """Takes in a worker that commits elsewhere. Arguments and errors as `add`."""
        self._cheats.pop(number, None)
        if cheat:
            self._cheats[number] = cheating(cheat, self._execute_program, secret)
        if cheat == "copycat":
            self._honest = watched(self._execute_program)

    def hold(self, parameters: np.ndarray, digest: bytes) -> None:
        """Tasks start from these parameters, which nobody writes to until `release`.

        Args:
            parameters: the state's bytes (uint8), beginning at a multiple of 64; there may be more behind them.
            digest: of these, as tasks name it.
        """
        self.release()
        self._parameters, self._state = digest, self._layout.views(parameters)
        self._unchanging.enter_context(self._executor.unchanging(self._state))

    def fingerprint(
        self, update: np.ndarray, scaling: tuple[int, int], exponents: Sequence[int], points: Sequence[int]
    ) -> Fingerprint:
        """The fingerprint of an update. Arguments and errors: `aggregate.fingerprint`."""
        return fingerprint(update, self._update_layout, scaling, exponents, points)

    def release(self) -> None:
        """The parameters may be written to: no task can be executed until `hold`."""
        self._unchanging.close()
        self._parameters, self._state = b"", {}

    def commit(self, seat: int, holder: int, task: Task, update: np.ndarray) -> Committed:
        """A worker's signed commitment to an update that was computed.

        Args:
            seat: the worker that the task was dealt to at first.
            holder: the worker that executed it.
            task: what was executed.
            update: uint8 bytes in the update's layout.
        """
        return self._workers[holder].commit(seat, task, crypto.blob_digest(update.data))

    def run(self, holder: int, task: Task, examples: Mapping[str, np.ndarray], out: np.ndarray) -> Computed:
        """Executes a task after a look at its inputs; who wants a commitment asks for it then.

        Args:
            holder: the worker that executes it.
            task: names its inputs.
            examples: the shard, by field: (examples, *shape).
            out: where the update goes (uint8), `update_bytes` long.

        Raises:
            PodltError: the task names other inputs than those at hand, or the program fails on them.
            RuntimeError: PyTorch fails on them.
            IndexError: as RuntimeError.
            ValueError: as RuntimeError.
        """
        started = time.perf_counter()
        self.check_inputs(task, examples)
        checked = time.perf_counter()
        faked = self.compute(holder, task, examples, out)
        computed = time.perf_counter()
        digest = crypto.blob_digest(out.data)
        return Computed(digest, faked, checked - started + time.perf_counter() - computed, computed - checked)

    def compute(self, holder: int, task: Task, examples: Mapping[str, np.ndarray], out: np.ndarray) -> bool:
        """Writes the update of a shard, without any proof; returns whether it was faked. As `run`."""
        self._update_layout.clear_gaps(out)  # they count for the digest
        work = Execution(task, self._state, as_batch(examples), out)
        self._cheats.get(holder, self._honest)(work)
        return work.faked

    def open(self, round: int) -> list[Opened]:
        """Every opening that the workers owe in a round."""
        return [opened for worker in self._workers.values() for opened in worker.open(round)]

    def _execute_program(self, work: Execution) -> None:
        """The honest execution: a pure function of the task."""
        self._executor(work.state, work.batch, work.task.randomness, work.out)

    def check_inputs(self, task: Task, examples: Mapping[str, np.ndarray] | None) -> None:
        """A worker signs only what it has seen: the task must be about the program, parameters and examples at hand.

        Args:
            task: names them.
            examples: as `run`; None where the manager hashed them in the same memory.

        Raises:
            InvalidProofError: it is about others.
        """
        digest = task.shard if examples is None else shard_digest_of(self._fields, examples)
        for name, named, found in (
            ("run", task.run, self._run),
            ("program", task.program, self._program_digest),
            ("parameters", task.parameters, self._parameters),
            ("shard", task.shard, digest),
        ):
            if named != found:
                raise InvalidProofError(
                    f"inputs differ from those that the task names: {name}", expected=named, actual=found
                )
