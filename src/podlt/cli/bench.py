"""`podlt bench`: the measurements behind the figures in the README, each by its name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Annotated

import typer

from podlt.errors import ExitCode, UsageError

BENCHES = {
    "overhead": "useful examples a second with the proof, over those without",
    "throughput": "useful examples a second, over those of plain PyTorch and DistributedDataParallel",
    "engines": "useful examples a second over the network, over those on one machine",
    "processor": "processor time of a worker's round, by process, over the network and on one machine",
    "joining": "how long workers wait: to join, for a first task, for a manager that was killed",
    "fleet": "processor time of a manager, by how many workers it has",
    "unequal": "what a machine that is far slower than the others costs, and one that answers at the last moment",
    "verify": "how long a log of many rounds takes to verify",
    "browser": "how long a browser takes to verify the bundle of a run of many rounds",
    "aggregates": "what sums and fingerprints cost worker, manager and auditor",
    "arithmetic": "exact arithmetic against stock float32",
    "nodes": "where a step's time goes: each operation of a captured model, exact and stock",
    "operations": "each exact operation against torch's own, large and small",
    "accuracy": "final figures with exact digits and stock float32, over seeds",
    "precision": "what products lose where one value hides many, beside bfloat16 and float32",
    "blobs": "what a large blob costs beside the transport alone; in a run, the memory that it takes",
    "capture": "how long capturing a real model takes, and the memory of capture and of a task",
    "data": "a large sorted table: prepared, mixed, read and trained on, and the memory that it takes",
    "rounds": "whether real models train on this machine, and the memory of all processes",
    "start": "how long podlt train takes to its first round",
    "manager": "the manager's processor time a worker and round, by the number of workers",
    "free-moves": "what the rules leave a manager free to do, and what verify says of it",
    "device": "exact arithmetic on a GPU: checked against the golden digests, then timed",
    "page": "how large the dashboard is, and how long a run of many rounds takes to open in a browser",
    "launches": "kernel launches and bytes of exact operations on a GPU, counted without one",
}


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which: " + ", ".join(BENCHES), metavar="NAME")],
) -> None:
    """Measure something on this machine; what follows NAME is the bench's own (try --help after it).

    Examples: podlt bench overhead --jobs mlp:1000 --repeats 7

              podlt bench verify --rounds 1000
    """
    module = f"podlt.bench.{name.replace('-', '_')}"
    if name not in BENCHES or importlib.util.find_spec(module) is None:
        known = "; ".join(f"{bench}: {what}" for bench, what in BENCHES.items())
        raise UsageError(f"no bench named {name!r}: expected one of {known}")
    sys.argv = [
        f"podlt bench {name}",
        *context.args,
    ]  # each is a program: python -m podlt.bench.free_moves
    try:
        importlib.import_module(module).main()
    except SystemExit as end:  # as argparse ends, and a bench that compares
        raise typer.Exit(end.code if isinstance(end.code, int) else ExitCode.HOLDS) from None
