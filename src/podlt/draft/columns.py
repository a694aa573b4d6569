"""What the columns of a table hold, found by reading its first examples."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from podlt.data.arrow_tables import open_table
from podlt.data.cells import days_of, missing_of, numbers_of
from podlt.data.files import Files
from podlt.data.spec import Column, DataSpec

LOOKED_AT = 50_000
"""Examples that are read to say what a column holds; `podlt data describe` reads all."""

_MOST_CATEGORIES = 1_000
_MOST_CLASSES = 50
_BEGINNING = 2**16
_DELIMITERS = ",;\t|"


class ColumnFacts(msgspec.Struct, frozen=True):
    """What was seen of a column.

    Attributes:
        name: its name, or its number where the file has no header.
        kind: "number", "date", "text" or "list".
        missing: how many of the examples looked at have no value here.
        distinct: how many values there are; counted up to some thousands.
        whole: whether all are whole numbers.
        examples: how many were looked at.
        is_index: a column that pandas writes for a frame's index.
    """

    name: Column
    kind: str
    missing: int = 0
    distinct: int = 0
    whole: bool = False
    examples: int = 0
    is_index: bool = False

    @property
    def may_be_label(self) -> bool:
        """Whether it can be predicted: numbers, or few enough classes."""
        if self.is_index or self._is_counter or self.kind in ("list", "date") or self.distinct < 2:
            return False
        return self.kind == "number" or self.distinct <= max(2, self.examples // 2)

    @property
    def is_class(self) -> bool:
        """Whether its values are classes rather than numbers: texts, or few whole numbers."""
        few = min(_MOST_CLASSES, max(2, self.examples // 10))
        return self.kind == "text" or (self.whole and self.distinct <= few)

    @property
    def role(self) -> str:
        """The part that it plays as an input: "numeric", "dates", "categorical", or "drop" where it says nothing."""
        names_examples = self.distinct > max(_MOST_CATEGORIES, self.examples // 10) or self.distinct == self.examples
        if self.distinct < 2 or (self.kind == "text" and names_examples) or self._is_counter:
            return "drop"
        return {"number": "numeric", "date": "dates", "list": "numeric"}.get(self.kind, "categorical")

    @property
    def _is_counter(self) -> bool:
        """Whether it numbers the examples."""
        called = str(self.name).lower()
        return self.whole and self.distinct == self.examples and (called == "id" or called.endswith("_id"))


def look_at_columns(spec: DataSpec, files: Files) -> list[ColumnFacts]:
    """The columns of a table, by its first `LOOKED_AT` examples.

    Args:
        spec: how the files are read.
        files: of the table.

    Raises:
        DataError: an example is malformed.
    """
    table = open_table(msgspec.structs.replace(spec, missing="mean"), files)
    wanted = [place for place, name in enumerate(table.columns) if name not in table.lists]
    read: list[list[Any]] = [[] for _ in wanted]
    for chunk in table.chunks(wanted, LOOKED_AT):
        chunk.faults.check()
        for parts, values in zip(read, chunk.columns, strict=True):
            parts.append(values if isinstance(values, pa.Array) else values.combine_chunks())
    flat = {table.columns[place]: parts for place, parts in zip(wanted, read, strict=True)}
    return [
        ColumnFacts(name, "list", distinct=2) if name in table.lists else _facts(name, flat[name], name in table.index)
        for name in table.columns
    ]


def _facts(name: Column, parts: list[Any], is_index: bool) -> ColumnFacts:
    filled = [part for part in parts if len(part)]
    if not filled:
        return ColumnFacts(name, "text", is_index=is_index)
    values = pa.concat_arrays(filled)
    examples, distinct = len(values), int(pc.count_distinct(values, mode="only_valid").as_py())
    numbers = numbers_of(values) if not pa.types.is_temporal(values.type) else None
    if numbers is not None and not numbers.wrong.any():
        known = numbers.values[~numbers.missing]
        whole = bool(len(known)) and bool(np.isfinite(known).all()) and bool((known == np.floor(known)).all())
        different = len(np.unique(known))
        return ColumnFacts(name, "number", int(numbers.missing.sum()), different, whole, examples, is_index)
    dates = days_of(values)
    if not dates.wrong.any():
        return ColumnFacts(name, "date", int(dates.missing.sum()), distinct, False, examples, is_index)
    missing = missing_of(values)
    return ColumnFacts(name, "text", int(missing.sum()), distinct, False, examples, is_index)


def delimiter_of(path: Path) -> str:
    """What separates the columns of a text file: the mark that its first example has most of; a comma unless one is."""
    first = _first_lines(path)[:1]
    counts = {mark: first[0].count(mark) for mark in _DELIMITERS} if first else {}
    return max(_DELIMITERS, key=lambda mark: counts.get(mark, 0)) if any(counts.values()) else ","


def has_header(path: Path, delimiter: str) -> bool:
    """Whether the first example names the columns: it has texts where the second has numbers, or no number at all."""
    rows = [row for row in csv.reader(_first_lines(path), delimiter=delimiter, skipinitialspace=True) if row][:2]
    if not rows:
        return True
    first, second = [_are_numbers(row) for row in (rows[0], rows[-1])]
    named = len(set(rows[0])) == len(rows[0])
    over_numbers = any(below and not above for above, below in zip(first, second, strict=False))
    return named and (over_numbers or not any(first))


def _are_numbers(row: list[str]) -> list[bool]:
    found = numbers_of(pa.array([cell.strip() for cell in row], pa.string()))
    return [not (wrong or missing) for wrong, missing in zip(found.wrong, found.missing, strict=True)]


def _first_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        return file.read(_BEGINNING).decode("utf-8-sig", "replace").splitlines()
