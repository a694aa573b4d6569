"""All that one run needs in a worker process: its program, parameters, lines, updates, for all identities together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podlt.engine.shared_memory import Region
from podlt.errors import InvalidProofError, StorageError
from podlt.execution.worker_runtime import EXECUTION_ERRORS, Executed, WorkerRuntime
from podlt.network import messages as m
from podlt.network.blobs.client import BlobTransfers
from podlt.network.blobs.transfer import BadBlobError
from podlt.network.run_setup import RunSetup
from podlt.network.worker.inputs import ChunkRequest, Inputs, ProgramInput
from podlt.network.worker.loading import check_task, lines_by_field, load_runtime
from podlt.network.worker.memory import UpdateMemory
from podlt.network.worker.replies import Replies, Requested

RECEIVE_SECONDS, SHORT_RECEIVE_SECONDS = 0.2, 0.02
"""How long to wait for messages at a time; and while a transfer is under way."""

MAX_FAILURES = 3
"""After how many fetches in a row that failed the server is thought to be elsewhere."""

USELESS = (InvalidProofError, StorageError, BadBlobError, MemoryError)
"""What messages that are of no use may raise."""


@dataclass(frozen=True)
class _Loaded:
    """What there is once the program has come.

    Attributes:
        runtime: executes tasks.
        region: memory of the parameters.
        inputs: fills it.
        updates: memory of the updates.
    """

    runtime: WorkerRuntime
    region: Region
    inputs: Inputs
    updates: UpdateMemory


class WorkerRun:
    """One run, as a process works for it.

    Args:
        setup: of the run.
        transfers: for large blobs, where there is a server of them; closed with the run.
        folder: for large updates.
        memory: the most bytes that a task's tensors may take.
        device: where tasks are computed.
        heartbeat: seconds between two heartbeats.
        any_key: gives the key of an identity for what is for all, another for another number of failures.
        warn: is called with what was wrong.

    Attributes:
        replies: what was requested and replied.

    Raises:
        InvalidProofError: a program that is too long.
    """

    def __init__(
        self,
        setup: RunSetup,
        transfers: BlobTransfers | None,
        folder: Path,
        memory: int,
        device: str,
        heartbeat: float,
        any_key: Callable[[int], bytes],
        warn: Callable[[str], object],
    ) -> None:
        self.setup = setup
        self._folder, self._memory, self._device = folder, memory, device
        self._heartbeat, self._warn = heartbeat, warn
        self._any_key, self._failures, self._in_a_row = any_key, 0, 0
        self.replies = Replies(setup.message.updates_as_blobs)
        self._transfers = transfers
        self._program = ProgramInput(setup, transfers, any_key(0))
        self._loaded: _Loaded | None = None

    # -- what is here ------------------------------------------------------------------------------------------------

    def load(self) -> bool:
        """Makes the runtime if the program has come; returns whether that was so just now.

        Raises:
            InvalidProofError: as `load_runtime`.
            EngineError: as `load_runtime`; or there is no memory for the parameters.
        """
        if self._loaded is not None or not self._program.program:
            return False
        runtime = load_runtime(self.setup, self._program.program, self._memory, self._device)
        region = Region(runtime.state_bytes)
        inputs = Inputs(
            self.setup,
            runtime,
            region.bytes[: runtime.state_bytes],
            self.replies,
            self._transfers,
            lambda: self._any_key(self._failures),
            self._heartbeat,
            self._warn,
        )
        folder = self._folder if self.setup.message.updates_as_blobs else None
        self._loaded = _Loaded(runtime, region, inputs, UpdateMemory(runtime.update_bytes, folder))
        return True

    @property
    def runtime(self) -> WorkerRuntime | None:
        """What executes tasks, once the program has come."""
        return self._loaded.runtime if self._loaded is not None else None

    def ready(self) -> Requested | None:
        """The next task whose inputs are all here, if there is one."""
        return self.replies.ready(self._loaded.inputs.held) if self._loaded is not None else None

    def receive_seconds(self) -> float:
        """How many seconds to wait for messages."""
        if self.ready() is not None:
            return 0.0
        busy = self._transfers is not None and self._transfers.busy
        return SHORT_RECEIVE_SECONDS if busy else RECEIVE_SECONDS

    # -- what comes --------------------------------------------------------------------------------------------------

    def announced(self, coming: m.Parameters) -> None:
        """Parameters come; errors as `Inputs.announced`."""
        if self._loaded is not None:
            self._loaded.inputs.announced(coming)

    def chunk(self, data: memoryview) -> None:
        """A chunk of something came; errors as `Inputs.chunk`."""
        self._inputs.chunk(data)

    def requests(self) -> list[ChunkRequest]:
        """Takes transfers that ended; returns requests for what should have come."""
        for ended in self._transfers.ended() if self._transfers is not None else []:
            if ended.error is not None:
                self._failures += 1
                self._in_a_row += 1
                if self._in_a_row == MAX_FAILURES:
                    self._warn(f"{MAX_FAILURES} transfers of large blobs failed in a row: {ended.error}")
            else:
                self._in_a_row = 0
            try:
                if ended.place is not None:
                    self._inputs.transferred(ended)
            except USELESS as error:
                self._warn(str(error))
        return self._inputs.requests()

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
        now, before = (new.blobs, new.certificate), (old.blobs, old.certificate)
        if self._transfers is not None and now != before:
            self.setup = setup
            self._transfers.move(*now)
        return True

    # -- tasks -------------------------------------------------------------------------------------------------------

    def dealt(self, key: bytes, work: m.DealTask) -> list[bytes]:
        """An identity was dealt a task; returns the messages that reply, if it was done before.

        Raises:
            InvalidProofError: no task of this run.
            StorageError: no memory for its lines.
        """
        loaded = self._loaded
        if loaded is None:
            return []
        check_task(self.setup, loaded.runtime.line_bytes, work)
        self._begin_round(loaded, work.task.round)
        if replies := self.replies.repeat(key, work):
            return replies
        requested = Requested(key, work, np.frombuffer(work.lines, np.uint8) if work.lines else None)
        self.replies.add(requested)
        if requested.lines is None:
            loaded.inputs.expect_lines(requested)
        loaded.inputs.needed(work.task.parameters)
        return []

    def work(self, requested: Requested, holder: int) -> tuple[Executed | str, Iterable[bytes]]:
        """Executes a task that is ready, as a worker of the run.

        Args:
            requested: the task, with its lines.
            holder: the number of the worker, which the runtime knows.

        Returns:
            What came of it, or why it failed; and the messages that say so.
        """
        try:
            executed = self._execute(requested, holder)
        except (*EXECUTION_ERRORS, MemoryError) as error:
            self.replies.failed(requested)
            reason, work = (str(error) or type(error).__name__)[:1000], requested.work
            return reason, [m.record(m.TaskFailed(deal_id=work.deal_id, seat=work.seat, reason=reason))]
        return executed, self.replies.done(requested, executed)

    def _execute(self, requested: Requested, holder: int) -> Executed:
        loaded, work = self._loaded, requested.work
        assert loaded is not None and requested.lines is not None
        lines = lines_by_field(self.setup.message.fields, work.count, requested.lines)
        update = loaded.updates.take()
        try:
            return loaded.runtime.execute(work.seat, holder, work.task, lines, update)
        except BaseException:
            loaded.updates.give_back(update)
            raise

    def resend(self, key: bytes, wanted: m.ResendUpdate) -> list[bytes]:
        """The manager asks for an update: uploads it, or returns the messages with the chunks that it misses."""
        if self._transfers is not None and (update := self.replies.large(key, wanted)) is not None:
            self._transfers.send(key, *update)
            return []
        return self.replies.chunks(key, wanted)

    def close(self) -> None:
        """Ends what is under way, and gives the parameters' memory back."""
        if self._transfers is not None:
            self._transfers.close()
        if self._loaded is not None:
            self._loaded.runtime.release()
            self._loaded.region.close()

    @property
    def _inputs(self) -> Inputs | ProgramInput:
        return self._loaded.inputs if self._loaded is not None else self._program

    def _begin_round(self, loaded: _Loaded, round: int) -> None:
        """A task of a round came: what belongs to the one before is not needed any more."""
        freed = self.replies.begin_round(round)
        if freed is None:
            return
        loaded.inputs.end_round()
        for key, digest, update in freed:
            if self._transfers is not None:
                self._transfers.cancel(key, digest)
            loaded.updates.give_back(update)
