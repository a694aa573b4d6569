"""Data that a Python program holds, written once to a file that everything else can read, resume from and audit.

A pandas or polars frame, or a Hugging Face data set of plain columns, becomes a Parquet file; tensors and arrays, and
any map-style data set of them, become an .npz file, written item by item, so that memory does not grow with it. What
an object is follows from what it can do: none of these packages is imported here. The file's name is its content's.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from podlt.data.cache import default_cache
from podlt.data.fetch import file_sha256
from podlt.data.hugging_face import class_columns, is_hugging_face, is_plain, roles_of, write_parquet
from podlt.data.spec import DataSpec
from podlt.data.writer import storing
from podlt.errors import DataError, UsageError
from podlt.recipe_faults import in_words

_CHUNK_BYTES = 2**22
_PART_KEYS = frozenset({"train", "test", "validation", "val"})
Array = npt.NDArray[Any]


def as_source(data: Any, folder: Path | None = None, **options: Any) -> DataSpec:
    """Writes an object to a file below a folder, and says how to read it.

    Args:
        data: a frame (`to_parquet`, `write_parquet` or `sink_parquet`), a mapping from names to arrays, a tuple of
            inputs and a label, a map-style data set (`len` and `[i]`) whose items are such mappings or tuples, or a
            mapping of these with the keys `train` and `test` or `validation` (one of both), as a `DatasetDict` is.
            Of a `DataLoader` only its data set is taken.
        folder: where the file is kept, default `objects` in the cache of prepared data.
        options: fields of the `DataSpec`, such as `label` or `test_fraction`. Arrays without names are called `x` (or
            `x0`, `x1`, ...) and `y`, and those are the inputs and the label unless the options say otherwise.

    Raises:
        UsageError: the object is nothing of these.
        DataError: an item has another form than the first.
        StorageError: the disk is full.
    """
    folder = folder if folder is not None else default_cache() / "objects"
    data = _loaded(data)
    if _is_split(data):
        train, tested = _parts(data)
        source = as_source(train, folder, **options)
        if tested is None:
            return source
        return msgspec.structs.replace(source, test=as_source(tested, folder, **options).source)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            path, roles = _written(data, Path(aside), options)
            target = folder / f"{file_sha256(path)[:40]}{path.suffix}"
            if not target.exists():
                path.replace(target)
    try:
        return msgspec.convert({"source": str(target), **roles, **options}, DataSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"data: {in_words(str(error), DataSpec)}") from None


def _loaded(data: Any) -> Any:
    """The data set of a `DataLoader`, with a word on what is not taken; anything else as it is."""
    if not (hasattr(data, "dataset") and hasattr(data, "batch_sampler")):
        return data
    warnings.warn(
        "of the DataLoader only its dataset is used: batch size, shuffling, sampler and collate_fn are ignored, as "
        "training.batch_size and the run's own draw of examples take their place",
        stacklevel=3,
    )
    return data.dataset


def _is_split(data: Any) -> bool:
    """Whether a mapping holds parts, and not arrays."""
    return isinstance(data, Mapping) and "train" in data and data.keys() <= _PART_KEYS


def _parts(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """What to train on, and what to test on, None for nothing."""
    others = [name for name in ("test", "validation", "val") if name in data]
    if len(others) > 1:
        warnings.warn(f"the part {others[0]!r} is used to test on; {', '.join(others[1:])} is left out", stacklevel=3)
    return data["train"], data[others[0]] if others else None


def _written(data: Any, folder: Path, options: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The file that holds an object, and which of its arrays play which part."""
    path = folder / "table.parquet"
    if is_hugging_face(data) and is_plain(data):
        write_parquet(data, path)
        return path, roles_of(data, dict(options))
    parquet = next((name for name in ("write_parquet", "sink_parquet", "to_parquet") if hasattr(data, name)), None)
    if parquet is not None and not is_hugging_face(data):
        getattr(data, parquet)(path)
        return path, {}
    if isinstance(data, Mapping) and not hasattr(data, "column_names"):
        return _npz(folder, {str(name): _array(values) for name, values in data.items()}), _roles([*data])
    if isinstance(data, tuple):
        names = _names(len(data))
        arrays = {name: _array(values) for name, values in zip(names, data, strict=True)}
        return _npz(folder, arrays), _roles(names)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return _items(folder, data)
    raise UsageError(
        f"data: expected a path, a frame, arrays, or a data set with a length and items, got {type(data).__name__}"
    )


def _names(count: int) -> list[str]:
    """The names of the arrays of a tuple: inputs, then the label."""
    inputs = ["x"] if count <= 2 else [f"x{place}" for place in range(count - 1)]
    return [*inputs, "y"][: max(1, count)]


def _roles(names: Sequence[str]) -> dict[str, Any]:
    label = next((name for name in ("y", "label", "labels", "target") if name in names), None)
    return {"inputs": tuple(name for name in names if name != label), "label": label}


def _array(values: Any) -> Array:
    """An array or a tensor of any library as an array."""
    if hasattr(values, "getbands"):
        return _pixels(values)
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, order="C")


def _pixels(image: Any) -> Array:
    """A Pillow image, uint8[channels, height, width]: one channel if it is grey, else three."""
    grey = image.mode in ("1", "L")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return np.ascontiguousarray(pixels[None] if grey else pixels.transpose(2, 0, 1))


def _items(folder: Path, data: Any) -> tuple[Path, dict[str, Any]]:
    """A map-style data set, one item after another, to one raw file an array, and these into an archive."""
    count = len(data)
    if not count:
        raise DataError(type(data).__name__, None, "expected at least one item, got none")
    item = data[0]
    first = _fields(item)
    forms = {name: (values.dtype, values.shape) for name, values in first.items()}
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{place}.raw").open("wb")) for place, name in enumerate(first)}
        for index in range(count):
            fields = _fields(data[index])
            found = {name: (values.dtype, values.shape) for name, values in fields.items()}
            if found != forms:
                shown = ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in forms.items())
                got = ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in found.items())
                raise DataError(type(data).__name__, index + 1, f"expected {shown} in every item, got {got}")
            for name, values in fields.items():
                files[name].write(values.tobytes())
    arrays = {}
    for place, (name, (dtype, shape)) in enumerate(forms.items()):
        raw = np.memmap(folder / f"{place}.raw", dtype, "r", shape=(count, *shape))
        arrays[name] = np.asarray(raw)
    roles = _roles([*first])
    given = item.values() if isinstance(item, Mapping) else item if isinstance(item, tuple | list) else (item,)
    if [hasattr(value, "getbands") for value in given].count(True) == len(roles["inputs"]):
        roles["scale"] = 1 / 255
    if is_hugging_face(data) and roles["label"] in class_columns(data):
        roles["classes"] = class_columns(data)[roles["label"]]
    return _npz(folder, arrays), roles


def _fields(item: Any) -> dict[str, Array]:
    """The arrays of an item: named, or inputs and a label."""
    if isinstance(item, Mapping):
        return {str(name): _array(values) for name, values in item.items()}
    values = item if isinstance(item, tuple | list) else (item,)
    return {name: _array(value) for name, value in zip(_names(len(values)), values, strict=True)}


def _npz(folder: Path, arrays: Mapping[str, Array]) -> Path:
    """An archive of arrays, written in chunks, with no clock in it: the same arrays are the same file."""
    path = folder / "arrays.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            if values.dtype.hasobject or values.dtype.kind not in "buif":
                raise UsageError(
                    f"data: {name!r}: expected numbers, got {values.dtype}; give codes instead, as by "
                    f"numpy.unique({name}, return_inverse=True)[1], or a frame, whose texts get codes here"
                )
            if not values.ndim:
                raise UsageError(f"data: {name!r}: expected an array of examples, got a single number")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(values))
                step = max(1, _CHUNK_BYTES // max(1, values[:1].nbytes))
                for start in range(0, len(values), step):
                    file.write(np.ascontiguousarray(values[start : start + step]).tobytes())
    return path
