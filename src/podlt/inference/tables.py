"""New examples of a table, encoded as a run's training examples were: by its columns, means and codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podlt.data.arrow_tables import open_table
from podlt.data.cells import Numbers, days_of, missing_of, name_as, numbers_of
from podlt.data.files import Files
from podlt.data.spec import Column, DataSpec
from podlt.data.tables import Table, TableChunk, nearest
from podlt.errors import DataError
from podlt.inference.description import Description
from podlt.inference.examples import EXAMPLE, NewExamples

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class TableReader:
    """Reads and encodes a table that has the run's input columns; it needs no label.

    Args:
        description: of the run.
        files: the table.
        id: a column to repeat beside the predictions, or None for the examples' numbers.

    Attributes:
        id_name: what examples are told apart by, unless a column was asked for.
        unknown: how many cells of each categorical column have a value that the training examples do not have.

    Raises:
        DataError: a column is missing.
    """

    def __init__(self, description: Description, files: Files, id: Column | None = None) -> None:
        data = description.data
        self._numeric, self._categorical = data["numeric"], data["categorical"]
        self._reading: dict[str, Any] = data["reading"]
        columns: list[Column] = [one["column"] for one in (*self._numeric, *self._categorical)]
        header = not all(isinstance(column, int) for column in columns)
        spec = DataSpec(files[0][0], delimiter=description.delimiter, header=header, missing=self._reading["missing"])
        self._table = open_table(spec, files)
        wanted = columns if id is None else [*columns, id]
        if id is not None and id not in self._table.columns:
            found = ", ".join(map(str, self._table.columns[:50]))[:500]
            what = f"id {id!r}: expected a column of this file to name its examples by, got {found}"
            raise DataError(self._table.source, None, what + nearest(id, self._table.columns))
        self._places = [_place(self._table, column) for column in wanted]
        self._id = id
        self._codes = [{value: code for code, value in enumerate(one["values"], 1)} for one in self._categorical]
        self.id_name, self.unknown = EXAMPLE, dict[Column, int]()

    def examples(self) -> Iterator[NewExamples]:
        """All examples in order.

        Raises:
            DataError: examples are malformed; names them.
        """
        for chunk in self._table.chunks(self._places):
            read = self._encoded(chunk)
            if len(chunk.numbers):
                yield read
            else:
                chunk.faults.check()

    def _encoded(self, chunk: TableChunk) -> NewExamples:
        split, rule = len(self._numeric), self._reading["missing"]
        lacking = np.zeros(len(chunk.numbers), np.bool_)
        numbers = np.empty((len(chunk.numbers), split), np.float64)
        for place, one in enumerate(self._numeric):
            found = self._numbers(place, one["column"], chunk)
            numbers[:, place] = np.where(found.missing, self._reading["fills"][place], found.values)
            lacking |= found.missing
            if rule not in ("drop", "mean"):
                _refuse(chunk, found.missing, one["column"], chunk.columns[place], "a number")
        codes = np.zeros((len(chunk.numbers), len(self._categorical)), np.int64)
        for place, one in enumerate(self._categorical):
            values = chunk.columns[split + place]
            missing = missing_of(values)
            lacking |= missing
            if rule == "error":
                _refuse(chunk, missing, one["column"], values, "a value")
            codes[:, place] = self._coded(place, values)
        arrays: dict[str, npt.NDArray[Any]] = {}
        if split:
            arrays["numeric"] = self._standardised(numbers, chunk)
        if self._categorical:
            arrays["category"] = codes
        chunk.faults.check()
        ids = pa.array(np.asarray(chunk.numbers, np.int64)) if self._id is None else chunk.columns[-1]
        whole = ~lacking if rule == "drop" else np.ones(len(lacking), np.bool_)
        self._count_unknown(codes[whole])
        return NewExamples({name: values[whole] for name, values in arrays.items()}, ids, whole)

    def _numbers(self, place: int, column: Column, chunk: TableChunk) -> Numbers:
        values, date = chunk.columns[place], self._reading["dates"][place]
        if not date and pa.types.is_temporal(values.type):
            raise DataError(chunk.faults.source, None, f"column {column!r}: expected numbers, got dates")
        found = days_of(values) if date else numbers_of(values)
        _refuse(chunk, found.wrong, column, values, "a date such as 2026-01-31" if date else "a number")
        outside = ~(np.abs(found.values) <= _FLOAT32_MAX) & ~found.missing & ~found.wrong
        _refuse(chunk, outside, column, values, "a finite number in the range of float32")
        return found

    def _coded(self, place: int, values: pa.Array) -> npt.NDArray[np.int64]:
        kind, code_of = self._reading["kinds"][place], self._codes[place]
        encoded = pc.fill_null(values.cast(pa.string()), "").dictionary_encode()
        table = np.array([code_of.get(name_as(kind, text), 0) for text in encoded.dictionary.to_pylist()], np.int64)
        codes: npt.NDArray[np.int64] = table[encoded.indices.to_numpy(zero_copy_only=False)]
        return codes

    def _count_unknown(self, codes: npt.NDArray[np.int64]) -> None:
        for one, count in zip(self._categorical, (codes == 0).sum(axis=0).tolist(), strict=True):
            if count:
                self.unknown[one["column"]] = self.unknown.get(one["column"], 0) + count

    def _standardised(self, values: npt.NDArray[np.float64], chunk: TableChunk) -> npt.NDArray[np.float32]:
        shifts = np.array([one["mean"] for one in self._numeric], np.float64)
        deviations = np.array([one["std"] for one in self._numeric], np.float64)
        with np.errstate(over="ignore"):
            result: npt.NDArray[np.float32] = ((values - shifts) / deviations).astype(np.float32)
        for place in np.flatnonzero(np.isinf(result).any(axis=0)).tolist():
            expected = "a number in the range of float32 once it is standardised"
            column = self._numeric[place]["column"]
            _refuse(chunk, np.isinf(result[:, place]), column, chunk.columns[place], expected)
        return result


def _refuse(chunk: TableChunk, wrong: npt.NDArray[np.bool_], column: Column, values: pa.Array, expected: str) -> None:
    def say(row: int) -> str:
        cell = values[row].as_py()
        return f"column {column!r}: expected {expected}, got {'nothing' if cell in (None, '') else repr(cell)}"

    chunk.faults.add_rows(chunk.numbers, wrong, say)


def _place(table: Table, column: Column) -> int:
    if column in table.columns:
        return table.columns.index(column)
    found = ", ".join(map(str, table.columns[:50]))[:500]
    near = nearest(column, table.columns)
    raise DataError(table.source, None, f"expected a column {column!r}, as the run's data have it, got {found}{near}")
