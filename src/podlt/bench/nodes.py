"""Where a step's time goes: each operation of a captured model, exact and by PyTorch's kernels.

The steps are those of `podlt bench arithmetic`. One process, one thread, the thread's own processor time between the
nodes of a program; both arithmetics take turns, and medians are added up by operation. `--dispatch` says what the
executor itself adds to each operation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from podlt.bench.arithmetic import JOBS, StepJob, random_batch
from podlt.errors import UsageError
from podlt.execution.task_executor import one_thread
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import Node, Program, TensorType
from podlt.program.operations import STOCK_ARITHMETIC, table

EXACT = "exact/auto"


@dataclass(frozen=True)
class NodeTime:
    """What the nodes of one operation take in a step.

    Args:
        operation: as programs name it.
        nodes: how many there are.
        exact: milliseconds of all together.
        stock: the same by PyTorch's kernels.
    """

    operation: str
    nodes: int
    exact: float
    stock: float


def timed(job: StepJob, arithmetic: str) -> tuple[list[str], Callable[[], list[float]]]:
    """The operation of each node of a step, and what runs the step and gives each node's seconds."""
    torch.manual_seed(3)
    captured = capture(job.model().train(), job.loss, job.fields, arithmetic=arithmetic)
    executor, batch, state = Executor(captured.program), random_batch(job), captured.state
    out = {
        name: torch.empty(())
        if name == "loss"
        else torch.empty_like(state["param:" + name[5:] if name.startswith("grad:") else name])
        for name, _ in captured.program.outputs
    }

    def run() -> list[float]:
        seconds: list[float] = []
        last = [time.thread_time()]

        def trace(number: int, outputs: Sequence[torch.Tensor]) -> None:
            seconds.append(time.thread_time() - last[0])
            last[0] = time.thread_time()

        executor.run(state, batch, 7, out, trace)
        return seconds

    return [node.operation for node in captured.program.nodes], run


def measure(job: StepJob, repeats: int) -> list[NodeTime]:
    """A step's operations, what takes most first."""
    steps = {arithmetic: timed(job, arithmetic) for arithmetic in (EXACT, STOCK_ARITHMETIC)}
    found: dict[str, list[list[float]]] = {arithmetic: [] for arithmetic in steps}
    for _, run in steps.values():
        run()
    for _ in range(repeats):
        for arithmetic, (_, run) in steps.items():
            found[arithmetic].append(run())
    totals: dict[str, dict[str, float]] = {}
    for arithmetic, (operations, _) in steps.items():
        medians = [statistics.median(turns) for turns in zip(*found[arithmetic], strict=True)]
        for operation, median in zip(operations, medians, strict=True):
            own = totals.setdefault(operation, dict.fromkeys(steps, 0.0))
            own[arithmetic] += median * 1e3
    operations = steps[EXACT][0]
    rows = [NodeTime(name, operations.count(name), own[EXACT], own[STOCK_ARITHMETIC]) for name, own in totals.items()]
    return sorted(rows, key=lambda row: -row.exact)


def dispatch_cost(count: int, repeats: int) -> float:
    """What an executor adds to an operation, in microseconds: a long program of them less the same calls in a loop.

    Args:
        count: operations of the program.
        repeats: turns; the least of each contender counts.
    """
    kind = TensorType("f32", (8,))
    operations = [Node("sub.Tensor", [{"v": i + 1}, {"v": 0}], {}, (i + 2,)) for i in range(count)]
    given = ("param:w", "frozen:x")
    program = Program(EXACT, (kind,) * (count + 2), given, tuple(operations), (("loss", count + 1),))
    executor, subtract = Executor(program), table(EXACT)["sub.Tensor"]
    state, out = {name: torch.zeros(8) for name in given}, {"loss": torch.empty(8)}
    batch = {"line": torch.zeros(1)}

    def plain() -> None:
        x, w = state["frozen:x"], state["param:w"]
        with torch.no_grad():
            for _ in range(count):
                x = subtract(x, w)

    def least(run: Callable[[], None]) -> float:
        start = time.thread_time()
        run()
        return time.thread_time() - start

    turns = [(least(lambda: executor.run(state, batch, 7, out)), least(plain)) for _ in range(repeats + 1)][1:]
    return (min(turn[0] for turn in turns) - min(turn[1] for turn in turns)) / count * 1e6


def as_table(rows: Sequence[NodeTime]) -> list[str]:
    """The rows as Markdown, and their sums."""
    total = NodeTime("all", *(sum(getattr(row, name) for row in rows) for name in ("nodes", "exact", "stock")))
    return [
        "| operation | nodes | exact, ms | stock, ms |",
        "|---|---|---|---|",
        *(f"| {row.operation} | {row.nodes} | {row.exact:.3f} | {row.stock:.3f} |" for row in [*rows, total]),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table a step."""
    parser = argparse.ArgumentParser(prog="podlt bench nodes", description=__doc__)
    parser.add_argument("--only", default="GPT", help="steps whose name contains this (default: GPT)")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each arithmetic (default: 9)")
    parser.add_argument("--dispatch", action="store_true", help="instead: what the executor adds to an operation")
    parser.add_argument("--json", action="store_true", help="one object an operation instead of a table")
    options = parser.parse_args(argv)
    names = [name for name in JOBS if options.only in name]
    if not names or options.repeats < 1:
        raise UsageError(f"--only {options.only!r}: expected part of one of {', '.join(JOBS)}, and at least one turn")
    with one_thread():
        if options.dispatch:
            print(f"the executor adds {dispatch_cost(2000, 5 * options.repeats):.2f} us to an operation (goal: 2)")
            return
        for name in names:
            rows = measure(JOBS[name], options.repeats)
            if options.json:
                print("\n".join(json.dumps({"step": name, **vars(row)}) for row in rows), flush=True)
            else:
                print(f"{name}\n\n" + "\n".join(as_table(rows)) + "\n", flush=True)


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
