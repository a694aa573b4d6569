"""The examples of a round: read from the prepared data into the engine's batch buffer, ahead of time where possible."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import numpy as np

from podlt.data.dataset import Dataset, shard_digest_of
from podlt.data.order import EpochOrder
from podlt.engine.interface import Engine
from podlt.protocol.plan import Upcoming, shard_bounds


class RoundBatch(msgspec.Struct, frozen=True):
    """A round's examples: in which half of the buffer they lie, how they are cut, and the digest of each shard."""

    plan: Upcoming
    buffer: int
    bounds: list[tuple[int, int]]
    shards: list[bytes]


class BatchReader:
    """Fills the batch buffer, one round ahead of the training.

    Args:
        dataset: the prepared examples.
        engine: whose buffer it fills.
        seed: what fixes the epochs' order.
    """

    def __init__(self, dataset: Dataset, engine: Engine, seed: bytes) -> None:
        self._dataset, self._engine = dataset, engine
        self._seed = seed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="podlt-block")
        self._orders: dict[int, EpochOrder] = {}
        self._ahead: Future[RoundBatch] | None = None
        self._half = 0

    @property
    def examples(self) -> int:
        """How many examples the data have."""
        return self._dataset.examples

    def get(self, plan: Upcoming) -> RoundBatch:
        """The batch of a round, filled."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            batch = ahead.result()
            if batch.plan == plan:
                return batch
            self._half = 1 - self._half  # the guess was wrong: its half is free again
        return self._fill(plan, self._next_half())

    def expect(self, plan: Upcoming) -> None:
        """Begins to fill the other half with what the next round will probably be."""
        self._ahead = self._thread.submit(self._fill, plan, self._next_half())

    def close(self) -> None:
        """Ends the thread, after the half that it fills."""
        self._thread.shutdown(cancel_futures=True)

    def ids(self, plan: Upcoming) -> np.ndarray:
        """The numbers of the examples that a round takes."""
        return example_ids(self._orders, self._dataset.examples, self._seed, plan)

    def _next_half(self) -> int:
        self._half = 1 - self._half
        return self._half

    def _fill(self, plan: Upcoming, buffer: int) -> RoundBatch:
        ids = self.ids(plan)
        batch, fields = self._engine.batch(buffer, plan.examples), self._dataset.fields
        self._dataset.read_into(ids, batch)
        bounds = shard_bounds(plan.examples, plan.shards)
        pieces = [{name: values[start:stop] for name, values in batch.items()} for start, stop in bounds]
        return RoundBatch(plan, buffer, bounds, [shard_digest_of(fields, piece) for piece in pieces])


def example_ids(orders: dict[int, EpochOrder], examples: int, seed: bytes, plan: Upcoming) -> np.ndarray:
    """The numbers of the examples that a round takes; `orders` keeps the epoch's order between calls."""
    if plan.epoch not in orders:
        orders.clear()
        orders[plan.epoch] = EpochOrder(examples, seed, plan.epoch)
    return orders[plan.epoch].ids(plan.offset, plan.examples)
