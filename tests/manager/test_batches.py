"""The examples of the next round are read while this one is computed, and its guess may be of more shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from small_runs import tiny_recipe

from podlt.data.dataset import Dataset
from podlt.data.prepare import prepare
from podlt.manager.batches import BatchReader, RoundBatch
from podlt.protocol.plan import RoundCut, Upcoming

SEED, WORKERS = bytes(32), 8


class Buffers:
    """An engine's two batch buffers."""

    def __init__(self, dataset: Dataset) -> None:
        self._halves = [dataset.read(np.arange(dataset.examples)) for _ in range(2)]

    def batch(self, buffer: int, examples: int) -> dict[str, np.ndarray]:
        return {name: values[:examples] for name, values in self._halves[buffer].items()}


class Reader(BatchReader):
    """A reader, and how often it read."""

    def __init__(self, dataset: Dataset) -> None:
        self.buffers, self.fills = Buffers(dataset), 0
        super().__init__(dataset, cast(Any, self.buffers), SEED)

    def _fill(self, plan: Upcoming, buffer: int) -> RoundBatch:
        self.fills += 1
        return super()._fill(plan, buffer)

    def examples_of(self, batch: RoundBatch) -> list[dict[str, bytes]]:
        """The bytes of each shard, as a worker gets them."""
        arrays = self.buffers.batch(batch.buffer, batch.plan.examples)
        return [{name: values[a:b].tobytes() for name, values in arrays.items()} for a, b in batch.bounds]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    found = prepare(tiny_recipe(examples=500).data, None, None, Path()).train
    assert found is not None
    return found


@pytest.fixture
def reader(dataset: Dataset) -> Iterator[Reader]:
    reader = Reader(dataset)
    yield reader
    reader.close()


@pytest.fixture
def anew(dataset: Dataset) -> Iterator[Reader]:
    reader = Reader(dataset)
    yield reader
    reader.close()


def test_another_round_than_expected_is_read_anew_and_the_block_in_use_stays_as_it_is(
    reader: Reader, anew: Reader
) -> None:
    cut = RoundCut(500, 100, 0)
    used = reader.get(cut.upcoming(0, 0, WORKERS - 1))
    whole = reader.examples_of(used)
    reader.expect(cut.upcoming(0, 84, WORKERS - 1))
    reader._ahead.result()  # type: ignore[union-attr]
    assert reader.examples_of(used) == whole
    plan = cut.upcoming(0, 96, WORKERS - 2)  # somebody left, or the round took more examples
    batch = reader.get(plan)
    assert batch.shards == anew.get(plan).shards and batch.buffer != used.buffer
    assert reader.examples_of(used) == whole
