"""Whether real models train on this machine: a few rounds of `podlt.train`, and the memory of all its processes.

What is watched is the proportional share (Pss) of the manager's process and of those that it started, so that what
they share counts once. Run nothing else of this size beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from pathlib import Path

import torch

import podlt
from podlt.bench import language
from podlt.manager import events as ev


class TreeMemory(threading.Thread):
    """Watches the memory of this process and of its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self.peak = self.start_bytes = _tree_bytes()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, _tree_bytes())

    def end(self) -> int:
        """Ends the watch; returns the peak in bytes."""
        self._ended.set()
        self.join()
        return self.peak


def _tree_bytes() -> int:
    """Of this process and its children."""
    own = os.getpid()
    found = [own]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == own:
                found.append(int(folder.name))
    return sum(map(_share, found))


def _share(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def run(name: str, layers: int, workers: int, rounds: int, shard_size: int, micro_batch_size: int) -> None:
    """Trains a model, and prints what its rounds took."""
    useful = workers - 2
    examples = language.examples_of(name, rounds * useful * shard_size)
    torch.manual_seed(0)
    model = language.MODELS[name](layers or language.LAYERS[name])
    size = sum(p.nbytes for p in model.parameters())
    watch, seconds = TreeMemory(), []
    watch.start()

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            seconds.append(event.seconds)
            print(f"  round of {event.seconds:.1f} s; peak so far {watch.peak / 2**30:.2f} GiB", flush=True)

    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as folder:
        podlt.train(
            model,
            {"x": examples["x"].numpy(), "y": examples["y"].numpy()},
            loss=language.mean_over_tokens,
            optimizer={"name": "adamw", "lr": 1e-4},
            workers=workers,
            epochs=1,
            set={
                "training.batch_size": useful * shard_size,
                "training.shard_size": shard_size,
                "training.micro_batch_size": micro_batch_size,
            },
            run=Path(folder) / "run",
            cache=Path(folder) / "cache",
            listener=listen,
            progress=False,
        )
    peak, took = watch.end(), ", ".join(f"{one:.1f}" for one in seconds)
    print(
        f"{name}: {size / 4e6:.0f}M parameters, {workers} workers, {len(seconds)} rounds of {useful} x "
        f"{shard_size} examples: {took} s; peak {peak / 2**30:.2f} GiB = {peak / size:.1f} x the model"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["bert"], help=f"of {', '.join(language.MODELS)}")
    parser.add_argument("--layers", type=int, default=0, help="fewer than the model has")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shard-size", type=int, default=4)
    parser.add_argument("--micro-batch-size", type=int, default=0)
    given = parser.parse_args()
    for name in given.models:
        run(name, given.layers, given.workers, given.rounds, given.shard_size, given.micro_batch_size)


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
