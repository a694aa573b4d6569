"""Predictions as a file: CSV, Parquet or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from podlt.errors import UsageError
from podlt.store.files import make_whole


class PredictionWriter(Protocol):
    """What takes predictions."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Writes some of them."""

    def close(self) -> None:
        """Ends the file."""


class CsvLines:
    """CSV with a header; a list is written as JSON.

    Args:
        file: open for bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = True

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """See `PredictionWriter`."""
        columns = [_flat(column) for column in batch.columns]
        plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        options = pyarrow.csv.WriteOptions(include_header=self._first, quoting_style="needed")
        pyarrow.csv.write_csv(plain, self._file, options)
        self._first = False

    def close(self) -> None:
        """See `PredictionWriter`."""
        self._file.flush()


class JsonLines:
    """One JSON object a line.

    Args:
        file: open for bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """See `PredictionWriter`."""
        self._file.write("".join(json.dumps(row, default=str) + "\n" for row in batch.to_pylist()).encode())

    def close(self) -> None:
        """See `PredictionWriter`."""
        self._file.flush()


class _Parquet:
    """Parquet, begun with the first batch's schema."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: Any = None

    def write_batch(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


_FORMS: Mapping[str, Callable[[IO[bytes]], PredictionWriter]] = {
    ".csv": CsvLines,
    ".jsonl": JsonLines,
    ".parquet": _Parquet,
}


def write_predictions(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes a file of predictions, whole or not at all; returns how many examples it has.

    Args:
        path: its suffix says the form.
        batches: all with the same columns.

    Raises:
        UsageError: a form that is not known.
        StorageError: it cannot be written.
    """
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"{path}: expected one of {', '.join(_FORMS)}")
    count = 0

    def make(part: Path) -> None:
        nonlocal count
        with part.open("wb") as file, _closed(form(file)) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows

    make_whole(path, make)
    return count


@contextmanager
def _closed(writer: PredictionWriter) -> Iterator[PredictionWriter]:
    yield writer
    writer.close()


def _flat(column: pa.Array) -> pa.Array:
    if not pa.types.is_list(column.type):
        return column
    return pa.array([json.dumps(value) if value is not None else None for value in column.to_pylist()], pa.string())
