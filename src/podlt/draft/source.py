"""What a source of data is, before anything is said of it: a kind, and for tables and arrays what can be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from podlt.data.files import files_of
from podlt.data.images import is_image_folder
from podlt.data.named import NAMED
from podlt.data.prepare import BUILDERS
from podlt.data.spec import DataSpec
from podlt.data.streams import npz_arrays
from podlt.draft.columns import ColumnFacts, delimiter_of, has_header, look_at_columns
from podlt.errors import UsageError

NAMED_SET, TABLE, ARRAYS, TEXT, IMAGES = "named set", "table", "arrays", "text", "images"

_LABELS = ("label", "target", "class", "y", "labels", "outcome", "price")
"""Names under which people keep what is to be predicted."""


class Source(msgspec.Struct, frozen=True):
    """A source of data that was looked at.

    Attributes:
        spec: what a recipe must say for it to be read at all.
        kind: "named set", "table", "arrays", "text" or "images".
        columns: of a table, as far as it was read.
        arrays: of an npz file: each array's name, and its shape an example.
    """

    spec: DataSpec
    kind: str
    columns: tuple[ColumnFacts, ...] = ()
    arrays: dict[str, tuple[int, ...]] = {}

    @property
    def candidates(self) -> list[str]:
        """What can be predicted, by name; empty where the source says it itself."""
        if self.kind == TABLE:
            return [str(column.name) for column in self.columns if column.may_be_label]
        return [name for name, shape in self.arrays.items() if shape == ()]

    @property
    def likely(self) -> str:
        """The one of `candidates` that is suggested: a usual name, or the last."""
        names = {name.lower(): name for name in self.candidates}
        return next((names[name] for name in _LABELS if name in names), (self.candidates or [""])[-1])


def look(source: str, base: Path) -> Source:
    """Reads as much of a source as it takes to say what it is.

    Args:
        source: a named set, or a path as a recipe has it.
        base: the folder that relative paths start from.

    Raises:
        UsageError: no such file, or no kind of file that podlt reads.
        DataError: an example is malformed.
    """
    spec = DataSpec(source)
    if source in NAMED:
        return Source(spec, NAMED_SET)
    path = base / Path(source).expanduser()
    if is_image_folder(path, [*BUILDERS]):
        return Source(spec, IMAGES)
    files = files_of(source, base)
    suffix = files[0][1].suffix.lower()
    if suffix not in BUILDERS:
        raise UsageError(_unknown(source, suffix))
    if suffix == ".npz":
        return Source(spec, ARRAYS, arrays={array.name: array.shape for array in npz_arrays(source, files[0][1])})
    if suffix == ".txt":
        return Source(spec, TEXT)
    if suffix in (".csv", ".tsv"):
        delimiter = delimiter_of(files[0][1]) if suffix == ".csv" else "\t"
        header = has_header(files[0][1], delimiter)
        spec = DataSpec(source, delimiter=delimiter if suffix == ".csv" else ",", header=header)
    return Source(spec, TABLE, columns=tuple(look_at_columns(spec, files)))


def _unknown(source: str, suffix: str) -> str:
    kinds: Sequence[str] = sorted(BUILDERS)
    hint = "; JSON: one object a line, as .jsonl" if suffix == ".json" else ""
    return (
        f"{source}: a {suffix or 'file without a suffix'} file: expected {', '.join(kinds)}, a folder of images with "
        f"one sub-folder a class, or one of {', '.join(sorted(NAMED))}{hint}"
    )
