"""Data as a Python program has them, as a recipe's `[data]` table: objects are written to files once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, default_collate

from podlt.data.objects import as_source
from podlt.data.spec import DataSpec
from podlt.errors import UsageError

_LABELS = ("label", "labels", "y", "target")
_TEST_SPLITS = ("test", "validation")


def data_table(dataset: Any, test: Any, options: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Data in a recipe's words.

    Args:
        dataset: a path or a named set, a `DataSpec`, a `DataLoader` (taken for its data set), a `DatasetDict` with a
            split "train", or what `podlt.data.objects.as_source` takes.
        test: the same for the examples to test on; None for none, or for the splits of a `DatasetDict`.
        options: fields of the `DataSpec`, which come before what the data say of themselves.
        folder: where objects are written, as `as_source` says.

    Raises:
        UsageError: the data are nothing of these, or a part of a loader changes what is trained on.
        DataError: an item has another form than the first.
        StorageError: the disk is full.
    """
    dataset, own = _splits(_of_loader(dataset))
    test = own if test is None else _splits(_of_loader(test))[0]
    table = _table(dataset, folder)
    if "label" not in options and "label" not in table:
        table |= _label_of(dataset)
    if test is not None:
        table["test"] = _table(test, folder)["source"]
    whole = {**table, **options}
    if "inputs" in table and "inputs" not in options:
        whole["inputs"] = [name for name in table["inputs"] if name != whole.get("label")]
    return whole


def _table(dataset: Any, folder: Path | None) -> dict[str, Any]:
    if isinstance(dataset, str | Path):
        return {"source": str(dataset)}
    spec = dataset if isinstance(dataset, DataSpec) else as_source(dataset, folder)
    changed: dict[str, Any] = {name: msgspec.to_builtins(getattr(spec, name)) for name in spec.changed()}
    return {"source": spec.source, **changed}


def _of_loader(dataset: Any) -> Any:
    """The data set of a loader, with a word about what of the loader is not used."""
    if isinstance(dataset, IterableDataset):
        raise UsageError(
            f"data: {type(dataset).__name__} has neither length nor items: write its examples to a file first"
        )
    if not isinstance(dataset, DataLoader):
        return dataset
    if dataset.collate_fn is not default_collate and dataset.batch_size is not None:
        name = getattr(dataset.collate_fn, "__name__", type(dataset.collate_fn).__name__)
        raise UsageError(
            f"data: the loader's collate_fn {name} makes batches, and podlt stores examples: do what it does in the "
            "data set's __getitem__ (pad to one length, stack, encode), and give the data set"
        )
    if dataset.batch_size is None or not isinstance(dataset.sampler, SequentialSampler | RandomSampler):
        raise UsageError(
            f"data: the loader's sampler {type(dataset.sampler).__name__} chooses examples, and podlt trains on each "
            "example once an epoch: give the data set itself, or a torch.utils.data.Subset of it"
        )
    if isinstance(dataset.sampler, RandomSampler) and dataset.sampler.replacement:
        raise UsageError("data: the loader draws with replacement, and podlt trains on each example once an epoch")
    parts = [f"batch_size={dataset.batch_size} (a step is over training.batch_size)"]
    parts += ["shuffle (each epoch mixes all examples)"] * isinstance(dataset.sampler, RandomSampler)
    parts += [f"num_workers={dataset.num_workers}"] * bool(dataset.num_workers)
    parts += ["drop_last"] * bool(dataset.drop_last)
    warnings.warn(f"podlt takes the loader's data set, and ignores {', '.join(parts)}", stacklevel=5)
    return _of_loader(dataset.dataset)


def _splits(dataset: Any) -> tuple[Any, Any]:
    """The examples to train on and those to test on, of a mapping from splits to data sets; else the data and None."""
    if not isinstance(dataset, Mapping) or "train" not in dataset or not hasattr(dataset["train"], "column_names"):
        return dataset, None
    name = next((name for name in _TEST_SPLITS if name in dataset), None)
    ignored = [split for split in dataset if split not in ("train", name)]
    if ignored:
        warnings.warn(f"podlt ignores the splits {', '.join(ignored)} of the data", stacklevel=5)
    return dataset["train"], dataset[name] if name is not None else None


def _label_of(dataset: Any) -> dict[str, Any]:
    """The column of a table that is called a label."""
    columns: Iterable[object] = getattr(dataset, "column_names", getattr(dataset, "columns", ()))
    known = {*columns}
    name = next((name for name in _LABELS if name in known), None)
    return {"label": name} if name is not None else {}
