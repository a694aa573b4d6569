"""The one runtime of workers: what it refuses and holds, and that an update does not depend on what was there."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
import torch
from near_hosts import captured_once
from torch import nn

from podlt import crypto
from podlt.data.dataset import fragment_digest_of
from podlt.data.field import Field
from podlt.errors import EngineError, InvalidProofError, UsageError
from podlt.execution.setup import ExecutionSetup
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.program.ir import FieldSpec, Program
from podlt.protocol.messages import Task
from podlt.protocol.worker import Worker

RUN = bytes([7]) * 32
FIELDS = [Field("x", "f32", (3,), "input"), Field("y", "i64", (), "label")]
SETUP = ExecutionSetup(RUN, FIELDS, 8, 1, None)
LINES = {"x": np.arange(12, dtype=np.float32).reshape(4, 3) / 16, "y": np.array([0, 1, 1, 0])}


@dataclass
class Ready:
    """A runtime with workers 0 to 2 that holds parameters, and a task that is right for it."""

    runtime: WorkerRuntime
    task: Task

    def execute(self, holder: int, **changes: object) -> tuple[bytes, bytes, bool]:
        """Update, its digest, and whether it was faked, of a task that is changed; the memory was dirty before."""
        out = np.full(self.runtime.update_bytes, 0xA5, np.uint8)
        done = self.runtime.execute(0, holder, msgspec.structs.replace(self.task, **changes), LINES, out)
        assert done.update is out and (done.committed.seat, done.committed.holder) == (0, holder)
        return out.tobytes(), done.digest, done.faked


@pytest.fixture(scope="module")
def program() -> Program:
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in FIELDS]
    torch.manual_seed(0)
    return captured_once(nn.Sequential(nn.Linear(3, 2)), "cross_entropy", fields, "stock").program


@pytest.fixture
def ready(program: Program) -> Ready:
    runtime = WorkerRuntime.load(program, SETUP)
    for number, cheat in enumerate(["", "zero", "copycat"]):
        worker = Worker(number, crypto.SigningKey(bytes([number]) * 32), RUN)
        runtime.add(worker, cheat=cheat, secret=bytes(32))
    state = np.zeros(runtime.state_bytes, np.uint8)
    digest = crypto.blob_digest(state.data)
    runtime.hold(state, digest)
    return Ready(runtime, Task(RUN, 3, program.digest, digest, fragment_digest_of(FIELDS, LINES), bytes(32)))


@pytest.mark.parametrize("name", ["run", "program", "parameters", "fragment"])
def test_a_task_about_other_inputs_is_refused_by_the_name_of_what_differs(ready: Ready, name: str) -> None:
    with torch.no_grad(), pytest.raises(InvalidProofError, match=f"differ from those that the task names: {name}"):
        ready.execute(0, **{name: bytes([1]) * 32})
    assert ready.runtime.open(3) == [], "nothing was committed to"


def test_nothing_is_executed_on_parameters_that_were_released(ready: Ready) -> None:
    ready.runtime.release()
    with torch.no_grad(), pytest.raises(InvalidProofError, match="parameters"):
        ready.execute(0)


def test_the_same_task_gives_the_same_update_and_commitment_whatever_was_in_its_memory(ready: Ready) -> None:
    with torch.no_grad():
        first = ready.execute(0)
        clean = np.zeros(ready.runtime.update_bytes, np.uint8)
        again = ready.runtime.execute(0, 0, ready.task, LINES, clean)
    assert first == (clean.tobytes(), again.digest, False) == (clean.tobytes(), crypto.blob_digest(clean.data), False)
    (opened,) = ready.runtime.open(3)
    assert (opened.holder, opened.update) == (0, again.digest)


def test_cheaters_fake_and_one_that_copies_sees_what_an_honest_worker_did(ready: Ready) -> None:
    with torch.no_grad():
        honest, zero, copied = (ready.execute(holder) for holder in range(3))
    assert [faked for _, _, faked in (honest, zero, copied)] == [False, True, True]
    assert len({digest for _, digest, _ in (honest, zero, copied)}) == 3, "fakes are marked: nobody colludes"
    same = np.frombuffer(copied[0], np.uint8) == np.frombuffer(honest[0], np.uint8)
    assert same.mean() > 0.5


def test_a_worker_that_is_added_again_cheats_no_more(ready: Ready) -> None:
    ready.runtime.add(Worker(1, crypto.SigningKey(bytes([1]) * 32), RUN))
    with torch.no_grad():
        assert ready.execute(1)[1:] == ready.execute(0)[1:]
    with pytest.raises(UsageError, match="no cheat named"):
        ready.runtime.add(Worker(1, crypto.SigningKey(bytes([1]) * 32), RUN), cheat="nap")


def test_a_program_that_needs_more_memory_than_the_owner_gives_is_refused(program: Program) -> None:
    with pytest.raises(EngineError, match="more memory than the 0 MiB that are left of --memory"):
        WorkerRuntime.load(program, SETUP, memory=64)
