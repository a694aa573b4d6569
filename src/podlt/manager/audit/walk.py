"""The audit's walk through a run's rounds, from the first parameters on: claims FRAGMENTS to FIGURES."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from podlt import crypto
from podlt.data.dataset import fragment_digest_of
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
from podlt.manager.blocks import line_ids
from podlt.manager.weights import Weights
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import randomness
from podlt.protocol.plan import Upcoming, fragment_bounds

Arrays = Mapping[str, np.ndarray]

WALKED = (
    Claim.FRAGMENTS,
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
        drawn: which fragments of which round (by its place in the log) are executed again.
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

    # -- lines -------------------------------------------------------------------------------------------------------

    def _tasks(self, logged: LoggedRound) -> tuple[dict[int, Arrays], str]:
        """The lines of each fragment that is made of those that were due, and why the others are missing."""
        tally, opened = self.tallies[Claim.FRAGMENTS], logged.open
        train = self._subject.train
        if train is None:
            tally.miss(self._subject.no_data, logged.number)
            return {}, self._subject.no_data
        plan = Upcoming(opened.epoch, opened.offset, opened.lines, len(opened.fragments))
        ids = line_ids(self._orders, train.lines, self._begin.seed, plan)
        lines = train.read(ids)
        found: dict[int, Arrays] = {}
        for fragment, (start, stop) in enumerate(fragment_bounds(opened.lines, len(opened.fragments))):
            piece = {name: values[start:stop] for name, values in lines.items()}
            if fragment_digest_of(train.fields, piece) == opened.fragments[fragment]:
                found[fragment] = piece
            else:
                tally.faults.append(
                    f"round {logged.number}: fragment {fragment} is not made of the lines that were due"
                )
        tally.done += len(opened.fragments)
        return found, "it was given other lines than were due"

    # -- results -----------------------------------------------------------------------------------------------------

    def _execute(
        self, logged: LoggedRound, tasks: Mapping[int, Arrays], wanted: list[int], problem: str
    ) -> dict[int, np.ndarray | None]:
        """What executing gives: None where it gives nothing finite. Tasks that cannot be executed are missing."""
        found: dict[int, np.ndarray | None] = {}
        tally = self.tallies[Claim.RESULTS]
        with self._execute_task.unchanging(self._weights.views):
            for fragment in wanted:
                why = self._subject.no_execution
                if not self.replay.known:
                    why = "the round's parameters are not known"
                elif fragment not in tasks:
                    why = problem
                if why:
                    tally.miss(why, logged.number)
                    continue
                try:
                    found[fragment] = self._one(logged, fragment, tasks[fragment])
                except DivergedError:
                    found[fragment] = None
                except (PodltError, RuntimeError, IndexError, ValueError) as error:
                    tally.miss(f"a task could not be executed here: {error}", logged.number)
        self.executed += len(found)
        return found

    def _one(self, logged: LoggedRound, fragment: int, lines: Arrays) -> np.ndarray:
        chance = randomness(self._begin.seed, logged.number, logged.open.fragments[fragment])
        out = np.zeros(self._weights.update_layout.nbytes, np.uint8)
        self._execute_task(self._weights.views, as_batch(lines), chance, out)
        return out

    def _compare(self, logged: LoggedRound, digests: Mapping[int, bytes]) -> None:
        tally = self.tallies[Claim.RESULTS]
        for fragment, digest in digests.items():
            tally.done += 1
            for worker, result in sorted(logged.results[fragment].items()):
                if result == digest:
                    self.agreeing += 1
                    continue
                convicted = worker in self._subject.convicted
                self.mismatches.append(Mismatch(logged.number, fragment, worker, convicted, result, digest))
                if not convicted:
                    tally.faults.append(
                        f"round {logged.number}, fragment {fragment}: worker {worker} gave {result.hex()[:16]}, "
                        f"executing the task gives {_shown(digest)}, and it was never convicted"
                    )

    def _convictions(self, logged: LoggedRound, digests: Mapping[int, bytes], wanted: list[int]) -> None:
        tally = self.tallies[Claim.CONVICTIONS]
        for fragment in logged.convicting():
            verdict = logged.verdicts[fragment]
            if fragment not in wanted:
                self.skipped_convictions += 1
                continue
            if fragment not in digests:
                tally.miss("the task could not be executed", logged.number)
                continue
            digest, results = digests[fragment], logged.results[fragment]
            innocent = [worker for worker in verdict.convicted if results.get(worker) == digest]
            tally.done += 1
            if verdict.accepted == digest and not innocent:
                continue
            self.false_convictions.append(
                FalseConviction(logged.number, fragment, verdict.outcome, verdict.accepted, digest, innocent)
            )
            said = f"round {logged.number}, fragment {fragment}: by {_RULES[verdict.outcome]} the log accepts "
            what = f"{said}{verdict.accepted.hex()[:16]}, executing the task gives {_shown(digest)}"
            who = f"; worker {' and '.join(map(str, innocent))} gave just that, and was convicted" if innocent else ""
            tally.faults.append(what + who)

    # -- what was applied --------------------------------------------------------------------------------------------

    def _fakes(self, logged: LoggedRound, digests: Mapping[int, bytes]) -> None:
        for fragment, digest in digests.items():
            self.fakes_among += 1
            accepted = logged.accepted[fragment]
            if accepted != digest:
                workers = sorted(w for w, result in logged.results[fragment].items() if result == accepted)
                self.fakes.append(Fake(logged.number, fragment, workers))


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
