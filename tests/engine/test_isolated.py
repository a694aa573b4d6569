"""Tasks in a process of their own: the same updates as here, and whatever happens to it, the worker's process lives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from near_hosts import captured_once
from torch import nn

from podlt import crypto
from podlt.data.dataset import shard_digest_of
from podlt.data.field import Field
from podlt.engine.isolated import interface as i
from podlt.engine.isolated.executor import ChildExecutor, TaskProcess
from podlt.engine.isolated.records import AdmitCheat, HoldParameters, KnownArithmetic, LoadProgram, ReleaseParameters
from podlt.engine.isolated.remembered import ConformanceCache
from podlt.errors import EngineError, InvalidProofError
from podlt.execution.conformance import arithmetic_digest
from podlt.execution.setup import ExecutionSetup
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.program.ir import FieldSpec, Program
from podlt.protocol.messages import Task

RUN = bytes([7]) * 32
FIELDS = [Field("x", "f32", (3,), "input"), Field("y", "i64", (), "label")]
SETUP = ExecutionSetup(RUN, FIELDS, 8, 1, None)
EXAMPLES = {"x": np.arange(12, dtype=np.float32).reshape(4, 3) / 16, "y": np.array([0, 1, 1, 0])}
RAW = np.concatenate([values.reshape(-1).view(np.uint8) for values in EXAMPLES.values()])


@pytest.fixture(scope="module")
def program() -> Program:
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in FIELDS]
    torch.manual_seed(0)
    return captured_once(nn.Sequential(nn.Linear(3, 2)), "cross_entropy", fields, "stock").program


class Bench:
    """An executor, and what it has delivered."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.executor = ChildExecutor(2**26, 2**26, folder)
        self.program, self.number = program, 0
        self._results: list[i.ExecutionResult] = []
        self._loop = asyncio.new_event_loop()
        self.executor.start(self._loop, self._results.extend)

    def result(self) -> i.ExecutionResult:
        self.executor.flush()
        while not self._results:
            self._loop.run_until_complete(asyncio.sleep(0.01))
        return self._results.pop(0)

    def close(self) -> None:
        self.executor.close()
        self._loop.close()

    def load(self, **changes: object) -> i.ExecutionResult:
        asked = {
            "program": self.program.to_bytes(),
            "digest": self.program.digest,
            "arithmetic": arithmetic_digest("stock"),
            "execution": SETUP,
            "memory": 0,
            "device": "cpu",
            "threads": 1,
        }
        self.executor.load(LoadProgram(**{**asked, **changes}))  # type: ignore[arg-type]
        return self.result()

    def hold(self, loaded: i.ProgramLoaded) -> bytes:
        loaded.state[:] = 0
        digest = crypto.blob_digest(loaded.state.data)
        self.executor.hold(HoldParameters(digest=digest))
        return digest

    def execute(self, parameters: bytes, holder: int = 0) -> None:
        self.number += 1
        task = Task(RUN, 3, self.program.digest, parameters, shard_digest_of(FIELDS, EXAMPLES), bytes(32))
        self.executor.execute(i.ExecuteTask(self.number, holder, task, 4, RAW))


@pytest.fixture
def bench(tmp_path: Path, program: Program) -> Iterator[Bench]:
    made = Bench(tmp_path, program)
    yield made
    made.close()


def here(program: Program) -> bytes:
    """The update of the task, computed in this process."""
    runtime = WorkerRuntime.load(program, SETUP)
    state = np.zeros(runtime.state_bytes, np.uint8)
    digest = crypto.blob_digest(state.data)
    runtime.hold(state, digest)
    out = np.zeros(runtime.update_bytes, np.uint8)
    runtime.run(0, Task(RUN, 3, program.digest, digest, shard_digest_of(FIELDS, EXAMPLES), bytes(32)), EXAMPLES, out)
    return out.tobytes()


def test_updates_are_the_same_and_a_process_that_dies_or_hangs_is_replaced(bench: Bench) -> None:
    loaded = bench.load()
    assert isinstance(loaded, i.ProgramLoaded)
    held = bench.hold(loaded)
    bench.execute(held)
    first = bench.result()
    assert isinstance(first, i.TaskExecuted) and first.update.tobytes() == here(bench.program)
    bench.executor.free(i.FreeUpdate(first.slot))
    bench.execute(bytes(32))
    refused = bench.result()
    assert isinstance(refused, i.TaskNotExecuted) and "inputs differ" in refused.reason

    assert bench.executor._process is not None
    pid = bench.executor._process.pid
    os.kill(pid, signal.SIGSTOP)  # it hangs
    bench.execute(held)
    bench.execute(held)
    bench.executor.stop(i.StopExecution("it took too long"))
    stopped, second = bench.result(), bench.result()
    assert stopped == i.TaskNotExecuted(3, "it took too long")
    assert isinstance(second, i.TaskExecuted) and (second.number, second.digest) == (4, first.digest)

    os.kill(bench.executor._process.pid, signal.SIGSTOP)
    bench.execute(held)
    os.kill(bench.executor._process.pid, signal.SIGSEGV)
    os.kill(bench.executor._process.pid, signal.SIGCONT)
    died = bench.result()
    assert isinstance(died, i.TaskNotExecuted) and "SIGSEGV" in died.reason
    bench.executor.admit(AdmitCheat(number=9, cheat="zero", secret=bytes(32)))
    bench.execute(held, holder=9)
    faked = bench.result()
    assert isinstance(faked, i.TaskExecuted) and faked.digest != first.digest
    bench.executor.release(ReleaseParameters())
    bench.execute(held)
    assert isinstance(bench.result(), i.TaskNotExecuted)


@pytest.mark.slow
def test_a_program_that_is_not_the_runs_or_too_large_is_refused_with_the_reason(bench: Bench) -> None:
    other = bench.load(digest=bytes(32))
    assert isinstance(other, i.LoadRefused) and isinstance(other.error, InvalidProofError)
    assert "the program is not the run's" in str(other.error)
    odd = bench.load(arithmetic=bytes(32))
    assert isinstance(odd, i.LoadRefused) and isinstance(odd.error, EngineError)
    assert isinstance(bench.load(), i.ProgramLoaded)


def test_no_more_memory_is_taken_for_updates_than_there_may_be(tmp_path: Path, program: Program) -> None:
    from podlt.engine.isolated.memory import SlotMemory
    from podlt.errors import StorageError

    slots = SlotMemory(2**16, 2**17)
    assert [slots.take(), slots.take()] == [0, 1]
    with pytest.raises(StorageError, match="no room for another task"):
        slots.take()
    slots.give_back(0)
    assert slots.take() == 0


@pytest.mark.slow
def test_a_program_that_crashes_swells_or_spins_costs_its_task_and_nothing_else(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskProcess, "module", "bombs")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    bench = Bench(tmp_path, program)
    loaded = bench.load(memory=700 * 2**20)
    assert isinstance(loaded, i.ProgramLoaded)
    held = bench.hold(loaded)
    for holder, said in ((1, "SIGSEGV"), (2, "allocate"), (3, "processor time")):
        bench.execute(held, holder)
        bench.execute(held)
        failed, done = bench.result(), bench.result()
        assert isinstance(failed, i.TaskNotExecuted) and said in failed.reason
        assert isinstance(done, i.TaskExecuted) and done.number == bench.number
    bench.close()


def test_what_a_machine_computes_is_remembered_while_code_and_processor_are_the_same(tmp_path: Path) -> None:
    good, other = KnownArithmetic("exact 1234"), bytes([1]) * 32
    cache = ConformanceCache(tmp_path / "new" / "conformance.json")
    assert cache.find(bytes(32), "cpu") is None
    cache.keep(bytes(32), "cpu", good)
    cache.keep(other, "cpu", KnownArithmetic("exact 99", "product"))
    cache.keep(other, "cuda", good)
    again = ConformanceCache(tmp_path / "new" / "conformance.json")
    assert again.find(bytes(32), "cpu") == good
    assert again.find(other, "cpu") is None, "what was wrong is measured again"
    assert again.find(bytes(32), "cuda") is None, "drivers are not seen from here"
    again._key = "another installation"
    assert again.find(bytes(32), "cpu") is None
    (tmp_path / "new" / "conformance.json").write_bytes(b"{")
    assert ConformanceCache(tmp_path / "new" / "conformance.json").find(bytes(32), "cpu") is None
