"""How long workers wait: until many have joined, from a worker's command to its first task, after a manager's kill -9.

All are real processes on this machine's loopback, over TLS: a manager, light workers (many identities in
few processes), one worker more that comes while the run goes on, and a manager that is killed and goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from podlt.bench import CODE
from podlt.errors import EngineError

RECIPE = """
[data]
source = "digits"
[model]
name = "podlt.models:mlp"
args = {{ inputs = 64, hidden = 32, outputs = 10 }}
[optimizer]
name = "adamw"
lr = 0.001
[training]
epochs = 3000
workers = {workers}
batch_size = {examples}
"""
EXAMPLES_A_TASK = 2
EVENT_TIMEOUT = 300.0

_TORCH_FIRST = 'import torch; print(\'{"event": "torch"}\', flush=True); ' + CODE


class Command:
    """A podlt command in a process of its own, and its events (JSON lines), each with its time."""

    def __init__(self, log: Path, needs: Sequence[Command], *arguments: object, code: str = CODE) -> None:
        self._log, self.needs = log, needs
        command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file)
        self._events: queue.Queue[tuple[float, dict[str, Any]] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, event: str, condition: Callable[[dict[str, Any]], bool] = lambda message: True) -> float:
        """Waits for an event of a kind that fulfils a condition; returns when it came (`time.perf_counter`).

        Args:
            event: its kind, such as "round".
            condition: of the whole event, as it was printed.

        Raises:
            EngineError: it ended before, or nothing of that kind came in five minutes.
        """
        deadline = time.perf_counter() + EVENT_TIMEOUT
        while True:
            try:
                found = self._events.get(timeout=1.0)
            except queue.Empty:
                if time.perf_counter() > deadline:
                    raise EngineError(f"no {event!r} in {EVENT_TIMEOUT:.0f} s") from None
                for other in self.needs:
                    other.check()
                continue
            if found is None:
                raise EngineError(f"ended before {event!r}: {self._stderr()}")
            if found[1].get("event") == event and condition(found[1]):
                return found[0]

    def check(self) -> None:
        """Says what went wrong if it ended with an error.

        Raises:
            EngineError: it did.
        """
        if (self._process.poll() or 0) > 0:
            raise EngineError(f"a process ended with {self._process.returncode}: {self._stderr()}")

    @property
    def processor_seconds(self) -> float:
        """What the process has taken so far, its threads included (Linux)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _stderr(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def kill(self) -> float:
        """kill -9; returns when."""
        at = time.perf_counter()
        self._process.kill()
        self._process.wait()
        return at

    def stop(self) -> None:
        """Asks it to end, and waits for that."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except json.JSONDecodeError:
                continue
            self._events.put((time.perf_counter(), message))
        self._events.put(None)


def measure(workers: int, processes: int, repeats: int) -> dict[str, object]:
    """Seconds until so many workers joined, from torch to a worker's first task, and from kill -9 to the next round."""
    commands: list[Command] = []

    def started(*arguments: object, code: str = CODE) -> Command:
        commands.append(Command(folder / f"{len(commands)}.log", commands, *arguments, code=code))
        return commands[-1]

    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as name:
        folder = Path(name)
        recipe, run = folder / "recipe.toml", folder / "run"
        recipe.write_text(RECIPE.format(workers=workers, examples=EXAMPLES_A_TASK * workers))
        options = ("--listen", "127.0.0.1", "--name", "127.0.0.1", "--json")
        manager = started("manager", recipe, "--run", run, *options)
        try:
            manager.until("invited")
            joined = crowd(manager, started, run / "invitation.txt", workers, processes)
            manager.until("round", lambda message: message["round"] >= 2)
            more = folder / "more.txt"
            more.write_text(_invitation(run, repeats))
            first = [_first_task(started, more, folder / f"more-{n}") for n in range(repeats)]
            again = []
            for _ in range(repeats):
                killed = manager.kill()
                manager = started("manager", "--resume", run, *options)
                again.append(manager.until("round") - killed)
                manager.until("round")
        finally:
            for command in commands:
                if command is not manager:
                    command.kill()
            manager.stop()
    return {
        "workers": workers,
        "processes": processes,
        "seconds_until_all_joined": joined,
        "seconds_from_torch_to_first_task": statistics.median(first),
        "seconds_from_kill_to_next_round": statistics.median(again),
        "slowest_first_task": max(first),
        "slowest_next_round": max(again),
    }


def crowd(manager: Command, started: Callable[..., Command], line: Path, workers: int, processes: int) -> float:
    """Starts light workers; returns the seconds from their commands until all had joined."""
    began = time.perf_counter()
    for number in range(processes):
        share = len(range(number, workers, processes))
        started("worker", line, "--folder", line.parent.parent / f"crowd-{number}", "--identities", share, "--json")
    last = began
    for _ in range(workers):
        last = manager.until("joined")
    return last - began


def _invitation(run: Path, uses: int) -> str:
    """Another one: the run's own is for as many workers as the recipe asks for."""
    from podlt.access.invitation import write
    from podlt.access.registry import Registry
    from podlt.manager.directory import RunDirectory

    key = RunDirectory.existing(run).manager_key()
    return write(Registry(run).invite(key, uses=uses, now=time.time_ns() // 10**6))


def _first_task(started: Callable[..., Command], line: Path, home: Path) -> float:
    """One more worker comes; returns the seconds after its process has imported torch."""
    worker = started("worker", line, "--folder", home, "--json", code=_TORCH_FIRST)
    imported = worker.until("torch")
    return worker.until("first_task") - imported


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the three figures."""
    parser = argparse.ArgumentParser(prog="podlt bench joining", description=__doc__)
    parser.add_argument("--workers", type=int, default=200, help="light workers; 200 by default")
    parser.add_argument("--processes", type=int, default=2, help="in which they are; 2 by default")
    parser.add_argument("--repeats", type=int, default=3, help="of the join of one more, and of the manager's kill")
    parser.add_argument("--json", action="store_true")
    found = parser.parse_args(argv)
    figures = measure(found.workers, found.processes, found.repeats)
    if found.json:
        print(json.dumps(figures))
        return
    print(
        f"{figures['workers']} workers in {figures['processes']} processes joined in "
        f"{figures['seconds_until_all_joined']:.1f} s; from torch imported to the first task "
        f"{figures['seconds_from_torch_to_first_task']:.1f} s (slowest {figures['slowest_first_task']:.1f}); "
        f"from kill -9 of the manager to the next round {figures['seconds_from_kill_to_next_round']:.1f} s "
        f"(slowest {figures['slowest_next_round']:.1f})"
    )


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
