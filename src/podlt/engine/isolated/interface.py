"""What executes a worker's tasks, as its session sees it: requests as values, and results as values some time later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from podlt.engine.isolated.records import AdmitCheat, HoldParameters, LoadProgram, ReleaseParameters
from podlt.errors import PodltError
from podlt.protocol.fingerprint import Fingerprint
from podlt.protocol.messages import Task


class ExecuteTask(NamedTuple):
    """A task is to be executed, on the parameters that are held; one of the same number is not begun twice.

    Attributes:
        number: by which its result is known; ever higher.
        holder: the worker that executes it.
        task: names its inputs.
        size: how many examples it has.
        examples: their bytes (uint8), field by field, or these packed (`execution.sparse`); not changed any more.
    """

    number: int
    holder: int
    task: Task
    size: int
    examples: np.ndarray


class FreeUpdate(NamedTuple):
    """An update is not needed any more: its memory is used for another."""

    slot: int


class FingerprintUpdate(NamedTuple):
    """The fingerprint of an update is to be worked out, after what was asked for before.

    Attributes:
        number: by which the result is known.
        slot: whose memory the update is in; it may be freed meanwhile.
        scaling: the exponents by which its two parts are scaled down.
        exponents: of its round's largest values.
        points: where to evaluate it.
    """

    number: int
    slot: int
    scaling: tuple[int, int]
    exponents: Sequence[int]
    points: Sequence[int]


class StopExecution(NamedTuple):
    """The task that is executed is ended, whatever it does: it fails for this reason. Others are executed after it."""

    reason: str


class ProgramLoaded(NamedTuple):
    """A program can be executed here.

    Attributes:
        state: memory of the parameters (uint8), as long as their layout: written to only after `ReleaseParameters`.
        update_bytes: size of an update.
        example_bytes: size of an example.
        arithmetic: the program's.
        digest: of what this machine computes for known inputs.
        differing: the first operation that it computes otherwise; empty if there is none.
    """

    state: np.ndarray
    update_bytes: int
    example_bytes: int
    arithmetic: str
    digest: str
    differing: str


class LoadRefused(NamedTuple):
    """A program cannot be executed here."""

    error: PodltError


class TaskExecuted(NamedTuple):
    """A task was executed.

    Attributes:
        number: of the task.
        slot: whose memory the update is in, until `FreeUpdate`.
        update: its bytes (uint8).
        sent: these as a message has them: packed where that is shorter.
        digest: of the update.
        proof: seconds for checking and hashing.
        compute: seconds for the task itself.
    """

    number: int
    slot: int
    update: np.ndarray
    sent: memoryview
    digest: bytes
    proof: float
    compute: float


class TaskNotExecuted(NamedTuple):
    """A task failed; the process that executed it may have ended, and been replaced."""

    number: int
    reason: str


class UpdateFingerprinted(NamedTuple):
    """The fingerprint of an update; one that cannot be worked out does not come."""

    number: int
    fingerprint: Fingerprint


ExecutionResult = ProgramLoaded | LoadRefused | TaskExecuted | TaskNotExecuted | UpdateFingerprinted
Deliver = Callable[[Sequence[ExecutionResult]], object]
"""Takes results: those that came together, at once."""


class ExecutionBackend(Protocol):
    """Executes tasks one after another. All methods are called on one thread, that of a loop, and return at once."""

    def start(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        """Begins; results are delivered on the loop's thread, never within another call."""

    def load(self, program: LoadProgram) -> None:
        """A program, from which all that follows starts; what was before it is forgotten."""

    def admit(self, cheat: AdmitCheat) -> None:
        """A worker cheats from now on."""

    def hold(self, parameters: HoldParameters) -> None:
        """The parameters in memory are whole: tasks start from them."""

    def release(self, parameters: ReleaseParameters) -> None:
        """The parameters in memory change: results of tasks that are still executed are of no use."""

    def execute(self, task: ExecuteTask) -> None:
        """A task, which ends in `TaskExecuted` or `TaskNotExecuted`."""

    def free(self, update: FreeUpdate) -> None:
        """See `FreeUpdate`."""

    def fingerprint(self, update: FingerprintUpdate) -> None:
        """See `FingerprintUpdate`."""

    def stop(self, execution: StopExecution) -> None:
        """See `StopExecution`."""

    def flush(self) -> None:
        """What was asked for since the last call is to be begun: many tasks go together."""

    def close(self) -> None:
        """Ends at once, whatever is executed."""
