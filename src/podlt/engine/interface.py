"""What a run needs of an engine, wherever its workers are: tasks out, replies in, and who comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from podlt.crypto import SigningKey
from podlt.data.field import Field
from podlt.engine.local import frames
from podlt.program.ir import Program
from podlt.protocol.entries import Begin
from podlt.protocol.fingerprint import Fingerprint, ScaledPart, SignedFingerprint, SumTerms
from podlt.protocol.messages import Assignment, JoinSignatures, JoinTerms, TreeSize
from podlt.protocol.receipt import Bound


class Member(msgspec.Struct, frozen=True):
    """Somebody who asks to be admitted.

    Attributes:
        key: its public key.
        terms: those that it signed, or None if it was offered none yet.
        signatures: on these.
    """

    key: bytes
    terms: JoinTerms | None = None
    signatures: JoinSignatures | None = None


class Lost(msgspec.Struct, frozen=True):
    """A worker is gone, or too late, without fraud: what it holds is to be dealt again.

    Attributes:
        worker: its number.
        reason: in words.
    """

    worker: int
    reason: str


class TaskLate(msgspec.Struct, frozen=True):
    """A task is late: it may be dealt to somebody else as well, while its holder may still answer.

    Attributes:
        seat: of the task.
        holder: who has it.
    """

    seat: int
    holder: int


class WorkerPace(msgspec.Struct, frozen=True):
    """How long a worker took for its tasks of a round.

    Attributes:
        worker: its number.
        tasks: how many it was dealt at first.
        examples: how many these have.
        seconds: from dealing to its last update, or until its answers were of no use any more.
        missed: how many of the tasks others answered in its place.
    """

    worker: int
    tasks: int
    examples: int
    seconds: float
    missed: int


class Restarted(msgspec.Struct, frozen=True):
    """A host of workers had died or hung, and was replaced.

    Attributes:
        process: its number among the hosts.
        status: its exit status.
        workers: the numbers of those that it hosts.
    """

    process: int
    status: int
    workers: list[int]


class Moved(msgspec.Struct, frozen=True):
    """An entry that moved credits.

    Attributes:
        index: its number in the log.
        entry: its bytes.
        proof: its audit path to the root of the head.
    """

    index: int
    entry: bytes
    proof: list[bytes]


class DurableEntries(msgspec.Struct, frozen=True):
    """Entries of the log that are on the disk now: those from number `first` to the end of the head.

    Attributes:
        first: the number of the first of them.
        size: how many entries the head is over.
        head: a signed note (`podlt.log.tree_head`).
        moved: those among them that moved credits.
    """

    first: int
    size: int
    head: str
    moved: list[Moved]


Event = frames.Results | frames.ExecutionFailed | frames.HostOpenings | Restarted | TaskLate | Lost


class Engine(Protocol):
    """Carries tasks to workers, and their replies back. One thread calls it, but `receipt` may come from another."""

    @property
    def processes(self) -> int:
        """How many processes host the workers that are there."""

    @property
    def elastic(self) -> bool:
        """Whether others may come later: then a run that has too few workers waits for more."""

    @property
    def trusted(self) -> bool:
        """Whether its workers are this machine's own processes, which hash in its memory and sign with its keys: then
        a sample of what they say is checked again, and not all."""

    @property
    def aggregates(self) -> bool:
        """Whether its workers are to be asked for fingerprints of their updates."""

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes (uint8) from which tasks start; the manager alone writes them, between rounds."""

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Begins to work for a run; returns who is there at once.

        Args:
            begin: the run's first entry.
            seen: the last tree head, for workers to sign.

        Raises:
            EngineError: it cannot be started.
        """

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Asks somebody to sign the terms on which it may join; it comes back by `arrivals`."""

    def arrivals(self, seconds: float) -> list[Member]:
        """Who has come since the last call, or comes within so many seconds. The same may come again."""

    def departures(self) -> list[Lost]:
        """Admitted workers that are gone. To be asked between rounds; within a round `events` says it."""

    def admitted(self, member: Member, number: int) -> None:
        """A member is worker `number` from now on."""

    def refused(self, member: Member, reason: str) -> None:
        """A member may not work for this run."""

    def released(self, number: int, reason: str) -> None:
        """A worker was withdrawn for what it sent, or could not do: it may come again."""

    def batch(self, buffer: int, examples: int) -> dict[str, np.ndarray]:
        """Where the examples of a batch go, field by field."""

    def slot(self, seat: int, holder: int) -> np.ndarray:
        """The update (uint8 bytes) that `holder` gave to the task of `seat`; whole once its commitment was given."""

    def digest(self, seat: int, holder: int) -> bytes:
        """The digest of that update, of the bytes as they are in the manager's own memory."""

    def deal(
        self,
        buffer: int,
        examples: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
    ) -> None:
        """Sends tasks to their holders.

        Args:
            buffer: which of the two batch buffers holds the round's examples.
            examples: how many they are.
            bounds: where each shard begins and ends among them.
            assignments: the tasks, at least one.
            again: whether these tasks come on top of others of the same round.
        """

    def gone(self, number: int) -> None:
        """A worker was withdrawn within the round: what it has, or answered, counts no more."""

    def open(self, bound: Bound) -> None:
        """Asks all workers to open their commitments of a round.

        Args:
            bound: those that are in the log since the last call: workers elsewhere get receipts for them.
        """

    def idle(self) -> bool:
        """Whether nobody may write any more to a slot that is used."""

    def paces(self) -> list[WorkerPace]:
        """How long each worker took in the round that was opened last; nothing where that is not measured."""

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it.

        Raises:
            EngineError: it cannot go on.
        """

    def ask_fingerprints(
        self,
        terms: SumTerms,
        scaled: Sequence[ScaledPart],
        expected: Mapping[tuple[int, int], Fingerprint | None],
    ) -> None:
        """Asks workers for the fingerprints of a round that is over; to be called before its slots are used again.

        Args:
            terms: the sum that is claimed.
            scaled: what was clipped.
            expected: seats and holders that gave an update -> its fingerprint, where it was worked out here.
        """

    def fingerprints(self, seconds: float = 0.0) -> list[SignedFingerprint]:
        """What has come of the last that were asked for, or comes within so many seconds; their signatures are not
        checked."""

    def receipt(self, receipt: DurableEntries) -> None:
        """Entries are durable: receipts may go to workers. Called on any thread, in the order of the log."""

    def finish(self, outcome: str, reason: str) -> None:
        """The run ended ("complete") or stopped ("stopped"): informs the workers."""

    def close(self) -> None:
        """Ends what was started."""


class Job(msgspec.Struct, frozen=True):
    """What an engine has to know of a run before it starts.

    Attributes:
        directory: of the run, already made.
        key: the manager's.
        seeds: the private keys of this machine's workers.
        workers: how many the recipe asks for.
        program: the training step.
        fields: the fields of an example.
        batch_size: the most examples of a batch.
        local_steps: optimizer steps within a task, at least 1.
        local_lr: their learning rate; None where there is one step.
        task_examples: the most examples of a task with so many workers.
    """

    directory: Path
    key: SigningKey
    seeds: list[bytes]
    workers: int
    program: Program
    fields: list[Field]
    batch_size: int
    local_steps: int
    local_lr: float | None
    task_examples: int


class Workplace(Protocol):
    """Where the workers of a run are.

    Attributes:
        name: what the run's settings say.
        keeps_keys: whether the workers' private keys are in the run's directory.
    """

    name: str
    keeps_keys: bool

    def ready(self, workers: int) -> AbstractContextManager[Callable[[Job], Engine]]:
        """Begins what takes long, while the manager captures the program; gives what makes the engine then.

        Args:
            workers: how many there will be.
        """
