"""Exact arithmetic against stock float32: `python -m podlt.bench.arithmetic` prints the ratios of docs/NUMERICS.md.

One process, one thread; the contenders take turns, and the medians are compared. Stock is eager PyTorch with autograd;
exact runs the captured program, as workers do. Both apply the same update, parameter -= rate * gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from podlt import models
from podlt.exact.digits import DigitCache
from podlt.exact.products import mm
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec

RATE = 1e-4
_WORDS = [FieldSpec("x", "i64", (128,), None, "input"), FieldSpec("y", "i64", (128,), None, "label")]
_PIXELS = [FieldSpec("x", "f32", (784,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
Contender = Callable[[], object]


@dataclass(frozen=True)
class Job:
    """A model, its fields and how many lines a step takes; `update` is false where many tasks share their weights."""

    model: Callable[[], nn.Module]
    fields: list[FieldSpec]
    lines: int
    update: bool = True


def pooled_cnn() -> nn.Module:
    """Convolution, batch norm, maximum pooling, twice: what PROGRAM.md's list calls a CNN."""
    return nn.Sequential(
        models.Image(1, 28),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )


def wide_mlp() -> nn.Module:
    """784-1024-1024-10."""
    layers = (nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return nn.Sequential(*layers)


JOBS: dict[str, Job] = {
    "MLP 784-1024-1024-10, 256 lines": Job(wide_mlp, _PIXELS, 256),
    "CNN with batch norm and pooling, 64 lines": Job(pooled_cnn, _PIXELS, 64),
    "GPT 4 layers, width 256, context 128, 8 lines": Job(lambda: models.gpt(96, 128, 4, 8, 256), _WORDS, 8),
    "MLP 784-128-10, 20 lines, weights kept": Job(lambda: models.mlp(784, 128, 10), _PIXELS, 20, update=False),
}


def random_batch(job: Job) -> dict[str, torch.Tensor]:
    """Lines of the right types."""
    generator = torch.Generator().manual_seed(5)
    return {
        f.name: torch.rand((job.lines, *f.shape), generator=generator)
        if f.dtype == "f32"
        else torch.randint(0, 10, (job.lines, *f.shape), generator=generator)
        for f in job.fields
    }


def contenders(job: Job, digits: Sequence[int]) -> dict[str, Contender]:
    """The same step by stock PyTorch, by the program on stock operations, and by the program on exact ones."""
    torch.manual_seed(3)
    model = job.model().train()
    batch = random_batch(job)
    parameters = list(model.parameters())

    def stock() -> None:
        logits = model(batch["x"])
        loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch["y"].reshape(-1))
        grads = torch.autograd.grad(loss, parameters)
        if job.update:
            with torch.no_grad():
                for p, g in zip(parameters, grads, strict=True):
                    p.sub_(g, alpha=RATE)

    def programmed(arithmetic: str) -> Contender:
        captured = capture(model, "cross_entropy", job.fields, arithmetic=arithmetic)
        executor = Executor(captured.program)
        state = {name: value.clone() for name, value in captured.state.items()}
        out = {name: torch.empty(()) if name == "loss" else _like(name, state) for name, _ in captured.program.outputs}
        held = [v for name, v in state.items() if name.startswith("param:")]
        cache = DigitCache([] if job.update else held)

        def run() -> None:
            with cache:
                executor.run(state, batch, 7, out)
            if job.update:
                for name, gradient in out.items():
                    if name.startswith("grad:"):
                        state["param:" + name[5:]].sub_(gradient * RATE)

        return run

    found: dict[str, Contender] = {"stock": stock, "program": programmed("stock")}
    for count in digits:
        found[f"exact {count}"] = programmed(f"exact/{count}")
    return found


def _like(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.empty_like(state["param:" + name[5:] if name.startswith("grad:") else name])


def products(digits: Sequence[int]) -> dict[str, Contender]:
    """The matrix product of 1024 x 1024 matrices, stock and exact."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    found: dict[str, Contender] = {"stock": lambda: a @ b}
    return found | {f"exact {count}": lambda count=count: mm(a, b, count) for count in digits}


def ratios(runs: Mapping[str, Contender], repeats: int) -> dict[str, float]:
    """Each contender's median seconds over those of "stock", which comes back as its own seconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {name: m if name == "stock" else m / medians["stock"] for name, m in medians.items()}


def main() -> None:
    """Print the table: stock in milliseconds, the others as multiples of it."""
    parser = argparse.ArgumentParser(description="exact arithmetic against stock float32, on one thread")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", default="", help="only jobs whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digits = (1, 2, 3)
    jobs: dict[str, Callable[[], dict[str, Contender]]] = {"product 1024 x 1024 x 1024": lambda: products(digits)}
    for name, job in JOBS.items():
        jobs[name] = lambda job=job: contenders(job, digits)  # type: ignore[misc]
    print("| step | stock | stock operations as a program | 1 digit | 2 digits | 3 digits |\n|---|---|---|---|---|---|")
    for name, make in jobs.items():
        if arguments.only in name:
            found = ratios(make(), arguments.repeats)
            cells = [f"{found[k]:.2f}" if k in found else "" for k in ("program", "exact 1", "exact 2", "exact 3")]
            print(f"| {name} | {found['stock'] * 1e3:.2f} ms | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
