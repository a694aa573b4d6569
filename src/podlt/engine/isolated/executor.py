"""Executes tasks in a process of its own, which is replaced when it dies, hangs, or is to be ended."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

from podlt.engine.child import ChildProcess, read_frame, write_frame
from podlt.engine.isolated import interface as i
from podlt.engine.isolated import records as r
from podlt.engine.isolated.memory import SlotMemory, lines_offset, stride_of
from podlt.engine.shared_memory import Region
from podlt.errors import EngineError, InvalidProofError, StorageError

MAX_IDLE_DEATHS = 3
"""How often in a row a process may die without a task: it would do so for ever."""

_SEND_TIMEOUT = struct.pack("ll", 20, 0)
"""Seconds and microseconds: a process that takes no command for so long is of no use, as it reads them on a thread."""


class TaskProcess(ChildProcess):
    """The process."""

    module = "podlt.engine.isolated.host"

    def send(self, command: r.Command, *descriptors: int) -> None:
        """Sends a command; a process that does not take it is ended."""
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
            write_frame(self.connection, r.pack(command))
            if descriptors:
                socket.send_fds(self.connection, [b"."], list(descriptors))
        except OSError:
            self.end()

    def end(self) -> None:
        """Ends it; whoever reads from it reads the end."""
        self._popen.kill()


class _Memory:
    """What both processes have mapped: parameters and slots."""

    def __init__(self, sized: r.Sized, most_lines: int, most: int, folder: Path | None) -> None:
        self.slots = SlotMemory(stride_of(sized.update_bytes, most_lines * sized.line_bytes), most, folder)
        try:
            self.state = Region(sized.state_bytes)
        except EngineError:
            self.slots.close()
            raise
        self.lines_at, self.sized = lines_offset(sized.update_bytes), sized

    def give_to(self, process: TaskProcess) -> None:
        command = r.MapMemory(state_bytes=self.sized.state_bytes, stride=self.slots.stride)
        process.send(command, self.state.descriptor, self.slots.descriptor)

    def close(self) -> None:
        self.state.close()
        self.slots.close()


class ChildExecutor:
    """An `ExecutionBackend`. What follows a program is given again to a process that takes the place of another.

    Args:
        memory: how many bytes updates and lines of tasks may take together.
        disk: how many, where they are to be on the disk.
        folder: where they are then, in a file without a name.
    """

    def __init__(self, memory: int, disk: int, folder: Path) -> None:
        self._most_memory, self._most_disk, self._folder = memory, disk, folder
        self._process: TaskProcess | None = None
        self._reader: threading.Thread | None = None
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

    def start(self, post: i.Post, deliver: i.Deliver) -> None:
        """See `ExecutionBackend`."""
        self._post, self._deliver = post, deliver
        self._begin()

    def load(self, program: r.LoadProgram) -> None:
        """See `ExecutionBackend`."""
        is_first = self._program is None
        self._release_memory()
        self._forget()
        self._program = program
        if self._process is not None and is_first:
            self._process.send(program)
        elif self._process is not None:  # it may be busy with what nobody waits for any more
            self._process.end()
            self._begin()

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
            self._post(partial(self._deliver, i.TaskNotExecuted(task.number, str(error))))
            return
        memory.slots.view(slot)[memory.lines_at : memory.lines_at + len(task.lines)] = task.lines
        run = r.RunTask(number=task.number, slot=slot, holder=task.holder, task=task.task, count=task.size)
        self._running[task.number] = run
        self._send(run)

    def free(self, update: i.FreeUpdate) -> None:
        """See `ExecutionBackend`."""
        if self._memory is not None:
            self._memory.slots.give_back(update.slot)

    def stop(self, execution: i.StopExecution) -> None:
        """See `ExecutionBackend`."""
        if self._process is not None and self._running:
            self._stopped = execution.reason
            self._process.end()

    def close(self) -> None:
        """See `ExecutionBackend`."""
        process, self._process = self._process, None
        if process is not None and self._reader is not None:
            process.end()
            self._reader.join()
        self._release_memory()
        self._forget()

    # -- the process -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Starts a process, which loads the program if there is one."""
        self._is_ready, self._process = False, TaskProcess.start()
        if self._program is not None:
            self._process.send(self._program)
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="podlt-executor", daemon=True)
        self._reader.start()

    def _read(self, process: TaskProcess) -> None:
        """Has replies handled as they come, and the end of the process."""
        with suppress(OSError, InvalidProofError):
            while (body := read_frame(process.connection, r.MAX_REPLY)) is not None:
                self._post(partial(self._replied, process, r.reply(body)))
        status = process.kill()
        self._post(partial(self._ended, process, status, process.complaint()))
        process.close()

    def _send(self, command: r.Command) -> None:
        if self._process is not None and self._is_ready:
            self._process.send(command)

    def _replied(self, process: TaskProcess, reply: r.Reply) -> None:
        if process is not self._process:
            return
        if isinstance(reply, r.Sized):
            self._sized(process, reply)
        elif isinstance(reply, r.NotLoaded):
            self._deliver(i.LoadRefused(reply.error()))
        elif (run := self._running.pop(reply.number, None)) is not None:
            self._deaths = 0
            self._ran(run, reply)

    def _sized(self, process: TaskProcess, sized: r.Sized) -> None:
        """A process has loaded the program: the first one, or one that takes its place."""
        program, before = self._program, self._memory
        assert program is not None
        if before is None:
            most, folder = (self._most_disk, self._folder) if program.on_disk else (self._most_memory, None)
            try:
                memory = self._memory = _Memory(sized, program.execution.block_lines, most, folder)
            except (EngineError, StorageError) as error:
                self._deliver(i.LoadRefused(error))
                return
        else:
            memory = before
        memory.give_to(process)
        self._is_ready = True
        if before is None:
            state = memory.state.bytes[: sized.state_bytes]
            loaded = (sized.update_bytes, sized.line_bytes, sized.arithmetic, sized.digest, sized.differing)
            self._deliver(i.ProgramLoaded(state, *loaded))
        held = [self._held] if self._held is not None else []
        again: list[r.Command] = [*self._cheats.values(), *held, *self._running.values()]
        for command in again:
            process.send(command)

    def _ran(self, run: r.RunTask, reply: r.RunDone | r.RunFailed) -> None:
        memory = self._memory
        assert memory is not None
        self._stale.discard(run.number)
        if isinstance(reply, r.RunFailed):
            memory.slots.give_back(run.slot)
            self._deliver(i.TaskNotExecuted(run.number, reply.reason))
        else:
            update = memory.slots.view(run.slot)[: memory.sized.update_bytes]
            self._deliver(i.TaskExecuted(run.number, run.slot, update, reply.digest, reply.proof, reply.compute))

    def _ended(self, process: TaskProcess, status: int, complaint: str) -> None:
        """A process has ended: what it executed fails, and another one goes on.

        Raises:
            EngineError: processes end again and again, without a task.
        """
        if process is not self._process:
            return
        why, self._stopped = self._stopped or _why(status, complaint), ""
        if self._program is not None and self._memory is None:
            self._deliver(i.LoadRefused(EngineError(f"the program cannot be loaded: {why}")))
            return
        self._deaths += not self._running
        if self._deaths == MAX_IDLE_DEATHS:
            raise EngineError(f"the process that executes tasks ended {self._deaths} times in a row: {why}")
        for number in [*self._stale, *self._running][: len(self._stale) or 1]:
            if (run := self._running.pop(number, None)) is not None and self._memory is not None:
                self._ran(run, r.RunFailed(number=number, reason=why[:1000]))
        self._begin()

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
