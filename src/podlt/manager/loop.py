"""A run from its first entry to its last: opens rounds, applies their updates, writes them, measures epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from podlt import canonical
from podlt.crypto import SigningKey
from podlt.data.dataset import Dataset
from podlt.engine.interface import DurableEntries, Engine, Moved
from podlt.errors import DivergedError, EngineError, TooFewWorkersError, UsageError
from podlt.execution.task_executor import TaskExecutor
from podlt.log.merkle import Tree
from podlt.manager import events as ev
from podlt.manager.aggregates import AggregateKeeper
from podlt.manager.amendments import Amendment
from podlt.manager.batches import BatchReader
from podlt.manager.directory import RunDirectory
from podlt.manager.ending import Ending
from podlt.manager.fleet import FleetKeeper
from podlt.manager.log_writer import After, LogWriter, Prove
from podlt.manager.metrics.evaluator import Evaluator
from podlt.manager.roster import Membership
from podlt.manager.round_driver import RoundDriver, RoundTimings
from podlt.manager.round_files import RoundFiles
from podlt.manager.weights import Weights
from podlt.protocol import entries as e
from podlt.protocol.manager import Manager
from podlt.protocol.messages import TreeSize
from podlt.protocol.plan import Upcoming, examples_seen
from podlt.recipe import Recipe
from podlt.store.log_store import LogStore
from podlt.store.round_figures import RoundFigures
from podlt.witness.asker import WitnessAsker

LAST_SECONDS = 3.0
"""How long the fingerprints of the last round are waited for."""

MAX_REASON = 1000
"""Characters of a reason that are logged."""


class Trainer:
    """Trains until the recipe's epochs are done. A context: on entering it claims the log for itself.

    Args:
        recipe: what to do.
        directory: where the run's files are.
        manager: the rules' side, as it is after the log so far.
        weights: as they are after the log so far.
        engine: carries tasks and updates.
        held: the credits that the run's owner holds as a key's deposit.
        operator: who runs a key's worker, by its invitation.
        referee: executes what no comparison can decide.
        dataset: the examples.
        tree: of the log's entries so far.
        store: of the log.
        key: signs tree heads.
        evaluator: measures the parameters.
        ending: is told every event, and says whether the run is to end early.
        least_examples: that a task can have.
        witnesses: are asked to cosign tree heads.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        directory: RunDirectory,
        manager: Manager,
        weights: Weights,
        engine: Engine,
        held: Callable[[bytes], int],
        operator: Callable[[bytes], str],
        referee: TaskExecutor,
        dataset: Dataset,
        tree: Tree,
        store: LogStore,
        key: SigningKey,
        evaluator: Evaluator,
        ending: Ending,
        least_examples: int = 1,
        witnesses: WitnessAsker,
    ) -> None:
        assert manager.state.begin is not None
        self._recipe, self.manager, self._tree = recipe, manager, tree
        self.weights, self.engine, self._listener, self._evaluator = weights, engine, ending.tell, evaluator
        self._ending = ending
        self._examples, self._convicted = manager.state.begin.examples, False
        self._witnesses = witnesses
        self._writer = LogWriter(store, tree, key, witnesses.publish)
        self._files = RoundFiles(directory, recipe.training, weights, key)
        self.members = Membership(
            manager, engine, ending.tell, head=self.head, held=held, operator=operator, ending=ending.is_asked
        )
        self.batches = BatchReader(dataset, engine, manager.state.begin.seed)
        self._driver = RoundDriver(manager, engine, referee, weights, ending.tell)
        batch_bytes = recipe.training.batch_size * sum(field.row_bytes for field in dataset.fields)
        size, equal = weights.update_layout.nbytes + batch_bytes, recipe.protocol.shares == "equal"
        about: dict[str, Any] = {"least_examples": least_examples, "task_bytes": size, "is_equal": equal}
        self._fleet = FleetKeeper(manager, engine, self.members.let_go, ending.tell, **about)
        self._aggregates: AggregateKeeper | None = None
        if engine.aggregates:
            self._aggregates = AggregateKeeper(
                directory.path, engine, weights.update_layout, manager.state.run, lambda n: manager.state.workers[n].key
            )

    def __enter__(self) -> Self:
        """Begins to write.

        Raises:
            StorageError: another manager writes to this run.
        """
        self._writer.claim()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the threads, after what was given to them.

        Raises:
            StorageError: the last round could not be written.
        """
        with ExitStack() as ending:
            for part in (self._witnesses, self._writer, self.batches, self._driver):  # the last one first
                ending.callback(part.close)

    def amend(self, amendment: Amendment) -> None:
        """Has the terms written that hold from here on, before anybody joins again on them."""
        self.manager.amend(amendment.epochs, amendment.optimizer, amendment.reason)
        self._write()
        self._writer.flush()

    def train(self) -> None:
        """Runs every round that is left, and closes the run; so it does where it is asked to end early.

        Raises:
            TooFewWorkersError: the run was stopped, and can be resumed with more workers.
            DivergedError: the run was stopped, as the parameters are not finite any more.
            EngineError: the run was stopped, as the engine cannot go on; it can be resumed.
            UsageError: an example of the data is none that the model takes.
            StorageError: a file cannot be written; everything up to the last whole round is on the disk.
        """
        started = time.perf_counter()
        self._write()
        if self.engine.elastic:
            self._writer.flush()  # the resumption, before there are receipts for another attempt at a round
        try:
            self._log_figures()
            while (plan := self._next()) is not None:
                self._round_or_wait(plan)
            self.manager.close("complete")
            self._write()
            self._writer.flush()
            self._witnesses.finish(self._listener)
            self._ending.done()
            if self._aggregates is not None:
                self._aggregates.finish(LAST_SECONDS)
            self.engine.finish("complete", "")
        except (TooFewWorkersError, DivergedError, EngineError, UsageError) as error:
            self._stop(str(error))
            raise
        state, seconds = self.manager.state, time.perf_counter() - started
        ended = state.ended.reason if state.ended is not None else ""
        self._listener(ev.Finished(rounds=state.round, seconds=seconds, ended=ended))

    def _next(self) -> Upcoming | None:
        """What the next round is, after those who have come were admitted and those who are gone let go."""
        if self._convicted:  # the engine refuses them only once they can have seen it in the log
            self._writer.flush()
            self._convicted = False
        self._witnesses.tell(self._listener)
        self.members.update()
        self._fleet.decide()
        self._end_if_asked()
        if not self.manager.state.trained:
            self.members.await_more()
            self._end_if_asked()
        return self.manager.upcoming()

    def _end_if_asked(self) -> None:
        """Ends training here if somebody asked for it, and has the figures of an unfinished epoch written."""
        reason = self._ending.reason()
        if reason is not None and not self.manager.state.trained:
            self.manager.end(reason[:MAX_REASON])
            self._write()
            self._log_figures()

    def _round_or_wait(self, plan: Upcoming) -> None:
        """Runs a round; where too few workers are left for it, but others may come, it will begin anew."""
        try:
            self.round(plan)
        except TooFewWorkersError:
            if not self.engine.elastic:
                raise
            self.manager.roll_back_round()
            self._resume()

    def _resume(self) -> None:
        """Has the log say that a round is begun anew: workers may have receipts for their part in it."""
        self.manager.resume(anew=True)
        self._write()
        self._writer.flush()

    @property
    def figures(self) -> RoundTimings:
        """What the last round took."""
        return self._driver.figures

    def head(self, over: int) -> TreeSize:
        """The last tree head; what was proposed is written first if it is not over so many entries.

        It is on the disk when this returns: workers elsewhere sign it, so that no crash may take it back.
        """
        if self._tree.size < over:
            self._write()
        self._writer.flush()
        return TreeSize(self._tree.size, self._tree.root())

    def flush(self) -> None:
        """Waits until every round is on the disk."""
        self._writer.flush()

    def round(self, plan: Upcoming) -> None:
        """Runs one round, and has it written."""
        started = time.perf_counter()
        batch, levels = self.batches.get(plan), self._fleet.levels()
        assignments = self.manager.open(plan, batch.shards)
        self._expect(plan)
        self._driver.collect(batch, assignments)
        verdicts, average = self._driver.judge()
        applied = self._applied_fakes()
        number = self.manager.state.round
        self.weights.apply(average.data, examples_seen(self._examples, plan.epoch, plan.offset))
        if infinite := self.weights.infinite():
            raise DivergedError(f"round {number}: {infinite} not finite after the update: lower the learning rate")
        clipped = [e.ClippedPart(scale.shard, scale.part, scale.exponent) for scale in average.scales]
        self.manager.apply(average.digest(), self.weights.digest(), average.loss, clipped)
        if clipped:
            self._listener(ev.Clipped(round=number, shards=sorted({each.shard for each in clipped})))
        if self._aggregates is not None:
            self._aggregates.round(self.manager.state.revealed, self._driver.applied, average)
        self._pay(verdicts)
        seconds, took = time.perf_counter() - started, self._driver.figures
        self._fleet.measured(seconds, levels)
        metrics = self._unlogged_figures(plan, number)
        faked = sorted(set(took.faked))
        self._save(average.data, RoundFigures(number, seconds, took.compute, took.proof, faked, applied, metrics or {}))
        self._tell(plan, number, average.loss, seconds, len(verdicts))
        self._tell_figures(plan, number, metrics)

    def _expect(self, plan: Upcoming) -> None:
        """Reads the next round's examples while this one is computed, as they are if nobody leaves."""
        offset, epoch, state = plan.offset + plan.examples, plan.epoch, self.manager.state
        assert state.begin is not None
        if offset == state.begin.examples:
            offset, epoch = 0, epoch + 1
        if epoch == state.epochs:
            return
        self.batches.expect(state.plan_after(epoch, offset))

    def _pay(self, verdicts: list[e.Verdict]) -> None:
        number = self.manager.state.round
        transfers = self.manager.pay()
        lost: dict[int, int] = {}
        for transfer in transfers:
            if transfer.kind in ("forfeit", "seize"):
                lost[transfer.worker] = lost.get(transfer.worker, 0) + transfer.amount
        for verdict in verdicts:
            self._convicted = self._convicted or bool(verdict.convicted)
            for worker in verdict.convicted:
                self._listener(
                    ev.Convicted(
                        worker=worker,
                        round=number,
                        outcome=verdict.outcome,
                        reason=verdict.reason,
                        forfeited=lost.get(worker, 0),
                        status=self.manager.state.workers[worker].status,
                    )
                )

    def _save(self, update: np.ndarray, figures: RoundFigures) -> None:
        """Has the round written: its files, then the entries, then (every so often) a checkpoint."""
        self._write(lambda: self._files.write(update, figures))
        rounds = self.weights.steps
        if self._files.is_checkpoint(rounds):
            self._writer.flush()
            self._files.checkpoint(rounds, self.manager.state.run)

    def _tell(self, plan: Upcoming, number: int, loss: float, seconds: float, checked: int) -> None:
        state = self.manager.state
        left = self.rounds_left()
        self._listener(
            ev.RoundDone(
                round=number,
                rounds=number + 1 + left,
                epoch=plan.epoch,
                loss=loss,
                examples=plan.examples,
                seconds=seconds,
                workers=len(state.active()),
                checked=checked,
            )
        )
        self._log_figures()

    def _log_figures(self) -> None:
        """Measures after an epoch, and has the figures written that there are.

        A figure that cannot be had must not stop a run for ever: the log then holds none, and a warning says why.
        """
        state = self.manager.state
        while state.measure_due:
            entry = self.manager.measure(self._measured(state.measured))
            self._write()
            self._listener(ev.Measured(epoch=entry.epoch, metrics={f.name: f.value for f in entry.figures}))

    def _measured(self, epoch: int) -> dict[str, float]:
        """The figures of the parameters as they are now; says which are missing."""
        found = self._evaluator.measure(self.weights.views)
        if reason := found.why_missing():
            self._listener(ev.Unmeasured(epoch=epoch, reason=reason))
        return found.finite

    def _unlogged_figures(self, plan: Upcoming, number: int) -> dict[str, float] | None:
        """Figures after a round that no entry will have: between epochs, or of a run without a test part.

        None where none are due.
        """
        state, every = self.manager.state, self._recipe.evaluation.every_rounds
        due = state.offset == 0 or (every > 0 and (number + 1) % every == 0)
        if state.measure_due or not due or not self._evaluator.parts:
            return None
        return self._measured(plan.epoch)

    def _tell_figures(self, plan: Upcoming, number: int, metrics: dict[str, float] | None) -> None:
        """Says what the log will not."""
        if metrics is None:
            return
        if self.manager.state.offset == 0:
            self._listener(ev.Measured(epoch=plan.epoch, metrics=metrics))
        else:
            self._listener(ev.Evaluated(round=number, epoch=plan.epoch, metrics=metrics))

    def rounds_left(self) -> int:
        """How many training rounds there will be if nobody leaves."""
        state = self.manager.state
        assert state.begin is not None
        if state.trained:
            return 0
        seats, usual = max(state.options.min_workers, state.roster.weights.total), state.roster.weights.usual
        size = state.begin.cut.next_examples(0, seats - state.options.least_spares(seats), usual)
        return -(-(state.begin.examples - state.offset) // size) + (state.epochs - state.epoch - 1) * -(
            -state.begin.examples // size
        )

    def _applied_fakes(self) -> list[int]:
        """Whose faked update is applied this round: known only where cheats are simulated, for the summary."""
        faked = set(self._driver.figures.faked)
        return sorted(faked & {copy[0] for copy in self.manager.uploads() if copy is not None})

    def _write(self, before: Callable[[], None] | None = None) -> None:
        entries = self.manager.take()
        if entries:
            self._writer.write(self.manager.state.run, entries, before, self._tell_written(entries))

    def _tell_written(self, entries: list[e.Entry]) -> After | None:
        """Tells workers elsewhere what moved their credits, once it is on the disk: never before."""
        if not self.engine.elastic:
            return None

        def tell(first: int, head: str, prove: Prove) -> None:
            moved = [
                Moved(first + i, canonical.encode(entry), prove(first + i))
                for i, entry in enumerate(entries)
                if e.moves_credits(entry)
            ]
            self.engine.receipt(DurableEntries(first, first + len(entries), head, moved))

        return tell

    def _stop(self, reason: str) -> None:
        """Writes why the run stopped; a round in progress is forgotten, and begins anew when the run is resumed."""
        self.manager.roll_back_round()
        self.manager.close("stopped", reason[:MAX_REASON])
        self._write()
        self._writer.flush()
        if self._aggregates is not None:
            self._aggregates.finish(0.0)
        self._witnesses.finish(self._listener)
        self.engine.finish("stopped", reason)
