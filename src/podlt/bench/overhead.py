"""What the proof costs: the same rounds with it and without it, interleaved on one engine.

With the proof, one or two of 50 workers repeat a shard (3 % are checked), and the manager executes at most one
itself (2 %); every update is hashed, committed to, signed, opened, clipped and logged. Without it all 50 are useful,
and their updates are averaged and applied; nothing else differs. The figure is useful examples a second with the proof,
over those without. With `--where`, processor time by cause is printed instead (`podlt.bench.where`).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence

from podlt.bench.jobs import BenchJob, BenchOptions, fitting, proven_rounds, started
from podlt.engine.local import frames
from podlt.engine.local.engine import LocalEngine
from podlt.manager.loop import Trainer
from podlt.manager.setup import TrainingRun
from podlt.protocol.messages import Assignment, Task
from podlt.protocol.plan import Upcoming

NOTHING = bytes(32)


def measure(job: BenchJob, options: BenchOptions) -> dict[str, object]:
    """Interleaves pairs of some rounds each; returns the ratios and what stands behind them."""
    with started(job.recipe(options.workers)) as (run, trainer):
        unproven = Unproven(run, trainer, options.workers, job.batch_size)
        rounds = fitting(trainer, options.rounds, options.repeats)
        unproven.rounds(2)
        contenders = {"with": lambda: proven_rounds(trainer, rounds), "without": lambda: unproven.rounds(rounds)}
        pairs = []
        for repeat in range(options.repeats):
            seconds = {name: contenders[name]() for name in list(contenders)[:: 1 if repeat % 2 else -1]}
            pairs.append((seconds["with"], seconds["without"]))
        ratios, examples = sorted(without / proven for proven, without in pairs), job.batch_size * rounds
        return {
            "job": str(job),
            "workers": options.workers,
            "shard_size": job.batch_size // options.workers,
            "processes": trainer.engine.processes,
            "rounds": rounds,
            "repeats": options.repeats,
            "median": statistics.median(ratios),
            "min": ratios[0],
            "max": ratios[-1],
            "examples_per_second_with": examples / statistics.median(p for p, _ in pairs),
            "examples_per_second_without": examples / statistics.median(w for _, w in pairs),
        }


class Unproven:
    """The same engine, data and optimiser without any of the proof."""

    def __init__(self, run: TrainingRun, trainer: Trainer, workers: int, batch_size: int) -> None:
        self._trainer = trainer
        # Its updates go to a twin: the parameters that workers see must stay those that the log names.
        self._twin = run.weights(trainer.engine.state.copy())
        examples = trainer.batches.examples
        self._plans = [
            Upcoming(0, offset, batch_size, workers) for offset in range(0, examples - batch_size + 1, batch_size)
        ]
        self._next = 0

    def rounds(self, count: int) -> float:
        """Runs rounds; returns the seconds."""
        started_at = time.perf_counter()
        for _ in range(count):
            self._round(self._plans[self._next % len(self._plans)])
            self._next += 1
        return time.perf_counter() - started_at

    def _round(self, plan: Upcoming) -> None:
        trainer, engine = self._trainer, self._trainer.engine
        assert isinstance(engine, LocalEngine)
        batch = trainer.batches.get(plan)
        task = Task(NOTHING, 0, NOTHING, NOTHING, NOTHING, NOTHING)
        assignments = [Assignment(worker, worker, worker, task) for worker in range(plan.shards)]
        engine.deal(batch.buffer, plan.examples, batch.bounds, assignments, proof=False)
        trainer.batches.expect(self._plans[(self._next + 1) % len(self._plans)])
        missing = set(range(plan.shards))
        while missing:
            for event in engine.events():
                assert isinstance(event, frames.Results), event
                missing -= set(event.done)
        examples = [stop - start for start, stop in batch.bounds]
        average = self._twin.average([engine.slot(worker, worker) for worker in range(plan.shards)], examples, 0)
        self._twin.apply(average.data, plan.offset)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the median ratio with min and max, a job a line; with `--where`, processor time by cause instead."""
    jobs = "mlp:1000,cnn:1000,cnn:5000,cnn:20000,cnn:60000"
    options = BenchOptions.parse("overhead", __doc__, jobs, argv, where="processor time by cause instead")
    for job in options.jobs:
        if options.where:
            from podlt.bench import where

            print(where.measure(job, options).text(), flush=True)
            continue
        found = measure(job, options)
        if options.json:
            print(json.dumps(found), flush=True)
        else:
            print(
                f"{job!s:>16}  {found['shard_size']:>5} examples a task   with/without the proof: "
                f"median {found['median']:.3f} (min {found['min']:.3f}, max {found['max']:.3f})   "
                f"{found['examples_per_second_with']:,.0f} against {found['examples_per_second_without']:,.0f} "
                "examples/s",
                flush=True,
            )


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))
