"""The checked values of a table's examples, on disk: what a column means is known only after its last example.

The source is read once. Each chunk's values go, checked but not yet encoded, to a spool; then encode.py fits the
vocabularies, means and deviations, and encodes the spool into the prepared parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podlt.data.cells import Mask, Numbers, days_of, is_date, missing_of, numbers_of
from podlt.data.faults import Faults
from podlt.data.lists import ListColumn
from podlt.data.spec import MAX_CLASSES, Column, DataSpec
from podlt.data.tables import TableChunk
from podlt.errors import DataError

STEP = 2**15
_LIST_BYTES = 2**24
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FILE = 2**40  # an example's place is its file's number times this, plus its number in the file

Names = dict[str, int]


class ColumnRoles(NamedTuple):
    """Which of a table's columns play which part; dates are among the numeric ones, columns of lists are not."""

    numeric: tuple[Column, ...]
    categorical: tuple[Column, ...]
    label: Column
    dates: frozenset[Column] = frozenset()
    lists: tuple[Column, ...] = ()


class Spooled(NamedTuple):
    """Some examples of a spool, before they are encoded.

    Attributes:
        numeric: float64[n, k], NaN for a missing number.
        codes: int32[n, m], in the order in which values were first seen.
        labels: float64[n], or int64[n] in the order of first sight.
        places: int64[n], in which file and example each stands.
        lists: float64[n, w], the values of the columns of lists one after another.
    """

    numeric: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]
    labels: npt.NDArray[Any]
    places: npt.NDArray[np.int64]
    lists: npt.NDArray[np.float64]


@dataclass
class Spool:
    """The checked values of a table's examples, on disk.

    Args:
        folder: an empty folder of its own.
        roles: which columns are wanted.
        spec: what missing values and labels mean.

    Attributes:
        examples: how many are stored.
        dropped: how many examples were left out, for they lacked a value.
        missing: how many values each numeric column lacks.
        seen: each categorical column's values, in the order of first sight.
        labels_seen: the label's, where it is no number.
        label_changes: how many examples have another label than the one before.
        lists: the columns of lists, with the shape that the first example gave them.
    """

    folder: Path
    roles: ColumnRoles
    spec: DataSpec
    examples: int = 0
    dropped: int = 0
    missing: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    seen: list[Names] = field(default_factory=list)
    labels_seen: Names = field(default_factory=dict)
    label_changes: int = 0
    lists: list[ListColumn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = np.zeros(len(self.roles.numeric), np.int64)
        self.seen = [{} for _ in self.roles.categorical]
        self.lists = self.lists or [ListColumn(column) for column in self.roles.lists]
        self._files: list[Faults] = []
        self._boolean: dict[Column, bool] = {}
        self._last_label: Any = None
        classes = self.spec.classes
        self._named = {*(classes if isinstance(classes, tuple) else ()), self.spec.positive}

    def fill(self, chunks: Iterator[TableChunk]) -> Iterator[int]:
        """Stores the examples; yields the number of examples after each chunk.

        Raises:
            DataError: examples are malformed; names all of them, as far as one file goes.
        """
        names = Spooled._fields
        files = {name: (self.folder / name).open("wb") for name in names}
        try:
            for chunk in chunks:
                if not self._files or self._files[-1] is not chunk.faults:
                    self.check()
                    self._files.append(chunk.faults)
                part = self._checked(chunk)
                for name, values in part._asdict().items():
                    files[name].write(np.ascontiguousarray(values).data)
                self.examples += len(part.places)
                yield self.examples
        except DataError:
            self.check()
            raise
        finally:
            for file in files.values():
                file.close()
        self.check()

    def check(self) -> None:
        """Raises the faults of the files that were read, if there are any."""
        for faults in self._files:
            faults.check()

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Spooled]:
        """The examples [start, stop), `STEP` at a time, or fewer where they have long lists."""
        stop = self.examples if stop is None else stop
        columns = (
            self._map("numeric", np.float64, len(self.roles.numeric)),
            self._map("codes", np.int32, len(self.roles.categorical)),
            self._map("labels", np.float64 if self.spec.target == "number" else np.int64, 1)[:, 0],
            self._map("places", np.int64, 1)[:, 0],
            self._map("lists", np.float64, sum(column.width for column in self.lists)),
        )
        step = STEP if not self.lists else max(1, min(STEP, _LIST_BYTES // (8 * columns[-1].shape[1] or 1)))
        for first in range(start, stop, step):
            examples = slice(first, min(first + step, stop))
            numeric, codes, labels, places, lists = (values[examples] for values in columns)
            yield Spooled(numeric, codes, labels, places, lists)

    def refuse(self, places: npt.NDArray[np.int64], wrong: Mask, column: Column, expected: str, got: list[Any]) -> None:
        """Takes a fault that shows only now, for each example that is marked; `check` raises them.

        Args:
            places: of the examples.
            wrong: bool[n].
            column: which.
            expected: what.
            got: the examples' values.
        """
        for number, faults in enumerate(self._files):
            here = wrong & (places // _FILE == number)
            faults.add_rows(
                (places % _FILE).tolist(), here, lambda row: f"column {column!r}: expected {expected}, got {got[row]!r}"
            )

    def first_line_with(self, label_code: int) -> int | None:
        """The number of the first example that has a label, None if no example has it."""
        for part in self.parts():
            rows = np.flatnonzero(part.labels == label_code)
            if len(rows):
                return int(part.places[rows[0]] % _FILE)
        return None

    def _map(self, name: str, dtype: npt.DTypeLike, width: int) -> npt.NDArray[Any]:
        if not width or not self.examples:
            return np.empty((self.examples, width), dtype)
        return np.asarray(np.memmap(self.folder / name, dtype, "r", shape=(self.examples, width)))

    def _checked(self, chunk: TableChunk) -> Spooled:
        examples, split = len(chunk.numbers), len(self.roles.numeric)
        lacking = np.zeros(examples, np.bool_)
        numeric = np.empty((examples, split), np.float64)
        for place, column in enumerate(self.roles.numeric):
            found = self._numbers(column, chunk.columns[place], chunk)
            numeric[:, place] = found.values
            lacking |= found.missing
            if self.spec.missing not in ("drop", "mean"):
                self._refuse_missing(column, chunk, chunk.columns[place], found.missing, '"drop" or "mean"')
        codes = np.empty((examples, len(self.roles.categorical)), np.int32)
        for place, column in enumerate(self.roles.categorical):
            values = chunk.columns[split + place]
            missing = missing_of(values)
            lacking |= missing
            if self.spec.missing == "error":
                self._refuse_missing(column, chunk, values, missing, '"drop" or "category"')
            codes[:, place] = self._codes(column, values, chunk, self.seen[place])
        lists, unlisted = self._taken_lists(chunk)
        lacking |= unlisted
        labels, unlabelled = self._labels(chunk)
        places = np.array(chunk.numbers, np.int64) + _FILE * (len(self._files) - 1)
        whole = ~(lacking | unlabelled) if self.spec.missing == "drop" else np.ones(examples, np.bool_)
        self.dropped += int((~whole).sum())
        self.missing += np.isnan(numeric[whole]).sum(axis=0)
        labels = labels[whole]
        if len(labels):
            self.label_changes += int((labels[1:] != labels[:-1]).sum()) + (labels[0] != self._last_label)
            self._last_label = labels[-1]
        return Spooled(numeric[whole], codes[whole], labels, places[whole], lists[whole])

    def _numbers(self, column: Column, values: pa.Array, chunk: TableChunk) -> Numbers:
        if column in self.roles.dates:
            found, expected = days_of(values), "a date such as 2026-01-31"
        elif pa.types.is_temporal(values.type):
            raise DataError(chunk.faults.source, None, f"column {column!r}: {_not_a_number('a date')}")
        else:
            found, expected = numbers_of(values), "a number"
        self._refuse(column, chunk, values, found.wrong, expected)
        if found.wrong.any():
            _hint(chunk.faults, column, values[int(np.flatnonzero(found.wrong)[0])].as_py())
        outside = ~(np.abs(found.values) <= _FLOAT32_MAX) & ~found.missing & ~found.wrong
        self._refuse(column, chunk, values, outside, "a finite number in the range of float32")
        present = ~(found.missing | found.wrong)
        if present.any():
            first = int(np.flatnonzero(present)[0])
            boolean = self._boolean.setdefault(column, bool(found.boolean[first]))
            other = present & (found.boolean != boolean)
            self._refuse(column, chunk, values, other, "true or false" if boolean else "a number")
        return found

    def _taken_lists(self, chunk: TableChunk) -> tuple[npt.NDArray[np.float64], Mask]:
        """The values of the columns of lists, and the examples that lack one."""
        first = len(self.roles.numeric) + len(self.roles.categorical)
        found, missing = [np.zeros((len(chunk.numbers), 0))], np.zeros(len(chunk.numbers), np.bool_)
        for place, column in enumerate(self.lists, first):
            if not len(chunk.numbers):
                break
            values, absent = column.take(chunk.columns[place], chunk.numbers, chunk.faults)
            if self.spec.missing != "drop":
                cure = 'missing = "drop" leaves such examples out'
                message = f"column {column.column!r}: expected a list, got null; {cure}"
                chunk.faults.add_rows(chunk.numbers, absent, lambda row, message=message: message)  # type: ignore[misc]
            found.append(values)
            missing |= absent
        return np.concatenate(found, axis=1), missing

    def _labels(self, chunk: TableChunk) -> tuple[npt.NDArray[Any], Mask]:
        """The labels of a chunk's examples, and where they are missing."""
        values, column = chunk.columns[-1], self.roles.label
        if self.spec.target == "number":
            found = self._numbers(column, values, chunk)
            labels: npt.NDArray[Any] = found.values
            missing = found.missing
        else:
            missing = missing_of(values)
            if self._named != {None}:
                named = pa.array(sorted(name for name in self._named if name is not None), pa.string())
                missing &= ~pc.is_in(values.cast(pa.string()), named).to_numpy(zero_copy_only=False).astype(np.bool_)
            labels = self._codes(column, values, chunk, self.labels_seen).astype(np.int64)
        if self.spec.missing != "drop":
            chunk.faults.add_rows(
                chunk.numbers,
                missing,
                lambda row: (
                    f"column {column!r}: expected a label, got {values[row].as_py() or 'nothing'}"
                    '; missing = "drop" leaves such examples out'
                ),
            )
        return labels, missing

    def _codes(self, column: Column, values: pa.Array, chunk: TableChunk, seen: Names) -> npt.NDArray[np.int32]:
        encoded = pc.fill_null(values.cast(pa.string()), "").dictionary_encode()
        table = [seen.setdefault(value, len(seen)) for value in encoded.dictionary.to_pylist()]
        codes: npt.NDArray[np.int32] = np.array(table, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        if len(seen) > MAX_CLASSES:
            row = int(np.flatnonzero(codes >= MAX_CLASSES)[0])
            message = f"column {column!r}: expected at most {MAX_CLASSES} different values, got {values[row].as_py()!r}"
            chunk.faults.check()
            raise DataError(chunk.faults.source, chunk.numbers[row], message)
        return codes

    def _refuse(self, column: Column, chunk: TableChunk, values: pa.Array, wrong: Mask, expected: str) -> None:
        def say(row: int) -> str:
            cell = values[row].as_py()
            undated = is_date(cell) and column not in self.roles.dates
            found = _not_a_number(f"the date {cell!r}") if undated else f"expected {expected}, got {cell!r}"
            return f"column {column!r}: {found}"

        chunk.faults.add_rows(chunk.numbers, wrong, say)

    def _refuse_missing(self, column: Column, chunk: TableChunk, values: pa.Array, missing: Mask, cure: str) -> None:
        def say(row: int) -> str:
            cell = values[row].as_py()
            expected = "value" if cell is None else "number" if cell == "" else "finite number"
            if column in self.roles.categorical:
                expected = "value"
            got = "null" if cell is None else repr(cell)
            return f"column {column!r}: expected a {expected}, got {got}; missing = {cure} takes missing values"

        chunk.faults.add_rows(chunk.numbers, missing, say)


def _hint(faults: Faults, column: Column, cell: Any) -> None:
    """What a person may do about a cell that is no number."""
    if re.fullmatch(r"[+-]?\d+,\d+", str(cell)):
        faults.hint(f"column {column!r}: numbers are written as 1234.5, without commas")
    elif not re.search(r"\d", str(cell)):
        faults.hint(f"column {column!r}: a column of texts belongs in `categorical`, or in `drop`")


def _not_a_number(found: str) -> str:
    return f"expected a number, got {found}; name the column in `dates` for days since 1970, or in `drop`"
