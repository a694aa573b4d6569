"""Lays the examples of a large part out in a drawn order, with memory that does not grow with the part.

A file may be sorted, and an epoch's order (order.py) mixes examples freely only within a window. So each example is
given a 64-bit word, and examples are stored ascending by their words: those that pass are scattered to buckets on disk
by their highest bits, then bucket after bucket is put in order. Data are written twice and read once more.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from podlt.data.dataset import DTYPES, Arrays, Dataset, byte_columns
from podlt.data.draw import Draw
from podlt.data.field import Field
from podlt.data.order import WINDOW_EXAMPLES
from podlt.data.writer import DatasetWriter, storing

BUCKET_BYTES = 2**25
MAX_BUCKET_BITS = 8
_WORD = 8


class ExampleWriter(Protocol):
    """What writes a prepared part: `DatasetWriter`, or what puts the examples in another order before it."""

    examples: int

    def write(self, arrays: Arrays) -> None: ...

    def finish(self, info: dict[str, Any]) -> Dataset: ...

    def close(self) -> None: ...


def training_writer(folder: Path, fields: Sequence[Field], examples: int, seed: bytes) -> ExampleWriter:
    """What writes a part of so many examples to train on: in their own order where an epoch mixes them all anyway.

    Args:
        folder: where, to be created.
        fields: what an example holds.
        examples: how many will be written.
        seed: what the order is drawn by.
    """
    if examples <= WINDOW_EXAMPLES:
        return DatasetWriter(folder, fields)
    return MixingWriter(folder, fields, examples, seed)


class MixingWriter:
    """A `DatasetWriter` that stores its examples in a drawn order.

    Args:
        folder: where, to be created; the buckets lie beside it until it is finished.
        fields: what an example holds, in the order in which it is hashed.
        examples: how many will be written: decides only how many buckets there are, and no byte of the part.
        seed: what the order is drawn by.

    Raises:
        StorageError: the folder exists or cannot be written.
        DataError: a field's name or shape will not do.
    """

    def __init__(self, folder: Path, fields: Sequence[Field], examples: int, seed: bytes) -> None:
        self._writer = DatasetWriter(folder, fields)
        self.examples = 0
        self._words = Draw(seed, domain="mix/1")
        self._width = _WORD + sum(field.row_bytes for field in fields)
        self._bits = min(MAX_BUCKET_BITS, (examples * self._width // BUCKET_BYTES).bit_length())
        self._aside = folder.with_name(f"{folder.name}-buckets")
        with storing(folder), ExitStack() as stack:
            self._aside.mkdir()
            paths = [self._aside / str(number) for number in range(2**self._bits)]
            self._buckets = [stack.enter_context(path.open("wb")) for path in paths]
            self._open = stack.pop_all()

    def write(self, arrays: Arrays) -> None:
        """Takes examples: for each field an array [n, *shape] of its dtype. Errors as `DatasetWriter.write`."""
        columns = byte_columns(self._writer.fields, arrays)
        words = self._words.words(self.examples, len(columns[0]))
        rows = np.concatenate([words.view(np.uint8).reshape(-1, _WORD), *columns], axis=1)
        buckets = (words >> np.uint64(64 - self._bits)).astype(np.int64) if self._bits else np.zeros(len(words), int)
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets, minlength=len(self._buckets)))
        rows = rows[order]
        with storing(self._aside):
            for file, start, end in zip(self._buckets, [0, *ends[:-1]], ends, strict=True):
                file.write(rows[start:end].data)
        self.examples += len(words)

    def finish(self, info: dict[str, Any]) -> Dataset:
        """Writes the examples in their order, and seals the part. Errors as `DatasetWriter.finish`."""
        with storing(self._aside):
            self._open.close()
            for number in range(len(self._buckets)):
                self._write_bucket(self._aside / str(number))
            shutil.rmtree(self._aside)
        return self._writer.finish(info)

    def close(self) -> None:
        """Closes the files and deletes the buckets."""
        with storing(self._aside):
            self._open.close()
            shutil.rmtree(self._aside, ignore_errors=True)
        self._writer.close()

    def _write_bucket(self, path: Path) -> None:
        if not path.stat().st_size:
            return
        rows = np.memmap(path, np.uint8, "r").reshape(-1, self._width)
        words = np.ascontiguousarray(rows[:, :_WORD]).view("<u8")[:, 0]
        order = np.argsort(words, kind="stable")
        step = max(1, BUCKET_BYTES // (4 * self._width))
        for start in range(0, len(order), step):
            self._writer.write(self._arrays(rows[order[start : start + step]]))
        path.unlink()

    def _arrays(self, rows: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """The fields in packed examples, uint8[n, width]."""
        arrays, at = {}, _WORD
        for field in self._writer.fields:
            column = np.ascontiguousarray(rows[:, at : at + field.row_bytes])
            arrays[field.name] = column.reshape(-1).view(DTYPES[field.dtype]).reshape(len(rows), *field.shape)
            at += field.row_bytes
        return arrays
