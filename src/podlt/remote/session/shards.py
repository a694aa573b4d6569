"""The examples of a shard, on their way to whoever has its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from podlt import crypto
from podlt.data.field import Field
from podlt.remote.session.facts import LargeBlobs


class ShardExamples(NamedTuple):
    """The examples of a shard: their bytes, the digest of these where they are too long to go with a task, how many."""

    data: np.ndarray
    digest: bytes
    examples: int


def examples_of(
    fields: Sequence[Field], batch: Mapping[str, np.ndarray], start: int, stop: int, large: LargeBlobs
) -> tuple[np.ndarray, bytes]:
    """A shard's examples as bytes, field by field, and their digest where they are too large to go with the task."""
    parts = [np.ascontiguousarray(batch[field.name][start:stop]).reshape(-1) for field in fields]
    data = np.concatenate([part.view(np.uint8) for part in parts])
    return data, crypto.blob_digest(data.data) if large.carries(len(data)) else bytes(32)
