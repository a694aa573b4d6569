"""Whether a model of gigabytes trains over the network in memory that does not grow with it, beyond what it must.

A manager trains one huge matrix of random weights for a few rounds, over a real `podlt worker` of three identities
(one shard and its two repetitions), by HTTPS on loopback. Of both processes the peaks are watched: memory that is
theirs alone or shared ("taken"), and pages of files, which the system takes back when it likes ("mapped"). What must be
there is the parameters and the average of updates for the manager, and the parameters for the worker (updates lie in
files); what is beyond these should be the same for any model.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional

from podlt.bench import PODLT
from podlt.data.spec import DataSpec
from podlt.engine.interface import Job
from podlt.errors import PodltError
from podlt.events import NetworkEvent, Published
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.directory import RunDirectory, Settings
from podlt.manager.setup import TrainingRun, wall_clock
from podlt.network.server.open_server import OpenServer
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec, Program
from podlt.recipe import ModelSpec, Recipe, TrainingSpec
from podlt.remote.workplace import RemoteMachines

COLUMNS = 4096
FEW = 101
"""The rows a class of the small model that is captured; the same program with more rows is what trains."""

EXAMPLES = 12
"""Of a round: enough that each class is among the first."""

MANAGER, WORKER = "manager", "worker"
COPIES = {MANAGER: 2, WORKER: 1}
"""How many times the size of the model each end needs: parameters, and the manager an average of updates."""


class ProcessMemory(msgspec.Struct, frozen=True):
    """Bytes of memory of a process: its own and shared ones, and pages of files."""

    taken: int
    mapped: int

    @classmethod
    def of(cls, pid: int | str) -> ProcessMemory:
        """What a process has now."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        own, shared, files = (1024 * int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem", "RssFile"))
        return cls(own + shared, files)


class Found(msgspec.Struct, frozen=True):
    """One end's memory: before the model was there, and at its peak."""

    start: ProcessMemory
    peak: ProcessMemory

    def beyond(self, models: int) -> int:
        """Bytes above the start, but for so many that there must be."""
        return self.peak.taken - self.start.taken - models


class LargeRun(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        model: its bytes.
        seconds: of each round.
        published: how its parameters went out.
        ends: both ends' memory.
        processor: both ends' seconds of processor time a round, after the first.
        wire: bytes between them a round, both ways, those of joining included.
    """

    model: int
    seconds: list[float]
    published: list[Published]
    ends: dict[str, Found]
    processor: dict[str, float]
    wire: float


class MemoryWatch(threading.Thread):
    """Watches the memory of a process, from its start, or from a given moment."""

    def __init__(self, pid: int | str) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self.first = self._peak = ProcessMemory.of(pid)

    def run(self) -> None:
        try:
            while not self._ended.wait(0.02):
                now = ProcessMemory.of(self._pid)
                self._peak = ProcessMemory(max(self._peak.taken, now.taken), max(self._peak.mapped, now.mapped))
        except (OSError, KeyError):  # it has ended
            pass

    def result(self) -> Found:
        """Ends the watch."""
        self._ended.set()
        self.join()
        return Found(self.first, self._peak)


class Huge(nn.Module):
    """A matrix of `rows` rows a class, by which a repeated image is multiplied."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10 * rows, COLUMNS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = functional.linear(x.flatten(1).repeat(1, COLUMNS // 64), self.weight)
        return scores.reshape(-1, 10, self.weight.shape[0] // 10).mean(-1)


class HugeRun(TrainingRun):
    """A run of `Huge`: captured small, as capturing a model takes many copies of it."""

    rows = FEW

    def _capture(self, fields: list[FieldSpec], examples: Mapping[str, torch.Tensor]) -> Captured:
        small = capture(Huge(FEW), "cross_entropy", fields, "stock").program
        sizes = {FEW: self.rows, 10 * FEW: 10 * self.rows}
        program = Program.from_document(_resized(small.to_document(), sizes))
        weight = torch.empty(10 * self.rows, COLUMNS).normal_(std=0.02, generator=torch.Generator().manual_seed(1))
        return Captured(program, {"param:weight": weight})


def _resized(document: Any, sizes: dict[int, int]) -> Any:
    """A document with other numbers in the place of some."""
    if isinstance(document, dict):
        return {key: _resized(value, sizes) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_resized(value, sizes) for value in document]
    return sizes.get(document, document) if type(document) is int else document


def measure(folder: Path, size: int, rounds: int, bucket: str = "") -> LargeRun:
    """Trains a model of about `size` bytes.

    Raises:
        PodltError: the run failed; with the end of its output.
    """
    seconds, worked = list[float](), list[tuple[float, float]]()
    watch: MemoryWatch | None = None
    with _manager(folder, size, rounds, bucket) as pipe:
        worker = _Worker(folder, _receive(pipe))
        try:
            while not isinstance(message := _next(pipe, worker), tuple):
                if isinstance(message, list):
                    seconds.append(message[0])
                    worked.append((message[1], processor_time(worker.process.pid)))
                elif message == "joined":
                    watch = worker.watch
            found, published, model, wire = message
            worker.end()
        finally:
            worker.close()
    assert watch is not None
    later = max(1, len(worked) - 1)
    processor = {
        name: (worked[-1][i] - worked[0][i]) / later if len(worked) > 1 else 0.0
        for i, name in enumerate((MANAGER, WORKER))
    }
    ends = {MANAGER: found, WORKER: watch.result()}
    return LargeRun(model, seconds, published, ends, processor, wire / len(seconds))


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process and its children have taken."""
    root = Path(f"/proc/{pid}")
    try:
        ticks = (root / "stat").read_text().rpartition(")")[2].split()[11:13]
        children = (root / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return 0.0
    own = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_time(int(child)) for child in children)


class _Worker:
    """A `podlt worker` of three identities, and the watch over it from when it has read its libraries."""

    def __init__(self, folder: Path, line: str) -> None:
        self._log = folder / "worker.log"
        command = [*PODLT, "worker", line, "--quiet"]
        options = ["--identities", "3", "--folder", str(folder / "worker"), "--cpus", "1"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        self.watch = MemoryWatch(self.process.pid)
        self.watch.start()

    def end(self) -> None:
        if self.process.wait(120):
            raise PodltError(f"the worker failed: {self._log.read_text()[-2000:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def _next(pipe: Connection, worker: _Worker) -> Any:
    """The manager's next message."""
    while not pipe.poll(1.0):
        if worker.process.poll():
            worker.end()
    return _receive(pipe)


def _receive(pipe: Connection) -> Any:
    message = pipe.recv()
    if isinstance(message, str) and message.startswith("failed"):
        raise PodltError(message)
    return message


@contextmanager
def _manager(folder: Path, size: int, rounds: int, bucket: str) -> Iterator[Connection]:
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_manage, args=(folder, size, rounds, bucket, there))
    process.start()
    there.close()
    try:
        yield here
        process.join(60)
    finally:
        process.kill()
        process.join()


def _manage(folder: Path, size: int, rounds: int, bucket: str, pipe: Connection) -> None:
    """The manager's process: sends the invitation, the seconds of each round, and what it measured."""
    events: list[NetworkEvent] = []
    traffic = [0]

    def count(workers: int, received: int, sent: int) -> None:
        traffic[0] = received + sent

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            pipe.send([event.seconds, time.process_time()])
        elif isinstance(event, ev.Started):
            pipe.send("joined")

    def connect(job: Job) -> Any:
        link = server.connect(job)
        pipe.send(server.line)
        return link

    server = OpenServer("127.0.0.1", 0, ["127.0.0.1"])
    place = RemoteMachines(connect, bucket=bucket, listener=events.append)
    recipe = Recipe(
        data=DataSpec("digits", limit=EXAMPLES * rounds),
        model=ModelSpec("podlt.bench.large:Huge", {}),
        optimizer={"name": "sgd", "lr": 1e-3},
        training=TrainingSpec(epochs=1, workers=3, batch_size=EXAMPLES, checkpoint_every=1000),
        arithmetic="stock",
    )
    try:
        run = HugeRun.load(
            RunDirectory.new(folder / "run"),
            recipe,
            Settings(base=str(folder)),
            model=nn.Identity(),
            listener=listen,
            clock=wall_clock,
            cache=folder / "cache",
            place=place,
        )
        run.inputs = msgspec.structs.replace(run.inputs, data=replace(run.inputs.data, test=None))
        run.rows = max(1, size // (4 * COLUMNS * 10))
        capture(Huge(FEW), "cross_entropy", _fields(run), "stock")  # reads its libraries before the watch begins
        watch = MemoryWatch("self")
        watch.start()
        with one_thread():
            run.start(secrets.token_bytes)
        published = [event for event in events if isinstance(event, Published)]
        pipe.send((watch.result(), published, 4 * COLUMNS * 10 * run.rows, traffic[0]))
    except PodltError as error:
        pipe.send(f"failed: {error}")


def _fields(run: TrainingRun) -> list[FieldSpec]:
    return [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in run.inputs.data.train.fields]


def difference(small: LargeRun, big: LargeRun) -> str:
    """An example for people: how much more memory each end took for the larger model, beyond what it must."""
    ends = ", ".join(
        f"{name} {(big.ends[name].beyond(n * big.model) - small.ends[name].beyond(n * small.model)) / 2**20:+.0f} MiB"
        for name, n in COPIES.items()
    )
    return f"a model {big.model / small.model:.0f} times as large took, beyond itself: {ends}"


def report(found: LargeRun) -> str:
    """Lines for people."""
    lines = [f"{found.model / 1e9:.2f} GB of random weights, {len(found.seconds)} rounds: "]
    lines[0] += ", ".join(f"{one:.1f} s" for one in found.seconds)
    for one in found.published:
        lines.append(f"  parameters: {one.size / 1e6:.0f} MB by {one.way}")
    worked = ", ".join(f"{name} {1e3 * one:.0f} ms" for name, one in found.processor.items())
    lines.append(f"  a round: {found.wire / 1e6:.0f} MB on the wire; processor time {worked}")
    for name, end in found.ends.items():
        lines.append(
            f"  {name:8} peak {end.peak.taken / 2**20:8.0f} MiB taken (+ {end.peak.mapped / 2**20:6.0f} mapped); "
            f"{end.beyond(COPIES[name] * found.model) / 2**20:5.0f} MiB beyond its start and {COPIES[name]} x the model"
        )
    return "\n".join(lines)


def run(sizes: list[float], rounds: int, folder: Path | None, *, as_json: bool) -> None:
    """Measures models of so many gigabytes, and prints what each took."""
    all_found = []
    for gigabytes in sizes:
        with tempfile.TemporaryDirectory(prefix="podlt-bench-", dir=folder) as made:
            began = time.perf_counter()
            found = measure(Path(made), int(gigabytes * 1e9), rounds)
            all_found.append(found)
            if as_json:
                print(json.dumps(msgspec.to_builtins(found)), flush=True)
            else:
                print(f"{report(found)}\n  {time.perf_counter() - began:.0f} s in all", flush=True)
    if len(all_found) > 1 and not as_json:
        print(difference(all_found[0], all_found[-1]))
