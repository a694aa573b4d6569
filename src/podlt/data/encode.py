"""From a spool's values to numbers: texts become codes, numbers are standardised, fitted on the training examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.cells import Kind, kind_of, name_as
from podlt.data.moments import moments
from podlt.data.spec import Column, DataSpec
from podlt.data.split import TRAIN
from podlt.data.spool import ColumnRoles, Names, Spool, Spooled
from podlt.errors import DataError

Int64 = npt.NDArray[np.int64]
Parts = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ListEncoding:
    """How a column of lists becomes a field.

    Attributes:
        column: its name.
        shape: of an example's value.
        whole: whether it holds whole numbers, which are kept as they are.
        means: what is subtracted from each place of a value, float64[w]; 0 if it is not standardised.
        deviations: what each is divided by then; 1 if it is not standardised.
    """

    column: Column
    shape: tuple[int, ...]
    whole: bool
    means: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]

    def info(self) -> dict[str, Any]:
        """As JSON values; the moments only where they are not 0 and 1."""
        found: dict[str, Any] = {"column": self.column, "shape": list(self.shape), "whole": self.whole}
        if self.means.any() or (self.deviations != 1).any():
            found |= {"mean": self.means.tolist(), "std": self.deviations.tolist()}
        return found


@dataclass
class Encoding:
    """How a table's values become numbers: fitted on the training examples, and kept in `Dataset.info`.

    Attributes:
        roles: which columns play which part.
        means: of each numeric column, in its own unit; what a missing number becomes.
        shifts: what is subtracted from each numeric column: its mean, or 0 if it is not standardised.
        deviations: what it is divided by then: its standard deviation, or 1.
        values: the known values of each categorical column, code 1 on; code 0 stands for every value that the training
            examples do not hold.
        kinds: what the cells of each categorical column mean.
        classes: names in the order of their codes, or None where the label is a number.
        label: what the cells of the label mean.
        missing: what becomes of a missing value, as `DataSpec.missing` has it.
        lists: how the columns of lists become fields.
        described: what else to keep, as JSON values.
    """

    roles: ColumnRoles
    means: list[float]
    shifts: list[float]
    deviations: list[float]
    values: list[list[str]]
    kinds: list[Kind]
    classes: list[str] | None
    label: Kind
    missing: str
    lists: list[ListEncoding] = dataclasses.field(default_factory=list)
    described: dict[str, Any] = dataclasses.field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """The encoding as JSON values."""
        numeric = zip(self.roles.numeric, self.shifts, self.deviations, strict=True)
        categorical = zip(self.roles.categorical, self.values, strict=True)
        info: dict[str, Any] = {
            "kind": "table",
            "classes": self.classes,
            "numeric": [{"column": column, "mean": mean, "std": std} for column, mean, std in numeric],
            "categorical": [{"column": column, "values": values} for column, values in categorical],
            "reading": {
                "fills": self.means,
                "dates": [column in self.roles.dates for column in self.roles.numeric],
                "kinds": [*self.kinds],
                "label": self.roles.label,
                "missing": self.missing,
            },
            "cardinalities": [len(values) + 1 for values in self.values],
        }
        if self.lists:
            info["lists"] = [column.info() for column in self.lists]
        return info | self.described


def label_classes(spool: Spool, spec: DataSpec) -> tuple[Kind, list[str] | None]:
    """What the label's cells mean, and the names of its classes in the order of their codes (None for a number).

    Raises:
        DataError: there is no second class, no example has the positive value, or the classes are no whole numbers.
    """
    if spec.target == "number":
        return "number", None
    seen, source = _stored_labels(spool), spec.source
    if spec.positive is not None:
        kind = kind_of([*seen, spec.positive])
        positive = name_as(kind, spec.positive)
        if all(name_as(kind, text) != positive for text in seen):
            raise DataError(source, None, f"expected an example with the positive label {spec.positive!r}, got none")
        return kind, [f"not {spec.positive}", spec.positive]
    if spec.classes is not None:
        names = [*map(str, range(spec.classes))] if isinstance(spec.classes, int) else [*spec.classes]
        kind = kind_of(names)
        return ("text", names) if len({name_as(kind, name) for name in names}) < len(names) else (kind, names)
    kind = kind_of(seen)
    found = sorted({name_as(kind, text) for text in seen}, key=Decimal if kind == "number" else None)
    if kind == "number":
        _refuse_fractions(spool, found, source)
    if len(found) < 2:
        raise DataError(source, None, f"expected at least two classes, got only {found[0]!r}")
    return kind, found


def _stored_labels(spool: Spool) -> list[str]:
    """The labels of the examples that are stored: an example that was dropped has no say in what the classes are."""
    if not spool.dropped:
        return list(spool.labels_seen)
    stored = set[int]()
    for part in spool.parts():
        stored.update(np.unique(part.labels).tolist())
    return [text for text, code in spool.labels_seen.items() if code in stored]


def _refuse_fractions(spool: Spool, names: Sequence[str], source: str) -> None:
    broken = next((name for name in names if Decimal(name) % 1), None)
    if broken is not None:
        code = next(code for text, code in spool.labels_seen.items() if name_as("number", text) == broken)
        column = spool.roles.label
        message = f"column {column!r}: expected whole numbers as classes, got {broken!r}"
        cure = 'target = "number" predicts a number, classes = [...] names such classes'
        raise DataError(source, spool.first_line_with(code), f"{message}; {cure}")


def class_table(spool: Spool, spec: DataSpec, kind: Kind, names: Sequence[str]) -> Int64:
    """The class of each label that a spool has seen, -1 for one that is no class.

    Args:
        spool: whose labels.
        spec: whether one value is positive and every other is not.
        kind: what the label's cells mean.
        names: the classes.
    """
    seen = [name_as(kind, text) for text in spool.labels_seen]
    if spec.positive is not None:
        positive = name_as(kind, spec.positive)
        return np.array([text == positive for text in seen], np.int64)
    code_of = {name_as(kind, name): code for code, name in enumerate(names)}
    return np.array([code_of.get(text, -1) for text in seen], np.int64)


def check_classes(spool: Spool, table: Int64, names: Sequence[str]) -> None:
    """Refuses the examples whose label is no class.

    Raises:
        DataError: names all such examples.
    """
    if not (table < 0).any():
        return
    texts = list(spool.labels_seen)
    expected = f"one of {', '.join(names[:10])}" if len(names) <= 10 else f"one of {names[0]}..{names[-1]}"
    for part in spool.parts():
        wrong = table[part.labels] < 0
        if wrong.any():
            got = [texts[code] for code in part.labels.tolist()]
            spool.refuse(part.places, wrong, spool.roles.label, expected, got)
    spool.check()


def fit(spool: Spool, parts: Parts, spec: DataSpec, label: Kind, classes: list[str] | None) -> Encoding:
    """The encoding that the training examples call for.

    Args:
        spool: all examples of the source.
        parts: uint8[examples], the part of each.
        spec: whether numbers are standardised.
        label: what the label's cells mean.
        classes: the names of the classes, or None.

    Raises:
        DataError: a numeric column has no value at all.
    """
    width = len(spool.roles.numeric)
    found = moments(lambda: (part.numeric for part in training(spool, parts)), width)
    empty = np.flatnonzero(found.counts == 0)
    if len(empty):
        raise DataError(spec.source, None, f"column {spool.roles.numeric[empty[0]]!r}: every value is missing")
    plain = spec.standardise is False
    used = [np.zeros(len(seen), np.bool_) for seen in spool.seen]
    for part in training(spool, parts):
        for place, flags in enumerate(used):
            flags[part.codes[:, place]] = True
    kinds = [kind_of(seen) for seen in spool.seen]
    return Encoding(
        spool.roles,
        found.means.tolist(),
        [0.0] * width if plain else found.means.tolist(),
        [1.0] * width if plain else found.deviations.tolist(),
        [_values(*column) for column in zip(kinds, spool.seen, used, strict=True)],
        kinds,
        classes,
        label,
        spec.missing,
        _list_encodings(spool, parts, plain),
    )


def _list_encodings(spool: Spool, parts: Parts, plain: bool) -> list[ListEncoding]:
    """Standardises the places of each column of lists of floats, unless they are to stay plain."""
    if not spool.lists:
        return []
    width = sum(column.width for column in spool.lists)
    means, deviations = np.zeros(width), np.ones(width)
    if not plain and not all(column.whole for column in spool.lists):
        found = moments(lambda: (part.lists for part in training(spool, parts)), width)
        means, deviations = found.means, found.deviations
    encodings, first = [], 0
    for column in spool.lists:
        here = slice(first, first + column.width)
        moments_of = (
            (np.zeros(column.width), np.ones(column.width)) if column.whole else (means[here], deviations[here])
        )
        encodings.append(ListEncoding(column.column, column.shape or (), column.whole, *moments_of))
        first += column.width
    return encodings


def training(spool: Spool, parts: Parts) -> Iterator[Spooled]:
    """The examples of a spool that are for training."""
    first = 0
    for part in spool.parts():
        mask = parts[first : first + len(part.places)] == TRAIN
        first += len(part.places)
        yield part if mask.all() else Spooled(*(values[mask] for values in part))


def _values(kind: Kind, seen: Names, used: npt.NDArray[np.bool_]) -> list[str]:
    return sorted({name_as(kind, value) for value, code in seen.items() if used[code]})


def encoded(spool: Spool, encoding: Encoding, classes: Int64 | None) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The examples of a spool as fields: numeric f32[n, k], category i64[n, m], label i64 or f32 [n].

    Args:
        spool: whose.
        encoding: fitted on the training examples.
        classes: the class of each label in the order of first sight, or None where the label is a number.

    Raises:
        DataError: a number that is finite leaves the range of float32 once it is standardised; names the examples.
    """
    tables = []
    for kind, seen, values in zip(encoding.kinds, spool.seen, encoding.values, strict=True):
        code_of = {value: code for code, value in enumerate(values, 1)}
        tables.append(np.array([code_of.get(name_as(kind, value), 0) for value in seen], np.int64))
    for part in spool.parts():
        fields: dict[str, npt.NDArray[Any]] = {}
        if encoding.roles.numeric:
            fields["numeric"] = _standardised(spool, part, encoding)
        if tables:
            columns = [table[part.codes[:, place]] for place, table in enumerate(tables)]
            fields["category"] = np.ascontiguousarray(np.stack(columns, axis=1))
        fields |= _listed(spool, part, encoding.lists)
        fields["label"] = part.labels.astype(np.float32) if classes is None else classes[part.labels]
        yield fields
    spool.check()


def _listed(spool: Spool, part: Spooled, encodings: Sequence[ListEncoding]) -> dict[str, npt.NDArray[Any]]:
    """The fields of the columns of lists: i64 or f32 [n, *shape]."""
    fields: dict[str, npt.NDArray[Any]] = {}
    first = 0
    for column in encodings:
        width = math.prod(column.shape)
        values = (part.lists[:, first : first + width] - column.means) / column.deviations
        with np.errstate(over="ignore"):
            stored = values.astype(np.int64 if column.whole else np.float32)
        infinite = ~np.isfinite(stored).all(axis=1)
        expected = "numbers of a size that float32 can hold once they are standardised"
        spool.refuse(part.places, infinite, column.column, expected, ["too large"] * len(values))
        fields[str(column.column)] = stored.reshape(len(values), *column.shape)
        first += width
    return fields


def _standardised(spool: Spool, part: Spooled, encoding: Encoding) -> npt.NDArray[np.float32]:
    values = np.where(np.isnan(part.numeric), encoding.means, part.numeric)
    with np.errstate(over="ignore"):
        result: npt.NDArray[np.float32] = ((values - encoding.shifts) / encoding.deviations).astype(np.float32)
    infinite = ~np.isfinite(result)
    for place in np.flatnonzero(infinite.any(axis=0)).tolist():
        shift, deviation = encoding.shifts[place], encoding.deviations[place]
        scaled = f"of a size that float32 can hold, less the mean {shift:g}, over the deviation {deviation:g}"
        column = encoding.roles.numeric[place]
        spool.refuse(part.places, infinite[:, place], column, f"a number {scaled}", part.numeric[:, place].tolist())
    return result
