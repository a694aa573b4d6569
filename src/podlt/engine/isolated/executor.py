"""Executes tasks in a process of its own, which is replaced when it dies, hangs, or is to be ended."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from podlt.engine.child import ChildProcess, FrameBuffer, frame
from podlt.engine.isolated import interface as i
from podlt.engine.isolated import records as r
from podlt.engine.isolated.memory import (
    PROGRESS_BYTES,
    SlotMemory,
    examples_offset,
    packed_offset,
    progress_offset,
    stride_of,
)
from podlt.engine.isolated.remembered import ConformanceCache
from podlt.engine.shared_memory import Region
from podlt.errors import EngineError, InvalidProofError, StorageError

MAX_IDLE_DEATHS = 3
"""How often in a row a process may die without a task: it would do so for ever."""

READ_BYTES = 2**18


class TaskProcess(ChildProcess):
    """The process. What is given to it goes when it takes it: nobody waits for it."""

    module = "podlt.engine.isolated.host"

    def begin(self, loop: asyncio.AbstractEventLoop, came: Callable[[list[bytes]], object]) -> None:
        """Begins to read.

        Args:
            loop: on whose thread all happens.
            came: is given frames; none where it has ended, and then never again.
        """
        self._loop, self._came, self._ending = loop, came, False
        self._frames, self._waiting = FrameBuffer(r.MAX_REPLY), deque[tuple[bytes, Sequence[int]]]()
        self._is_blocked = False
        self.connection.setblocking(False)
        loop.add_reader(self.connection, self._read)

    def put(self, command: r.Command, *descriptors: int) -> None:
        """A command is to go with the next `flush`."""
        data = frame(r.pack(command))
        if self._waiting and not descriptors:
            before, others = self._waiting.pop()
            data, descriptors = before + data, tuple(others)
        self._waiting.append((data, descriptors))

    def flush(self) -> None:
        """Sends what was put, as much as the process takes."""
        try:
            while self._waiting:
                data, descriptors = self._waiting.popleft()
                if descriptors:
                    sent = socket.send_fds(self.connection, [data], list(descriptors))
                else:
                    sent = self.connection.send(data)
                if sent < len(data):
                    self._waiting.appendleft((data[sent:], ()))
        except BlockingIOError:
            self._waiting.appendleft((data, descriptors))
        except OSError:
            self._waiting.clear()  # it has ended: `_read` notices
        if bool(self._waiting) != self._is_blocked:
            self._is_blocked = bool(self._waiting)
            if self._is_blocked:
                self._loop.add_writer(self.connection, self.flush)
            else:
                self._loop.remove_writer(self.connection)

    def end(self) -> None:
        """Ends it; `came` is told."""
        self._popen.kill()

    def forget(self) -> int:
        """Takes nothing more from it, and ends it; returns its exit status."""
        self._loop.remove_reader(self.connection)
        self._loop.remove_writer(self.connection)
        return self.kill()

    def _read(self) -> None:
        try:
            data = self.connection.recv(READ_BYTES)
            frames = self._frames.add(data)
        except BlockingIOError:
            return
        except (OSError, InvalidProofError):
            data, frames = b"", []
        if frames or not data:
            self._came(frames)


class _Memory:
    """What both processes have mapped: parameters and slots."""

    def __init__(self, sized: r.Sized, most_examples: int, most: int, folder: Path | None) -> None:
        examples = most_examples * sized.example_bytes
        self.slots = SlotMemory(stride_of(sized.update_bytes, examples, sized.packed_bytes), most, folder)
        try:
            self.state = Region(progress_offset(sized.state_bytes) + PROGRESS_BYTES)
        except EngineError:
            self.slots.close()
            raise
        self.examples_at, self.sized = examples_offset(sized.update_bytes), sized
        self._packed_at = packed_offset(sized.update_bytes, examples)
        self._progress = self.state.bytes[progress_offset(sized.state_bytes) :].view(np.uint64)

    @property
    def executed(self) -> int:
        """The number of the task that the process is at, or was at its end; 0 for none."""
        return int(self._progress[0])

    def executed_in(self, slot: int, packed: int) -> tuple[np.ndarray, memoryview]:
        """The update in a slot, and how it is sent.

        Args:
            slot: the slot.
            packed: in how many bytes; 0: as it is.
        """
        memory = self.slots.view(slot)
        update = memory[: self.sized.update_bytes]
        return update, memory[self._packed_at : self._packed_at + packed].data if packed else update.data

    def give_to(self, process: TaskProcess) -> None:
        self._progress[0] = 0
        command = r.MapMemory(state_bytes=self.sized.state_bytes, stride=self.slots.stride)
        process.put(command, self.state.descriptor, self.slots.descriptor)

    def close(self) -> None:
        self.state.close()
        self.slots.close()


class ChildExecutor:
    """An `ExecutionBackend`. What follows a program is given again to a process that takes the place of another.

    Args:
        memory: how many bytes updates and examples of tasks may take together.
        disk: how many, where they are to be on the disk.
        folder: where they are then, in a file without a name.
        conformance: what was found before of what this machine computes.
    """

    def __init__(self, memory: int, disk: int, folder: Path, conformance: ConformanceCache | None = None) -> None:
        self._conformance = conformance
        self._most_memory, self._most_disk, self._folder = memory, disk, folder
        self._process: TaskProcess | None = None
        self._is_ready = False  # commands about a program may be sent
        self._deaths, self._stopped = 0, ""
        self._forget()

    def _forget(self) -> None:
        """There is no program."""
        self._program: r.LoadProgram | None = None
        self._memory: _Memory | None = None
        self._cheats: dict[int, r.AdmitCheat] = {}
        self._held: r.HoldParameters | None = None
        self._running: dict[int, r.RunTask] = {}
        self._stale: set[int] = set()

    # -- see `ExecutionBackend` --------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop, deliver: i.Deliver) -> None:
        """See `ExecutionBackend`."""
        self._loop, self._deliver = loop, deliver
        self._begin()

    def load(self, program: r.LoadProgram) -> None:
        """See `ExecutionBackend`."""
        is_first = self._program is None
        self._release_memory()
        self._forget()
        if self._conformance is not None:
            program = msgspec.structs.replace(program, known=self._conformance.find(program.arithmetic, program.device))
        self._program = program
        process = self._process
        if process is not None and is_first:
            process.put(program)
        elif process is not None:  # it may be busy with what nobody waits for any more
            self._begin()
            process.forget()
            process.close()

    def admit(self, cheat: r.AdmitCheat) -> None:
        """See `ExecutionBackend`."""
        self._cheats[cheat.number] = cheat
        self._send(cheat)

    def hold(self, parameters: r.HoldParameters) -> None:
        """See `ExecutionBackend`."""
        self._held = parameters
        self._send(parameters)

    def release(self, parameters: r.ReleaseParameters) -> None:
        """See `ExecutionBackend`."""
        self._held = None
        self._stale |= self._running.keys()
        self._send(parameters)

    def execute(self, task: i.ExecuteTask) -> None:
        """See `ExecutionBackend`."""
        memory = self._memory
        assert memory is not None, "a program is loaded first"
        try:
            slot = memory.slots.take()
        except StorageError as error:
            self._loop.call_soon(self._deliver, [i.TaskNotExecuted(task.number, str(error))])
            return
        memory.slots.view(slot)[memory.examples_at : memory.examples_at + len(task.examples)] = task.examples
        nbytes = len(task.examples)
        run = r.RunTask(
            number=task.number, slot=slot, holder=task.holder, task=task.task, count=task.size, nbytes=nbytes
        )
        self._running[task.number] = run
        self._send(run)

    def free(self, update: i.FreeUpdate) -> None:
        """See `ExecutionBackend`."""
        if self._memory is not None:
            self._memory.slots.give_back(update.slot)

    def fingerprint(self, update: i.FingerprintUpdate) -> None:
        """See `ExecutionBackend`."""
        exponents, points = list(update.exponents), list(update.points)
        slot = r.FingerprintSlot(
            number=update.number, slot=update.slot, scaling=update.scaling, exponents=exponents, points=points
        )
        self._send(slot)

    def stop(self, execution: i.StopExecution) -> None:
        """See `ExecutionBackend`."""
        if self._process is not None and self._running:
            self._stopped = execution.reason
            self._process.end()

    def flush(self) -> None:
        """See `ExecutionBackend`."""
        if self._process is not None:
            self._process.flush()

    def close(self) -> None:
        """See `ExecutionBackend`."""
        process, self._process = self._process, None
        if process is not None:
            process.forget()
            process.close()
        self._release_memory()
        self._forget()

    # -- the process -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Starts a process, which loads the program if there is one."""
        self._is_ready, process = False, TaskProcess.start()
        self._process = process
        process.begin(self._loop, lambda frames: self._came(process, frames))
        if self._program is not None:
            process.put(self._program)
        process.flush()

    def _came(self, process: TaskProcess, frames: Sequence[bytes]) -> None:
        """Handles replies, or the end of the process; results go on together."""
        results: list[i.ExecutionResult] = []
        try:
            for body in frames:
                results += self._replied(process, r.reply(body))
        except InvalidProofError:  # it is out of its mind
            process.end()
        if not frames:
            results += self._ended(process)
        if results:
            self._deliver(results)
        self.flush()

    def _send(self, command: r.Command) -> None:
        if self._process is not None and self._is_ready:
            self._process.put(command)

    def _replied(self, process: TaskProcess, reply: r.Reply) -> list[i.ExecutionResult]:
        if isinstance(reply, r.Sized):
            return self._sized(process, reply)
        if isinstance(reply, r.NotLoaded):
            return [i.LoadRefused(reply.error())]
        if isinstance(reply, r.SlotFingerprinted):
            return [i.UpdateFingerprinted(reply.number, reply.fingerprint)]
        if (run := self._running.pop(reply.number, None)) is None:
            return []
        self._deaths = 0
        return [self._ran(run, reply)]

    def _sized(self, process: TaskProcess, sized: r.Sized) -> list[i.ExecutionResult]:
        """A process has loaded the program: the first one, or one that takes its place."""
        program, before = self._program, self._memory
        assert program is not None
        if before is None:
            most, folder = (self._most_disk, self._folder) if program.on_disk else (self._most_memory, None)
            try:
                memory = self._memory = _Memory(sized, program.execution.batch_size, most, folder)
            except (EngineError, StorageError) as error:
                return [i.LoadRefused(error)]
        else:
            memory = before
        memory.give_to(process)
        self._is_ready = True
        held = [self._held] if self._held is not None else []
        again: list[r.Command] = [*self._cheats.values(), *held, *self._running.values()]
        for command in again:
            process.put(command)
        if before is not None:
            return []
        if self._conformance is not None:
            self._conformance.keep(program.arithmetic, program.device, sized.measured)
        state, found = memory.state.bytes[: sized.state_bytes], sized.measured
        loaded = (sized.update_bytes, sized.example_bytes, sized.arithmetic, found.digest, found.differing)
        return [i.ProgramLoaded(state, *loaded)]

    def _ran(self, run: r.RunTask, reply: r.RunDone | r.RunFailed) -> i.ExecutionResult:
        memory = self._memory
        assert memory is not None
        self._stale.discard(run.number)
        if isinstance(reply, r.RunFailed):
            memory.slots.give_back(run.slot)
            return i.TaskNotExecuted(run.number, reply.reason)
        if reply.packed > memory.sized.packed_bytes:
            raise InvalidProofError("an update is packed in more bytes than there are")
        update, sent = memory.executed_in(run.slot, reply.packed)
        return i.TaskExecuted(run.number, run.slot, update, sent, reply.digest, reply.proof, reply.compute)

    def _ended(self, process: TaskProcess) -> list[i.ExecutionResult]:
        """A process has ended: what it executed fails, and another one goes on."""
        status, complaint = process.forget(), process.complaint()
        process.close()
        why, self._stopped = self._stopped or _why(status, complaint), ""
        if self._program is not None and self._memory is None:
            return [i.LoadRefused(EngineError(f"the program cannot be loaded: {why}"))]
        self._deaths += not self._running
        if self._deaths == MAX_IDLE_DEATHS:
            error = EngineError(f"the process that executes tasks ended {self._deaths} times in a row: {why}")
            return [i.LoadRefused(error)]
        failed = [
            self._ran(run, r.RunFailed(number=number, reason=why[:1000]))
            for number in sorted(self._stale | self._executed())
            if (run := self._running.pop(number, None)) is not None and self._memory is not None
        ]
        self._begin()
        return failed

    def _executed(self) -> set[int]:
        """The task that the process was at, or the next one; tasks before it were executed, and are again."""
        at = self._memory.executed if self._memory is not None else 0
        return {at} if at in self._running else set([*self._running][: not self._stale])

    def _release_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()


def _why(status: int, complaint: str) -> str:
    """In words, why a process ended."""
    if status == -signal.SIGXCPU:
        return "it took too much processor time"
    if status == -signal.SIGKILL:
        return "the system ended its process: is memory short?"
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    last = complaint.splitlines()[-1:] if complaint else []
    return ": ".join([f"its process ended by {how}", *last])
