"""Writers of the parts of a split: to train on, to test on, to choose a model by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.dataset import Arrays
from podlt.data.field import Field
from podlt.data.mix import ExampleWriter, training_writer
from podlt.data.spec import DataSpec
from podlt.data.split import PART_NAMES, TRAIN, Split, seed_of
from podlt.data.writer import DatasetWriter

PartWriters = Mapping[int, ExampleWriter]
"""The writer of each part that has examples."""


def open_writers(spec: DataSpec, split: Split, fields: Sequence[Field], folder: Path) -> PartWriters:
    """A writer for each part that has examples.

    Args:
        spec: draws the order in which examples to train on are stored.
        split: says how many examples a part has.
        fields: of each example.
        folder: where each part gets its own.
    """
    writers: dict[int, ExampleWriter] = {}
    try:
        for part in split.parts:
            path = folder / PART_NAMES[part]
            if part == TRAIN:
                writers[part] = training_writer(path, fields, split.sizes[part], seed_of(spec))
            else:
                writers[part] = DatasetWriter(path, fields)
    except BaseException:
        close_writers(writers)
        raise
    return writers


def write_examples(writers: PartWriters, arrays: Arrays, parts: npt.NDArray[Any]) -> None:
    """Writes examples, each to its part.

    Args:
        writers: of `open_writers`.
        arrays: the examples, by field.
        parts: the part of each example, shape (n,).
    """
    for part, writer in writers.items():
        mask: npt.NDArray[np.bool_] = parts == part
        if mask.any():
            writer.write({name: values[mask] for name, values in arrays.items()})


def close_writers(writers: PartWriters) -> None:
    """Closes them all, finished or not."""
    for writer in writers.values():
        writer.close()
