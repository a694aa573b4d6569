"""The audit's walk through a run's rounds, from the first parameters on: claims SHARDS to FIGURES."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from podlt import crypto
from podlt.data.dataset import shard_digest_of
from podlt.data.order import EpochOrder
from podlt.errors import DivergedError, PodltError
from podlt.execution.task_executor import TaskExecutor, as_batch
from podlt.manager.audit.aggregates import AggregateCheck
from podlt.manager.audit.logged import LoggedRound
from podlt.manager.audit.model import compare_figures
from podlt.manager.audit.replay import Replay
from podlt.manager.audit.report import Fake, FalseConviction, Mismatch
from podlt.manager.audit.subject import Subject
from podlt.manager.audit.tally import Tally
from podlt.manager.batches import example_ids
from podlt.manager.weights import Weights
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import randomness
from podlt.protocol.plan import Upcoming, shard_bounds

Arrays = Mapping[str, np.ndarray]

WALKED = (
    Claim.SHARDS,
    Claim.RESULTS,
    Claim.CONVICTIONS,
    Claim.NO_FAKES,
    Claim.FIGURES,
)


class Walk:
    """Walks a run's rounds again, and tallies what it finds.

    Args:
        subject: what is audited.
        weights: hold the first parameters if `known`; changed in place.
        execute: executes a task.
        drawn: which shards of which round (by its place in the log) are executed again.
        known: whether the parameters are known where the walk begins.
        aggregates: checks averages by fingerprints, if that was asked for.
    """

    def __init__(
        self,
        subject: Subject,
        weights: Weights,
        execute: TaskExecutor,
        drawn: Mapping[int, set[int]],
        *,
        known: bool,
        aggregates: AggregateCheck | None = None,
    ) -> None:
        self.aggregates = aggregates
        self._subject, self._begin = subject, subject.begin
        self._weights, self._execute_task = weights, execute
        self._drawn = drawn
        self.replay = Replay(subject, weights, known=known)
        self._orders: dict[int, EpochOrder] = {}
        self.tallies = {claim: Tally() for claim in WALKED} | self.replay.tallies
        self.applied = self.applied_tasks = self.executed = self.agreeing = self.fakes_among = (
            self.skipped_convictions
        ) = 0
        self.mismatches: list[Mismatch] = []
        self.false_convictions: list[FalseConviction] = []
        self.fakes: list[Fake] = []
        self.figures_equal = True

    def round(self, place: int, logged: LoggedRound) -> None:
        """Checks one round.

        Args:
            place: of the round in the log, from 0.
            logged: what the log says of it.
        """
        self.replay.reach(logged)
        tasks, problem = self._tasks(logged)
        wanted = sorted(self._drawn.get(place, ()))
        executed = self._execute(logged, tasks, wanted, problem)
        digests = {f: crypto.blob_digest(update.data) if update is not None else b"" for f, update in executed.items()}
        self._compare(logged, digests)
        self._convictions(logged, digests, wanted)
        if logged.apply is not None:
            self.applied += 1
            self.applied_tasks += len(logged.results)
            self._fakes(logged, digests)
            average = self.replay.average(logged, logged.apply, executed, digests, wanted)
            if self.aggregates is not None:
                average = self.aggregates.round(logged, logged.apply, executed, digests) or average
            self.replay.apply(logged, logged.apply, average)

    def measure(self, entry: e.Measure) -> None:
        """Checks the figures of an epoch."""
        tally, subject = self.tallies[Claim.FIGURES], self._subject
        if subject.test is None or subject.rebuilt.module is None or subject.rebuilt.loss is None:
            why = subject.no_data or subject.rebuilt.why
            tally.missing.setdefault(why, [])
        elif not self.replay.known or self._weights.digest() != entry.parameters:
            tally.missing.setdefault("the parameters after the epochs are not known here", [])
        else:
            found = compare_figures(entry, subject.rebuilt, self._weights, subject.test, subject.validation)
            tally.done += found.done
            tally.faults += found.faults
            self.figures_equal = self.figures_equal and found.equal
            for why in found.unchecked.values():
                tally.missing.setdefault(why, [])

    # -- examples
    # -------------------------------------------------------------------------------------------------------

    def _tasks(self, logged: LoggedRound) -> tuple[dict[int, Arrays], str]:
        """The examples of each shard that is made of those that were due, and why the others are missing."""
        tally, opened = self.tallies[Claim.SHARDS], logged.open
        train = self._subject.train
        if train is None:
            tally.miss(self._subject.no_data, logged.number)
            return {}, self._subject.no_data
        plan = Upcoming(opened.epoch, opened.offset, opened.examples, len(opened.shards))
        ids = example_ids(self._orders, train.examples, self._begin.seed, plan)
        examples = train.read(ids)
        found: dict[int, Arrays] = {}
        for shard, (start, stop) in enumerate(shard_bounds(opened.examples, len(opened.shards))):
            piece = {name: values[start:stop] for name, values in examples.items()}
            if shard_digest_of(train.fields, piece) == opened.shards[shard]:
                found[shard] = piece
            else:
                tally.faults.append(f"round {logged.number}: shard {shard} is not made of the examples that were due")
        tally.done += len(opened.shards)
        return found, "it was given other examples than were due"

    # -- results -----------------------------------------------------------------------------------------------------

    def _execute(
        self, logged: LoggedRound, tasks: Mapping[int, Arrays], wanted: list[int], problem: str
    ) -> dict[int, np.ndarray | None]:
        """What executing gives: None where it gives nothing finite. Tasks that cannot be executed are missing."""
        found: dict[int, np.ndarray | None] = {}
        tally = self.tallies[Claim.RESULTS]
        with self._execute_task.unchanging(self._weights.views):
            for shard in wanted:
                why = self._subject.no_execution
                if not self.replay.known:
                    why = "the round's parameters are not known"
                elif shard not in tasks:
                    why = problem
                if why:
                    tally.miss(why, logged.number)
                    continue
                try:
                    found[shard] = self._one(logged, shard, tasks[shard])
                except DivergedError:
                    found[shard] = None
                except (PodltError, RuntimeError, IndexError, ValueError) as error:
                    tally.miss(f"a task could not be executed here: {error}", logged.number)
        self.executed += len(found)
        return found

    def _one(self, logged: LoggedRound, shard: int, examples: Arrays) -> np.ndarray:
        chance = randomness(self._begin.seed, logged.number, logged.open.shards[shard])
        out = np.zeros(self._weights.update_layout.nbytes, np.uint8)
        self._execute_task(self._weights.views, as_batch(examples), chance, out)
        return out

    def _compare(self, logged: LoggedRound, digests: Mapping[int, bytes]) -> None:
        tally = self.tallies[Claim.RESULTS]
        for shard, digest in digests.items():
            tally.done += 1
            for worker, result in sorted(logged.results[shard].items()):
                if result == digest:
                    self.agreeing += 1
                    continue
                convicted = worker in self._subject.convicted
                self.mismatches.append(Mismatch(logged.number, shard, worker, convicted, result, digest))
                if not convicted:
                    tally.faults.append(
                        f"round {logged.number}, shard {shard}: worker {worker} gave {result.hex()[:16]}, "
                        f"executing the task gives {_shown(digest)}, and it was never convicted"
                    )

    def _convictions(self, logged: LoggedRound, digests: Mapping[int, bytes], wanted: list[int]) -> None:
        tally = self.tallies[Claim.CONVICTIONS]
        for shard in logged.convicting():
            verdict = logged.verdicts[shard]
            if shard not in wanted:
                self.skipped_convictions += 1
                continue
            if shard not in digests:
                tally.miss("the task could not be executed", logged.number)
                continue
            digest, results = digests[shard], logged.results[shard]
            innocent = [worker for worker in verdict.convicted if results.get(worker) == digest]
            tally.done += 1
            if verdict.accepted == digest and not innocent:
                continue
            self.false_convictions.append(
                FalseConviction(logged.number, shard, verdict.outcome, verdict.accepted, digest, innocent)
            )
            said = f"round {logged.number}, shard {shard}: by {_RULES[verdict.outcome]} the log accepts "
            what = f"{said}{verdict.accepted.hex()[:16]}, executing the task gives {_shown(digest)}"
            who = f"; worker {' and '.join(map(str, innocent))} gave just that, and was convicted" if innocent else ""
            tally.faults.append(what + who)

    # -- what was applied --------------------------------------------------------------------------------------------

    def _fakes(self, logged: LoggedRound, digests: Mapping[int, bytes]) -> None:
        for shard, digest in digests.items():
            self.fakes_among += 1
            accepted = logged.accepted[shard]
            if accepted != digest:
                workers = sorted(w for w, result in logged.results[shard].items() if result == accepted)
                self.fakes.append(Fake(logged.number, shard, workers))


_RULES = {"vote": "a vote", "referee": "the manager's own word", "agree": "agreement"}


def _shown(digest: bytes) -> str:
    return digest.hex()[:16] if digest else "nothing finite"


def walked(items: Iterator[LoggedRound | e.Measure], walk: Walk) -> Iterator[int]:
    """Walks through a log; gives after each round how many there were."""
    place = 0
    for item in items:
        if isinstance(item, e.Measure):
            walk.measure(item)
            continue
        walk.round(place, item)
        place += 1
        yield place
