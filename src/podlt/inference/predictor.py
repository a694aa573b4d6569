"""A trained module with what it knows of its data: new examples in, predictions out, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from podlt.data.dataset import DTYPES
from podlt.data.files import Files, files_of
from podlt.data.spec import Column
from podlt.errors import UsageError
from podlt.inference.arrays import ArrayReader
from podlt.inference.description import Description
from podlt.inference.examples import Reader
from podlt.inference.outputs import Columns, named_outputs
from podlt.inference.tables import TableReader
from podlt.program.losses import scores

BATCH = 1000
"""How many examples the module is given at once, as when a run's figures are taken."""

_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".parquet", ".feather", ".arrow"})

_EXPECTED = {
    "table": f"a file or folder of {', '.join(sorted(_TABLES))}",
    "arrays": "an .npz file",
    "images": "a folder of images",
    "text": "a prompt, a text that is to be continued",
}


class Predictions:
    """Predictions in memory.

    Args:
        table: one row an example, in the examples' order.
        notes: what a person should know, a sentence each.

    Attributes:
        table: a PyArrow table; `to_pandas()` gives a frame.
        notes: as given.
    """

    def __init__(self, table: pa.Table, notes: list[str]) -> None:
        self.table, self.notes = table, notes

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        """A column's values."""
        values: np.ndarray[Any, Any] = self.table.column(name).to_numpy(zero_copy_only=False)
        return values

    def __repr__(self) -> str:
        return f"Predictions({len(self):,} examples: {', '.join(self.table.column_names)})"

    def to_pandas(self) -> Any:
        """The predictions as a pandas frame."""
        return self.table.to_pandas()


class Predictor:
    """A module with its description.

    Args:
        description: of the run.
        module: with the trained parameters; it is put into eval mode.
    """

    def __init__(self, description: Description, module: nn.Module) -> None:
        self.description, self.module = description, module.eval()
        self._without = 0

    @property
    def has_numbered_columns(self) -> bool:
        """Whether the run's data are a table without a header, whose columns have numbers."""
        data = self.description.data
        columns = [one["column"] for one in (*data.get("numeric", ()), *data.get("categorical", ()))]
        return bool(columns) and all(isinstance(column, int) for column in columns)

    def predict(self, data: Any, id: Column | None = None) -> Predictions:
        """Predictions for new examples, in memory.

        Args:
            data: the path of a file of the run's kind, a pandas or polars frame, a PyArrow table, a mapping of arrays
                by the inputs' names, or one array or tensor for a model of one input. A label is not needed.
            id: a column to repeat beside the predictions; by default the examples' numbers.

        Raises:
            UsageError: the data are of another kind than the run's.
            DataError: examples are malformed, or a column is missing.
        """
        with TemporaryDirectory() as folder:
            reader = self._reader(data, Path(folder), id)
            batches = list(self.batches(reader, id))
        return Predictions(pa.Table.from_batches(batches), self.notes(reader))

    def open(self, path: Path, id: Column | None = None) -> Reader:
        """A reader of a file. Arguments and errors: as `predict`."""
        kind, suffix = self.description.data["kind"], path.suffix.lower()
        if kind == "table" and (suffix in _TABLES or path.is_dir()):
            return self._table(files_of(str(path), Path()), id)
        if kind == "arrays" and suffix == ".npz":
            return ArrayReader.of_npz(self.description, path.name, path)
        if "image" in self.description.data and path.is_dir():
            return ArrayReader.of_images(self.description, path)
        if kind != "text" and not path.exists():
            raise UsageError(f"{path}: there is no such file or folder")
        kind = "images" if "image" in self.description.data else kind
        expected = _EXPECTED.get(kind, "the model's inputs as arrays, in Python")
        raise UsageError(f"{path}: the run's data are {kind}: expected {expected}")

    def batches(self, reader: Reader, id: Column | None = None) -> Iterator[pa.RecordBatch]:
        """Predictions, some examples at a time: memory does not grow with the file."""
        self._without = 0
        for examples in reader.examples():
            parts = [self._outputs(examples.arrays, start) for start in range(0, int(examples.whole.sum()), BATCH)]
            parts = parts or [{name: values[:0] for name, values in self._outputs(self._zeros(), 0).items()}]
            self._without += int((~examples.whole).sum())
            ids = {reader.id_name if id is None else str(id): examples.ids}
            columns = {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}
            yield pa.RecordBatch.from_pydict(ids | _spread(columns, examples.whole))

    def notes(self, reader: Reader) -> list[str]:
        """What to tell of the examples that were read last: unknown categories, examples without a prediction."""
        notes = [
            f"column {column!r}: {count:,} values that the training examples do not have, taken as unknown"
            for column, count in reader.unknown.items()
        ]
        if self._without:
            notes.append(f"{self._without:,} examples lack a value and have no prediction")
        return notes

    @torch.no_grad()
    def _outputs(self, arrays: Mapping[str, np.ndarray[Any, Any]], start: int) -> Columns:
        inputs = []
        for field in self.description.inputs:
            value = torch.from_numpy(np.array(arrays[field.name][start : start + BATCH]))
            if field.scale is not None:
                value = value.to(torch.float32) * torch.tensor(field.scale, dtype=torch.float32)
            inputs.append(value)
        try:
            output = scores(self.module(*inputs))
        except UsageError:
            raise
        except Exception as error:  # the module is the user's own
            raise UsageError(
                f"the model fails on the examples from {start + 1}: {type(error).__name__}: {error}"
            ) from error
        return named_outputs(self.description, output)

    def _zeros(self) -> dict[str, np.ndarray[Any, Any]]:
        """One example of zeros: it says which columns the predictions have."""
        return {field.name: np.zeros((1, *field.shape), DTYPES[field.dtype]) for field in self.description.inputs}

    def _reader(self, data: Any, folder: Path, id: Column | None) -> Reader:
        if isinstance(data, (str, Path)):
            return self.open(Path(data), id)
        names = [field.name for field in self.description.inputs]
        given = isinstance(data, Mapping) and set(names) <= set(data)  # encoded already
        if self.description.data["kind"] == "table" and not given:
            path = folder / "examples.parquet"
            pq.write_table(_arrow(data), path)
            return self._table([("the frame", path)], id)
        if not isinstance(data, Mapping):
            values = data if isinstance(data, (tuple, list)) and len(names) > 1 else [data]
            if len(values) != len(names):
                raise UsageError(f"expected {len(names)} arrays ({', '.join(names)}), got {len(values)}")
            data = dict(zip(names, values, strict=True))
        return ArrayReader.of_memory(self.description, {name: _numpy(value) for name, value in data.items()})

    def _table(self, files: Files, id: Column | None) -> TableReader:
        others = [field.name for field in self.description.inputs if field.name not in ("numeric", "category")]
        if others:
            names = ", ".join(map(repr, others))
            raise UsageError(f"columns of lists and tokens are not read here ({names}): give all inputs as arrays")
        return TableReader(self.description, files, id)


def _spread(columns: Columns, whole: np.ndarray[Any, Any]) -> Columns:
    """Columns of the whole examples as columns of all examples: null where an example lacks a value."""
    if whole.all():
        return columns
    places = pa.array(np.cumsum(whole) - 1, mask=~whole)
    return {name: values.take(places) for name, values in columns.items()}


def _arrow(data: Any) -> pa.Table:
    """A frame as an Arrow table.

    Raises:
        UsageError: it is none.
    """
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "to_arrow"):  # polars
        return data.to_arrow()
    if type(data).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    raise UsageError(f"the run's data are a table: expected a file or a frame, got {type(data).__name__}")


def _numpy(value: Any) -> np.ndarray[Any, Any]:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
