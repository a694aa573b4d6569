"""Parquet and Feather (Arrow IPC) files as a source of examples, and several files of one form as one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from podlt.data import tables
from podlt.data.faults import Faults
from podlt.data.files import Files
from podlt.data.lists import is_list
from podlt.data.spec import Column, DataSpec
from podlt.data.tables import Csv, Jsonl, Table, TableChunk
from podlt.errors import DataError


def open_table(spec: DataSpec, files: Files) -> Table:
    """The table in some files of one form, by their suffix.

    Raises:
        DataError: the first example or the footer of a file is malformed, or the files have different columns.
    """
    opened = [_open_file(spec, name, path) for name, path in files]
    return opened[0] if len(opened) == 1 else _Chain(opened)


def _open_file(spec: DataSpec, name: str, path: Path) -> Table:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".feather", ".arrow"):
        return _Arrow(name, path)
    if suffix == ".jsonl":
        return Jsonl(name, path, spec.missing == "error")
    delimiter = "\t" if suffix == ".tsv" and spec.delimiter == "," else spec.delimiter
    return Csv(name, path, delimiter, spec.header)


class _Arrow:
    """A Parquet or Feather file, read batch by batch."""

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self._path = path
        try:
            schema = pq.read_schema(path) if self._is_parquet else pa.ipc.open_file(path).schema
        except (pa.ArrowException, OSError) as error:
            form = "Parquet" if self._is_parquet else "Feather"
            raise DataError(source, None, f"not a readable {form} file: {error}") from None
        self.columns: list[Column] = [*schema.names]
        self.index = _index_columns(schema)
        self.lists: frozenset[Column] = frozenset(entry.name for entry in schema if is_list(entry.type))

    @property
    def _is_parquet(self) -> bool:
        return self._path.suffix.lower() == ".parquet"

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """See `Table`."""
        names = [str(self.columns[place]) for place in wanted]
        faults, first = Faults(self.source), 1
        try:
            for batch in self._batches(names):
                batch = batch[: None if limit is None else limit - first + 1]
                numbers = range(first, first + batch.num_rows)
                yield TableChunk(faults, numbers, [self._plain(name, batch.column(name)) for name in names])
                first += batch.num_rows
                if limit is not None and first > limit:
                    return
        except (pa.ArrowException, OSError) as error:
            raise DataError(self.source, None, f"damaged after row {first - 1}: {error}") from None

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        if self._is_parquet:
            yield from pq.ParquetFile(self._path).iter_batches(tables.CHUNK_EXAMPLES, columns=names)
            return
        with pa.memory_map(str(self._path)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number).select(names)
                for start in range(0, batch.num_rows, tables.CHUNK_EXAMPLES):
                    yield batch.slice(start, tables.CHUNK_EXAMPLES)

    def _plain(self, name: str, values: pa.Array) -> pa.Array:
        """The values as texts, numbers or dates, refusing every other type."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        kind = values.type
        if is_list(kind):
            return values
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            return pc.utf8_trim_whitespace(values.cast(pa.string()))
        if pa.types.is_boolean(kind):
            return values.cast(pa.uint8())
        if pa.types.is_null(kind):
            return values.cast(pa.string())
        if pa.types.is_decimal(kind):
            return values.cast(pa.float64())
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind):
            return values
        if pa.types.is_timestamp(kind):
            return values
        raise DataError(self.source, None, f"column {name!r}: expected texts or numbers, got {kind}")


def _index_columns(schema: pa.Schema) -> frozenset[Column]:
    """The columns that pandas would read back as the frame's index: the file's own metadata names them."""
    try:
        described = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        found = described.get("index_columns", [])
        return frozenset(name for name in found if isinstance(name, str) and name in schema.names)
    except (ValueError, AttributeError, TypeError):
        return frozenset()


class _Chain:
    """Several files with the same columns, one after another."""

    def __init__(self, parts: list[Table]) -> None:
        first = parts[0]
        for part in parts[1:]:
            if sorted(map(str, part.columns)) != sorted(map(str, first.columns)):
                names = ", ".join(map(str, first.columns[:50]))
                raise DataError(part.source, None, f"expected the columns of {first.source} ({names})")
            if part.lists != first.lists:
                names = ", ".join(map(str, sorted(map(str, part.lists ^ first.lists))))
                raise DataError(part.source, None, f"expected lists where {first.source} has lists: column {names}")
        self.source = f"{first.source} to {parts[-1].source}"
        self.columns = first.columns
        self.index = first.index
        self.lists = first.lists
        self._parts = parts

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """See `Table`."""
        names, read = [self.columns[place] for place in wanted], 0
        for part in self._parts:
            left = None if limit is None else limit - read
            if left == 0:
                return
            for chunk in part.chunks([part.columns.index(name) for name in names], left):
                read += len(chunk.numbers)
                yield chunk
