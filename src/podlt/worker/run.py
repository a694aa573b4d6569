"""All that one run needs in a worker process: its program, parameters, examples, updates, for all identities
together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podlt.engine.isolated.interface import ExecuteTask, ProgramLoaded, StopExecution, TaskExecuted, TaskNotExecuted
from podlt.engine.isolated.records import LoadProgram
from podlt.errors import InvalidProofError, StorageError
from podlt.execution.setup import ExecutionSetup
from podlt.network.blobs.client import TransferEnded
from podlt.network.blobs.jobs import BadBlobError
from podlt.wire import messages as m
from podlt.wire.run_setup import RunSetup
from podlt.worker.effects import Perform, UploadBlob, UseServer
from podlt.worker.identity import NEVER, OwnerSettings
from podlt.worker.inputs import Inputs, ProgramInput, Request
from podlt.worker.replies import Replies, Requested

MAX_FAILURES = 3
"""After how many fetches in a row that failed the server is thought to be elsewhere."""

LEAST_AHEAD, MOST_AHEAD, AHEAD_SECONDS = 2, 64, 0.1
"""How many tasks the executor has at a time: while the result of one goes out it has another, and of short ones as many
as take so long, as they are the cheaper the more of them go together. What it has cannot be taken back."""

STALE_SECONDS = 10.0
"""How long a task that nobody waits for any more may hold up others."""

MOST_MEMORY = 8 * 2**30
"""Bytes of memory that are given where the owner bounds nothing; an eighth of it is for examples."""

USELESS = (InvalidProofError, StorageError, BadBlobError, MemoryError)
"""What messages that are of no use may raise."""


class WorkerRun:
    """One run, as a process works for it.

    Args:
        setup: of the run.
        settings: the owner's.
        heartbeat: seconds between two heartbeats.
        any_key: gives the key of an identity for what is for all, another for another number of failures.
        perform: takes effects.
        warn: is called with what was wrong.

    Attributes:
        replies: what was requested and replied.
        loaded: the program, once it can be executed here.

    Raises:
        InvalidProofError: a program that is too long.
    """

    def __init__(
        self,
        setup: RunSetup,
        settings: OwnerSettings,
        heartbeat: float,
        any_key: Callable[[int], bytes],
        perform: Perform,
        warn: Callable[[str], object],
    ) -> None:
        self.setup, self._settings, self._heartbeat = setup, settings, heartbeat
        self._perform, self._warn = perform, warn
        self._any_key, self._failures, self._in_a_row = any_key, 0, 0
        self.replies = Replies(setup.message.updates_as_blobs, perform)
        perform(UseServer(setup.message.blobs, setup.message.certificate))
        self._program = ProgramInput(setup.message, perform, any_key(0))
        self._is_loading = False
        self.loaded: ProgramLoaded | None = None
        self._inputs: Inputs | None = None
        self._busy, self._stale_since, self._ahead = 0, NEVER, LEAST_AHEAD

    # -- what is here ------------------------------------------------------------------------------------------------

    def load(self) -> bool:
        """Has the program loaded if it has come; returns whether that was so just now."""
        if self._is_loading or not self._program.program:
            return False
        self._is_loading = True
        setup, begin, given = self.setup, self.setup.begin, self._settings
        fields, examples = setup.message.fields, setup.most_examples
        self._perform(
            LoadProgram(
                program=self._program.program,
                digest=begin.program,
                arithmetic=begin.arithmetic,
                execution=ExecutionSetup(
                    setup.run, fields, examples, begin.local_steps, begin.local_lr, setup.task_examples
                ),
                memory=given.memory,
                device=given.device,
                threads=given.threads,
                on_disk=setup.message.updates_as_blobs,
            )
        )
        return True

    def was_loaded(self, loaded: ProgramLoaded) -> bool:
        """Tasks can be executed; returns whether that is so: what was loaded may be another run's."""
        if not self._is_loading:
            return False
        self.loaded = loaded
        self._inputs = Inputs(
            loaded, self.replies, self._perform, lambda: self._any_key(self._failures), self._heartbeat
        )
        return True

    # -- what comes --------------------------------------------------------------------------------------------------

    def announced(self, coming: m.Parameters, now: float) -> None:
        """Parameters come; errors as `Inputs.announced`."""
        if self._inputs is not None:
            self._inputs.announced(coming, now)

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A transfer ended."""
        if ended.error is None:
            self._in_a_row = 0
        else:
            self._failures += 1
            self._in_a_row += 1
            if self._in_a_row == MAX_FAILURES:
                self._warn(f"{MAX_FAILURES} transfers of large blobs failed in a row: {ended.error}")
        if ended.place is not None:
            (self._inputs or self._program).transferred(ended, now)

    def requests(self, now: float) -> list[Request]:
        """Requests for what should have come."""
        return (self._inputs or self._program).requests(now)

    def server_is_lost(self) -> bool:
        """Whether the server of large blobs seems gone: then the manager is asked, now and then, where it is."""
        lost = self._in_a_row >= MAX_FAILURES
        if lost:
            self._in_a_row = 0
        return lost

    def server_moved(self, setup: RunSetup) -> bool:
        """The manager says where its server of large blobs is now; returns whether this object is still of use."""
        new, old = setup.message, self.setup.message
        if (bool(new.blobs), new.updates_as_blobs) != (bool(old.blobs), old.updates_as_blobs):
            return False
        if (new.blobs, new.certificate) != (old.blobs, old.certificate):
            self.setup = setup
            self._perform(UseServer(new.blobs, new.certificate, moved=True))
        return True

    # -- tasks -------------------------------------------------------------------------------------------------------

    def dealt(self, key: bytes, work: m.DealTask, now: float) -> bytes | None:
        """An identity was dealt a task; returns the message that replies, if it was done before.

        Raises:
            InvalidProofError: no task of this run.
        """
        loaded, inputs = self.loaded, self._inputs
        if loaded is None or inputs is None:
            return None
        check_task(self.setup, loaded.example_bytes, work)
        if self.replies.begin_round(work.task.round):
            inputs.end_round()
        if reply := self.replies.repeat(key, work):
            return reply
        if not self.replies.room_for(key, work, (self._settings.memory or MOST_MEMORY) // 8):
            reason = "too many tasks are in hand here"
            return m.record(m.TaskFailed(deal_id=work.deal_id, seat=work.seat, reason=reason))
        requested = Requested(key, work, np.frombuffer(work.examples, np.uint8) if work.examples else None)
        self.replies.add(requested)
        if requested.examples is None:
            inputs.expect_examples(requested)
        inputs.needed(work.task.parameters, now)
        return None

    def next_task(self, now: float) -> Requested | None:
        """A task whose inputs are all here, and that may be executed now, if there is one."""
        requested = self.replies.ready(self._inputs.held) if self._inputs is not None else None
        if requested is None or self._busy == self.replies.executing:
            self._stale_since = NEVER
            return requested if self._busy < self._ahead else None
        if self._stale_since == NEVER:
            self._stale_since = now
        elif now - self._stale_since > STALE_SECONDS:
            self._stale_since = now
            self._perform(StopExecution("nobody waits for it any more"))
        return None

    def execute(self, requested: Requested, holder: int) -> None:
        """Executes a task, as a worker of the run."""
        assert requested.examples is not None
        work = requested.work
        self._busy += 1
        number = self.replies.begin(requested)
        self._perform(ExecuteTask(number, holder, work.task, work.count, requested.examples))

    def executed(self, result: TaskExecuted | TaskNotExecuted) -> Requested | None:
        """A task is not executed any more; None if nobody waits for it."""
        self._busy -= 1
        if isinstance(result, TaskExecuted):
            most = AHEAD_SECONDS / max(result.proof + result.compute, AHEAD_SECONDS / MOST_AHEAD)
            self._ahead = max(LEAST_AHEAD, int(most))
        return self.replies.ended(result.number)

    def upload(self, key: bytes, wanted: m.UploadUpdate) -> None:
        """The manager asks for an update."""
        if (update := self.replies.large(key, wanted)) is not None:
            self._perform(UploadBlob(key, *update))


def check_task(setup: RunSetup, example_bytes: int, work: m.DealTask) -> None:
    """Refuses a task whose examples are not as many, or as long, as a task of this run can have.

    Args:
        setup: of the run.
        example_bytes: size of one line.
        work: as it came.

    Raises:
        InvalidProofError: such a task; says what was expected.
    """
    if not 1 <= work.count <= setup.most_examples:
        raise InvalidProofError(f"a task of {work.count} examples; expected 1 to {setup.most_examples}")
    expected = work.count * example_bytes
    if work.size != expected or len(work.examples) > expected:  # there are fewer where they are packed
        actual = max(work.size, len(work.examples))
        raise InvalidProofError("wrong size of a task's examples", expected=expected, actual=actual)
    if (work.task.run, work.task.program) != (setup.run, setup.begin.program):
        raise InvalidProofError("a task of another run or program")
