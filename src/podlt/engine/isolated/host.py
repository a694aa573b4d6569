"""A process that executes a worker's tasks: `python -m podlt.engine.isolated.host DESCRIPTOR`.

It has no key, no network and no file but the memory that it shares: parameters, and slots with examples and updates.
What it may take of the machine is bounded, and it may be killed at any time.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from podlt.data.dataset import DTYPES, check_fields
from podlt.data.field import Field
from podlt.engine.child import FrameBuffer, frame
from podlt.engine.isolated import records as r
from podlt.engine.isolated.memory import PROGRESS_BYTES, Slots, examples_offset, packed_offset, progress_offset
from podlt.engine.limits import MemoryLimit, limit_processor
from podlt.engine.shared_memory import Region
from podlt.errors import EngineError, InvalidProofError, PodltError
from podlt.tuning import reuse_memory, tune_process

TASK_SECONDS = 3600
"""Seconds of processor time, of all cores together, that a task may take."""

ADJUST_SECONDS = 1.0
"""How often the limits are set anew: it takes as long as a small task."""

LONGEST_REASON = 1000
READ_BYTES, MOST_DESCRIPTORS = 2**18, 2

TOGETHER_SECONDS = 0.02
"""How long the result of a task waits for those of others."""


class TaskHost:
    """Executes tasks one after another; knows nothing of the process that it is in.

    Args:
        emit: takes replies.
        bound: is told how many bytes may be taken (0: all of the machine's); returns how many are left for tensors.
    """

    def __init__(self, emit: Callable[[r.Reply], object], bound: Callable[[int], int] = lambda memory: memory) -> None:
        self._emit, self._bound = emit, bound
        self._runtime: Any = None
        self._fields: Sequence[Field] = ()
        self._packed_at = self._packed_bytes = 0
        self._state: np.ndarray = np.empty(0, np.uint8)
        self._slot: Callable[[int], np.ndarray] = lambda slot: self._state
        self._commands: Mapping[type, Callable[[Any], None]] = {
            r.LoadProgram: self._load,
            r.AdmitCheat: self._admit,
            r.HoldParameters: self._hold,
            r.ReleaseParameters: self._release,
            r.RunTask: self._run,
            r.FingerprintSlot: self._fingerprint,
        }

    def take(self, command: r.Command) -> None:
        """Does what a command asks for."""
        self._commands[type(command)](command)

    def map(self, state: np.ndarray, slot: Callable[[int], np.ndarray]) -> None:
        """Where parameters and slots are.

        Args:
            state: memory of the parameters (uint8), as long as their layout.
            slot: gives the memory of a slot.
        """
        self._state, self._slot = state, slot

    def _load(self, command: r.LoadProgram) -> None:
        self._runtime = None
        try:
            runtime = load_runtime(command, self._bound(command.memory))
            from podlt.execution import fingerprint
            from podlt.execution.sparse_kernels import room_for

            found = command.known or fingerprint.measured(runtime.arithmetic, runtime.device)
        except (PodltError, MemoryError) as error:
            fault = next((name for name, kind in r.FAULTS.items() if isinstance(error, kind)), "engine")
            self._emit(r.NotLoaded(fault=fault, reason=_reason(error)))
            return
        self._runtime, self._fields = runtime, command.execution.fields
        most = command.execution.batch_size * runtime.example_bytes
        self._packed_at = packed_offset(runtime.update_bytes, most)
        self._packed_bytes = 0 if command.on_disk else room_for(runtime.update_bytes)
        self._emit(
            r.Sized(
                state_bytes=runtime.state_bytes,
                update_bytes=runtime.update_bytes,
                example_bytes=runtime.example_bytes,
                packed_bytes=self._packed_bytes,
                arithmetic=runtime.arithmetic,
                measured=r.KnownArithmetic(found.digest, found.differing),
            )
        )

    def _admit(self, command: r.AdmitCheat) -> None:
        if self._runtime is not None:
            self._runtime.admit(command.number, command.cheat, command.secret)

    def _hold(self, command: r.HoldParameters) -> None:
        if self._runtime is not None:
            self._runtime.hold(self._state, command.digest)

    def _release(self, command: r.ReleaseParameters) -> None:
        if self._runtime is not None:
            self._runtime.release()

    def _run(self, command: r.RunTask) -> None:
        """Executes a task; what it raises, a program can cause."""
        from podlt.execution.worker_runtime import EXECUTION_ERRORS

        try:
            done, packed = self._execute(command)
        except (*EXECUTION_ERRORS, MemoryError) as error:
            self._emit(r.RunFailed(number=command.number, reason=_reason(error)))
            return
        self._emit(
            r.RunDone(number=command.number, packed=packed, digest=done.digest, proof=done.proof, compute=done.compute)
        )

    def _fingerprint(self, command: r.FingerprintSlot) -> None:
        """Works out a fingerprint; of a manager that asks for what cannot be it says nothing."""
        if self._runtime is None:
            return
        memory = self._slot(command.slot)[: self._runtime.update_bytes]
        with suppress(PodltError, MemoryError):
            found = self._runtime.fingerprint(memory, command.scaling, command.exponents, command.points)
            self._emit(r.SlotFingerprinted(number=command.number, fingerprint=found))

    def _execute(self, command: r.RunTask) -> tuple[Any, int]:
        """What was computed, and in how many bytes it is packed."""
        from podlt.execution.sparse_kernels import pack, unpack

        if self._runtime is None:
            raise EngineError("no program is loaded")
        size, memory = self._runtime.update_bytes, self._slot(command.slot)
        raw, nbytes = memory[examples_offset(size) :][: command.nbytes], command.count * self._runtime.example_bytes
        if len(raw) != nbytes:
            packed, raw = raw, np.empty(nbytes, np.uint8)
            unpack(packed.data, raw)
        examples = examples_by_field(self._fields, command.count, raw)
        done = self._runtime.run(command.holder, command.task, examples, memory[:size])
        room = memory[self._packed_at : self._packed_at + self._packed_bytes]
        return done, pack(memory[:size], room)


def load_runtime(command: r.LoadProgram, memory: int) -> Any:
    """The runtime for a run.

    Args:
        command: the program, and what it must be.
        memory: the most bytes that a task's tensors may take; 0 for all of this machine's.

    Raises:
        InvalidProofError: not the program of the run's first entry, or program or fields that no run can have.
        EngineError: a task takes more memory than that, or this podlt defines the run's arithmetic otherwise, or has
            none of it for the device.
        UsageError: there is no such device here.
    """
    import torch

    from podlt.exact.portable.devices import torch_device
    from podlt.execution.conformance import arithmetic_digest
    from podlt.execution.worker_runtime import WorkerRuntime
    from podlt.program.ir import Program
    from podlt.program.operations import EXACT_ARITHMETIC

    torch_device(command.device)
    program = Program.from_bytes(command.program)
    if program.digest != command.digest:
        raise InvalidProofError("the program is not the run's", expected=command.digest, actual=program.digest)
    if command.arithmetic != arithmetic_digest(program.arithmetic):
        raise EngineError(
            f"the run is computed by another {program.arithmetic} arithmetic than this podlt's: use the podlt that "
            "its manager uses"
        )
    check_fields(command.execution.fields)
    torch.set_num_threads(command.threads if program.arithmetic in EXACT_ARITHMETIC else 1)
    return WorkerRuntime.load(program, command.execution, memory, command.device)


def examples_by_field(fields: Sequence[Field], count: int, raw: np.ndarray) -> dict[str, np.ndarray]:
    """So many examples, whose fields lie one after another (uint8), as name -> array (count, *shape), without a copy
    where a field's values begin at a multiple of their size."""
    found, offset = {}, 0
    for field in fields:
        part, dtype = raw[offset : offset + count * field.row_bytes], DTYPES[field.dtype]
        values = part.copy() if offset % np.dtype(dtype).itemsize else part
        found[field.name] = values.view(dtype).reshape(count, *field.shape)
        offset += len(part)
    return found


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:LONGEST_REASON]


def serve(connection: socket.socket) -> None:
    """Executes tasks until the other end is closed: then this process ends, whatever it does."""
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    import torch  # while the first command is on its way

    from podlt.execution import fingerprint, worker_runtime  # noqa: F401 (as PyTorch)

    reuse_memory()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    limits: list[MemoryLimit] = []

    def bound(memory: int) -> int:
        if memory and not limits:
            limits.append(MemoryLimit.impose(memory))
        return limits[0].left if limits else 0

    replies = _Replies(connection)
    host, progress = TaskHost(replies.add, bound), np.zeros(1, np.uint64)
    due = 0.0
    for commands, descriptors in _commands(connection):
        for command in commands:
            if isinstance(command, r.MapMemory):
                state = Region(progress_offset(command.state_bytes) + PROGRESS_BYTES, descriptors.pop(0)).bytes
                host.map(state, Slots(command.stride, descriptors.pop(0)).view)
                progress = state[progress_offset(command.state_bytes) :].view(np.uint64)
                continue
            if (now := time.monotonic()) >= due:
                due = now + ADJUST_SECONDS
                limit_processor(TASK_SECONDS)
                for limit in limits:
                    limit.adjust()
            if isinstance(command, r.RunTask):
                progress[0] = command.number
            host.take(command)
            replies.send_if_due()
        replies.send()
        progress[0] = 0


class _Replies:
    """Replies on their way: those of small tasks go together."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._waiting, self._since = connection, bytearray(), 0.0

    def add(self, reply: r.Reply) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += frame(r.pack(reply))

    def send_if_due(self) -> None:
        """Lets nothing wait for long."""
        if self._waiting and time.monotonic() - self._since > TOGETHER_SECONDS:
            self.send()

    def send(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, bytearray()
            self._connection.sendall(waiting)


def _commands(connection: socket.socket) -> Iterator[tuple[list[r.Command], list[int]]]:
    """Commands as they come, and the descriptors that came with them so far; until the other end is closed."""
    buffer, descriptors = FrameBuffer(r.MAX_COMMAND), list[int]()
    while True:
        data, found, _, _ = socket.recv_fds(connection, READ_BYTES, MOST_DESCRIPTORS)
        if not data:
            return
        descriptors += found
        yield [r.command(body) for body in buffer.add(data)], descriptors


def _end_with(connection: socket.socket) -> None:
    """Ends this process when the other end of its socket is closed; what comes on it wakes nobody here."""
    poll = select.poll()
    poll.register(connection, 0)
    while not poll.poll():
        pass
    os._exit(0)


def main() -> None:
    """The entry point of the process. Ctrl-C is the business of whoever started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_process()
    with socket.socket(fileno=int(sys.argv[1])) as connection, suppress(BrokenPipeError, ConnectionResetError):
        serve(connection)
    os._exit(0)


if __name__ == "__main__":
    main()
