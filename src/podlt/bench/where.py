"""Where the cost of the proof goes: processor time of a round by cause, with the proof and without it.

Processor time hardly depends on what else a machine does; where the workers keep all cores busy, it is what the proof
costs. What the manager does while nobody computes counts more than that: it is printed as well.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from podlt.bench.jobs import BenchJob, BenchOptions, fitting, started
from podlt.bench.meter import FOLDER, Meter, Took
from podlt.bench.overhead import Unproven
from podlt.bench.processor import processor_seconds
from podlt.engine.local.process import HostProcess
from podlt.engine.local.workplace import LocalMachine
from podlt.manager.loop import Trainer

MANAGER = {
    "podlt.protocol.manager:Manager.open": "rules and books",
    "podlt.protocol.manager:Manager.committed": "rules and books",
    "podlt.protocol.manager:Manager.commit": "rules and books",
    "podlt.protocol.manager:Manager.opened": "rules and books",
    "podlt.protocol.manager:Manager.reveal": "rules and books",
    "podlt.protocol.manager:Manager.judge": "rules and books",
    "podlt.protocol.manager:Manager.apply": "rules and books",
    "podlt.protocol.manager:Manager.pay": "rules and books",
    "podlt.crypto:is_signed": "signatures verified",
    "podlt.engine.members:FixedMembers.digest": "manager hashes updates",
    "podlt.manager.batches:shard_digest_of": "manager hashes examples",
    "podlt.manager.batches:BatchReader._fill": "examples read",
    "podlt.manager.round_driver:RoundDriver._execute": "manager's own tasks",
    "podlt.manager.round_driver:RoundDriver._each": "answers taken",
    "podlt.manager.round_driver:RoundDriver._suspects": "looks for odd updates",
    "podlt.manager.weights:part_squares": "sizes of updates, for clipping",
    "podlt.manager.weights:Weights.average": "average",
    "podlt.manager.weights:Weights.apply": "optimiser's step",
    "podlt.manager.weights:Weights.infinite": "optimiser's step",
    "podlt.manager.weights:Weights.digest": "manager hashes parameters, average",
    "podlt.manager.weights:Average.digest": "manager hashes parameters, average",
    "podlt.manager.log_writer:LogWriter.write": "entries encoded, Merkle tree",
    "podlt.store.log_store:LogStore.append": "log written",
    "podlt.manager.round_files:RoundFiles.write": "files of a round",
    "podlt.manager.log_writer:LogWriter._commit": "tree head signed",
    "podlt.engine.local.frames:send": "frames, manager",
    "podlt.engine.local.frames:receive": "frames, manager",
    "podlt.engine.local.engine:LocalEngine.deal": "frames, manager",
    "podlt.engine.local.engine:LocalEngine.open": "frames, manager",
    "podlt.manager.round_driver:RoundDriver.collect": "waits for answers",
    "podlt.manager.loop:Trainer.round": "the manager's loop",
}
"""What the manager's process does."""

LOOP = "the worker's loop"

ONCE_A_ROUND = (
    LOOP,
    "parameters cut into digits",
    "a worker opens",
    "a worker hashes the parameters",
    "worker frames",
)
"""What a process of workers does some times a round, and not once a task."""


class Metered(HostProcess):
    """A process that hosts workers, and is timed."""

    module = "podlt.bench.meter"


class Where(msgspec.Struct, frozen=True):
    """What rounds took, in milliseconds of processor time a round of as many shards as there are workers.

    Attributes:
        job: what was trained.
        rounds: how many, with the proof.
        useful: shards of a round, in the mean.
        tasks: that workers executed, for so many shards as there are workers.
        own: that the manager executed.
        alone: what the manager takes while no worker computes.
        proven: part of the run -> with the proof.
        unproven: part of the run -> without it.
        causes: cause -> with the proof.
        calls: cause -> how many.
    """

    job: str
    rounds: int
    useful: float
    tasks: float
    own: float
    alone: float
    proven: dict[str, float]
    unproven: dict[str, float]
    causes: dict[str, float]
    calls: dict[str, float]

    @property
    def ratio(self) -> float:
        """Useful examples for a second of processor time, over those without the proof."""
        return sum(self.unproven.values()) / sum(self.proven.values())

    def text(self) -> str:
        """As a table."""
        total, without = sum(self.proven.values()), sum(self.unproven.values())
        lines = [
            f"{self.job}: {self.useful:.2f} useful tasks of a round, {self.tasks:.2f} executed a batch, {self.own:.2f} "
            f"by the manager as well; {self.rounds} rounds",
            f"  processor time of a batch: {total:.1f} ms with the proof {_parts(self.proven)}, {without:.1f} ms "
            f"without it {_parts(self.unproven)}: ratio {self.ratio:.3f}",
            f"  the manager takes {self.alone:.1f} ms of it while no worker computes",
        ]
        rest = total - sum(self.causes.values())
        for cause, took in sorted([*self.causes.items(), ("what is not named here", rest)], key=lambda one: -one[1]):
            calls = self.calls.get(cause, 0.0)
            lines.append(f"    {cause:38} {took:9.3f} ms {100 * took / total:6.2f} %   {calls:7.1f} calls")
        return "\n".join(lines)


def measure(job: BenchJob, options: BenchOptions) -> Where:
    """Times rounds with the proof and without it, in turns."""
    with tempfile.TemporaryDirectory(prefix="podlt-meter-") as folder:
        os.environ[FOLDER] = folder
        with started(job.recipe(options.workers), LocalMachine(0, {}, Metered)) as (run, trainer):
            unproven = Unproven(run, trainer, options.workers, job.batch_size)
            rounds = fitting(trainer, options.rounds, options.repeats)
            unproven.rounds(2)
            tally = _Tally(trainer, options.workers)
            for _ in range(options.repeats):
                tally.proven(rounds)
                tally.unproven(unproven, rounds)
        return tally.result(str(job), Path(folder))


class _Tally:
    """Adds up what rounds take.

    Args:
        trainer: of the run.
        workers: how many.
    """

    def __init__(self, trainer: Trainer, workers: int) -> None:
        self._trainer, self._workers = trainer, workers
        self._meter = Meter()
        self._meter.watch(MANAGER)
        self._took: dict[str, Took] = {}
        self._parts = {True: dict[str, float](), False: dict[str, float]()}
        self._rounds = self._shards = self._seats = 0

    def proven(self, rounds: int) -> None:
        """Some rounds with the proof."""
        found, before, manager = self._meter.found(), processor_seconds(), self._trainer.manager
        for _ in range(rounds):
            plan = manager.upcoming()
            assert plan is not None
            self._trainer.round(plan)
            self._rounds, self._shards = self._rounds + 1, self._shards + plan.shards
            self._seats += plan.shards + manager.state.spares(manager.state.round - 1, self._workers)
        self._trainer.flush()
        self._add(before, proof=True)
        for cause, took in self._meter.found().items():
            known, new = self._took.get(cause, Took()), took.since(found.get(cause, Took()))
            self._took[cause] = Took(known.seconds + new.seconds, known.whole + new.whole, known.calls + new.calls)

    def unproven(self, contender: Unproven, rounds: int) -> None:
        """Some rounds without the proof."""
        before = processor_seconds()
        contender.rounds(rounds)
        self._add(before, proof=False)

    def _add(self, before: Mapping[str, float], *, proof: bool) -> None:
        total = self._parts[proof]
        for part, seconds in processor_seconds().items():
            total[part] = total.get(part, 0.0) + seconds - before.get(part, 0.0)

    def result(self, job: str, folder: Path) -> Where:
        """What was found, with what the processes left in a folder when they ended."""
        useful = self._shards / self._rounds
        batch = self._workers / useful  # a guarded round takes a bit less than a batch
        scale = 1e3 * batch / self._rounds
        causes = {cause: took.seconds * scale for cause, took in self._took.items()}
        calls = {cause: took.calls * batch / self._rounds for cause, took in self._took.items()}
        tasks = self._seats / self._rounds * batch
        hosts = _of_workers(folder)
        for cause, took in hosts.items():
            once = took.calls / hosts[LOOP].calls * len(list(folder.iterdir())) * batch
            times = once if cause in ONCE_A_ROUND else tasks
            causes[cause], calls[cause] = 1e3 * took.seconds / took.calls * times, times
        round, collect = self._took["the manager's loop"], self._took["waits for answers"]
        return Where(
            job=job,
            rounds=self._rounds,
            useful=useful,
            tasks=tasks,
            own=calls.get("manager's own tasks", 0.0),
            alone=(round.whole - collect.whole) * scale,
            proven={part: seconds * scale for part, seconds in self._parts[True].items()},
            unproven={part: seconds * 1e3 / self._rounds for part, seconds in self._parts[False].items()},
            causes=causes,
            calls=calls,
        )


def _of_workers(folder: Path) -> dict[str, Took]:
    """What the processes of workers took, all rounds and both kinds together: only the mean of a call is of use."""
    found: dict[str, Took] = {}
    for path in folder.iterdir():
        for cause, took in msgspec.json.decode(path.read_bytes(), type=dict[str, Took]).items():
            known = found.get(cause, Took())
            found[cause] = Took(known.seconds + took.seconds, known.whole + took.whole, known.calls + took.calls)
    return found


def _parts(parts: Mapping[str, float]) -> str:
    return "(" + ", ".join(f"{part} {took:.1f}" for part, took in parts.items() if took > 0) + ")"
