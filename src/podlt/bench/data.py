"""How long a large table takes to prepare, to read in an epoch's order and to train on, and the memory that it takes.

`python -m podlt.bench.data --examples 3000000` writes a CSV file that is sorted by its label, prepares it in a child
process (a fifth held out, each class in its proportion, the rest laid out in a drawn order), and reads one epoch as
batches. With `--train ROUNDS` it then trains a small perceptron for so many rounds, as `podlt train` does, without
figures on the test part. "Anonymous" is the memory that the child and the processes of its workers took together,
their start included; "resident" counts the pages of mapped files too, which the system takes back when it likes, and
once for each process. How well the examples are mixed is the largest share of one class in a batch, beside what drawn
examples would give.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from podlt.bench.jobs import proven_rounds, started
from podlt.data.order import EpochOrder
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.recipe import ModelSpec, Recipe, TrainingSpec

COLUMNS = 10
CLASSES = 10
_MIB = 2**20


class StageFigures(msgspec.Struct, frozen=True):
    """What a stage took.

    Attributes:
        stage: which.
        seconds: on the clock.
        cpu: seconds of processor time of the child and its workers.
        anonymous: the peak of the memory of all processes, bytes.
        resident: the same with the pages of mapped files, bytes.
        own: the peak of anonymous memory of the child alone, bytes.
        said: a sentence on what the stage found.
    """

    stage: str
    seconds: float
    cpu: float
    anonymous: int
    resident: int
    own: int
    said: str = ""


def main() -> None:
    """Writes the file, lets a child prepare and read it, and prints what it took."""
    parser = argparse.ArgumentParser(description="time a large table, and watch the memory that it takes")
    parser.add_argument("--examples", type=int, default=3_000_000, help="of the file (default: 3,000,000)")
    parser.add_argument("--batch-size", type=int, default=1000, help="examples that are read at a time (default: 1000)")
    parser.add_argument("--folder", type=Path, default=None, help="on a disk with four times as much room")
    parser.add_argument("--train", type=int, default=0, help="then train for so many rounds (default: 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podlt-bench-", dir=options.folder) as folder:
        path = Path(folder) / "examples.csv"
        write_sorted(path, options.examples)
        size = path.stat().st_size
        print(
            f"{options.examples:,} examples of {COLUMNS} columns, {size / _MIB:,.0f} MiB, sorted by label", flush=True
        )
        print(
            f"{'':8}{'seconds':>9}{'CPU s':>9}{'examples/s':>12}   MiB: anonymous, of the manager, resident", flush=True
        )
        for found in measure(path, options.batch_size, options.train):
            rate = options.examples / found.seconds
            memory = f"{found.anonymous / _MIB:17.0f}{found.own / _MIB:16.0f}{found.resident / _MIB:10.0f}"
            print(f"{found.stage:8}{found.seconds:9.1f}{found.cpu:9.1f}{rate:11,.0f}{memory}", flush=True)
            if found.said:
                print(f"        {found.said}", flush=True)


def drawn_shares(batches: int, batch_size: int, times: int = 20) -> tuple[float, float]:
    """The least and the largest of what the largest share is where examples are drawn, each time anew."""
    dice, even = np.random.default_rng(2), np.full(CLASSES, 1 / CLASSES)
    found = [int(dice.multinomial(batch_size, even, size=batches).max()) for _ in range(times)]
    return min(found) / batch_size, max(found) / batch_size


def write_sorted(path: Path, examples: int) -> None:
    """A CSV file of standard normal numbers, its examples sorted by their label."""
    dice = np.random.default_rng(1)
    names = [*(f"x{place}" for place in range(COLUMNS)), "label"]
    schema = pa.schema([(name, pa.float64()) for name in names[:-1]] + [("label", pa.int64())])
    with pa_csv.CSVWriter(path, schema) as writer:
        for start in range(0, examples, 10_000):
            count = min(10_000, examples - start)
            labels = np.arange(start, start + count) * CLASSES // examples
            rows = dice.standard_normal((count, COLUMNS)).round(4)
            writer.write_batch(pa.record_batch([*rows.T, labels], schema=schema))


def measure(path: Path, batch_size: int, rounds: int) -> Iterator[StageFigures]:
    """The figures of each stage as it ends, from a child process."""
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(path, batch_size, rounds, there))
    child.start()
    there.close()
    try:
        for _ in range(3 if rounds else 2):
            yield here.recv()
    finally:
        child.join()


def _child(path: Path, batch_size: int, rounds: int, pipe: Connection) -> None:
    spec, cache = DataSpec(str(path), label="label", test_fraction=0.2), path.parent / "cache"
    with _Watch() as watch:
        prepared = prepare(spec, cache)
    pipe.send(watch.figures("prepare"))
    with _Watch() as watch:
        largest = _read(prepared, batch_size)
    low, high = drawn_shares(prepared.train.examples // batch_size, batch_size)
    said = f"largest share of a class in a batch: {largest:.3f} (drawn examples: {low:.3f} to {high:.3f})"
    pipe.send(watch.figures("read", said))
    if rounds:
        with _Watch() as watch:
            said = _train(spec, cache, batch_size, rounds)
        pipe.send(watch.figures("train", said))


def _train(spec: DataSpec, cache: Path, batch_size: int, rounds: int) -> str:
    """Trains for some rounds; what came of it."""
    recipe = Recipe(
        data=spec,
        model=ModelSpec("podlt.models:mlp", {"inputs": COLUMNS, "hidden": 16, "outputs": CLASSES}),
        optimizer={"name": "sgd", "lr": 0.1},
        training=TrainingSpec(epochs=1, workers=6, batch_size=batch_size),
    )
    with started(recipe, cache=cache) as (_, trainer):
        seconds = proven_rounds(trainer, rounds)
    return f"{rounds:,} rounds of {batch_size:,} examples, {rounds * batch_size / seconds:,.0f} examples/s once begun"


def _read(prepared: Prepared, batch_size: int) -> float:
    """Reads an epoch batch by batch; the largest share of one class in a batch."""
    train = prepared.train
    order, largest = EpochOrder(train.examples, b"bench", 0), 0
    for offset in range(0, train.examples - batch_size + 1, batch_size):
        labels = train.read(order.ids(offset, batch_size))["label"]
        largest = max(largest, int(np.bincount(labels, minlength=CLASSES).max()))
    return largest / batch_size


class _Watch:
    """Watches the time of this process and its descendants, and their memory in a thread."""

    def __enter__(self) -> _Watch:
        self._peaks, self._ended = (0, 0, 0), threading.Event()
        self._note()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started, self._cpu = time.perf_counter(), _cpu()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds, self._cpu = time.perf_counter() - self._started, _cpu() - self._cpu
        self._ended.set()
        self._thread.join()

    def figures(self, stage: str, said: str = "") -> StageFigures:
        """What was seen."""
        anonymous, resident, own = self._peaks
        return StageFigures(stage, self._seconds, self._cpu, anonymous, resident, own, said)

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self._note()

    def _note(self) -> None:
        found = [memory for memory in map(_memory, _family(os.getpid())) if memory]
        sums = sum(anonymous for anonymous, _ in found), sum(resident for _, resident in found), found[0][0]
        self._peaks = max(self._peaks[0], sums[0]), max(self._peaks[1], sums[1]), max(self._peaks[2], sums[2])


def _cpu() -> float:
    """Seconds of processor time of this process, and of its children that ended."""
    return sum(os.times()[:4])


def _family(process: int) -> list[int]:
    """A process and its descendants."""
    try:
        tasks = [task / "children" for task in Path(f"/proc/{process}/task").iterdir()]
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return [process]
    return [process, *(member for child in children for member in _family(child))]


def _memory(process: int) -> tuple[int, int] | None:
    """Bytes of a process: anonymous, and resident; None once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "VmRSS"))}
    return (int(found["RssAnon"]) * 1024, int(found["VmRSS"]) * 1024) if len(found) == 2 else None


if __name__ == "__main__":
    main()
