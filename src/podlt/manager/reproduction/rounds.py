"""Rounds of a log, trained again from the data: which is the first whose result is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from podlt import crypto
from podlt.manager.amendments import Optimizers
from podlt.manager.audit.data import AuditData
from podlt.manager.audit.logged import LoggedRound
from podlt.manager.audit.model import Rebuilt, compare_figures
from podlt.manager.audit.updates import StoredUpdates
from podlt.manager.reproduction.execution import RoundExecutor
from podlt.manager.reproduction.report import Difference, FakedRound, Reproduction, TensorDeviation
from podlt.manager.weights import Average, Weights
from podlt.protocol import entries as e
from podlt.protocol.plan import examples_seen, shard_bounds
from podlt.store.run_files import RunFiles

MOST_DEVIATIONS = 5
"""Tensors that are named."""


class RoundTrainer:
    """Trains rounds again, one after another.

    Args:
        begin: the run's first entry.
        weights: hold the first parameters; changed in place.
        executor: executes rounds.
        optimizers: of every round.
        files: the run: its updates, where they are kept.
        convicted: who was convicted, at whatever time.
        causes: what a difference may come from.
        entries: round -> number of the entry that applied its update.
        stock: whether arithmetic is PyTorch's own, which rounds otherwise on another machine.

    Attributes:
        unmeasured: why figures on the test set were not evaluated; "" if they were.
    """

    def __init__(
        self,
        begin: e.Begin,
        weights: Weights,
        executor: RoundExecutor,
        optimizers: Optimizers,
        files: RunFiles,
        convicted: frozenset[int],
        causes: Sequence[str],
        entries: Mapping[int, int],
        stock: bool,
    ) -> None:
        self._begin, self._weights, self._executor = begin, weights, executor
        self._optimizers, self._convicted = optimizers, convicted
        self._updates, self._causes = StoredUpdates(files, weights), list(causes)
        self._entries, self._stock = entries, stock
        self._same = self._steps = self._last = 0
        self.unmeasured = ""
        self._faked: list[FakedRound] = []
        self._difference: Difference | None = None
        self._stopped = ""

    @property
    def goes_on(self) -> bool:
        """Whether the parameters are the log's, so that the next round can be trained."""
        return self._difference is None and not self._stopped

    def report(self, report: Reproduction) -> Reproduction:
        """The report, with what was found so far."""
        return msgspec.structs.replace(
            report, same=self._same, faked=self._faked, difference=self._difference, not_checked=self._stopped
        )

    def round(self, logged: LoggedRound, apply: e.Apply) -> None:
        """Trains one round, and compares it.

        Args:
            logged: what the log says of it.
            apply: what it applied.
        """
        self._last = logged.number
        done = self._executor.run(logged.open)
        for task in done:
            if task.status == "other examples":
                self._differs(logged, task.why, [], ["other data, or another order of them"], None)
                return
            if task.status == "failed":
                self._stopped = f"round {logged.number}: {task.why}"
                return
        others = [shard for shard, task in enumerate(done) if task.digest != logged.accepted[shard]]
        average = self._average(logged) if all(task.digest for task in done) else None
        if not others:
            self._apply_same(logged, apply, average)
        elif fakers := self._known_fakers(logged, others):
            self._apply_faked(logged, apply, fakers)
        else:
            what = "the accepted results of shards " + ", ".join(map(str, others)) + " are others"
            if why := self._only_rounding(logged.number, average):
                self._stopped = f"round {logged.number}: {what}; {why}"
                return
            self._differs(logged, what, others, self._causes, average)

    def measure(self, entry: e.Measure, number: int, rebuilt: Rebuilt, data: AuditData) -> None:
        """Evaluates the figures of an epoch again.

        Args:
            entry: what the log says.
            number: of the entry.
            rebuilt: the recipe's model.
            data: with the test set.
        """
        if data.test is None or rebuilt.module is None or rebuilt.loss is None:
            self.unmeasured = data.why or rebuilt.why
            return
        found = compare_figures(entry, rebuilt, self._weights, data.test, data.validation)
        self.unmeasured = "; ".join(found.unchecked.values())
        if found.faults:
            causes = ["a manager that logs other figures (claim 25)"]
            what = f"the figures on the test set are others: {found.faults[0]}"
            self._difference = Difference(self._last, number, what, [], causes, [])

    def _average(self, logged: LoggedRound) -> Average:
        bounds = shard_bounds(logged.open.examples, len(logged.open.shards))
        updates = [self._executor.update(shard) for shard in range(len(bounds))]
        return self._weights.average(updates, [stop - start for start, stop in bounds], self._begin.clip)

    # -- what is made of it ----------------------------------------------------------------------------------------

    def _apply_same(self, logged: LoggedRound, apply: e.Apply, average: Average | None) -> None:
        assert average is not None
        clipped = [(scale.shard, scale.part, scale.exponent) for scale in average.scales]
        if clipped != [(each.shard, each.part, each.exponent) for each in apply.clipped]:
            what = "every accepted result is the same, but the log says that others were clipped than the rule clips"
            self._differs(logged, what, [], ["a manager that clips otherwise (claim 21)"], average)
            return
        if average.digest() != apply.update:
            what = "every accepted result is the same, but another average was applied"
            causes = ["a manager that applied something else: podlt audit RUN --fraction 1 (claim 21)"]
            self._differs(logged, what, [], causes, average)
            return
        self._step(logged, apply, average.data)
        if self.goes_on:
            self._same += 1

    def _apply_faked(self, logged: LoggedRound, apply: e.Apply, fakers: list[int]) -> None:
        """Goes on with what the run applied: a fake was in it, which nobody can make again."""
        stored = self._updates.read(logged.number)
        self._faked.append(FakedRound(logged.number, self._entries[logged.number], fakers))
        if stored is None or crypto.blob_digest(stored.data) != apply.update:
            self._stopped = (
                f"the update of round {logged.number}, with a fake in it, is not here: give the run, or a bundle made "
                "with --updates"
            )
            return
        self._step(logged, apply, stored)

    def _step(self, logged: LoggedRound, apply: e.Apply, data: np.ndarray) -> None:
        step, self._steps = self._steps, self._steps + 1
        if (loss := float(data[:4].view(np.float32)[0])) != apply.loss:
            what = f"the update is the same, but its loss is {loss:.6g} and the log says {apply.loss:.6g}"
            self._differs(logged, what, [], ["a manager that logs another loss (claim 22)"], None)
            return
        self._weights.use(self._optimizers.at(step))
        self._weights.apply(data, examples_seen(self._begin.examples, logged.open.epoch, logged.open.offset))
        if self._weights.digest() != apply.parameters:
            what = "the update is the same, but the parameters after it are others"
            causes = ["another optimiser, or another step of it: podlt audit RUN --fraction 1 (claim 23)"]
            self._differs(logged, what, [], causes, None)

    def _known_fakers(self, logged: LoggedRound, shards: Sequence[int]) -> list[int]:
        """Who gave the results of these shards that were accepted, if somebody convicted gave each; else nobody."""
        found: set[int] = set()
        for shard in shards:
            accepted = logged.accepted[shard]
            workers = {worker for worker, result in logged.results[shard].items() if result == accepted}
            if not workers & self._convicted:
                return []
            found |= workers & self._convicted
        return sorted(found)

    def _only_rounding(self, round: int, average: Average | None) -> str:
        """Why other results say nothing, where another machine may round otherwise; "" if they do."""
        if not self._stock or average is None:
            return ""
        if self._updates.read(round) is None:
            return 'arithmetic = "stock" rounds otherwise elsewhere, and the update to compare with is not here'
        if self._updates.is_near(round, average):
            return 'by no more than arithmetic = "stock" rounds otherwise on another machine'
        return ""

    def _differs(
        self, logged: LoggedRound, what: str, shards: list[int], causes: list[str], average: Average | None
    ) -> None:
        deviations = self._deviations(logged.number, average) if average is not None else []
        self._difference = Difference(logged.number, self._entries[logged.number], what, shards, causes, deviations)

    def _deviations(self, round: int, average: Average) -> list[TensorDeviation]:
        """How far the update is from the run's, where that is here, by tensor."""
        stored = self._updates.read(round)
        if stored is None or len(stored) != len(average.data):
            return []
        layout, found = self._weights.update_layout, []
        ours, theirs = layout.views(average.data), layout.views(stored)
        for name, value in theirs.items():
            if not value.dtype.is_floating_point or not value.numel():
                continue
            gap = float((ours[name].double() - value.double()).abs().max())
            if gap != 0:
                found.append(TensorDeviation(name, gap, float(value.double().abs().max())))
        return sorted(found, key=lambda each: -each.largest)[:MOST_DEVIATIONS]
