"""One round, driven: deal, collect commitments, open, compare, and hand over what is to be applied.

Between the sans-IO `protocol.Manager` and an engine: carries messages both ways, and executes what the referee must.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np

from podlt import crypto
from podlt.engine.interface import Engine, Event, Lost, Restarted, TaskLate
from podlt.engine.local import frames
from podlt.errors import DivergedError, EngineError, PeerError, PodltError, UsageError
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.manager import events as ev
from podlt.manager.batches import RoundBatch
from podlt.manager.weights import Average, Weights
from podlt.program.outliers import OutlierBudget, left_by_the_false
from podlt.protocol.entries import Verdict
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Assignment, Committed, Opened
from podlt.protocol.round import Copy
from podlt.units import MOST_SECONDS

M = TypeVar("M", Committed, Opened)

FAILURES = (PodltError, RuntimeError, IndexError, ValueError, MemoryError)
"""How an execution can fail."""

THREADS, LITTLE = 2, 4 * 2**20
"""Messages are hashed and checked on so many threads, where their updates have more bytes than that: fewer are checked
in the time that it takes to hand them over."""

SAMPLE = 16
"""One answer in so many of those that this machine's own processes give is checked as if it were a stranger's: so a
machine that errs is found."""


class RoundTimings(msgspec.Struct):
    """What a round took, and (known only where cheats are simulated) what was faked."""

    compute: float = 0.0
    proof: float = 0.0
    faked: list[int] = []


class RoundDriver:
    """Drives rounds over an engine.

    Args:
        manager: the rules' side.
        engine: where the workers are.
        referee: executes the manager's own share of the tasks, and what no comparison can decide.
        weights: average the updates.
        listener: hears of withdrawals and replaced processes.

    Attributes:
        applied: the updates of the last round that was judged, one a shard, until their slots are used again.
    """

    def __init__(
        self, manager: Manager, engine: Engine, referee: TaskExecutor, weights: Weights, listener: ev.Listener
    ) -> None:
        self._manager, self._engine, self._referee = manager, engine, referee
        self._weights, self._listener = weights, listener
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="podlt-check")
        self._executing = ThreadPoolExecutor(1, thread_name_prefix="podlt-own")
        self._own: dict[int, Future[np.ndarray]] = {}
        self._squares: dict[Copy, list[float]] = {}
        self._early: tuple[list[Copy | None], Average] | None = None
        options = manager.state.options  # own = 0: a manager that has not the time to execute tasks
        self._clip = options.clip
        self._outliers = OutlierBudget(options.clip if options.own else 0)
        self.figures = RoundTimings()
        self.applied: list[np.ndarray] = []
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            frames.Results: self._executed,
            frames.HostOpenings: lambda event: self._each(event.opened, self._opened, self._own_opened),
            frames.ExecutionFailed: self._failed,
            TaskLate: self._late,
            Lost: lambda event: self._lose(event.worker, event.reason),
            Restarted: self._restarted,
        }

    def close(self) -> None:
        """Ends the threads, after what they are doing; what waits for them is of a round that nobody wants any more."""
        self._threads.shutdown(cancel_futures=True)
        self._executing.shutdown(cancel_futures=True)

    def collect(self, batch: RoundBatch, assignments: Sequence[Assignment]) -> None:
        """Has the tasks executed; returns when every commitment is in and opened, and nobody writes updates any more.

        Raises:
            TooFewWorkersError: a task is left that nobody may take.
            EngineError: processes die again and again.
        """
        self.figures = RoundTimings()
        self._batch = batch
        self._tasks = {(a.seat, a.holder): a for a in assignments}
        self._squares, self._early = {}, None
        self._engine.deal(batch.buffer, batch.plan.examples, batch.bounds, assignments)
        for left in self._own.values():  # of a round that could not be ended
            left.cancel()
        self._own = {f: self._executing.submit(self._execute, f) for f in self._manager.roles.own}
        while not (self._manager.all_opened and self._engine.idle()):
            while not self._manager.all_committed:
                self._pump()
            self._engine.open(self._manager.commit())
            self._average_early()
            while self._asked and not (self._manager.all_opened and self._engine.idle()):
                self._pump()

    @property
    def _asked(self) -> bool:
        """Whether every task has an answer, and whoever gave one was asked to open it."""
        return self._manager.all_committed and self._manager.all_logged

    def judge(self) -> tuple[list[Verdict], Average]:
        """Reveals and judges the round; averages what stands.

        Raises:
            DivergedError: the update is not finite, and the manager's own executions agree.
            EngineError: the manager cannot execute what others could.
        """
        started = time.perf_counter()
        manager = self._manager
        manager.reveal()
        first = self._first_copies(manager.state.revealed.results, manager.state.revealed.roles.seats)
        updates = [self._slot(copy) for copy in first]
        early, self._early = self._early, None
        average = early[1] if early is not None and early[0] == first else self._average_first(first)
        for shard in self._suspects(updates, average):
            manager.suspect(shard)
        own = {shard: self._executed_own(shard) for shard in manager.to_execute()}
        digests = {shard: crypto.blob_digest(update.data) for shard, update in own.items()}
        self._look_at_outliers(average.squares, own, digests)
        verdicts = manager.judge(digests)
        chosen = manager.uploads()
        if chosen != first:
            updates = [own[j] if copy is None else self._slot(copy) for j, copy in enumerate(chosen)]
            average = self._average(updates)
        if not average.finite:
            raise DivergedError(
                f"round {manager.state.round}: the loss or a gradient is not finite, in the manager's own "
                "execution as well: lower the learning rate, or look at the examples of this batch"
            )
        self.applied = updates
        self.figures.proof += time.perf_counter() - started
        return verdicts, average

    def _look_at_outliers(
        self, squares: Sequence[float], own: dict[int, np.ndarray], digests: dict[int, bytes]
    ) -> None:
        """Executes what is far larger than other updates, and what else liars gave; adds it to what was executed."""
        answers = self._manager.state.revealed.answers

        def is_false(shard: int) -> bool:
            return any(result != digests[shard] for result in answers[shard].values())

        def execute(shard: int) -> bool:
            own[shard] = self._executed_own(shard)
            digests[shard] = crypto.blob_digest(own[shard].data)
            self._manager.suspect(shard)
            return is_false(shard)

        self._outliers.look(squares, {shard: is_false(shard) for shard in digests}, execute)
        for shard in left_by_the_false(answers, digests):
            execute(shard)

    def _average_early(self) -> None:
        """Averages what was committed to while workers open it: mostly that is what will stand."""
        if self._asked:
            first = self._first_copies(self._manager.state.in_progress.commitments, self._manager.roles.seats)
            self._early = first, self._average_first(first)

    def _average_first(self, first: Sequence[Copy | None]) -> Average:
        """The average of each shard's first result."""
        return self._average([self._slot(copy) for copy in first], self._known_squares(first))

    def _average(self, updates: Sequence[np.ndarray], squares: Sequence[list[float]] | None = None) -> Average:
        return self._weights.average(updates, self._examples(), self._clip, squares)

    def _known_squares(self, copies: Sequence[Copy | None]) -> list[list[float]] | None:
        """How large the updates of a round are, if that was found of each when it came."""
        found = [self._squares.get(copy) for copy in copies if copy is not None]
        known = [each for each in found if each is not None]
        return known if len(known) == len(copies) else None

    def _executed_own(self, shard: int) -> np.ndarray:
        """What the manager finds for a shard; for some it began when the round did."""
        begun, number = self._own.pop(shard, None), self._manager.state.round
        try:
            return begun.result() if begun is not None else self._execute(shard)
        except DivergedError as error:
            raise DivergedError(f"round {number}: {error}: lower the learning rate") from None
        except FAILURES as error:
            raise EngineError(
                f"round {number}: the manager's own execution of shard {shard} fails, where a worker's did not: "
                f"{error}; resume the run on a machine that can execute its tasks"
            ) from error

    def _first_copies(self, copies: Iterable[Copy], seats: Mapping[int, int]) -> list[Copy | None]:
        """For each shard the first result: what is applied unless a verdict says otherwise.

        Args:
            copies: of which there are results.
            seats: seat -> the shard of its task.
        """
        first: dict[int, Copy | None] = {}
        for copy in sorted(copies):
            first.setdefault(seats[copy[0]], copy)
        return [first[shard] for shard in range(len(self._batch.shards))]

    def _suspects(self, updates: Sequence[np.ndarray], average: Average) -> list[int]:
        """The shards that the manager must execute itself, so that nobody stops or undoes a round by one update.

        Wherever results differ, all of them must be finite, or two that agree on a NaN would outvote an honest third.
        Where finite updates add up to something infinite, every shard is suspect.
        """
        round, is_finite = self._manager.state.revealed, self._weights.is_finite
        found = set(self._weights.odd_divisors(updates, self._examples(), self._clip))
        if not average.finite:
            found |= {shard for shard, update in enumerate(updates) if not is_finite(update)}
        differing = {shard for shard, results in round.answers.items() if len(set(results.values())) > 1}
        for copy in round.results:
            shard = round.roles.seats[copy[0]]
            if shard in differing and not is_finite(self._slot(copy)):
                found.add(shard)
        return sorted(found) if found or average.finite else list(range(len(updates)))

    def _examples(self) -> list[int]:
        """How many examples each shard has."""
        return [stop - start for start, stop in self._batch.bounds]

    def _slot(self, copy: Copy | None) -> np.ndarray:
        assert copy is not None
        return self._engine.slot(*copy)

    def _pump(self) -> None:
        """Takes what has come, and deals again what a failure left."""
        for event in self._engine.events():
            self._handlers[type(event)](event)

    def _executed(self, results: frames.Results) -> None:
        self.figures.compute += _seconds(results.compute_seconds)
        self.figures.proof += _seconds(results.proof_seconds)
        self.figures.faked += results.faked
        self._each(results.committed, self._manager.committed, self._own_committed)
        if self._clip:
            self._measure(results.committed)

    def _measure(self, committed: Sequence[Committed]) -> None:
        """Finds how large updates are as soon as they are there: then they are in the cache."""
        copies = [(one.seat, one.holder) for one in committed if self._is_current(one)]
        bounds = [self._batch.bounds[self._tasks[copy].shard] for copy in copies]
        examples = [stop - start for start, stop in bounds]
        found = self._weights.squares([self._engine.slot(*copy) for copy in copies], examples)
        self._squares.update(zip(copies, found, strict=False))

    def _restarted(self, event: Restarted) -> None:
        self._early = None  # what its workers do again goes to the same places
        self._listener(ev.Replaced(process=event.process, status=event.status, workers=event.workers))

    def _each(self, messages: Sequence[M], check: Callable[[M], object], take: Callable[[M], object]) -> None:
        """Handles messages, hashing and checking signatures; who breaks the protocol is lost.

        Args:
            messages: of one process, or of one worker.
            check: takes a message after a check of all that it says.
            take: takes one of a process that hashed and signed on this machine: of these a sample is checked.
        """
        started = time.perf_counter()
        current: list[M] = [message for message in messages if self._is_current(message)]
        if self._engine.trusted:
            broken = _faults(current, lambda one: check(one) if self._is_sampled(one.seat) else take(one))
        elif len(current) * self._weights.update_layout.nbytes <= LITTLE:
            broken = _faults(current, check)
        else:
            halves = [self._threads.submit(_faults, current[i::THREADS], check) for i in range(THREADS)]
            broken = [fault for buffer in halves for fault in buffer.result()]
        self.figures.proof += time.perf_counter() - started
        for fault in broken:
            self._lose(fault.worker, f"{fault.reason}: {fault}")

    def _is_sampled(self, seat: int) -> bool:
        """Whether this machine's own answer to the task of a seat is checked: each seat's in its turn."""
        return (seat + self._manager.state.round) % SAMPLE == 0

    def _is_current(self, message: Committed | Opened) -> bool:
        return (message.seat, message.holder) in self._tasks

    def _opened(self, message: Opened) -> None:
        self._manager.opened(message, self._engine.digest(message.seat, message.holder))

    def _own_committed(self, message: Committed) -> None:
        self._manager.committed(message, trusted=True)

    def _own_opened(self, message: Opened) -> None:
        self._manager.opened(message)

    def _failed(self, event: frames.ExecutionFailed) -> None:
        """A worker could not execute its task: it is the task's fault if the manager cannot either."""
        task = self._tasks.get((event.seat, event.holder))
        if task is None:
            return
        try:
            self._execute(task.shard)
        except DivergedError as error:
            raise DivergedError(f"round {event.round}: {error}: lower the learning rate") from None
        except FAILURES as error:
            start, stop = self._batch.bounds[task.shard]
            raise UsageError(
                f"round {event.round}: the training step fails on {stop - start} examples of epoch "
                f"{self._batch.plan.epoch}: {error}"
            ) from None
        self._lose(event.holder, f"failed: {event.message[:1000]}")

    def _lose(self, worker: int, reason: str) -> None:
        if self._manager.state.workers[worker].status != "active":
            return
        # The listener first: nobody may be left who takes its task, and then the round ends here.
        self._listener(ev.Withdrawn(worker=worker, round=self._manager.state.round, reason=reason))
        self._engine.gone(worker)
        again = self._manager.withdraw(worker, reason)
        lost = {assignment.seat for assignment in again}
        self.figures.faked = [seat for seat in self.figures.faked if seat not in lost]
        self._deal_again(*again)

    def _late(self, event: TaskLate) -> None:
        if self._manager.state.is_active(event.holder):
            self._deal_again(self._manager.back_up(event.seat))

    def _deal_again(self, *tasks: Assignment | None) -> None:
        """Deals tasks to others than they were dealt to at first; None is no task."""
        again = [task for task in tasks if task is not None]
        self._early = None
        self._tasks.update({(task.seat, task.holder): task for task in again})
        if again:
            self._engine.deal(self._batch.buffer, self._batch.plan.examples, self._batch.bounds, again, again=True)

    def _execute(self, shard: int) -> np.ndarray:
        start, stop = self._batch.bounds[shard]
        arrays = self._engine.batch(self._batch.buffer, self._batch.plan.examples)
        batch = as_batch({name: values[start:stop] for name, values in arrays.items()})
        out = np.zeros(self._weights.update_layout.nbytes, np.uint8)
        with one_thread():
            self._referee(self._weights.views, batch, self._manager.state.task(shard).randomness, out)
        return out


def _seconds(said: float) -> float:
    """What a process says that it took, if that can be: a lie must not stop the run, nor spoil its figures."""
    return said if 0.0 <= said <= MOST_SECONDS else 0.0


def _faults(messages: Sequence[M], handle: Callable[[M], object]) -> list[PeerError]:
    """Handles messages one after another; returns what was wrong with some of them."""
    faults = []
    for message in messages:
        try:
            handle(message)
        except PeerError as error:
            faults.append(error)
    return faults
