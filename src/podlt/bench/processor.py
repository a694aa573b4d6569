"""Processor time of a worker's round, by process: what the network takes beyond the engine `local`.

Seconds on the clock depend on whatever else a machine does; processor time hardly does. One worker's round is a task:
dealt, executed, committed to, opened, checked, paid. Its time is that of the manager, of the processes of
`podlt worker` (one for several workers), and of those that execute tasks.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlt.bench.engines import networked
from podlt.bench.jobs import BenchJob, BenchOptions, fitting, proven_rounds, started

PARTS = {
    "podlt.engine.local.host": "executing",
    "podlt.bench.meter": "executing",
    "podlt.engine.isolated.host": "executing",
    "worker": "worker",
}
"""Arguments of a command line, and which part of a run such a process is."""

MANAGER = "manager"


def processor_seconds() -> dict[str, float]:
    """Seconds of processor time that each part of a run has taken so far: this process, and all below it."""
    found = {MANAGER: _taken(os.getpid())}
    for pid in _below(os.getpid()):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            part = next((PARTS[argument] for argument in arguments if argument in PARTS), "")
            if part:
                found[part] = found.get(part, 0.0) + _taken(pid)
        except OSError:  # it has ended
            continue
    return found


def _taken(pid: int) -> float:
    """Of all threads that there are."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def _below(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, left = list[int](), [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def measure(job: BenchJob, options: BenchOptions) -> dict[str, object]:
    """Interleaves rounds of both engines; returns the microseconds of each part a worker's round, medians."""
    remote_run = networked(job, options.workers)
    with started(job.recipe(options.workers)) as (_, local), remote_run as (remote, _):
        rounds = fitting(local, options.rounds, options.repeats)
        proven_rounds(remote, 3)
        contenders = {"local": local, "server": remote}
        took: dict[str, list[Mapping[str, float]]] = {name: [] for name in contenders}
        for repeat in range(options.repeats):
            for name in list(contenders)[:: 1 if repeat % 2 else -1]:
                before, begun = processor_seconds(), time.perf_counter()
                proven_rounds(contenders[name], rounds)
                seconds, after = time.perf_counter() - begun, processor_seconds()
                took[name].append({**{part: after[part] - before[part] for part in after}, "clock": seconds})
        processes = remote.engine.processes
    scale = 1e6 / (rounds * options.workers)
    return {
        "job": str(job),
        "workers": options.workers,
        "processes": processes,
        "rounds": rounds,
        "microseconds": {
            name: {part: statistics.median(one[part] for one in found) * scale for part in found[0]}
            for name, found in took.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line a job and engine."""
    options = BenchOptions.parse("processor", __doc__, "mlp:1000,cnn:5000", argv)
    for job in options.jobs:
        found = measure(job, options)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        took = found["microseconds"]
        assert isinstance(took, dict)
        for name, parts in took.items():
            total = sum(value for part, value in parts.items() if part != "clock")
            listed = ", ".join(f"{part} {value:,.0f}" for part, value in parts.items() if part != "clock" and value > 1)
            clock = f"{parts['clock']:,.0f} by the clock"
            print(f"{job!s:>16}  {name:>6}: {total:,.0f} us a worker-round ({listed}); {clock}", flush=True)


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))
