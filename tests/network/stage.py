"""Real processes for tests: a manager with its server, and workers, that can be killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from small_runs import replayed

from podlt.protocol.rules import RunState
from podlt.verify import verify

RECIPE = """
arithmetic = "stock"
[data]
source = "digits"
[model]
name = "podlt.models:mlp"
args = {{ inputs = 64, hidden = {hidden}, outputs = 10 }}
[optimizer]
name = "adamw"
lr = 0.01
[training]
epochs = {epochs}
workers = {workers}
block_lines = {block_lines}
checkpoint_every = 20
seed = 1
"""


def write_recipe(path: Path, *, epochs: int = 6, workers: int = 6, block_lines: int = 120, hidden: int = 32) -> Path:
    """A recipe over digits, in stock arithmetic: about 13 rounds an epoch, some tens of milliseconds each."""
    path.write_text(RECIPE.format(epochs=epochs, workers=workers, block_lines=block_lines, hidden=hidden))
    return path


class Process:
    """A `podlt` command in a process of its own, with its output in a file."""

    def __init__(self, output: Path, *arguments: object) -> None:
        self._output = output
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "from podlt.cli import main; main()", *map(str, arguments)]
        with output.open("ab") as file:
            self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def runs(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self._popen.kill()
        self._popen.wait()

    def end(self, seconds: float = 120.0) -> int:
        """Waits for its end; returns its exit code."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not end; it said:\n{self.text[-3000:]}") from None


class Stage:
    """One run: a manager, its workers, and what can happen to them.

    Args:
        folder: for everything; patience: of the manager, in seconds.
    """

    def __init__(self, folder: Path, recipe: Path, *, patience: float = 15.0) -> None:
        self.folder, self.recipe, self.run = folder, recipe, folder / "run"
        self._patience = patience
        self.workers: dict[str, Process] = {}
        self._options: dict[str, tuple[object, ...]] = {}
        self.manager: Process

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers.values(), getattr(self, "manager", None)]:
            if process is not None and process.runs:
                process.send(signal.SIGCONT)
                process.kill()
        with suppress(ProcessLookupError, TypeError):
            os.kill(self.server(), signal.SIGKILL)

    def start_manager(self, *more: object) -> None:
        """A new run, or one that goes on."""
        which = ("--resume", self.run) if (self.run / "log.db").exists() else (self.recipe, "--run", self.run)
        options = ("--listen", "127.0.0.1", "--patience", self._patience, "--json")
        self.manager = Process(self.folder / "manager.jsonl", "manager", *which, *options, *more)
        self.until(lambda: (self.run / "invitation.txt").exists() or not self.manager.runs)

    def start_worker(self, name: str, *options: object) -> None:
        """A worker with a folder of its own; the same options as before if none are given."""
        self._options.setdefault(name, options)
        arguments = ("worker", self.run / "invitation.txt", "--folder", self.folder / name, *self._options[name])
        self.workers[name] = Process(self.folder / f"{name}.txt", *arguments)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the manager told of one kind, so far."""
        found = []
        for line in (self.folder / "manager.jsonl").read_text().splitlines():
            with suppress(json.JSONDecodeError):
                event = json.loads(line)
                found += [event] if event.get("event") == kind else []
        return found

    def rounds(self) -> int:
        """How many rounds are done."""
        return max((event["round"] + 1 for event in self.events("round")), default=0)

    def until_round(self, number: int) -> None:
        self.until(lambda: self.rounds() >= number)

    def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def server(self) -> int:
        """The process of the NATS server."""
        config = str(self.run / "nats")
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                if "nats-server" in command.split("\0")[0] and config in command:
                    return int(process.name)
        raise ProcessLookupError

    def said(self) -> str:
        """The ends of everybody's output."""
        texts = [f"manager:\n{(self.folder / 'manager.jsonl').read_text()[-2500:]}"]
        return "\n".join([*texts, *(f"{name}:\n{process.text[-1500:]}" for name, process in self.workers.items())])

    def end(self, seconds: float = 180.0) -> RunState:
        """Waits for the end of the run, and of all workers; returns what its log comes to, which must be sound."""
        assert self.manager.end(seconds) == 0, self.said()
        for process in self.workers.values():
            process.end(30)
        verification = verify(self.run, jobs=1)
        assert verification.ok, verification.failure
        state = replayed(self.run)
        assert state.closed is not None and state.closed.outcome == "complete"
        accounts = state.ledger.accounts  # of who is not there at the end, what no check covered stays pending
        assert all(accounts[n].pending == 0 for n, worker in state.workers.items() if worker.status == "active")
        return state
