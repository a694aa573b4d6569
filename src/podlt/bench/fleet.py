"""What a worker costs its manager, by how many there are: processor time of the manager a worker and a round.

All are real processes on this machine's loopback, over TLS: a manager, and N identities in a few worker processes, each
with one line of digits a task. The manager's time is all that its process takes: rules, log, signatures, messages, TLS.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from podlt.bench.joining import RECIPE, Command, crowd

WARM_UP = 3
"""Rounds that are not counted."""


def measure(workers: int, processes: int, rounds: int) -> dict[str, float]:
    """Lets so many workers do so many rounds; returns milliseconds of the manager, and the seconds of a round."""
    commands: list[Command] = []

    def started(*arguments: object) -> Command:
        commands.append(Command(folder / f"{len(commands)}.log", commands, *arguments))
        return commands[-1]

    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as name:
        folder = Path(name)
        recipe, run = folder / "recipe.toml", folder / "run"
        recipe.write_text(RECIPE.format(workers=workers, examples=workers))
        options = ("--listen", "127.0.0.1", "--name", "127.0.0.1", "--json")
        manager = started("manager", recipe, "--run", run, *options)
        try:
            manager.until("invited")
            joined = crowd(manager, started, run / "invitation.txt", workers, processes)
            manager.until("round", lambda message: message["round"] >= WARM_UP - 1)
            processor, began = manager.processor_seconds, time.perf_counter()
            manager.until("round", lambda message: message["round"] >= WARM_UP - 1 + rounds)
            spent, took = manager.processor_seconds - processor, time.perf_counter() - began
        finally:
            for command in commands:
                command.kill()
    return {
        "workers": workers,
        "processes": processes,
        "rounds": rounds,
        "seconds_until_all_joined": joined,
        "seconds_a_round": took / rounds,
        "manager_milliseconds_a_round": spent / rounds * 1e3,
        "manager_milliseconds_a_worker_round": spent / rounds / workers * 1e3,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each number of workers."""
    parser = argparse.ArgumentParser(prog="podlt bench fleet", description=__doc__)
    parser.add_argument("--workers", default="10,50,200,1000", help="how many, separated by commas")
    parser.add_argument("--processes", type=int, default=2, help="in which they are; 2 by default")
    parser.add_argument("--rounds", type=int, default=20, help="to measure; 20 by default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    for workers in map(int, given.workers.split(",")):
        found = measure(workers, min(workers, given.processes), given.rounds)
        if given.json:
            print(json.dumps(found), flush=True)
            continue
        print(
            f"{workers:>5,} workers: {found['manager_milliseconds_a_worker_round']:.2f} ms of the manager a worker and "
            f"round ({found['manager_milliseconds_a_round']:.0f} ms a round, which takes "
            f"{found['seconds_a_round']:.2f} s); all joined after {found['seconds_until_all_joined']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
