"""Tasks of a worker's identities: begun when their inputs are here, answered when they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podlt.engine.isolated.interface import FreeUpdate, TaskExecuted, TaskNotExecuted
from podlt.wire import messages as m
from podlt.worker import events
from podlt.worker.books import WorkerBooks
from podlt.worker.effects import Perform, SendMessage
from podlt.worker.identity import Identity
from podlt.worker.replies import Requested
from podlt.worker.run import WorkerRun


class Tasks:
    """What is executed for one process' identities.

    Args:
        perform: takes effects.
        books: count the tasks.
        listener: gets the first task, and those that fail.
        say: takes what is done at present, for the owner.

    Attributes:
        last_round: in which a task was begun; -1 for none.
    """

    def __init__(
        self, perform: Perform, books: WorkerBooks, listener: events.WorkerListener, say: Callable[[str], object]
    ) -> None:
        self._perform, self._books, self._emit, self._say = perform, books, listener, say
        self._is_first = True
        self.last_round = -1

    def begin(
        self, run: WorkerRun, identities: Mapping[bytes, Identity], allows: Callable[[int], bool], now: float
    ) -> None:
        """Has tasks executed whose inputs are all here.

        Args:
            run: that they are of.
            identities: those that are left.
            allows: whether a task of a round may begin.
            now: seconds, monotonic.
        """
        while (requested := run.next_task(now)) is not None:
            round = requested.work.task.round
            if not allows(round):
                return
            identity = identities.get(requested.key)
            if identity is None or identity.worker is None:
                run.replies.failed(requested)
                continue
            self.last_round = round
            self._say(f"round {round}: computing {requested.work.count} examples")
            run.execute(requested, identity.worker.number)

    def ended(
        self, run: WorkerRun | None, identities: Mapping[bytes, Identity], result: TaskExecuted | TaskNotExecuted
    ) -> None:
        """A task was executed, or failed: says so, if somebody waits for it."""
        requested = run.executed(result) if run is not None else None
        identity = identities.get(requested.key) if requested is not None else None
        if run is None or requested is None or identity is None or identity.worker is None:
            if isinstance(result, TaskExecuted):
                self._perform(FreeUpdate(result.slot))
        elif isinstance(result, TaskNotExecuted):
            self._failed(run, requested, result.reason)
        else:
            work = requested.work
            committed = identity.worker.commit(work.seat, work.task, result.digest)
            self._perform(SendMessage(requested.key, run.replies.done(requested, result, committed)))
            self._done(requested, result.compute)

    def _failed(self, run: WorkerRun, requested: Requested, reason: str) -> None:
        work = requested.work
        run.replies.failed(requested)
        failed = m.TaskFailed(deal_id=work.deal_id, seat=work.seat, reason=reason[:1000])
        self._perform(SendMessage(requested.key, m.record(failed)))
        self._emit(events.Failed(round=work.task.round, reason=reason))

    def _done(self, requested: Requested, seconds: float) -> None:
        round, examples = requested.work.task.round, requested.work.count
        self._books.done(requested.key)
        if self._is_first:
            self._is_first = False
            self._emit(events.FirstTask(round=round, examples=examples, seconds=seconds))
        self._say(f"round {round}: done, waiting")
