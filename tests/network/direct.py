"""An executor in the process of a test: tasks are executed at once, and their results are delivered later."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from podlt.engine.isolated import interface as i
from podlt.engine.isolated import records as r
from podlt.engine.isolated.host import TaskHost
from podlt.engine.isolated.memory import examples_offset, packed_offset


class DirectExecutor:
    """See `podlt.engine.isolated.interface.Executor`."""

    def __init__(self) -> None:
        self.host = TaskHost(self._replied)
        self.executing: i.ExecuteTask | None = None
        self._slots: dict[int, np.ndarray] = {}
        self._spare: list[int] = []

    def start(self, loop: asyncio.AbstractEventLoop, deliver: i.Deliver) -> None:
        self._loop, self._deliver = loop, deliver

    def load(self, program: r.LoadProgram) -> None:
        self._lines = program.execution.batch_size
        self.host.take(program)

    def admit(self, cheat: r.AdmitCheat) -> None:
        self.host.take(cheat)

    def hold(self, parameters: r.HoldParameters) -> None:
        self.host.take(parameters)

    def release(self, parameters: r.ReleaseParameters) -> None:
        self.host.take(parameters)

    def execute(self, task: i.ExecuteTask) -> None:
        slot = self._spare.pop() if self._spare else len(self._slots)
        memory = self._slots.setdefault(slot, np.empty(self._size, np.uint8))
        start = examples_offset(self._sized.update_bytes)
        memory[start : start + len(task.examples)] = task.examples
        self._slot = slot
        self.host.take(
            r.RunTask(
                number=task.number,
                slot=slot,
                holder=task.holder,
                task=task.task,
                count=task.size,
                nbytes=len(task.examples),
            )
        )

    def free(self, update: i.FreeUpdate) -> None:
        self._spare.append(update.slot)

    def fingerprint(self, update: i.FingerprintUpdate) -> None:
        self.host.take(
            r.FingerprintSlot(
                number=update.number,
                slot=update.slot,
                scaling=update.scaling,
                exponents=list(update.exponents),
                points=list(update.points),
            )
        )

    def stop(self, execution: i.StopExecution) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _replied(self, reply: r.Reply) -> None:
        self._loop.call_soon(self._deliver, [self._result(reply)])

    def _result(self, reply: Any) -> i.ExecutionResult:
        if isinstance(reply, r.NotLoaded):
            return i.LoadRefused(reply.error())
        if isinstance(reply, r.Sized):
            self._sized = reply
            self._packed_at = packed_offset(reply.update_bytes, self._lines * reply.example_bytes)
            self._size = self._packed_at + reply.packed_bytes
            state = np.zeros(reply.state_bytes + 64, np.uint8)
            state = state[-state.ctypes.data % 64 :][: reply.state_bytes]
            self.host.map(state, self._slots.__getitem__)
            found = reply.measured
            sizes = (reply.update_bytes, reply.example_bytes)
            return i.ProgramLoaded(state, *sizes, reply.arithmetic, found.digest, found.differing)
        if isinstance(reply, r.SlotFingerprinted):
            return i.UpdateFingerprinted(reply.number, reply.fingerprint)
        if isinstance(reply, r.RunFailed):
            self._spare.append(self._slot)
            return i.TaskNotExecuted(reply.number, reply.reason)
        memory = self._slots[self._slot]
        update = memory[: self._sized.update_bytes]
        sent = memory[self._packed_at :][: reply.packed].data if reply.packed else update.data
        return i.TaskExecuted(reply.number, self._slot, update, sent, reply.digest, reply.proof, reply.compute)
