"""Prepared examples: memory-mapped fields under one Merkle root, read by any list of example numbers.

A prepared part is a folder that is written once (writer.py) and never changed:

    meta.json       canonical JSON: format, examples, fields, root, info
    FIELD.bin       the field's values of all examples, little-endian, example after example
    leaves.bin      the leaf hash of every example, 32 bytes each

The leaf of an example is SHA-256(0x00 || row), the row being its fields' bytes one after another in the order of the
fields: RFC 6962's leaf hash, so that one example can be shown to belong to the root that the run's first entry names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from podlt.canonical import from_json, to_json
from podlt.crypto import blob_digest, digest
from podlt.data.field import Field
from podlt.errors import DataError, InvalidProofError, StorageError, UsageError
from podlt.log.merkle import Tree

FORMAT = "podlt-examples/1"
MAX_ROW_BYTES = 2**26
"""The longest example that is prepared or read, in bytes."""

_CHUNK_BYTES = 2**22

DTYPES: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("u1"),
    "f32": np.dtype("<f4"),
    "i32": np.dtype("<i4"),
    "i64": np.dtype("<i8"),
}

Arrays = Mapping[str, npt.NDArray[Any]]


class Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of meta.json; `root` is in hexadecimal."""

    format: str
    examples: int
    fields: tuple[Field, ...]
    root: str
    info: dict[str, Any]


def check_fields(fields: Sequence[Field]) -> None:
    """Refuses fields whose names cannot be those of files of one folder, and examples that are empty or too long.

    Raises:
        DataError: names the field.
    """
    names = [field.name for field in fields]
    for field in fields:
        if not field.name.isidentifier() or field.name == "leaves" or names.count(field.name) > 1:
            raise DataError(
                "examples", None, f"field {field.name!r}: expected a name of letters, digits and _, used once"
            )
        if min(field.shape, default=1) < 1 or field.row_bytes > MAX_ROW_BYTES:
            raise DataError(
                "examples",
                None,
                f"field {field.name!r}: examples of shape {field.shape} are empty or above {MAX_ROW_BYTES} bytes",
            )


def leaf_hashes(fields: Sequence[Field], arrays: Arrays) -> npt.NDArray[np.uint8]:
    """The leaf hash of every example, uint8[n, 32]: SHA-256(0x00 || the example's fields, in order, little-endian).

    Args:
        fields: the dataset's fields.
        arrays: for each field its values, [n, *shape], of the field's dtype.

    Raises:
        DataError: a field is missing, or has another dtype, shape or number of examples.
    """
    columns = byte_columns(fields, arrays)
    examples = len(columns[0]) if columns else 0
    width = 1 + sum(field.row_bytes for field in fields)
    step = max(1, _CHUNK_BYTES // width)
    hashes = bytearray()
    for start in range(0, examples, step):
        parts = [column[start : start + step] for column in columns]
        rows = np.concatenate([np.zeros((len(parts[0]), 1), np.uint8), *parts], axis=1)
        view, sha256 = rows.reshape(-1).data, hashlib.sha256
        hashes += b"".join([sha256(view[at : at + width]).digest() for at in range(0, rows.size, width)])
    return np.frombuffer(hashes, np.uint8).reshape(examples, 32)


def byte_columns(fields: Sequence[Field], arrays: Arrays) -> list[npt.NDArray[np.uint8]]:
    """The values of all fields, each as uint8[n, row_bytes], after their forms were checked."""
    columns = [_byte_rows(field, arrays) for field in fields]
    if any(len(column) != len(columns[0]) for column in columns):
        found = [len(column) for column in columns]
        raise DataError("examples", None, f"expected {found[0]} examples in every field, got {found}")
    return columns


def _byte_rows(field: Field, arrays: Arrays) -> npt.NDArray[np.uint8]:
    """The values of a field as uint8[n, row_bytes]."""
    if field.name not in arrays:
        raise DataError("examples", None, f"expected field {field.name!r}, got {sorted(arrays)}")
    values = arrays[field.name]
    if values.shape[1:] != field.shape or values.ndim == 0 or values.dtype != DTYPES[field.dtype]:
        raise DataError(
            "examples",
            None,
            f"field {field.name!r}: expected {field.dtype} [n, {field.shape}], got {values.dtype} {values.shape}",
        )
    little = np.ascontiguousarray(values, dtype=DTYPES[field.dtype])
    return little.reshape(-1).view(np.uint8).reshape(len(little), field.row_bytes)


def shard_digest_of(fields: Sequence[Field], arrays: Arrays) -> bytes:
    """The digest that names a shard in a task: over the BLAKE3 of each field's values, as they lie in memory.

    Workers work it out for every task, so it is made of few long hashes, not of the examples' leaf hashes.

    Args:
        fields: the dataset's fields.
        arrays: for each field its values, [n, *shape], of the field's dtype.

    Raises:
        DataError: a field is missing, or has another dtype, shape or number of examples.
    """
    columns = byte_columns(fields, arrays)
    examples = len(columns[0]) if columns else 0
    return digest("shard/2", examples.to_bytes(8, "big"), *[blob_digest(c.reshape(-1).data) for c in columns])


class Dataset:
    """The prepared examples of one part (train or test), memory-mapped; safe to open in many processes.

    `info` says what is needed to build a model and to encode new data, as JSON values. Every kind has `kind` ("arrays",
    "table", "text"), `classes` (names in the order of their codes, or None) and `cardinalities` (how many codes each
    categorical input has, code 0 for the unknown included). Tables add `numeric` ({column, mean, std} each) and
    `categorical` ({column, values} each, code 1 on); texts add `vocabulary` (characters, code 1 on) and
    `vocabulary_size` (with code 0).

    Args:
        folder: a folder that `writer.DatasetWriter` finished.

    Raises:
        StorageError: a file is missing, is malformed, or has another size than meta.json says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = _read_meta(folder)
        self.examples = meta.examples
        self.fields = meta.fields
        self.root = bytes.fromhex(meta.root)
        self.info: dict[str, Any] = meta.info
        self._columns = {
            field.name: _map(folder / f"{field.name}.bin", DTYPES[field.dtype], (meta.examples, *field.shape))
            for field in meta.fields
        }
        self._leaves = _map(folder / "leaves.bin", np.dtype("u1"), (meta.examples, 32))

    @property
    def digest(self) -> bytes:
        """What a run's first entry names: binds the number of examples, the fields, and every example."""
        fields = to_json(msgspec.to_builtins(self.fields))
        return digest("data/1", self.examples.to_bytes(8, "big"), fields, self.root)

    def read(self, ids: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The values of the examples with these numbers: for each field a new C-contiguous array [len(ids), *shape].

        Args:
            ids: int64[n], each in [0, examples).

        Raises:
            UsageError: a number is out of range.
        """
        self._check_ids(ids)
        return {name: np.take(column, ids, axis=0) for name, column in self._columns.items()}

    def read_into(self, ids: npt.NDArray[np.int64], out: Mapping[str, npt.NDArray[Any]]) -> None:
        """Like `read`, into memory that is there already: `out` has for each field an array [len(ids), *shape]."""
        self._check_ids(ids)
        for name, column in self._columns.items():
            np.take(column, ids, axis=0, out=out[name], mode="clip")  # numbers in range: any other mode copies twice

    def leaves(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The leaf hashes of the examples with these numbers, uint8[n, 32]."""
        self._check_ids(ids)
        return np.take(self._leaves, ids, axis=0)

    def shard_digest(self, ids: npt.NDArray[np.int64]) -> bytes:
        """The digest of the shard that holds these examples, in this order."""
        return shard_digest_of(self.fields, self.read(ids))

    def check(self) -> None:
        """Hashes every example again: returns only if all examples are those under `root`.

        Raises:
            StorageError: an example, a leaf or the root differs; names the first example.
        """
        tree = Tree()
        step = max(1, _CHUNK_BYTES // sum(field.row_bytes for field in self.fields))
        for start in range(0, self.examples, step):
            stop = min(self.examples, start + step)
            stored = self._leaves[start:stop]
            found = leaf_hashes(self.fields, {name: column[start:stop] for name, column in self._columns.items()})
            wrong = np.flatnonzero((stored != found).any(axis=1))
            if len(wrong):
                raise StorageError(f"{self.folder}: example {start + int(wrong[0])} was changed since it was prepared")
            for leaf in found:
                tree.append(leaf.tobytes())
        if tree.root() != self.root:
            raise StorageError(f"{self.folder}: expected root {self.root.hex()}, got {tree.root().hex()}")

    def _check_ids(self, ids: npt.NDArray[np.int64]) -> None:
        if ids.ndim != 1 or ids.dtype != np.int64:
            raise UsageError(f"example numbers: expected int64 [n], got {ids.dtype} {ids.shape}")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= self.examples):
            raise UsageError(
                f"example numbers: expected 0..{self.examples - 1}, got {int(ids.min())}..{int(ids.max())}"
            )


def _read_meta(folder: Path) -> Meta:
    path = folder / "meta.json"
    try:
        meta = msgspec.convert(from_json(path.read_bytes()), Meta)
        root = bytes.fromhex(meta.root)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
    except (InvalidProofError, msgspec.ValidationError, ValueError) as error:
        raise StorageError(f"{path}: {error}") from None
    if meta.format != FORMAT or meta.examples < 1 or len(root) != 32 or not meta.fields:
        raise StorageError(f"{path}: expected format {FORMAT}, examples >= 1, fields and a root of 32 bytes")
    try:
        check_fields(meta.fields)
    except DataError as error:
        raise StorageError(f"{path}: {error}") from None
    return meta


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A read-only memory map of a whole file, after its size was checked."""
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    try:
        size = path.stat().st_size
        if size != expected:
            raise StorageError(f"{path}: expected {expected} bytes, got {size}")
        # A plain view: every slice of a np.memmap carries Python bookkeeping that costs more than a small read.
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=shape))
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
