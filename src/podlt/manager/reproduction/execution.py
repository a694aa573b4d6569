"""The tasks of a round, executed again: one after another, or shared out to processes of this machine."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal

import msgspec
import numpy as np

from podlt import crypto
from podlt.data.dataset import Dataset, shard_digest_of
from podlt.data.order import EpochOrder
from podlt.engine.shared_memory import Region
from podlt.errors import DivergedError, EngineError, PodltError
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.manager.batches import example_ids
from podlt.manager.weights import Weights
from podlt.program.places import ALIGNMENT
from podlt.protocol import entries as e
from podlt.protocol.messages import randomness
from podlt.protocol.plan import Upcoming, shard_bounds
from podlt.signature_pool import leave_interrupts_to_parent

Status = Literal["executed", "diverged", "other examples", "failed"]


class ExecutedTask(msgspec.Struct, frozen=True):
    """What executing a shard's task came to.

    Attributes:
        status: "executed", or why there is no update.
        digest: of the update; b"" if there is none.
        why: for a person.
    """

    status: Status
    digest: bytes = b""
    why: str = ""


class ShardWork:
    """Executes tasks of a run. Every process has one; parameters are in memory that all share.

    Args:
        seed: of the run.
        train: its training set.
        weights: hold a round's parameters.
        executor: executes a task.
        memory: takes the updates (uint8), one after another, each beginning at a multiple of 64.
    """

    def __init__(
        self, seed: bytes, train: Dataset, weights: Weights, executor: TaskExecutor, memory: np.ndarray
    ) -> None:
        self._seed, self._train, self._weights, self._executor, self._memory = seed, train, weights, executor, memory
        self._orders: dict[int, EpochOrder] = {}

    def update(self, shard: int) -> np.ndarray:
        """Where the update of a shard is."""
        size = self._weights.update_layout.nbytes
        start = shard * stride_of(self._weights)
        return self._memory[start : start + size]

    def run(self, opened: e.Open, shards: Sequence[int]) -> list[ExecutedTask]:
        """Executes the tasks of some shards of a round.

        Args:
            opened: the round's first entry.
            shards: their numbers.
        """
        plan = Upcoming(opened.epoch, opened.offset, opened.examples, len(opened.shards))
        ids = example_ids(self._orders, self._train.examples, self._seed, plan)
        bounds = shard_bounds(opened.examples, len(opened.shards))
        with self._executor.unchanging(self._weights.views):
            return [self._one(opened, shard, ids[slice(*bounds[shard])]) for shard in shards]

    def _one(self, opened: e.Open, shard: int, ids: np.ndarray) -> ExecutedTask:
        examples = self._train.read(ids)
        digest = shard_digest_of(self._train.fields, examples)
        if digest != opened.shards[shard]:
            return ExecutedTask("other examples", why=f"shard {shard} is made of other examples than were due")
        out = self.update(shard)
        out[:] = 0
        try:
            chance = randomness(self._seed, opened.round, digest)
            self._executor(self._weights.views, as_batch(examples), chance, out)
        except DivergedError as error:
            return ExecutedTask("diverged", why=str(error))
        except (PodltError, RuntimeError, IndexError, ValueError, MemoryError) as error:
            return ExecutedTask("failed", why=f"shard {shard} could not be executed here: {error}")
        return ExecutedTask("executed", crypto.blob_digest(out.data))


def stride_of(weights: Weights) -> int:
    """From where one update begins to where the next does, in bytes."""
    return -(-weights.update_layout.nbytes // ALIGNMENT) * ALIGNMENT


_work: ShardWork | None = None
"""What the processes have that are forked."""


class RoundExecutor:
    """Executes whole rounds.

    Args:
        work: of this process.
        pool: of processes that have the same work, or None.
        jobs: how many there are.
    """

    def __init__(self, work: ShardWork, pool: ProcessPoolExecutor | None, jobs: int) -> None:
        self._work, self._pool, self._jobs = work, pool, jobs

    def run(self, opened: e.Open) -> list[ExecutedTask]:
        """Executes all tasks of a round.

        Raises:
            EngineError: a process died.
        """
        shards = range(len(opened.shards))
        if self._pool is None or len(shards) == 1:
            return self._work.run(opened, shards)
        parts = [list(shards[start :: self._jobs]) for start in range(min(self._jobs, len(shards)))]
        found: dict[int, ExecutedTask] = {}
        try:
            for part, done in zip(parts, self._pool.map(_run, [opened] * len(parts), parts), strict=True):
                found |= dict(zip(part, done, strict=True))
        except BrokenProcessPool:
            raise EngineError("a process that trained again died: is there enough memory? (--jobs 1)") from None
        return [found[shard] for shard in shards]

    def update(self, shard: int) -> np.ndarray:
        """The update of a shard that was executed; the next round writes over it."""
        return self._work.update(shard)


@contextmanager
def round_executor(
    seed: bytes, train: Dataset, weights: Weights, executor: TaskExecutor, shards: int, jobs: int
) -> Iterator[RoundExecutor]:
    """What executes rounds, while the context lasts.

    Args:
        shards: the most that a round has.
        jobs: in how many processes; one where the system cannot fork.

    Raises:
        EngineError: there is not enough memory for the updates of a round.
    """
    global _work
    region = Region(max(1, shards) * stride_of(weights))
    work = ShardWork(seed, train, weights, executor, region.bytes)
    try:
        if jobs == 1 or shards == 1 or sys.platform != "linux":
            yield RoundExecutor(work, None, 1)
            return
        _work = work  # before the processes are forked, which is when the first work is given to them
        forking = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(jobs, forking, initializer=leave_interrupts_to_parent) as pool:
            yield RoundExecutor(work, pool, jobs)
    finally:
        _work = None
        region.close()


def _run(opened: e.Open, shards: Sequence[int]) -> list[ExecutedTask]:
    """In another process."""
    assert _work is not None
    with one_thread():
        return _work.run(opened, shards)
