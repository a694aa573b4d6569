"""From a table's columns to numbers: texts become codes, numbers are standardised by the training lines.

The source is read once. Each chunk's values go, checked but not yet encoded, to a spool on disk; only then are the
vocabularies, means and deviations known, and the spool is encoded into the prepared part. Sums are exact
(`math.fsum`), so that the same file gives the same bytes and the same root on every machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podlt.data.spec import MAX_CLASSES, Column, DataSpec
from podlt.data.tables import TableChunk
from podlt.errors import DataError

STEP = 2**15
_FLOAT32_MAX = float(np.finfo(np.float32).max)

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Names = dict[str, int]


class ColumnRoles(NamedTuple):
    """Which of a table's columns play which part."""

    numeric: tuple[Column, ...]
    categorical: tuple[Column, ...]
    label: Column


class Spooled(NamedTuple):
    """Some lines of a spool, before they are encoded: codes are in the order in which values were first seen."""

    numeric: Float64
    codes: npt.NDArray[np.int32]
    labels: npt.NDArray[Any]


@dataclass
class Encoding:
    """How a table's values become numbers: fitted on the training lines, and kept in `Dataset.info`.

    Attributes:
        means: of each numeric column, in its own unit.
        deviations: the standard deviation of each numeric column, in its own unit.
        values: the known values of each categorical column, code 1 on; code 0 stands for every value that the training
            lines do not hold.
        classes: names in the order of their codes, or None where the label is a number.
    """

    roles: ColumnRoles
    means: list[float]
    deviations: list[float]
    values: list[list[str]]
    classes: list[str] | None

    def info(self) -> dict[str, Any]:
        """The encoding as JSON values."""
        numeric = zip(self.roles.numeric, self.means, self.deviations, strict=True)
        categorical = zip(self.roles.categorical, self.values, strict=True)
        return {
            "kind": "table",
            "classes": self.classes,
            "numeric": [{"column": column, "mean": mean, "std": std} for column, mean, std in numeric],
            "categorical": [{"column": column, "values": values} for column, values in categorical],
            "cardinalities": [len(values) + 1 for values in self.values],
        }


@dataclass
class Spool:
    """The checked values of a table's lines, on disk.

    Args:
        source: the file's name in errors.
        folder: an empty folder of its own.
        roles: which columns are wanted.
        target: as in `DataSpec`.
        classes: how many, their names, or None to collect them.
        positive: as in `DataSpec`.
    """

    source: str
    folder: Path
    roles: ColumnRoles
    target: str
    classes: int | Sequence[str] | None
    positive: str | None = None
    lines: int = 0
    seen: list[Names] = field(default_factory=list)
    labels_seen: Names = field(default_factory=dict)

    def fill(self, chunks: Iterator[TableChunk], limit: int | None) -> Iterator[int]:
        """Stores the first `limit` lines; yields the number of lines after each chunk.

        Raises:
            DataError: a value is malformed; names the line.
        """
        self.seen = [{} for _ in self.roles.categorical]
        with (
            (self.folder / "numeric").open("wb") as numeric,
            (self.folder / "codes").open("wb") as codes,
            (self.folder / "labels").open("wb") as labels,
        ):
            for chunk in chunks:
                rows = len(chunk.numbers) if limit is None else min(len(chunk.numbers), limit - self.lines)
                part = self._checked(TableChunk(chunk.numbers[:rows], [column[:rows] for column in chunk.columns]))
                numeric.write(part.numeric.data)
                codes.write(part.codes.data)
                labels.write(part.labels.data)
                self.lines += rows
                yield self.lines
                if self.lines == limit:
                    return

    def parts(self, start: int, stop: int) -> Iterator[Spooled]:
        """The lines [start, stop), STEP at a time."""
        numeric = self._map("numeric", np.float64, len(self.roles.numeric))
        codes = self._map("codes", np.int32, len(self.roles.categorical))
        labels = self._map("labels", np.float64 if self.target == "number" else np.int64, 1)[:, 0]
        for first in range(start, stop, STEP):
            lines = slice(first, min(first + STEP, stop))
            yield Spooled(numeric[lines], codes[lines], labels[lines])

    def _map(self, name: str, dtype: npt.DTypeLike, width: int) -> npt.NDArray[Any]:
        if not width:
            return np.empty((self.lines, 0), dtype)
        return np.asarray(np.memmap(self.folder / name, dtype, "r", shape=(self.lines, width)))

    def _checked(self, chunk: TableChunk) -> Spooled:
        """A chunk's values: float64[n, k], int32[n, m] and the labels [n], all C-contiguous."""
        split = len(self.roles.numeric)
        numeric = np.empty((len(chunk.numbers), split), np.float64)
        for place, column in enumerate(self.roles.numeric):
            numeric[:, place] = self._numbers(column, chunk.columns[place], chunk.numbers)
        codes = np.empty((len(chunk.numbers), len(self.roles.categorical)), np.int32)
        for place, column in enumerate(self.roles.categorical):
            values = chunk.columns[split + place]
            codes[:, place] = self._codes(column, values, chunk.numbers, self.seen[place])
        return Spooled(numeric, codes, self._labels(chunk.columns[-1], chunk.numbers))

    def _numbers(self, column: Column, values: pa.Array, numbers: Sequence[int]) -> Float64:
        if pa.types.is_string(values.type):
            try:
                parsed = values.cast(pa.float64())
            except pa.ArrowInvalid:
                parsed = self._parse(column, values, numbers)
        else:
            parsed = values.cast(pa.float64(), safe=False)
        result: Float64 = parsed.to_numpy(zero_copy_only=False)
        wrong = ~(np.abs(result) <= _FLOAT32_MAX)  # a NaN compares false, and so is refused too
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise self._refuse(column, numbers[row], "a finite number in the range of float32", values[row].as_py())
        return result

    def _parse(self, column: Column, values: pa.Array, numbers: Sequence[int]) -> pa.Array:
        """The slow way: allows a plus sign, which the fast parser does not, and names the line that is no number."""
        plain = pc.replace_substring_regex(values, r"^\+([0-9.])", r"\1")
        for row, value in enumerate(plain):
            try:
                value.cast(pa.float64())
            except pa.ArrowInvalid:
                raise self._refuse(column, numbers[row], "a number", values[row].as_py()) from None
        return plain.cast(pa.float64())

    def _codes(self, column: Column, values: pa.Array, numbers: Sequence[int], seen: Names) -> npt.NDArray[np.int32]:
        encoded = values.cast(pa.string()).dictionary_encode()
        table = [seen.setdefault(value, len(seen)) for value in encoded.dictionary.to_pylist()]
        codes: npt.NDArray[np.int32] = np.array(table, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        if len(seen) > MAX_CLASSES:
            row = int(np.flatnonzero(codes >= MAX_CLASSES)[0])
            raise self._refuse(column, numbers[row], f"at most {MAX_CLASSES} different values", values[row].as_py())
        return codes

    def _labels(self, values: pa.Array, numbers: Sequence[int]) -> npt.NDArray[Any]:
        column = self.roles.label
        if self.target == "number":
            return self._numbers(column, values, numbers)
        texts = values.cast(pa.string())
        codes = self._codes(column, texts, numbers, self.labels_seen)
        if "" in self.labels_seen:
            row = int(np.flatnonzero(codes == self.labels_seen[""])[0])
            raise DataError(self.source, numbers[row], f"column {column!r}: expected a label, got nothing")
        known = self._known()
        if known is None:
            return codes.astype(np.int64)
        final = np.array([known.get(text, -1) for text in self.labels_seen], np.int64)[codes]
        if (final < 0).any():
            row = int(np.flatnonzero(final < 0)[0])
            names = list(known)
            expected = f"one of {', '.join(names[:10])}" if len(names) <= 10 else f"one of {names[0]}..{names[-1]}"
            raise self._refuse(column, numbers[row], expected, texts[row].as_py())
        return final

    def _known(self) -> Names | None:
        """The code of each label text, where that is known before the data is read."""
        if self.positive is not None:
            return {text: int(text == self.positive) for text in self.labels_seen}
        if self.classes is None:
            return None
        names = map(str, range(self.classes)) if isinstance(self.classes, int) else self.classes
        return {name: code for code, name in enumerate(names)}

    def _refuse(self, column: Column, number: int, expected: str, got: object) -> DataError:
        return DataError(self.source, number, f"column {column!r}: expected {expected}, got {got!r}")


def fit(spool: Spool, lines: int, spec: DataSpec) -> tuple[Encoding, Int64 | None]:
    """The encoding that the first `lines` lines call for, and the class of each label in the order of first sight.

    The second is None where the spool's labels are final: numbers, or classes that were known before.

    Raises:
        DataError: there is no second class, or no line has the positive value.
    """
    means, deviations = [], []
    for place in range(len(spool.roles.numeric)):
        mean, deviation = _moments(spool, lines, place) if spec.standardise else (0.0, 1.0)
        means.append(mean)
        deviations.append(deviation)
    values = []
    for place, seen in enumerate(spool.seen):
        used = np.zeros(len(seen), np.bool_)
        for part in spool.parts(0, lines):
            used[part.codes[:, place]] = True
        values.append(sorted(value for value, code in seen.items() if used[code]))
    classes, order = _classes(spool)
    return Encoding(spool.roles, means, deviations, values, classes), order


def _moments(spool: Spool, lines: int, place: int) -> tuple[float, float]:
    """Mean and standard deviation of a numeric column, from correctly rounded sums; deviation 1 for a constant."""

    def summed(center: float, power: int) -> float:
        parts = ((part.numeric[:, place] - center) for part in spool.parts(0, lines))
        return math.fsum(
            itertools.chain.from_iterable((part * part if power == 2 else part).tolist() for part in parts)
        )

    mean = summed(0.0, 1) / lines
    return mean, math.sqrt(summed(mean, 2) / lines) or 1.0


def _classes(spool: Spool) -> tuple[list[str] | None, Int64 | None]:
    if spool.target == "number":
        return None, None
    if spool.positive is not None:
        if spool.positive not in spool.labels_seen:
            raise DataError(spool.source, None, f"expected a line with the positive label {spool.positive!r}, got none")
        return [f"not {spool.positive}", spool.positive], None
    if spool.classes is not None:
        names = map(str, range(spool.classes)) if isinstance(spool.classes, int) else spool.classes
        return list(names), None
    seen = list(spool.labels_seen)
    if len(seen) < 2:
        raise DataError(spool.source, None, f"expected at least two classes, got only {seen[0]!r}")
    whole = all(text.lstrip("-").isdecimal() for text in seen)
    names_in_order = sorted(seen, key=int) if whole else sorted(seen)
    place_of = {name: place for place, name in enumerate(names_in_order)}
    return names_in_order, np.array([place_of[text] for text in seen], np.int64)


def encoded(
    spool: Spool, start: int, stop: int, encoding: Encoding, order: Int64 | None
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The lines [start, stop) of a spool as fields: numeric f32[n, k], category i64[n, m], label i64 or f32 [n]."""
    tables = []
    for seen, values in zip(spool.seen, encoding.values, strict=True):
        code_of = {value: code for code, value in enumerate(values, 1)}
        tables.append(np.array([code_of.get(value, 0) for value in seen], np.int64))
    means, deviations = np.array(encoding.means), np.array(encoding.deviations)
    for part in spool.parts(start, stop):
        fields: dict[str, npt.NDArray[Any]] = {}
        if means.size:
            fields["numeric"] = ((part.numeric - means) / deviations).astype(np.float32)
        if tables:
            columns = [table[part.codes[:, place]] for place, table in enumerate(tables)]
            fields["category"] = np.ascontiguousarray(np.stack(columns, axis=1))
        labels = part.labels if order is None else order[part.labels]
        fields["label"] = labels.astype(np.float32 if encoding.classes is None else np.int64)
        yield fields
