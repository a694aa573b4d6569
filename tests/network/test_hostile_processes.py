"""A hostile manager against a real worker process: what it sends costs the worker neither its life nor its machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from links import MANAGER, Place
from near_hosts import captured_once
from patience import Patience
from stage import Circumstances, Process
from test_hostile_manager import begin
from torch import nn

from podlt.access.invitation import write
from podlt.canonical import encode
from podlt.crypto import blob_digest
from podlt.data.field import Field
from podlt.execution.conformance import arithmetic_digest
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import state_layout
from podlt.protocol import entries as e
from podlt.protocol.messages import Task
from podlt.wire import messages as m
from podlt.wire.run_setup import sign_setup

FIELDS = [Field("x", "f32", (2000,), "input"), Field("y", "i64", (), "label")]
COUNT = 8
EXAMPLES = bytes(COUNT * (4 * 2000 + 8))
CRASHES, NEVER_ENDS = 1, 3
MOST_MEMORY = 400 * 2**20


class HostileManager:
    """Lets a worker join as the number that it likes, and then sends what it likes."""

    def __init__(self, folder: Path, number: int) -> None:
        torch.manual_seed(0)
        fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in FIELDS]
        program = captured_once(nn.Sequential(nn.Linear(2000, 2)), "cross_entropy", fields, "stock").program
        self.place, self._number = Place(folder / "run"), number
        self.said: list[m.Up] = []
        self.key = b""
        self._setup = self._signed(program)
        self._state = np.zeros(state_layout(program).nbytes, np.uint8)
        self.parameters = blob_digest(self._state.data)
        circumstances = Circumstances(code=(str(Path(__file__).with_name("bombed.py")),))
        given = ("--folder", folder / "worker", "--memory", "700M", "--json")
        arguments = ("worker", write(self.place.invite()), *given)
        self.worker = Process(folder / "worker.txt", *arguments, circumstances=circumstances)

    def _signed(self, program: Program) -> m.Setup:
        named = {"program": program.digest, "arithmetic": arithmetic_digest("stock")}
        first = msgspec.structs.replace(begin(), manager=MANAGER.public, examples=1000, batch_size=100, **named)
        self.run, self.program, raw = e.identity(first), program.digest, program.to_bytes()
        bare = m.Setup(
            version=m.VERSION, begin=encode(first), head="", program_blob=blob_digest(raw), program_size=len(raw),
            program=raw, fields=FIELDS,
        )  # fmt: skip
        return sign_setup(bare, MANAGER)

    def hear(self) -> None:
        for key, raw in self.place.link.receive(0.05):
            said = m.from_worker(raw)
            self.said.append(said)
            self.key = key
            if isinstance(said, m.Hello):
                self.send(self._setup)
            elif isinstance(said, m.JoinRequest):
                self.send(m.Welcome(number=self._number, at=2**63 - 1))

    def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        patience = Patience(seconds)
        while not condition():
            assert patience.lasts(), (self.worker.text[-3000:], self.said[-3:])
            self.hear()

    def send(self, message: m.Message) -> None:
        self.place.link.send(self.key, m.record(message))

    def announce(self) -> None:
        """The parameters, so that tasks begin."""
        size = len(self._state)
        self.send(m.Parameters(digest=self.parameters, size=size, data=self._state.data))

    def deal(self, seat: int, round: int = 0) -> None:
        task = Task(self.run, round, self.program, self.parameters, bytes(32), bytes(32))
        self.send(
            m.DealTask(
                deal_id=bytes(8),
                seat=seat,
                task=task,
                count=COUNT,
                blob=bytes(32),
                size=len(EXAMPLES),
                examples=EXAMPLES,
            )
        )

    def heard(self, kind: type) -> int:
        return sum(isinstance(said, kind) for said in self.said)

    def failures(self) -> list[str]:
        return [said.reason for said in self.said if isinstance(said, m.TaskFailed)]

    def close(self) -> None:
        if self.worker.runs:
            self.worker.kill()
        self.place.close()


@pytest.fixture
def hostile(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HostileManager]:
    made = HostileManager(tmp_path, request.param)
    yield made
    made.close()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [CRASHES, NEVER_ENDS], indirect=True)
def test_tasks_that_crash_or_never_end_fail_one_by_one_and_the_worker_leaves_in_order(hostile: HostileManager) -> None:
    hostile.until(lambda: hostile.heard(m.JoinRequest) > 0 and hostile.heard(m.Heartbeat) > 0)
    hostile.announce()
    for seat in range(3):
        hostile.deal(seat)
    hostile.until(lambda: len(hostile.failures()) >= 2)
    assert all("SIGSEGV" in why or "processor time" in why for why in hostile.failures()), hostile.failures()
    before = hostile.heard(m.Heartbeat)
    hostile.until(lambda: hostile.heard(m.Heartbeat) > before + 1)
    hostile.worker.send(signal.SIGTERM)
    assert hostile.worker.end(90) == 0
    hostile.until(lambda: hostile.heard(m.Leave) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [0], indirect=True)
def test_a_flood_of_tasks_fills_no_memory_and_holds_up_no_leaving(hostile: HostileManager) -> None:
    hostile.until(lambda: hostile.heard(m.JoinRequest) > 0 and hostile.heard(m.Heartbeat) > 0)
    most = 0
    for seat in range(1500):
        while hostile.place.link.room_for(hostile.key) == 0:
            hostile.hear()
        hostile.deal(seat)
        if seat % 100 == 0:
            hostile.hear()
            most = max(most, resident(hostile.worker.pid))
    hostile.until(lambda: len(hostile.failures()) > 1000)
    assert max(most, resident(hostile.worker.pid)) < MOST_MEMORY
    assert all("too many tasks" in why for why in hostile.failures())
    hostile.worker.send(signal.SIGTERM)
    assert hostile.worker.end(90) == 0
