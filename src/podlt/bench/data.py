"""How long a large table takes to prepare and to read in an epoch's order, and the memory that it takes.

`python -m podlt.bench.data --lines 3000000` writes a CSV file that is sorted by its label, prepares it in a child
process (a fifth held out, each class in its proportion, the rest laid out in a drawn order), and reads one epoch as
blocks. "Anonymous" is the memory that the process took, its start included; "resident" counts the pages of mapped
files too, which the system takes back when it likes. How well the lines are mixed is the largest share of one class in
a block, beside what drawn lines would give.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np

from podlt.data.order import EpochOrder
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec

COLUMNS = 10
CLASSES = 10
_MIB = 2**20


class StageFigures(msgspec.Struct, frozen=True):
    """What a stage took: seconds, and the peaks of the child's memory in bytes; `largest` is a class's share."""

    stage: str
    seconds: float
    anonymous: int
    resident: int
    largest: float = 0.0


def main() -> None:
    """Writes the file, lets a child prepare and read it, and prints what it took."""
    parser = argparse.ArgumentParser(description="time a large table, and watch the memory that it takes")
    parser.add_argument("--lines", type=int, default=3_000_000, help="of the file (default: 3,000,000)")
    parser.add_argument("--block-lines", type=int, default=1000, help="lines that are read at a time (default: 1000)")
    parser.add_argument("--folder", type=Path, default=None, help="on a disk with four times as much room")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podlt-bench-", dir=options.folder) as folder:
        path = Path(folder) / "lines.csv"
        write_sorted(path, options.lines)
        size = path.stat().st_size
        print(f"{options.lines:,} lines of {COLUMNS} columns, {size / _MIB:,.0f} MiB, sorted by label", flush=True)
        print(f"{'':10}{'seconds':>9}{'lines/s':>11}   anonymous, resident MiB", flush=True)
        for found in measure(path, options.block_lines):
            rate = options.lines / found.seconds
            memory = f"{found.anonymous / _MIB:12.0f}{found.resident / _MIB:10.0f}"
            print(f"{found.stage:10}{found.seconds:9.1f}{rate:11,.0f}{memory}", flush=True)
        low, high = drawn_shares(options.lines * 4 // 5 // options.block_lines, options.block_lines)
        print(f"largest share of a class in a block: {found.largest:.3f} (drawn lines: {low:.3f} to {high:.3f})")


def drawn_shares(blocks: int, block_lines: int, times: int = 20) -> tuple[float, float]:
    """The least and the largest of what the largest share is where lines are drawn, each time anew."""
    dice, even = np.random.default_rng(2), np.full(CLASSES, 1 / CLASSES)
    found = [int(dice.multinomial(block_lines, even, size=blocks).max()) for _ in range(times)]
    return min(found) / block_lines, max(found) / block_lines


def write_sorted(path: Path, lines: int) -> None:
    """A CSV file of standard normal numbers, its lines sorted by their label."""
    dice = np.random.default_rng(1)
    with path.open("w") as file:
        file.write(",".join([f"x{place}" for place in range(COLUMNS)] + ["label"]) + "\n")
        for start in range(0, lines, 10_000):
            count = min(10_000, lines - start)
            labels = (np.arange(start, start + count) * CLASSES // lines).tolist()
            rows = dice.standard_normal((count, COLUMNS)).round(4).tolist()
            file.writelines(f"{','.join(map(str, row))},{label}\n" for row, label in zip(rows, labels, strict=True))


def measure(path: Path, block_lines: int) -> list[StageFigures]:
    """The figures of each stage, from a child process."""
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(path, block_lines, there))
    child.start()
    there.close()
    try:
        return [here.recv(), here.recv()]
    finally:
        child.join()


def _child(path: Path, block_lines: int, pipe: Connection) -> None:
    with _Watch() as watch:
        prepared = prepare(DataSpec(str(path), label="label", test_fraction=0.2), path.parent / "cache")
    pipe.send(watch.figures("prepare"))
    with _Watch() as watch:
        largest = _read(prepared, block_lines)
    pipe.send(msgspec.structs.replace(watch.figures("read"), largest=largest))


def _read(prepared: Prepared, block_lines: int) -> float:
    """Reads an epoch block by block; the largest share of one class in a block."""
    train = prepared.train
    order, largest = EpochOrder(train.lines, b"bench", 0), 0
    for offset in range(0, train.lines - block_lines + 1, block_lines):
        labels = train.read(order.ids(offset, block_lines))["label"]
        largest = max(largest, int(np.bincount(labels, minlength=CLASSES).max()))
    return largest / block_lines


class _Watch:
    """Watches this process's time, and its memory in a thread."""

    def __enter__(self) -> _Watch:
        self._peak, self._ended = _memory(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._started
        self._ended.set()
        self._thread.join()

    def figures(self, stage: str) -> StageFigures:
        """What was seen."""
        return StageFigures(stage, self._seconds, *self._peak)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            anonymous, resident = _memory()
            self._peak = max(self._peak[0], anonymous), max(self._peak[1], resident)


def _memory() -> tuple[int, int]:
    """Bytes of this process: anonymous, and resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "VmRSS"))}
    return int(found["RssAnon"]) * 1024, int(found["VmRSS"]) * 1024


if __name__ == "__main__":
    main()
