"""What a worker process computes with: one program, one copy of the parameters, for all of its identities."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from podlt import crypto
from podlt.data.dataset import DTYPES, check_fields, fragment_digest_of
from podlt.engine.shared_memory import ALIGNMENT, Region
from podlt.errors import EngineError, InvalidProofError, PodltError, StorageError
from podlt.execution.adversary import Execute, Execution
from podlt.execution.conformance import arithmetic_digest
from podlt.execution.task_executor import TaskExecutor, as_batch
from podlt.network import messages as m
from podlt.network.run_setup import RunSetup
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.validate import MAX_BYTES, check_lines, validate
from podlt.protocol.messages import Task


class Executed(msgspec.Struct, frozen=True):
    """A result: the update, its digest, and the seconds that the proof and the computing took."""

    update: np.ndarray
    digest: bytes
    proof: float
    compute: float


class Hands:
    """Executes tasks of one run.

    Args:
        setup: what the manager said. program: the bytes that came. memory: the most bytes that executing may take.
        folder: for large updates, which are kept in files until their round is over.

    Raises:
        InvalidProofError: it is not the program of the run's first entry, or program or fields are none that a run can
            have.
        EngineError: it takes more memory than it may, there is none for the parameters, or this podlt computes the
            run's arithmetic otherwise.
    """

    def __init__(self, setup: RunSetup, program: bytes, memory: int = MAX_BYTES, folder: Path | None = None) -> None:
        parsed = Program.from_bytes(program)
        begin, fields = setup.begin, setup.message.fields
        if parsed.digest != begin.program:
            raise InvalidProofError("the program is not the run's", expected=begin.program, actual=parsed.digest)
        if begin.arithmetic != arithmetic_digest(parsed.arithmetic):
            raise EngineError(
                f"the run is computed by another {parsed.arithmetic} arithmetic than this podlt's: use the podlt that "
                "its manager uses"
            )
        check_fields(fields)
        validate(parsed, lines=setup.most_lines)
        if memory < MAX_BYTES:
            _check_fits(parsed, setup.most_lines, memory)
        self._run, self._program, self._fields = setup.run, parsed.digest, fields
        self.arithmetic = parsed.arithmetic
        self._most_lines = setup.most_lines
        self._executor = TaskExecutor(parsed, begin.local_steps, begin.local_lr)
        layout, update = state_layout(parsed), update_layout(parsed)
        self._update_bytes = update.nbytes
        self._folder = folder if setup.message.updates_as_blobs else None
        self._region = Region(layout.nbytes)
        self.state = self._region.bytes[: layout.nbytes]
        self._views = layout.views(self._region.bytes)
        self._spare: list[np.ndarray] = []
        self._unchanging = ExitStack()

    def hold(self) -> None:
        """`state` is whole, and stays as it is until `let_go`."""
        self.let_go()
        self._unchanging.enter_context(self._executor.unchanging(self._views))

    def let_go(self) -> None:
        """`state` is about to be written."""
        self._unchanging.close()

    @property
    def line_bytes(self) -> int:
        """The size of one line."""
        return sum(field.row_bytes for field in self._fields)

    def check_work(self, work: m.DealTask) -> None:
        """Refuses a task whose lines are not as many, or as long, as a task of this run can have.

        Raises:
            InvalidProofError: says what was expected.
        """
        if not 1 <= work.count <= self._most_lines:
            raise InvalidProofError(f"a task of {work.count} lines; expected 1 to {self._most_lines}")
        expected = work.count * self.line_bytes
        if work.size != expected or (work.lines and len(work.lines) != expected):
            raise InvalidProofError("the lines of a task have another size", expected=expected, actual=work.size)
        if (work.task.run, work.task.program) != (self._run, self._program):
            raise InvalidProofError("a task of another run or program")

    def honest(self, work: Execution) -> None:
        """The honest execution: a pure function of the task."""
        self._executor(work.state, work.batch, work.task.randomness, work.out)

    def execute(self, task: Task, count: int, lines: np.ndarray, held: bytes, how: Execute) -> Executed:
        """Executes a task, after a look at whether it is about the inputs at hand.

        Args:
            count: of the lines; lines: their bytes, field by field; held: the digest of `state`; how: the execution.

        Raises:
            PodltError: other inputs; or the program fails on them.
        """
        started = time.perf_counter()
        arrays = self._arrays(count, lines)
        if (task.parameters, task.fragment) != (held, fragment_digest_of(self._fields, arrays)):
            raise PodltError("the task names other inputs than those that arrived")
        checked = time.perf_counter()
        out = self._spare.pop() if self._spare else self._fresh()
        out.fill(0)  # the gaps between tensors count for the digest
        how(Execution(task, self._views, as_batch(arrays), out))
        executed = time.perf_counter()
        digest = crypto.blob_digest(out.data)
        proof = checked - started + time.perf_counter() - executed
        return Executed(out, digest, proof, executed - checked)

    def _fresh(self) -> np.ndarray:
        """Memory for an update. A large one is a file's: there are as many as identities, and each is read but once."""
        if self._folder is None:
            return _aligned(self._update_bytes)
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, self._update_bytes)  # a full disk is found now, or kills us later
                return np.frombuffer(mmap.mmap(file.fileno(), self._update_bytes), np.uint8)
        except OSError as error:
            raise StorageError(f"{self._folder}: no room for an update: {error.strerror}") from None

    def give_back(self, update: np.ndarray) -> None:
        """The memory of an update that is not needed any more."""
        self._spare.append(update)

    def _arrays(self, count: int, lines: np.ndarray) -> Mapping[str, np.ndarray]:
        found, offset = {}, 0
        for field in self._fields:
            raw = lines[offset : offset + count * field.row_bytes]
            found[field.name] = raw.copy().view(DTYPES[field.dtype]).reshape(count, *field.shape)
            offset += len(raw)
        return found


def _check_fits(program: Program, lines: int, memory: int) -> None:
    try:
        check_lines(program, lines, memory)
    except InvalidProofError as error:
        raise EngineError(
            f"this run needs more memory than the {memory >> 20} MiB that are left of --memory: {error.reason}"
        ) from None


def _aligned(nbytes: int) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes."""
    memory = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]
