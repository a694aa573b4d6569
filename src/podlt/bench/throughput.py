"""Proven training against plain PyTorch: the same data, model, optimiser and global batch, in one run.

Plain PyTorch is one process with as many threads as there are cores, and DistributedDataParallel (gloo) on two
processes of one thread each. Data lie in memory as tensors for both, so that nobody waits for a loader.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from podlt.bench.jobs import BenchJob, BenchOptions, fitting, proven_rounds, started
from podlt.data.dataset import Dataset
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.manager.modules import build_model

Step = Callable[[torch.Tensor, torch.Tensor], None]


def tensors(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All images (bytes) and labels."""
    arrays = dataset.read(np.arange(dataset.examples, dtype=np.int64))
    return torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["label"])


def plain_step(model: nn.Module) -> Step:
    """One step of ordinary training: scale, forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(images.float() * (1 / 255)), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def run_plain(step: Step, images: torch.Tensor, labels: torch.Tensor, batch: int, count: int) -> float:
    """The seconds of `count` steps over consecutive batches."""
    batches = len(images) // batch
    started_at = time.perf_counter()
    for i in range(count):
        start = i % batches * batch
        step(images[start : start + batch], labels[start : start + batch])
    return time.perf_counter() - started_at


def _ddp_worker(rank: int, port: int, cache: str, job: BenchJob, batch: int, pipe: Connection) -> None:
    """One of two processes; runs as many steps as it is asked for, and sends how long they took."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    wanted = job.recipe(3)
    images, labels = tensors(prepare(wanted.data, Path(cache) if cache else None).train)
    step = plain_step(DistributedDataParallel(build_model(wanted, {}, Path())))
    half = batch // 2
    own = slice(rank * half, (rank + 1) * half)
    shaped = images[: len(images) // batch * batch].reshape(-1, batch, *images.shape[1:])[:, own].flatten(0, 1)
    targets = labels[: len(labels) // batch * batch].reshape(-1, batch)[:, own].flatten()
    shaped, targets = shaped.contiguous(), targets.contiguous()
    while (count := pipe.recv_bytes()) != b"stop":
        pipe.send_bytes(str(run_plain(step, shaped, targets, half, int(count))).encode())
    distributed.destroy_process_group()


class Ddp:
    """Two processes of DistributedDataParallel that wait between measurements."""

    def __init__(self, job: BenchJob, batch: int, cache: str) -> None:
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._pipes, self._processes = [], []
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_ddp_worker, args=(rank, port, cache, job, batch, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, count: int) -> float:
        """The seconds of `count` steps: the slower of the two."""
        for pipe in self._pipes:
            pipe.send_bytes(str(count).encode())
        return max(float(pipe.recv_bytes()) for pipe in self._pipes)

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            pipe.send_bytes(b"stop")
        for process in self._processes:
            process.join(10)


def measure(job: BenchJob, options: BenchOptions) -> dict[str, object]:
    """Interleaves proven rounds, plain steps and DDP steps; returns examples a second and the ratios of each pair."""
    wanted, batch_size = job.recipe(options.workers), job.batch_size
    threads = os.cpu_count() or 1
    with started(wanted) as (run, trainer):
        images, labels = tensors(run.inputs.data.train)
        step = plain_step(build_model(wanted, {}, Path()))
        ddp = Ddp(job, batch_size, os.environ.get("PODLT_CACHE", ""))
        rounds = fitting(trainer, options.rounds, options.repeats)

        def plain() -> float:
            torch.set_num_threads(threads)
            try:
                return run_plain(step, images, labels, batch_size, rounds)
            finally:
                torch.set_num_threads(1)

        contenders: dict[str, Callable[[], float]] = {
            "proven": lambda: proven_rounds(trainer, rounds),
            "plain": plain,
            "ddp": lambda: ddp.run(rounds),
        }
        for contender in contenders.values():
            contender()
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(options.repeats):
            order = list(contenders)[:: 1 if repeat % 2 else -1]
            for name in order:
                seconds[name].append(contenders[name]())
        ddp.close()
        figures = trainer.figures
    examples = batch_size * rounds
    report: dict[str, object] = {
        "job": str(job),
        "workers": options.workers,
        "rounds": rounds,
        "repeats": options.repeats,
        "examples_per_second": {name: examples / statistics.median(values) for name, values in seconds.items()},
        "last_round_seconds": {"compute": figures.compute, "proof": figures.proof},
    }
    for name in ("plain", "ddp"):
        ratios = sorted(other / ours for other, ours in zip(seconds[name], seconds["proven"], strict=True))
        report[f"against_{name}"] = {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]}
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the ratios, a job a line."""
    default = "mlp:1000,mlp:10000,cnn:1000,cnn:5000,wide:5000"
    options = BenchOptions.parse("throughput", __doc__, f"{default},{default.replace(',', ':stock,')}:stock", argv)
    prepare(DataSpec("mnist"))
    for job in options.jobs:
        found = measure(job, options)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        speeds, parts = found["examples_per_second"], []
        assert isinstance(speeds, dict)
        for name in ("plain", "ddp"):
            ratio = found[f"against_{name}"]
            assert isinstance(ratio, dict)
            parts.append(f"/{name} {ratio['median']:.2f} (min {ratio['min']:.2f}, max {ratio['max']:.2f})")
        rates = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
        print(f"{job!s:>16}  proven {', '.join(parts)}   examples/s: {rates}", flush=True)


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))
