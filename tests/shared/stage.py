"""Real processes for tests: a manager and workers, that can be killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patience import Patience
from small_runs import entries

from podlt.access.invitation import write
from podlt.access.registry import Registry
from podlt.manager.directory import RunDirectory
from podlt.protocol import entries as e
from podlt.protocol.plan import shard_bounds
from podlt.protocol.rules import RunState
from podlt.verify import verify

RECIPE = """
arithmetic = "{arithmetic}"
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
batch_size = {batch_size}
checkpoint_every = 20
seed = 1
"""


def write_recipe(
    path: Path,
    *,
    epochs: int = 6,
    workers: int = 6,
    batch_size: int = 120,
    hidden: int = 32,
    arithmetic: str = "stock",
) -> Path:
    """A recipe over digits: about 13 rounds an epoch, some tens of milliseconds each in stock arithmetic."""
    path.write_text(
        RECIPE.format(epochs=epochs, workers=workers, batch_size=batch_size, hidden=hidden, arithmetic=arithmetic)
    )
    return path


@dataclass(frozen=True)
class Circumstances:
    """What a process is started in.

    Attributes:
        within: the command that starts it, if any: another network, another processor; environment: besides the usual;
        code: of the process; the command line of podlt by default.
    """

    within: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    code: Sequence[str] = ("-c", "from podlt.cli import main; main()")


USUAL = Circumstances()


class Process:
    """A `podlt` command in a process of its own, with its output in a file."""

    def __init__(self, output: Path, *arguments: object, circumstances: Circumstances = USUAL) -> None:
        self._output, given = output, circumstances
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **given.environment}
        command = [*given.within, sys.executable, *given.code, *map(str, arguments)]
        with output.open("ab") as file:
            self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def pid(self) -> int:
        return self._popen.pid

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
        patience = Patience(seconds)
        while patience.lasts():
            with suppress(subprocess.TimeoutExpired):
                return self._popen.wait(1.0)
        self.kill()
        raise AssertionError(f"it does not end; it said:\n{self.text[-3000:]}")


class Stage:
    """One run: a manager, its workers, and what can happen to them.

    Args:
        folder: for everything; silence_timeout: of the manager, in seconds; listen: the manager's address;
        run: its directory; circumstances: of the manager.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Path,
        *,
        silence_timeout: float = 15.0,
        listen: str = "127.0.0.1",
        run: Path | None = None,
        circumstances: Circumstances = USUAL,
    ) -> None:
        self.folder, self.recipe, self.run = folder, recipe, run or folder / "run"
        self._silence_timeout, self._listen, self.circumstances = silence_timeout, listen, circumstances
        self.workers: dict[str, Process] = {}
        self._options: dict[str, tuple[object, ...]] = {}
        self._circumstances: dict[str, Circumstances] = {}
        self.manager: Process
        self._heard: list[dict[str, Any]] = []
        self._read = 0
        self.invitation = self.run / "invitation.txt"

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers.values(), getattr(self, "manager", None)]:
            if process is not None and process.runs:
                process.send(signal.SIGCONT)
                process.kill()

    def start_manager(self, *more: object) -> None:
        """A new run, or one that goes on."""
        which = ("--resume", self.run) if (self.run / "log.db").exists() else (self.recipe, "--run", self.run)
        options = ("--listen", self._listen, "--silence-timeout", self._silence_timeout, "--json")
        arguments = ("manager", *which, *options, *more)
        self.manager = Process(self.folder / "manager.jsonl", *arguments, circumstances=self.circumstances)
        self.until(lambda: self.invitation.exists() or not self.manager.runs)

    def invite(self, uses: int, operator: str = "") -> None:
        """Workers that start from now on have another invitation: the run's own is for as many as it asks for."""
        key = RunDirectory.existing(self.run).manager_key()
        invitation = Registry(self.run).invite(key, uses=uses, operator=operator, now=time.time_ns() // 10**6)
        self.invitation = self.folder / f"{invitation.name}.txt"  # who was started may not have read the last one yet
        self.invitation.write_text(write(invitation))

    def start_worker(self, name: str, *options: object, circumstances: Circumstances = USUAL) -> None:
        """A worker with a folder of its own; one that was there starts as it did before."""
        self._options.setdefault(name, options)
        given = self._circumstances.setdefault(name, circumstances)
        arguments = ("worker", self.invitation, "--folder", self.folder / name, *self._options[name])
        self.workers[name] = Process(self.folder / f"{name}.txt", *arguments, circumstances=given)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the manager told of one kind, so far."""
        with (self.folder / "manager.jsonl").open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the rest of it comes
                self._read += len(line)
                with suppress(ValueError):
                    self._heard.append(json.loads(line))
        return [event for event in self._heard if event.get("event") == kind]

    def rounds(self) -> int:
        """How many rounds are done."""
        return max((event["round"] + 1 for event in self.events("round")), default=0)

    def until_round(self, number: int) -> None:
        self.until(lambda: self.rounds() >= number)

    def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        """Waits until something is so."""
        patience = Patience(seconds)
        while not condition():
            assert patience.lasts(), self.said()
            time.sleep(0.05)

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
        log = entries(self.run)
        state = RunState()
        for entry in log:
            state.apply(entry)
        assert state.closed is not None and state.closed.outcome == "complete"
        all_committed_work_is_paid(state, log)
        return state

    def nobody_left(self, state: RunState) -> None:
        """Nobody was let go, let alone evicted: membership was that of a run which nothing disturbs."""
        assert not self.events("withdrawn"), self.events("withdrawn")
        assert {worker.status for worker in state.workers.values()} == {"active"}


def all_committed_work_is_paid(state: RunState, log: Sequence[e.Entry]) -> None:
    """Every commitment that stood when its round was revealed earned exactly its examples, and nothing else was earned.

    What stands is read from the commitments themselves (a task that is dealt again has a new holder, or a second one:
    both may have committed in time), and added up anew; who was convicted in a round has no claim on it, and nobody
    else forfeits anything. What was earned is vested for all who were there at the end; who had left by then may have
    some pending, which no later check covered.
    """
    rules = RunState()
    standing: set[tuple[int, int]] = set()
    claims: dict[int, int] = {}
    owed: dict[int, int] = {}
    convicted: set[int] = set()
    ever: set[int] = set()
    for entry in log:
        if isinstance(entry, e.Open):
            standing, convicted = set(), set()
        elif isinstance(entry, e.Commit):
            standing |= {(c.seat, c.holder) for c in entry.commitments}
        rules.apply(entry)
        if isinstance(entry, e.Reveal):
            assert rules.begin is not None
            opened, seats = rules.revealed.open, rules.revealed.roles.seats
            bounds = shard_bounds(opened.examples, len(opened.shards))
            claims = {}
            for one in entry.openings:
                assert (one.seat, one.holder) in standing, f"round {entry.round}: {one.holder} never committed to it"
                start, stop = bounds[seats[one.seat]]
                claims[one.holder] = claims.get(one.holder, 0) + (stop - start) * rules.begin.reward
        elif isinstance(entry, e.Verdict):
            convicted.update(entry.convicted)
            ever.update(entry.convicted)
        elif isinstance(entry, e.Pay):
            earned = {t.worker: t.amount for t in entry.transfers if t.kind == "earn"}
            due = {w: amount for w, amount in claims.items() if amount and w not in convicted}
            assert earned == due, f"round {entry.round}: earned {earned}, and {due} is due"
            for worker, amount in due.items():
                owed[worker] = owed.get(worker, 0) + amount
    for number, worker in state.workers.items():
        account = state.ledger.accounts[number]
        assert account.vested + account.pending + account.forfeited == owed.get(number, 0), f"worker {number}"
        if number not in ever:
            assert account.forfeited == 0, f"worker {number} lost {account.forfeited} credits"
        if worker.status == "active":
            assert account.pending == 0, f"worker {number} has {account.pending} credits pending"
