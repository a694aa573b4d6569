"""Tables as a source of examples: CSV and JSONL, as chunks of columns with the number of every example.

A chunk is a few thousand examples, so that memory does not grow with the file. Values of CSV and JSONL are texts,
stripped of the spaces around them; those of Parquet and Feather (arrow_tables.py) keep their type. What a value means,
cells.py decides for all.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from podlt.data.faults import Faults
from podlt.data.spec import Column
from podlt.errors import DataError

CHUNK_EXAMPLES = 8192
LIST_EXAMPLES = 512
"""Examples of a chunk where values are lists, which may be long."""

MAX_LINE_BYTES = 2**24
"""The longest example of a text file that is read, in bytes."""

_INDEX_NAME = re.compile(r"(Unnamed: \d+)?")
"""The name of the column that pandas makes of a frame's index when it writes and reads a CSV file."""


def nearest(wanted: Column, columns: Sequence[Column]) -> str:
    """What may have been meant by a column that is not there; "" where nothing is like it."""
    near = difflib.get_close_matches(str(wanted), [str(column) for column in columns], 1)
    return f"; was {near[0]!r} meant?" if near else ""


@dataclass(frozen=True)
class TableChunk:
    """Some consecutive examples.

    Attributes:
        faults: what is wrong with the file that they come from.
        numbers: each example's number as an editor shows it (Parquet: the row, from 1).
        columns: the values of each wanted column, in the order wanted, as strings or numbers; missing ones may be null.
            Those of a column of lists are what `lists.ListColumn.take` takes.
    """

    faults: Faults
    numbers: Sequence[int]
    columns: list[Any]


class Table(Protocol):
    """A source of chunks.

    Attributes:
        source: its name, as the user gave it.
        columns: the names of its columns, or their numbers.
        index: those of them that are an index of pandas: no input, unless the recipe names them.
        lists: those of them whose values are lists.
    """

    source: str
    columns: list[Column]
    index: frozenset[Column]
    lists: frozenset[Column]

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """The first `limit` examples in order, or all, with the columns at these positions."""


def text_lines(path: Path, faults: Faults) -> Iterator[str]:
    """The examples of a UTF-8 file, with their ends, each of bounded length.

    Raises:
        DataError: an example is too long.
    """
    with path.open("rb") as file:
        number = 0
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                raise DataError(faults.source, number, f"expected an example of at most {MAX_LINE_BYTES} bytes")
            coding = "utf-8-sig" if number == 1 else "utf-8"
            try:
                yield data.decode(coding)
            except UnicodeDecodeError as error:
                faults.add(number, f"expected UTF-8, got byte 0x{data[error.start]:02x}")
                faults.hint(f"iconv -f latin1 -t utf-8 {path.name} converts a file of an older Windows or Mac")
                yield data.decode(coding, errors="replace")


class Csv:
    """Comma-separated values as RFC 4180 has them: quoted fields may hold separators and line ends.

    Args:
        source: the file's name in errors.
        path: where it is.
        delimiter: between columns, one character.
        header: whether the first example names the columns.

    Raises:
        DataError: there is no example, or the first is malformed.
    """

    def __init__(self, source: str, path: Path, delimiter: str, header: bool) -> None:
        self.source = source
        self._path, self._delimiter, self._header = path, delimiter, header
        faults = Faults(source)
        first = next(self._rows(faults), None)
        faults.check()
        if first is None:
            raise DataError(source, None, "expected at least one example, got none")
        names = [name.strip() for name in first[1]]
        if header and len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(source, first[0], f"expected a name for each column, got {twice!r} twice")
        self.columns: list[Column] = [*names] if header else [*range(len(names))]
        self.index: frozenset[Column] = frozenset(n for n in names if header and _INDEX_NAME.fullmatch(n))
        self.lists: frozenset[Column] = frozenset()

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """See `Table`."""
        faults = Faults(self.source)
        records = self._rows(faults)
        if self._header:
            next(records)
        for numbers, rows in batches(records, limit):
            whole = []
            for place, (number, row) in enumerate(zip(numbers, rows, strict=True)):
                if len(row) == len(self.columns):
                    whole.append(place)
                else:
                    faults.add(number, f"expected {len(self.columns)} columns, got {len(row)}")
            if len(whole) < len(rows):
                numbers, rows = [numbers[place] for place in whole], [rows[place] for place in whole]
            columns = list(zip(*rows, strict=True)) or [()] * len(self.columns)
            texts = [pc.utf8_trim_whitespace(pa.array(columns[place], pa.string())) for place in wanted]
            yield TableChunk(faults, numbers, texts)
        yield TableChunk(
            faults, [], [pa.array([], pa.string()) for _ in wanted]
        )  # with the faults after the last example

    def _rows(self, faults: Faults) -> Iterator[tuple[int, list[str]]]:
        """Each record with the number of its first example; examples without anything on them are no records."""
        lines = text_lines(self._path, faults)
        reader = csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True, strict=True)
        while True:
            number = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                faults.add(number, f"malformed: {error}")
                return
            if row is None:
                return
            if row:
                yield number, row


class Jsonl:
    """One JSON object a line. The first example names the columns; a later example may hold more.

    Args:
        source: the file's name in errors.
        path: where it is.
        complete: whether each example must have a value for each column.

    Raises:
        DataError: there is no example, or the first is malformed.
    """

    def __init__(self, source: str, path: Path, complete: bool) -> None:
        self.source = source
        self._path, self._complete = path, complete
        faults = Faults(source)
        first = next(self._objects(faults), None)
        if first is None:
            faults.check()
            raise DataError(source, None, "expected at least one example, got none")
        self.columns: list[Column] = [*first[1]]
        self.index: frozenset[Column] = frozenset()
        self.lists: frozenset[Column] = frozenset(name for name, value in first[1].items() if isinstance(value, list))

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """See `Table`."""
        names = [str(self.columns[place]) for place in wanted]
        faults = Faults(self.source)
        for numbers, documents in batches(
            self._objects(faults), limit, LIST_EXAMPLES if self.lists else CHUNK_EXAMPLES
        ):
            rows = []
            for number, document in zip(numbers, documents, strict=True):
                before = faults.count
                row = [self._value(faults, number, document, name) for name in names]
                if faults.count == before:
                    rows.append((number, row))
            columns = list(zip(*(row for _, row in rows), strict=True)) or [()] * len(names)
            pairs = zip(names, columns, strict=True)
            values = [column if name in self.lists else pa.array(column, pa.string()) for name, column in pairs]
            yield TableChunk(faults, [number for number, _ in rows], values)
        yield TableChunk(faults, [], [pa.array([], pa.string()) for _ in wanted])

    def _objects(self, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        for number, line in enumerate(text_lines(self._path, faults), 1):
            if not line.strip():
                continue
            try:
                yield number, decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                faults.add(number, f"expected a JSON object: {error}")

    def _value(self, faults: Faults, number: int, document: dict[str, Any], name: str) -> Any:
        """A text, None where there is none, or whatever stands in a column of lists."""
        if name not in document and self._complete:
            faults.add(number, f"expected a value for {name!r}, got none")
        value = document.get(name)
        if name in self.lists:
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int | float):
            return repr(value)
        if value is not None:
            kind = type(value).__name__
            faults.add(number, f"column {name!r}: expected a text or a number, got {kind}")
        return None


def batches(
    records: Iterator[tuple[int, Any]], limit: int | None, step: int | None = None
) -> Iterator[tuple[list[int], list[Any]]]:
    """The first `limit` records, or all, `step` (`CHUNK_EXAMPLES`) at a time: their numbers, and what they hold."""
    numbers: list[int] = []
    rows: list[Any] = []
    left = limit
    step = step or CHUNK_EXAMPLES
    for number, row in records:
        numbers.append(number)
        rows.append(row)
        if len(rows) == (step if left is None else min(step, left)):
            left = left if left is None else left - len(rows)
            yield numbers, rows
            numbers, rows = [], []
            if left == 0:
                return
    if rows:
        yield numbers, rows
