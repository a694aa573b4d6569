"""New examples of arrays, from an npz archive or from memory, encoded as a run's training examples were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from podlt.data.dataset import DTYPES
from podlt.data.field import Field
from podlt.data.images import images_below
from podlt.data.streams import Stream, memory_stream, npz_streams
from podlt.errors import DataError
from podlt.inference.description import Description
from podlt.inference.examples import EXAMPLE, FILE, NewExamples

_CHUNK_BYTES = 2**24


class ArrayReader:
    """Encodes arrays that have the run's inputs; they need no label.

    Args:
        description: of the run.
        streams: one for each input, in the order of the fields.
        files: of which file each example is; None where examples have numbers.

    Attributes:
        id_name: what examples are told apart by.
        unknown: empty: arrays have no codes.

    Raises:
        DataError: an array has another shape of an example, or another number of examples.
    """

    def __init__(self, description: Description, streams: list[Stream], files: list[str] | None = None) -> None:
        self._files, self.id_name = files, EXAMPLE if files is None else FILE
        self._fields, self._streams = description.inputs, streams
        self._moments: dict[str, Any] = description.data.get("standardised") or {}
        self.unknown: dict[str, int] = {}
        for field, stream in zip(self._fields, streams, strict=True):
            if stream.shape != field.shape:
                what = (
                    f"array {field.name!r}: expected examples of shape {field.shape} as in training, got {stream.shape}"
                )
                raise DataError(stream.source, None, what)
            if stream.examples != streams[0].examples:
                what = f"array {field.name!r}: expected {streams[0].examples} examples, got {stream.examples}"
                raise DataError(stream.source, None, what)

    @classmethod
    def of_npz(cls, description: Description, name: str, path: Path) -> ArrayReader:
        """Reads an archive. Errors: as the class, and `npz_streams`."""
        return cls(description, npz_streams(name, path, [field.name for field in description.inputs]))

    @classmethod
    def of_images(cls, description: Description, folder: Path) -> ArrayReader:
        """Reads the images below a folder, as the run's were read. Errors: as the class, and `images_below`."""
        image = description.data["image"]
        names, stream = images_below(folder.name, folder, tuple(image["size"]), image["channels"])
        return cls(description, [stream], names)

    @classmethod
    def of_memory(cls, description: Description, values: Mapping[str, npt.NDArray[Any]]) -> ArrayReader:
        """Reads arrays by their names. Errors: as the class; DataError for a missing array, too."""
        missing = [field.name for field in description.inputs if field.name not in values]
        if missing:
            raise DataError("arrays", None, f"expected an array {missing[0]!r}, got {', '.join(map(str, values))}")
        return cls(description, [memory_stream("arrays", f.name, values[f.name]) for f in description.inputs])

    def examples(self) -> Iterator[NewExamples]:
        """All examples in order.

        Raises:
            DataError: a value does not fit its field; names the example.
        """
        total = self._streams[0].examples
        step = max(1, _CHUNK_BYTES // max(stream.row_bytes for stream in self._streams))
        first = 1
        for chunks in zip(*(stream.chunks(step, total) for stream in self._streams), strict=True):
            fields = zip(self._fields, self._streams, chunks, strict=True)
            arrays = {field.name: self._stored(field, stream, values, first) for field, stream, values in fields}
            count = len(chunks[0])
            ids = self._files[first - 1 : first - 1 + count] if self._files else np.arange(first, first + count)
            yield NewExamples(arrays, pa.array(ids), np.ones(count, np.bool_))
            first += count

    def _stored(self, field: Field, stream: Stream, values: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
        """The values in the type in which the training examples were stored."""
        found = self._moments.get(field.name)
        if found is not None:
            flat = values.astype(np.float64).reshape(len(values), -1)
            values = ((flat - found["mean"]) / found["std"]).reshape(values.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            stored = values.astype(DTYPES[field.dtype])
        wrong = ~np.isfinite(stored) if field.dtype == "f32" else stored != values
        if wrong.any():
            row = int(np.argmax(wrong.reshape(len(wrong), math.prod(field.shape)).any(axis=1)))
            floats = "a finite number in the range of float32"
            expected = floats if field.dtype == "f32" else f"a value of {field.dtype}"
            got = values[row][wrong[row]].flat[0] if field.shape else values[row]
            raise DataError(stream.source, first + row, f"array {field.name!r}: expected {expected}, got {got}")
        return stored
