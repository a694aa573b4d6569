"""The examples of a shard, on their way to whoever has its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from podlt import crypto
from podlt.canonical import Buffer
from podlt.data.field import Field
from podlt.remote.session.facts import LargeBlobs

Pack = Callable[[np.ndarray], memoryview]
"""Gives bytes (uint8) in fewer, or as they are."""


class ShardExamples(NamedTuple):
    """The examples of a shard.

    Attributes:
        data: their bytes, field by field.
        sent: what goes with a task: these, packed where that is shorter; nothing where they are too long for that.
        digest: of `data`, where they are too long; else zeros.
        examples: how many.
    """

    data: np.ndarray
    sent: Buffer
    digest: bytes
    examples: int


def examples_of(
    fields: Sequence[Field],
    batch: Mapping[str, np.ndarray],
    start: int,
    stop: int,
    large: LargeBlobs,
    pack: Pack = lambda data: data.data,
) -> ShardExamples:
    """The examples `start` to before `stop` of a batch.

    Args:
        fields: of an example.
        batch: for each field the values of all examples.
        start: the first.
        stop: the first that is none of them.
        large: says what is too long to go with a task.
        pack: makes what goes with a task shorter.
    """
    parts = [np.ascontiguousarray(batch[field.name][start:stop]).reshape(-1) for field in fields]
    data = np.concatenate([part.view(np.uint8) for part in parts])
    if large.carries(len(data)):
        return ShardExamples(data, b"", crypto.blob_digest(data.data), stop - start)
    return ShardExamples(data, pack(data), bytes(32), stop - start)
