"""Arrays as a source of examples, every value checked on its way: the builder of .npz files and image sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from podlt.data.dataset import DTYPES, MAX_ROW_BYTES
from podlt.data.faults import Faults
from podlt.data.field import Field
from podlt.data.moments import Moments, moments
from podlt.data.spec import MAX_CLASSES
from podlt.data.streams import Stream
from podlt.errors import DataError, UsageError

Progress = Callable[[str, int, int | None], None]

_CHUNK_BYTES = 2**22
_STORED: dict[str, Literal["u8", "f32", "i32", "i64"]] = {
    "bool": "u8",
    "uint8": "u8",
    "float16": "f32",
    "float32": "f32",
    "float64": "f32",
    "int8": "i32",
    "int16": "i32",
    "uint16": "i32",
    "int32": "i32",
    "uint32": "i64",
    "int64": "i64",
}


class ArraySource:
    """Streams of equal length as examples.

    Args:
        inputs: what the model is given.
        label: what it must predict, or None.
        scale: the factor by which the model's inputs are multiplied, or None.
        target: what the label is, "class" or "number".
        classes: how many there are, or None for the highest code that is found, plus one.
        standardise: whether the places of arrays of floats are to be standardised, once `fit` was called.

    Attributes:
        examples: how many there are.
        fields: what each holds.
        bound: how many classes there may be, or None.
        highest: the highest class found so far, -1 before the first.
        label: the stream of the label where it is a class of the whole example, or None.
        label_changes: how many examples had another class than the one before, in the last pass.

    Raises:
        DataError: a stream has another length, or values that no field can hold.
        UsageError: there is nothing to standardise.
    """

    def __init__(
        self,
        inputs: Sequence[Stream],
        label: Stream | None,
        *,
        scale: float | None = None,
        target: str = "class",
        classes: int | None = None,
        standardise: bool = False,
    ) -> None:
        self._streams = [*inputs, label] if label else list(inputs)
        self._class = label.name if label and target == "class" else None
        self.label = label if label and target == "class" and not label.shape else None
        self.bound = classes
        self.highest = -1
        self.label_changes = 0
        self.examples = self._streams[0].examples
        self.fields = tuple(self._field(stream, label, scale, target) for stream in self._streams)
        self.moments: dict[str, Moments] = {}
        self._floats = [s for s in inputs if standardise and s.dtype.kind == "f"]
        for stream in self._streams:
            if stream.examples != self.examples or not stream.examples:
                raise DataError(
                    stream.source,
                    None,
                    f"array {stream.name!r}: expected {self.examples or 'at least 1'} examples, got {stream.examples}",
                )
        if standardise and not self._floats:
            raise UsageError(f"data: {inputs[0].source}: standardise: no input is an array of floats")

    def _field(self, stream: Stream, label: Stream | None, scale: float | None, target: str) -> Field:
        if stream.row_bytes > MAX_ROW_BYTES or not stream.row_bytes:
            raise DataError(
                stream.source,
                None,
                f"array {stream.name!r}: expected examples of 1 to {MAX_ROW_BYTES} bytes, got shape {stream.shape}",
            )
        stored = _STORED.get(stream.dtype.name)
        if stored is None:
            raise DataError(
                stream.source,
                None,
                f"array {stream.name!r}: unsupported dtype {stream.dtype}; available: {', '.join(_STORED)}",
            )
        if stream is not label:
            return Field(stream.name, stored, stream.shape, "input", scale)
        if target == "number":
            return Field(stream.name, "f32", stream.shape, "label")
        if stored == "f32":
            raise DataError(
                stream.source,
                None,
                f"array {stream.name!r}: expected whole numbers as classes, got {stream.dtype}; "
                'store it as int64, or set target = "number"',
            )
        return Field(stream.name, "i64", stream.shape, "label")

    def class_counts(self, examples: int) -> npt.NDArray[np.int64]:
        """How many of the first `examples` examples each class has; one count where the label is no class of the
        example."""
        if self.label is None:
            return np.array([examples], np.int64)
        counts = np.zeros(1, np.int64)
        for values in self.label.chunks(self._step, examples):
            known = values[(values >= 0) & (values < MAX_CLASSES)].astype(np.int64)
            found = np.bincount(known, minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
        return counts

    def fit(self, examples: int, selected: Callable[[], Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]]) -> None:
        """Takes the moments of the inputs that are to be standardised.

        Args:
            examples: of how many examples.
            selected: gives, for each pass, what says which of the next examples count, by their labels.
        """

        def rows(stream: Stream) -> Iterator[npt.NDArray[np.float64]]:
            keep = selected()
            labels = self.label or stream
            for values, classes in zip(
                stream.chunks(self._step, examples), labels.chunks(self._step, examples), strict=True
            ):
                yield values[keep(classes)].astype(np.float64).reshape(-1, math.prod(stream.shape))

        for stream in self._floats:
            self.moments[stream.name] = moments(partial(rows, stream), math.prod(stream.shape))

    def take_moments(self, other: ArraySource) -> None:
        """Standardises as another source does."""
        self.moments = other.moments

    def chunks(self, examples: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The first `examples` examples as fields, every value checked.

        Raises:
            DataError: values are not finite, too large for their dtype or no class; names all such examples. A stream
                ends early.
        """
        faults, first, last = Faults(self._streams[0].source), 0, None
        self.label_changes = 0
        for chunks in zip(*(stream.chunks(self._step, examples) for stream in self._streams), strict=True):
            pairs = zip(self._streams, chunks, strict=True)
            arrays = {s.name: self._converted(s, values, first, faults) for s, values in pairs}
            if self.label is not None:
                labels = arrays[self.label.name]
                self.label_changes += int((labels[1:] != labels[:-1]).sum()) + int(labels[0] != last)
                last = labels[-1]
            first += len(chunks[0])
            yield arrays
        faults.check()

    @property
    def _step(self) -> int:
        return max(1, _CHUNK_BYTES // max(stream.row_bytes for stream in self._streams))

    def _converted(self, stream: Stream, values: npt.NDArray[Any], first: int, faults: Faults) -> npt.NDArray[Any]:
        field = next(field for field in self.fields if field.name == stream.name)
        with np.errstate(over="ignore", invalid="ignore"):
            stored = self._standardised(stream, values).astype(DTYPES[field.dtype])
        if field.dtype == "f32":
            expected = "a finite number in the range of float32"
            if stream.name in self.moments and np.isfinite(values).all():
                expected += " once it is standardised"
            _refuse(stream, values, ~np.isfinite(stored), first, expected, faults)
        if stream.name == self._class:
            bound = self.bound if self.bound is not None else MAX_CLASSES
            _refuse(stream, values, (stored < 0) | (stored >= bound), first, f"a class in 0..{bound - 1}", faults)
            self.highest = max(self.highest, int(stored.max()))
        return stored

    def _standardised(self, stream: Stream, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found = self.moments.get(stream.name)
        if found is None:
            return values
        flat = values.astype(np.float64).reshape(len(values), -1)
        result: npt.NDArray[Any] = ((flat - found.means) / found.deviations).reshape(values.shape)
        return result


def _refuse(
    stream: Stream, values: npt.NDArray[Any], wrong: npt.NDArray[np.bool_], first: int, expected: str, faults: Faults
) -> None:
    if wrong.any():
        flat = wrong.reshape(len(wrong), -1)
        numbers = range(first + 1, first + 1 + len(values))

        def say(row: int) -> str:
            value = values.reshape(len(wrong), -1)[row, int(np.argmax(flat[row]))]
            return f"array {stream.name!r}: expected {expected}, got {value}"

        faults.add_rows(numbers, np.logical_or.reduce(flat, axis=1), say)
