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
from podlt.data.dataset import shard_digest_of
from podlt.data.field import Field
from podlt.errors import EngineError, InvalidProofError, UsageError
from podlt.exact.portable.devices import torch_device
from podlt.execution.setup import ExecutionSetup
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.program.ir import FieldSpec, Program
from podlt.protocol.messages import Task
from podlt.protocol.worker import Worker

RUN = bytes([7]) * 32
FIELDS = [Field("x", "f32", (3,), "input"), Field("y", "i64", (), "label")]
SETUP = ExecutionSetup(RUN, FIELDS, 8, 1, None)
EXAMPLES = {"x": np.arange(12, dtype=np.float32).reshape(4, 3) / 16, "y": np.array([0, 1, 1, 0])}


@dataclass
class Ready:
    """A runtime with workers 0 to 2 that holds parameters, and a task that is right for it."""

    runtime: WorkerRuntime
    task: Task

    def execute(self, holder: int, **changes: object) -> tuple[bytes, bytes, bool]:
        """Update, its digest, and whether it was faked, of a task that is changed; the memory was dirty before."""
        out = np.full(self.runtime.update_bytes, 0xA5, np.uint8)
        task = msgspec.structs.replace(self.task, **changes)
        done, committed = self.runtime.run(holder, task, EXAMPLES, out), self.runtime.commit(0, holder, task, out)
        assert (committed.seat, committed.holder) == (0, holder)
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
    return Ready(runtime, Task(RUN, 3, program.digest, digest, shard_digest_of(FIELDS, EXAMPLES), bytes(32)))


def executed_on(device: str, program: Program) -> bytes:
    """The update of the task that `ready` has, on parameters that are not zero."""
    runtime = WorkerRuntime.load(program, SETUP, device=device)
    runtime.add(Worker(0, crypto.SigningKey(bytes(32)), RUN))
    state = np.zeros(runtime.state_bytes, np.uint8)
    state[: runtime.state_bytes // 4 * 4].view(np.float32)[:] = 0.375
    digest = crypto.blob_digest(state.data)
    runtime.hold(state, digest)
    task = Task(RUN, 3, program.digest, digest, shard_digest_of(FIELDS, EXAMPLES), bytes(32))
    return runtime.run(0, task, EXAMPLES, np.zeros(runtime.update_bytes, np.uint8)).digest


def test_a_worker_on_another_device_computes_the_same_update() -> None:
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in FIELDS]
    exact = captured_once(nn.Sequential(nn.Linear(3, 2)), "cross_entropy", fields, "exact/2").program
    with torch.no_grad():
        assert executed_on("portable", exact) == executed_on("cpu", exact)


def test_stock_arithmetic_is_refused_on_another_device_than_the_cpu(program: Program) -> None:
    with pytest.raises(EngineError, match="cannot work for the run: device portable: expected an exact arithmetic"):
        WorkerRuntime.load(program, SETUP, device="portable")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="device cuda:1: expected a GPU, but torch"):
        torch_device("cuda:1")
    with pytest.raises(UsageError, match="expected cpu, cuda, cuda:N, portable or triton, got 'gpu'"):
        torch_device("gpu")


@pytest.mark.parametrize("name", ["run", "program", "parameters", "shard"])
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
        again = ready.runtime.run(0, ready.task, EXAMPLES, clean)
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
