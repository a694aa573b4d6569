"""Writes one prepared part: chunk by chunk, hashing every example as it passes, never all in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from podlt.canonical import MAX_RECORD, to_json
from podlt.data.dataset import DTYPES, FORMAT, Arrays, Dataset, Meta, check_fields, leaf_hashes
from podlt.data.field import Field
from podlt.errors import DataError, StorageError
from podlt.log.merkle import Tree


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns every failure to write under `path` (a full disk, no permission) into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}") from None


class DatasetWriter:
    """Appends examples to a new prepared part; `finish` seals it.

    Args:
        folder: where, to be created.
        fields: what an example holds, in the order in which it is hashed.

    Raises:
        StorageError: the folder exists or cannot be written.
        DataError: a field's name or shape will not do.
    """

    def __init__(self, folder: Path, fields: Sequence[Field]) -> None:
        check_fields(fields)
        self.folder = folder
        self.fields = tuple(fields)
        self.examples = 0
        self._tree = Tree()
        with storing(folder), ExitStack() as stack:
            folder.mkdir(parents=True)
            names = [*(field.name for field in fields), "leaves"]
            self._files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names}
            self._open = stack.pop_all()

    def write(self, arrays: Arrays) -> None:
        """Appends examples: for each field an array [n, *shape] of its dtype.

        Raises:
            StorageError: the disk is full.
            DataError: a field has another dtype or shape.
        """
        leaves = leaf_hashes(self.fields, arrays)
        with storing(self.folder):
            for field in self.fields:
                values = np.ascontiguousarray(arrays[field.name], dtype=DTYPES[field.dtype])
                self._files[field.name].write(values.reshape(-1).view(np.uint8).data)
            self._files["leaves"].write(leaves.data)
        for leaf in leaves:
            self._tree.append(leaf.tobytes())
        self.examples += len(leaves)

    def finish(self, info: dict[str, Any]) -> Dataset:
        """Seals the part with what is known of it (JSON values), and opens it.

        Raises:
            DataError: no example was written, or `info` is longer than a document may be.
            StorageError: the disk is full.
        """
        if not self.examples:
            raise DataError(str(self.folder.name), None, "expected at least one example, got none")
        meta = Meta(format=FORMAT, examples=self.examples, fields=self.fields, root=self._tree.root().hex(), info=info)
        document = to_json(msgspec.to_builtins(meta))
        if len(document) > MAX_RECORD:
            raise DataError(
                self.folder.name,
                None,
                f"vocabulary too large: expected at most {MAX_RECORD} bytes, got {len(document)}",
            )
        with storing(self.folder):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            self.close()
            (self.folder / "meta.json").write_bytes(document)
        return Dataset(self.folder)

    def close(self) -> None:
        """Closes the files. A part that was not finished has no meta.json and will not open."""
        with storing(self.folder):
            self._open.close()
