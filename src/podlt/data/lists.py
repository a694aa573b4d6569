"""Columns of lists: each example's value is a tensor of one shape, nested lists included.

The first example's shape is everyone's. What a column holds is whole numbers if all of its numbers are, and floats
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from podlt.data.cells import Mask
from podlt.data.faults import Faults
from podlt.data.spec import Column

_RESERVED = frozenset({"numeric", "category", "label", "leaves"})
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_EXACT = 2**53
"""Whole numbers above it are not all floats of 64 bits, by which they pass."""


@dataclass
class ListColumn:
    """A column of lists.

    Attributes:
        column: its name.
        shape: of one line's value; None until the first was seen.
        whole: whether all numbers so far are whole by their type, not by their value.
        sealed: whether that was decided by other examples, and floats are faults now.
    """

    column: Column
    shape: tuple[int, ...] | None = None
    whole: bool = True
    sealed: bool = False

    @property
    def width(self) -> int:
        """How many numbers an example has."""
        return math.prod(self.shape or ())

    def take(self, values: Any, numbers: Sequence[int], faults: Faults) -> tuple[npt.NDArray[np.float64], Mask]:
        """Values as numbers, and which are missing.

        Args:
            values: an array [n, ...], an Arrow array of lists, or a sequence of Python lists; missing ones are None.
            numbers: the example's number of each.
            faults: takes those that are no lists of numbers of the column's shape.

        Returns:
            float64[n, width] with zeros for what is missing or has a fault, and bool[n].
        """
        whole = _at_once(values, self.shape)
        if whole is not None:
            missing = np.zeros(len(whole), np.bool_)
            self._note(whole.shape[1:], whole.dtype)
            found = whole.reshape(len(whole), -1).astype(np.float64)
        else:
            found, missing = self._one_by_one(values, numbers, faults)
        bound = _EXACT if self.whole else _FLOAT32_MAX
        with np.errstate(invalid="ignore"):
            wrong: Mask = ~(np.abs(found) <= bound)
        expected = "whole numbers below 2^53" if self.whole else "finite numbers in the range of float32"

        def say(row: int) -> str:
            return f"column {self.column!r}: expected {expected}, got {found[row][wrong[row]][0]}"

        faults.add_rows(numbers, np.logical_or.reduce(wrong, axis=1), say)
        if self.sealed and not self.whole and len(numbers):
            faults.add(int(numbers[0]), f"column {self.column!r}: expected whole numbers, as in the training examples")
            self.whole = True
        return found, missing

    def for_test(self) -> ListColumn:
        """The same column of examples that had no say in what it holds."""
        return ListColumn(self.column, self.shape, self.whole, sealed=self.whole)

    def fault_of_name(self) -> str | None:
        """What is wrong with the column's name, which becomes that of a field; None if nothing is."""
        name = str(self.column)
        if name.isidentifier() and name not in _RESERVED:
            return None
        return f"column {name!r}: a column of lists needs a name of letters, digits and _, and none of " + ", ".join(
            sorted(_RESERVED)
        )

    def _note(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape if self.shape is None else self.shape
        self.whole &= dtype.kind in "bui"

    def _one_by_one(self, values: Any, numbers: Sequence[int], faults: Faults) -> tuple[npt.NDArray[np.float64], Mask]:
        rows = values.to_pylist() if isinstance(values, pa.Array) else values
        found, missing = [], np.zeros(len(rows), np.bool_)
        for place, row in enumerate(rows):
            array = _array(row)
            if row is None:
                missing[place] = True
            elif array is None or not array.size:
                faults.add(int(numbers[place]), f"column {self.column!r}: {_unfit(row)}")
            elif self.shape is not None and array.shape != self.shape:
                expected, got = list(self.shape), list(array.shape)
                message = f"column {self.column!r}: expected a list of shape {expected}, got {got}"
                faults.add(int(numbers[place]), f"{message}: all examples need one shape")
            else:
                self._note(array.shape, array.dtype)
                found.append((place, array.reshape(-1)))
        result = np.zeros((len(rows), self.width), np.float64)
        for place, array in found:
            result[place] = array
        return result, missing


def _at_once(values: Any, shape: tuple[int, ...] | None) -> npt.NDArray[Any] | None:
    """All values as one array, where they are of one shape, without a missing one; None where they must be looked at.

    Args:
        values: as `ListColumn.take` has them.
        shape: of a value, if it is known.
    """
    if isinstance(values, np.ndarray):
        found = values
    elif not isinstance(values, pa.Array):
        return None
    else:
        extents, inner, examples = [], values, len(values)
        while is_list(inner.type):
            count = len(inner)
            if inner.null_count or not count:
                return None
            flat = inner.flatten()
            if len(flat) % count or not len(flat) or not _even(inner, len(flat) // count):
                return None
            extents.append(len(flat) // count)
            inner = flat
        if inner.null_count or not (pa.types.is_integer(inner.type) or pa.types.is_floating(inner.type)):
            return None
        found = inner.to_numpy(zero_copy_only=False).reshape(examples, *extents)
    return found if len(found) and (shape is None or found.shape[1:] == shape) else None


def _even(values: pa.Array, length: int) -> bool:
    """Whether all lists of an array have this length."""
    if pa.types.is_fixed_size_list(values.type):
        return True
    return bool((np.diff(values.offsets.to_numpy()) == length).all())


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type is a column of lists."""
    found: bool = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return found


def _array(row: Any) -> npt.NDArray[Any] | None:
    """A value as an array of numbers, or None if it is no such thing."""
    try:
        array = np.asarray(row)
    except ValueError:
        return None
    return array if array.dtype.kind in "buif" and array.ndim else None


def _unfit(row: Any) -> str:
    """What a value is instead of a list of numbers."""
    if not isinstance(row, list):
        return f"expected a list of numbers, got {row!r}"[:200]
    if not row:
        return "expected a list of numbers, got an empty one"
    kinds = {type(value).__name__ for value in row}
    if kinds == {"list"}:
        return "expected lists of one length in it, got " + ", ".join(str(len(value)) for value in row[:8])
    return f"expected a list of numbers, got one of {', '.join(sorted(kinds))}"
