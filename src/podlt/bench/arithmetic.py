"""Exact arithmetic against stock float32: what a step takes, as multiples of PyTorch's.

One process, one thread, the thread's own processor time; contenders take turns, and medians are compared. Stock is
eager PyTorch with autograd, or the same program on stock operations; exact runs the captured program, as workers do.
All apply the same update, parameter -= rate * gradient.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from podlt import models
from podlt.bench.table import write_between
from podlt.errors import UsageError
from podlt.exact.constants import ADAPTIVE
from podlt.exact.cpu.digits import DigitCache
from podlt.exact.cpu.products import mm
from podlt.execution.task_executor import one_thread
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.losses import CLASSES_LAST
from podlt.program.update import mean

MARK = "arithmetic"
RATE = 1e-4
DIGITS = (1, 2, 3, ADAPTIVE)
_WORDS = [FieldSpec("x", "i64", (128,), None, "input"), FieldSpec("y", "i64", (128,), None, "label")]
_SHORT = [FieldSpec("x", "i64", (32,), None, "input"), FieldSpec("y", "i64", (32,), None, "label")]
_COLOURS = [FieldSpec("x", "f32", (3072,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
_PIXELS = [FieldSpec("x", "f32", (784,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
Contender = Callable[[], object]


@dataclass(frozen=True)
class StepJob:
    """A model, its fields and how many examples a step takes; `update` is false where many tasks share their
    weights."""

    model: Callable[[], nn.Module]
    fields: list[FieldSpec]
    examples: int
    update: bool = True
    loss: str = "cross_entropy"


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


class StridedResidual(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(inner)) + self.shortcut(x))


def resnet() -> nn.Module:
    """Three stages of one residual block, 32 to 128 channels, over 32 x 32 pixels of three colours."""
    stages = (StridedResidual(32, 32, 1), StridedResidual(32, 64, 2), StridedResidual(64, 128, 2))
    first = (nn.Unflatten(1, (3, 32, 32)), nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return nn.Sequential(*first, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def mobilenet() -> nn.Module:
    """Two inverted residuals as MobileNetV2 has them: a wide convolution of single channels between two narrow ones."""

    def block(before: int, wide: int, after: int, stride: int) -> list[nn.Module]:
        grown = [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        each = [nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        return [*grown, *each, nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after)]

    first = (nn.Unflatten(1, (3, 32, 32)), nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
    blocks = (*block(16, 96, 24, 2), *block(24, 144, 32, 1))
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class SmallVit(nn.Module):
    """A vision transformer: 64 patches of 4 x 4 pixels, width 192, two blocks of three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 4, 4)
        self.places = nn.Parameter(torch.zeros(1, 64, 192))
        self.layers = nn.ModuleList([VitBlock(192, 3) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images of 3 x 32 x 32 pixels, flat, to scores."""
        x = self.patches(x.reshape(-1, 3, 32, 32)).flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]


class VitBlock(nn.Module):
    """Attention among all, then a wide layer, each after a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Examples of tokens to examples of tokens."""
        n, length, width = x.shape
        joint = self.joint(self.norms[0](x)).reshape(n, length, 3, self.heads, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.wide(self.norms[1](x))  # type: ignore[no-any-return]


class WordLstm(nn.Module):
    """Words, two layers of LSTM of width 128, and scores for each word that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(96, 128), nn.Linear(128, 96)
        self.recurrence = nn.LSTM(128, 128, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Words to scores."""
        return self.head(self.recurrence(self.words(x))[0])  # type: ignore[no-any-return]


def wide_mlp() -> nn.Module:
    """784-1024-1024-10."""
    layers = (nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return nn.Sequential(*layers)


JOBS: dict[str, StepJob] = {
    "MLP 784-1024-1024-10, 256 examples": StepJob(wide_mlp, _PIXELS, 256),
    "CNN with batch norm and pooling, 64 examples": StepJob(pooled_cnn, _PIXELS, 64),
    "GPT 4 layers, width 256, context 128, 8 examples": StepJob(
        lambda: models.gpt(96, 128, 4, 8, 256), _WORDS, 8, loss=CLASSES_LAST
    ),
    "MLP 784-128-10, 20 examples, weights kept": StepJob(lambda: models.mlp(784, 128, 10), _PIXELS, 20, update=False),
    "MLP 784-128-10, 100 examples, weights kept": StepJob(lambda: models.mlp(784, 128, 10), _PIXELS, 100, update=False),
    "ResNet 3 blocks, 32 to 128 channels, 16 examples": StepJob(resnet, _COLOURS, 16),
    "ViT 2 blocks, width 192, 16 examples": StepJob(SmallVit, _COLOURS, 16),
    "LSTM 2 layers, width 128, 32 steps, 16 examples": StepJob(WordLstm, _SHORT, 16, loss=CLASSES_LAST),
    "depthwise (2 blocks of MobileNetV2), 16 examples": StepJob(mobilenet, _COLOURS, 16),
}
_GOALS = (0.75, 1.0, 1.0, 0.75, 0.75, 1.0, 1.0, 1.5, 1.5)


def random_batch(job: StepJob) -> dict[str, torch.Tensor]:
    """Examples of the right types."""
    generator = torch.Generator().manual_seed(5)
    return {
        f.name: torch.rand((job.examples, *f.shape), generator=generator)
        if f.dtype == "f32"
        else torch.randint(0, 10, (job.examples, *f.shape), generator=generator)
        for f in job.fields
    }


def contenders(job: StepJob, digits: Sequence[int]) -> dict[str, Contender]:
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
        captured = capture(model, job.loss, job.fields, arithmetic=arithmetic)
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
        found[f"exact {_name(count)}"] = programmed(f"exact/{_name(count)}")
    return found


def _like(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.empty_like(state["param:" + name[5:] if name.startswith("grad:") else name])


def products(digits: Sequence[int]) -> dict[str, Contender]:
    """The matrix product of 1024 x 1024 matrices, stock and exact."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    found: dict[str, Contender] = {"stock": lambda: a @ b}
    return found | {f"exact {_name(count)}": lambda count=count: mm(a, b, count) for count in digits}


def _name(digits: int) -> str:
    return "auto" if digits == ADAPTIVE else str(digits)


def averages(count: int, length: int) -> dict[str, Contender]:
    """The mean of so many updates as the manager takes it; there are no digits in it."""
    updates, out = [torch.randn(length) * 0.01 for _ in range(count)], torch.empty(length)
    return {
        "stock": lambda: mean(updates, 1000, "stock", out),
        "exact 2": lambda: mean(updates, 1000, "exact/2", out),
    }


STEPS: dict[str, tuple[float | None, Callable[[], dict[str, Contender]]]] = {
    "product 1024 x 1024 x 1024": (0.6, lambda: products(DIGITS)),
    **{name: (goal, partial(contenders, job, DIGITS)) for (name, job), goal in zip(JOBS.items(), _GOALS, strict=True)},
    "average of 50 updates of 100,000 values": (None, lambda: averages(50, 100_000)),
    "average of 50 updates of 1,000,000 values": (None, lambda: averages(50, 1_000_000)),
}
"""What is timed: the goal for adaptive digits, over stock, if there is one, and what makes the contenders."""


def ratios(runs: Mapping[str, Contender], repeats: int) -> dict[str, float]:
    """Each contender's median seconds over those of "stock", which comes back as its own seconds."""
    medians = {name: statistics.median(values) for name, values in times(runs, repeats, time.perf_counter).items()}
    return {name: m if name == "stock" else m / medians["stock"] for name, m in medians.items()}


def times(runs: Mapping[str, Contender], repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """The seconds of each contender by a clock: all take their turn in each repeat, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            found[name].append(clock() - start)
    return found


def measure(name: str, repeats: int) -> dict[str, object]:
    """One step: stock's milliseconds, and [median, least, largest] of the others over stock and over the program."""
    goal, make = STEPS[name]
    seconds = times(make(), repeats, time.thread_time)
    found: dict[str, object] = {
        "step": name,
        "goal": goal,
        "repeats": repeats,
        "stock_ms": statistics.median(seconds["stock"]) * 1e3,
    }
    for contender, values in seconds.items():
        for base in ("stock", "program"):
            if base in seconds and contender not in ("stock", base):
                each = sorted(a / b for a, b in zip(values, seconds[base], strict=True))
                middle = statistics.median(values) / statistics.median(seconds[base])
                found[f"{contender} / {base}"] = [middle, each[0], each[-1]]
    return found


def as_table(rows: Sequence[Mapping[str, object]], load: Sequence[float]) -> list[str]:
    """The rows as Markdown, after a line that says where and when; a cell is the median (least to largest)."""
    columns = ["program / stock", "exact 1 / stock", "exact 2 / stock", "exact 3 / stock"]
    columns += ["exact auto / stock", "exact auto / program"]

    def cell(row: Mapping[str, object], column: str) -> str:
        found = row.get(column)
        return "{:.2f} ({:.2f} to {:.2f})".format(*found) if isinstance(found, list) else ""

    table = [
        f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {datetime.date.today()}, one thread, "
        f"medians of {rows[0]['repeats'] if rows else 0} turns (least to largest), load {min(load):.1f} to "
        f"{max(load):.1f} meanwhile.",
        "",
        "| step | goal, auto | stock | " + " | ".join(columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']}"
        cells = " | ".join(cell(row, column) for column in columns)
        table.append(f"| {row['step']} | {goal} | {row['stock_ms']:.2f} ms | {cells} |")
    return table


def processor() -> str:
    """What this machine says its processor is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, and puts it into a document if asked to."""
    parser = argparse.ArgumentParser(prog="podlt bench arithmetic", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each contender (default: 15)")
    parser.add_argument("--only", default="", help="only steps whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"put the table between FILE's {MARK!r} marks")
    parser.add_argument("--json", action="store_true", help="one object a step instead of a table")
    options = parser.parse_args(argv)
    names = [name for name in STEPS if options.only in name]
    if not names or options.repeats < 1:
        raise UsageError(f"--only {options.only!r}: expected part of one of {', '.join(STEPS)}, and at least one turn")
    rows, load = [], [os.getloadavg()[0]]
    with one_thread():
        for number, name in enumerate(names, 1):
            print(f"{number}/{len(names)}  {name}", file=sys.stderr, flush=True)
            rows.append(measure(name, options.repeats))
            load.append(os.getloadavg()[0])
            if options.json:
                print(json.dumps(rows[-1]), flush=True)
    if not options.json:
        print("\n".join(as_table(rows, load)))
    if options.write:
        write_between(options.write, MARK, as_table(rows, load))


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
