"""The lines of a round: read from the prepared data into the engine's block buffer, ahead of time where possible."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import numpy as np

from podlt.data.dataset import Dataset, fragment_digest_of
from podlt.data.order import EpochOrder
from podlt.engine.interface import Engine
from podlt.protocol.plan import Upcoming, fragment_bounds


class Block(msgspec.Struct, frozen=True):
    """A round's lines: in which half of the buffer they lie, how they are cut, and the digest of each fragment."""

    plan: Upcoming
    buffer: int
    bounds: list[tuple[int, int]]
    fragments: list[bytes]


class BlockReader:
    """Fills the block buffer, one round ahead of the training.

    Args:
        dataset: the prepared lines.
        engine: whose buffer it fills.
        seed: what fixes the epochs' order.
    """

    def __init__(self, dataset: Dataset, engine: Engine, seed: bytes) -> None:
        self._dataset, self._engine = dataset, engine
        self._seed = seed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="podlt-block")
        self._orders: dict[int, EpochOrder] = {}
        self._ahead: Future[Block] | None = None
        self._half = 0

    @property
    def lines(self) -> int:
        """How many lines the data have."""
        return self._dataset.lines

    def get(self, plan: Upcoming) -> Block:
        """The block of a round, filled."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            block = ahead.result()
            if block.plan == plan:
                return block
            self._half = 1 - self._half  # the guess was wrong: its half is free again
        return self._fill(plan, self._next_half())

    def expect(self, plan: Upcoming) -> None:
        """Begins to fill the other half with what the next round will probably be."""
        self._ahead = self._thread.submit(self._fill, plan, self._next_half())

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    def ids(self, plan: Upcoming) -> np.ndarray:
        """The numbers of the lines that a round takes."""
        return line_ids(self._orders, self._dataset.lines, self._seed, plan)

    def _next_half(self) -> int:
        self._half = 1 - self._half
        return self._half

    def _fill(self, plan: Upcoming, buffer: int) -> Block:
        ids = self.ids(plan)
        block, fields = self._engine.block(buffer, plan.lines), self._dataset.fields
        self._dataset.read_into(ids, block)
        bounds = fragment_bounds(plan.lines, plan.fragments)
        pieces = [{name: values[start:stop] for name, values in block.items()} for start, stop in bounds]
        return Block(plan, buffer, bounds, [fragment_digest_of(fields, piece) for piece in pieces])


def line_ids(orders: dict[int, EpochOrder], lines: int, seed: bytes, plan: Upcoming) -> np.ndarray:
    """The numbers of the lines that a round takes; `orders` keeps the epoch's order between calls."""
    if plan.epoch not in orders:
        orders.clear()
        orders[plan.epoch] = EpochOrder(lines, seed, plan.epoch)
    return orders[plan.epoch].ids(plan.offset, plan.lines)
