"""Writes arrays as prepared parts, every value checked on its way: the builder of .npz files and image sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from podlt.data.dataset import DTYPES, MAX_ROW_BYTES
from podlt.data.field import Field
from podlt.data.spec import MAX_CLASSES, DataSpec, parts_of
from podlt.data.streams import Stream, npz_streams
from podlt.data.writer import DatasetWriter
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


class ArrayWriter:
    """Writes streams of equal length as prepared parts, checking every value on the way.

    Args:
        inputs: what the model is given.
        label: what it must predict, or None.
        scale: the factor by which the model's inputs are multiplied, or None.
        target: what the label is, "class" or "number".
        classes: how many there are, or None for the highest code that is found, plus one.
    """

    def __init__(
        self,
        inputs: Sequence[Stream],
        label: Stream | None,
        *,
        scale: float | None = None,
        target: str = "class",
        classes: int | None = None,
    ) -> None:
        self._streams = [*inputs, label] if label else list(inputs)
        self._label = label.name if label and target == "class" else None
        self.bound = classes
        self.highest = -1
        self.lines = self._streams[0].lines
        self.fields = tuple(self._field(stream, label, scale, target) for stream in self._streams)
        for stream in self._streams:
            if stream.lines != self.lines or not stream.lines:
                raise DataError(
                    stream.source,
                    None,
                    f"array {stream.name!r}: expected {self.lines or 'at least 1'} lines, got {stream.lines}",
                )

    def _field(self, stream: Stream, label: Stream | None, scale: float | None, target: str) -> Field:
        if stream.row_bytes > MAX_ROW_BYTES or not stream.row_bytes:
            raise DataError(
                stream.source,
                None,
                f"array {stream.name!r}: expected lines of 1 to {MAX_ROW_BYTES} bytes, got shape {stream.shape}",
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
                stream.source, None, f"array {stream.name!r}: expected whole numbers as classes, got {stream.dtype}"
            )
        return Field(stream.name, "i64", stream.shape, "label")

    def write(self, parts: Sequence[tuple[Path, int]], progress: Callable[[int, int], None]) -> list[DatasetWriter]:
        """Writes consecutive parts, each its folder and number of lines; returns their writers, still to be finished.

        Args:
            progress: called with the lines written and the lines in all.

        Raises:
            DataError: a value is not finite, too large for its dtype or no class; a stream ends early.
        """
        writers = [DatasetWriter(folder, self.fields) for folder, _ in parts]
        total = sum(count for _, count in parts)
        ends = np.cumsum([count for _, count in parts]).tolist()
        step = max(1, _CHUNK_BYTES // max(stream.row_bytes for stream in self._streams))
        first = 0
        with ExitStack() as stack:
            for writer in writers:
                stack.callback(writer.close)
            for chunks in zip(*(stream.chunks(step, total) for stream in self._streams), strict=True):
                arrays = {s.name: self._converted(s, c, first) for s, c in zip(self._streams, chunks, strict=True)}
                last = first + len(chunks[0])
                for writer, start, end in zip(writers, [0, *ends[:-1]], ends, strict=True):
                    low, high = max(first, start) - first, min(last, end) - first
                    if low < high:
                        writer.write({name: values[low:high] for name, values in arrays.items()})
                first = last
                progress(first, total)
            stack.pop_all()
        return writers

    def _converted(self, stream: Stream, values: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
        field = next(field for field in self.fields if field.name == stream.name)
        with np.errstate(over="ignore"):
            stored = values.astype(DTYPES[field.dtype])
        if field.dtype == "f32":
            _refuse(stream, values, ~np.isfinite(stored), first, "a finite number in the range of float32")
        if stream.name == self._label:
            bound = self.bound if self.bound is not None else MAX_CLASSES
            _refuse(stream, values, (stored < 0) | (stored >= bound), first, f"a class in 0..{bound - 1}")
            self.highest = max(self.highest, int(stored.max()))
        return stored


def _refuse(stream: Stream, values: npt.NDArray[Any], wrong: npt.NDArray[np.bool_], first: int, expected: str) -> None:
    if wrong.any():
        place = np.argwhere(wrong)[0]
        raise DataError(
            stream.source,
            first + int(place[0]) + 1,
            f"array {stream.name!r}: expected {expected}, got {values[tuple(place)]}",
        )


def build_arrays(
    spec: DataSpec, train: ArrayWriter, test: ArrayWriter | None, folder: Path, progress: Progress
) -> None:
    """Writes folder/train and, where there are lines for it, folder/test.

    Args:
        spec: for limits, the part held out and the classes' names.
        train: the lines to train on, and those held out of them.
        test: lines of a test source of their own, or None.
        folder: where `train` and `test` are made.
        progress: called with what is done, the lines written and the lines in all.

    Raises:
        DataError: a value is refused, or the test part has other fields.
        UsageError: nothing would be held out.
    """
    lines, held = parts_of(spec, train.lines)
    parts = [(folder / "train", lines)] + ([(folder / "test", held)] if held else [])
    writers = train.write(parts, lambda done, total: progress("preparing", done, total))
    names = class_names(spec.classes, train.highest)
    if test is not None:
        if test.fields != train.fields:
            raise DataError(str(spec.test), None, f"expected fields {train.fields}, got {test.fields}")
        test.bound = len(names) or None
        count = min(test.lines, spec.test_limit or test.lines)
        report = lambda done, total: progress("preparing the test part", done, total)  # noqa: E731
        writers += test.write([(folder / "test", count)], report)
    info = {"kind": "arrays", "classes": names or None, "cardinalities": []}
    for writer in writers:
        writer.finish(info)


def build_npz(spec: DataSpec, source: Path, test: Path | None, folder: Path, progress: Progress) -> None:
    """Prepares an .npz archive: the arrays that `spec.inputs` and `spec.label` name, [lines, ...] each."""
    if not spec.inputs:
        raise UsageError(f'data: {spec.source}: name the arrays that the model is given, as in inputs = ["x"]')
    if spec.label is not None and not isinstance(spec.label, str):
        raise UsageError(f"data: {spec.source}: expected the name of an array as label, got {spec.label}")
    label = spec.label

    def opened(name: str, path: Path) -> ArrayWriter:
        inputs = npz_streams(name, path, spec.inputs)
        labels = npz_streams(name, path, [label]) if label is not None else [None]
        bound = spec.classes if isinstance(spec.classes, int) else len(spec.classes) if spec.classes else None
        return ArrayWriter(inputs, labels[0], scale=spec.scale, target=spec.target, classes=bound)

    build_arrays(spec, opened(spec.source, source), opened(str(spec.test), test) if test else None, folder, progress)


def class_names(classes: int | tuple[str, ...] | None, highest: int) -> list[str]:
    """The classes' names in the order of their codes: given, counted, or up to the highest code that was found."""
    if isinstance(classes, tuple):
        return list(classes)
    return [str(code) for code in range(classes if classes is not None else highest + 1)]
