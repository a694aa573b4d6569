"""Tables as a source of lines: CSV, JSONL and Parquet, as chunks of columns with the number of every line.

A chunk is a few thousand lines, so that memory does not grow with the file. Values of CSV and JSONL are texts,
stripped of the spaces around them; those of Parquet keep their type. What a text means, encode.py decides for all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from podlt.data.spec import Column, DataSpec
from podlt.errors import DataError

CHUNK_LINES = 8192
MAX_LINE_BYTES = 2**24
"""The longest line of a text file that is read, in bytes."""


@dataclass(frozen=True)
class TableChunk:
    """Some consecutive lines.

    Attributes:
        numbers: each line's number as an editor shows it (Parquet: the row, from 1).
        columns: the values of each wanted column, in the order wanted, as strings or numbers without nulls.
    """

    numbers: Sequence[int]
    columns: list[pa.Array]


class Table(Protocol):
    """A source of chunks."""

    source: str
    columns: list[Column]

    def chunks(self, wanted: Sequence[int]) -> Iterator[TableChunk]:
        """All lines in order, with the columns at these positions."""


def open_table(spec: DataSpec, name: str, path: Path) -> Table:
    """The table in a file, by its suffix; `name` is what errors call it.

    Raises:
        DataError: its first line or its footer is malformed.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _Parquet(name, path)
    return _Jsonl(name, path) if suffix == ".jsonl" else _Csv(name, path, spec.delimiter, spec.header)


def text_lines(source: str, path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends, each of bounded length.

    Raises:
        DataError: a line is too long or is not UTF-8.
    """
    with path.open("rb") as file:
        number = 0
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                raise DataError(source, number, f"expected a line of at most {MAX_LINE_BYTES} bytes")
            try:
                yield data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(source, number, f"expected UTF-8, got byte 0x{data[error.start]:02x}") from None


class _Csv:
    """Comma-separated values as RFC 4180 has them: quoted fields may hold separators and line ends."""

    def __init__(self, source: str, path: Path, delimiter: str, header: bool) -> None:
        self.source = source
        self._path, self._delimiter, self._header = path, delimiter, header
        first = next(self._rows(), None)
        if first is None:
            raise DataError(source, None, "expected at least one line, got none")
        names = [name.strip() for name in first[1]]
        if header and len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(source, first[0], f"expected a name for each column, got {twice!r} twice")
        self.columns: list[Column] = [*names] if header else [*range(len(names))]

    def chunks(self, wanted: Sequence[int]) -> Iterator[TableChunk]:
        numbers: list[int] = []
        rows: list[list[str]] = []
        records = self._rows()
        if self._header:
            next(records)
        for number, row in records:
            if len(row) != len(self.columns):
                raise DataError(self.source, number, f"expected {len(self.columns)} columns, got {len(row)}")
            numbers.append(number)
            rows.append(row)
            if len(rows) == CHUNK_LINES:
                yield self._chunk(numbers, rows, wanted)
                numbers, rows = [], []
        if rows:
            yield self._chunk(numbers, rows, wanted)

    def _chunk(self, numbers: list[int], rows: list[list[str]], wanted: Sequence[int]) -> TableChunk:
        columns = list(zip(*rows, strict=True))
        texts = [pc.utf8_trim_whitespace(pa.array(columns[place], pa.string())) for place in wanted]
        return TableChunk(numbers, texts)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each record with the number of its first line; lines without anything on them are no records."""
        reader = csv.reader(
            text_lines(self.source, self._path), delimiter=self._delimiter, skipinitialspace=True, strict=True
        )
        while True:
            number = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise DataError(self.source, number, f"malformed: {error}") from None
            if row is None:
                return
            if row:
                yield number, row


class _Jsonl:
    """One JSON object a line. The first line names the columns; a later line may hold more, but no fewer."""

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self._path = path
        first = next(self._objects(), None)
        if first is None:
            raise DataError(source, None, "expected at least one line, got none")
        self.columns: list[Column] = [*first[1]]

    def chunks(self, wanted: Sequence[int]) -> Iterator[TableChunk]:
        names = [self.columns[place] for place in wanted]
        numbers: list[int] = []
        rows: list[list[str]] = []
        for number, document in self._objects():
            rows.append([self._text(number, document, str(name)) for name in names])
            numbers.append(number)
            if len(rows) == CHUNK_LINES:
                yield self._chunk(numbers, rows)
                numbers, rows = [], []
        if rows:
            yield self._chunk(numbers, rows)

    def _chunk(self, numbers: list[int], rows: list[list[str]]) -> TableChunk:
        return TableChunk(numbers, [pa.array(column, pa.string()) for column in zip(*rows, strict=True)])

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        for number, line in enumerate(text_lines(self.source, self._path), 1):
            if not line.strip():
                continue
            try:
                yield number, decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise DataError(self.source, number, f"expected a JSON object: {error}") from None

    def _text(self, number: int, document: dict[str, Any], name: str) -> str:
        if name not in document:
            raise DataError(self.source, number, f"expected a value for {name!r}, got none")
        value = document[name]
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int | float):
            return repr(value)
        kind = "null" if value is None else type(value).__name__
        raise DataError(self.source, number, f"column {name!r}: expected a text or a number, got {kind}")


class _Parquet:
    """A Parquet file, read row group by row group."""

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(source, None, f"not a readable Parquet file: {error}") from None
        self.columns: list[Column] = [*self._file.schema_arrow.names]

    def chunks(self, wanted: Sequence[int]) -> Iterator[TableChunk]:
        names = [str(self.columns[place]) for place in wanted]
        first = 1
        try:
            for batch in self._file.iter_batches(CHUNK_LINES, columns=names):
                numbers = range(first, first + batch.num_rows)
                yield TableChunk(numbers, [self._plain(name, batch.column(name), first) for name in names])
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(self.source, None, f"damaged after row {first - 1}: {error}") from None

    def _plain(self, name: str, values: pa.Array, first: int) -> pa.Array:
        """The values as text or numbers, refusing nulls and every other type."""
        if values.null_count:
            row = first + values.is_null().to_pylist().index(True)
            raise DataError(self.source, row, f"column {name!r}: expected a value, got null")
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pc.utf8_trim_whitespace(values.cast(pa.string()))
        if pa.types.is_boolean(kind):
            return values.cast(pa.uint8())
        if pa.types.is_decimal(kind):
            return values.cast(pa.float64())
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return values
        raise DataError(self.source, None, f"column {name!r}: expected texts or numbers, got {kind}")
