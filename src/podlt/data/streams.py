"""Arrays as a source of examples: npz archives, idx files and arrays in memory, read chunk by chunk.

The first axis counts the examples. A `Stream` knows its dtype, shape and length before any value is read, so that a
file which promises more than it holds is refused before memory is taken.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from podlt.errors import DataError


@dataclass(frozen=True)
class Stream:
    """One array of a source, to be read from its first example on.

    Attributes:
        source: the file or set, for errors.
        name: the field's name.
        dtype: as stored.
        shape: of one line.
        examples: how many.
        start: opens the bytes of the first example.
    """

    source: str
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    examples: int
    start: Callable[[], IO[bytes]]

    @property
    def row_bytes(self) -> int:
        """Bytes of one example as the source stores it."""
        return self.dtype.itemsize * math.prod(self.shape)

    def chunks(self, step: int, examples: int) -> Iterator[npt.NDArray[Any]]:
        """The first `examples` examples, `step` at a time, [n, *shape].

        Raises:
            DataError: the source ends early or is damaged; names the example.
        """
        with self._opened() as file:
            for first in range(0, examples, step):
                count = min(step, examples - first)
                data = self._read(file, count * self.row_bytes, first)
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape)

    def _opened(self) -> IO[bytes]:
        with self._naming_damage():
            return self.start()

    def _read(self, file: IO[bytes], size: int, first: int) -> bytes:
        with self._naming_damage():
            data = file.read(size)
        if len(data) < size:
            line = first + len(data) // self.row_bytes + 1
            raise DataError(self.source, line, f"array {self.name!r} is truncated: expected {self.examples} examples")
        return data

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(self.source, None, f"array {self.name!r} is damaged: {error}") from None


def memory_stream(source: str, name: str, values: npt.NDArray[Any]) -> Stream:
    """A stream over an array in memory, [examples, ...]."""
    data = np.ascontiguousarray(values)
    return Stream(source, name, data.dtype, data.shape[1:], len(data), lambda: io.BytesIO(data.tobytes()))


def idx_stream(source: str, name: str, path: Path, example_shape: tuple[int, ...]) -> Stream:
    """A stream over an idx file of bytes, plain or .gz (MNIST's format: magic, sizes, values).

    Args:
        example_shape: the shape to give each example; its size must be that of the file.

    Raises:
        DataError: the magic number or the sizes are not as expected.
    """

    def opened() -> IO[bytes]:
        return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")

    with opened() as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not 1 <= head[3] <= 4:
            raise DataError(source, None, f"{path.name}: expected an idx file of bytes, got magic {head.hex()}")
        sizes = np.frombuffer(file.read(4 * head[3]), ">u4").tolist()
    if len(sizes) != head[3] or math.prod(sizes[1:]) != math.prod(example_shape) or not sizes[0]:
        raise DataError(source, None, f"{path.name}: expected examples of {example_shape}, got sizes {sizes}")

    def start() -> IO[bytes]:
        file = opened()
        file.seek(4 + 4 * len(sizes))
        return file

    return Stream(source, name, np.dtype("u1"), example_shape, sizes[0], start)


def npz_arrays(source: str, path: Path) -> list[Stream]:
    """Streams over those arrays of an .npz archive that hold numbers by examples: what `npz_streams` would take.

    Raises:
        DataError: not an archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(source, None, f"not a readable npz archive: {error}") from None
    found: list[Stream] = []
    for name in names:
        with suppress(DataError):
            found += npz_streams(source, path, [name])
    return found


def npz_streams(source: str, path: Path, names: Sequence[str]) -> list[Stream]:
    """Streams over arrays of an .npz archive, nothing unpickled, compressed or not.

    Raises:
        DataError: not an archive, an array is missing, holds objects, or its size is not what its header says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [_npz_stream(source, path, archive, name) for name in names]
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise DataError(source, None, f"not a readable npz archive: {error}") from None


def _npz_stream(source: str, path: Path, archive: zipfile.ZipFile, name: str) -> Stream:
    member = f"{name}.npy"
    if member not in archive.namelist():
        found = ", ".join(sorted(entry.removesuffix(".npy") for entry in archive.namelist())[:20])
        raise DataError(source, None, f"expected an array {name!r}, got {found}")
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise DataError(source, None, f"array {name!r}: {error}") from None
        offset = file.tell()
    if dtype.hasobject or dtype.kind not in "buif":
        raise DataError(source, None, f"array {name!r}: expected numbers, got dtype {dtype}")
    if not shape or (fortran and len(shape) > 1):
        raise DataError(source, None, f"array {name!r}: expected [examples, ...] in C order, got {shape}")
    stored, promised = archive.getinfo(member).file_size - offset, dtype.itemsize * math.prod(shape)
    if stored != promised:
        raise DataError(source, None, f"array {name!r} is truncated: expected {promised} bytes, got {stored}")

    def start() -> IO[bytes]:
        with zipfile.ZipFile(path) as again:
            opened = again.open(member)
        opened.read(offset)
        return opened

    return Stream(source, name, dtype, tuple(shape[1:]), shape[0], start)
