"""A Hugging Face data set of plain columns as a Parquet file, read batch by batch; the package is not imported here.

A column of the feature `ClassLabel` is written by the names of its classes, so that they are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_EXAMPLES = 8192


def is_hugging_face(data: Any) -> bool:
    """Whether an object is one of their data sets: nothing else has features and formats."""
    return hasattr(data, "features") and hasattr(data, "with_format") and data.features is not None


def is_plain(data: Any) -> bool:
    """Whether a data set's columns are numbers, texts and classes, with no function that makes items of them."""
    form = getattr(data, "format", None) or {}
    custom = isinstance(form, dict) and form.get("type") == "custom"
    return not custom and all(_is_plain(feature) for feature in data.features.values())


def _is_plain(feature: Any) -> bool:
    """Whether values are single: neither lists, nor arrays, nor what is decoded, such as images."""
    return hasattr(feature, "dtype") and not any(hasattr(feature, name) for name in ("feature", "shape", "decode"))


def class_columns(data: Any) -> dict[str, tuple[str, ...]]:
    """The columns of classes, with the names in the order of their codes."""
    found = {name: getattr(feature, "names", None) for name, feature in data.features.items()}
    return {name: tuple(names) for name, names in found.items() if names}


def write_parquet(data: Any, path: Path) -> None:
    """Writes the columns of a plain data set; a class of -1 means that there is none, and becomes null."""
    names = class_columns(data)
    writer = None
    try:
        for table in data.with_format("arrow").iter(_BATCH_EXAMPLES):
            for name, classes in names.items():
                codes = table.column(name).combine_chunks().cast(pa.int32())
                texts = pa.array(classes, pa.string())
                known = pa.array([code if code is not None and code >= 0 else None for code in codes.to_pylist()])
                place = table.schema.get_field_index(name)
                table = table.set_column(place, name, texts.take(known.cast(pa.int32())))
            table = table.replace_schema_metadata(None)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def roles_of(data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What a data set itself says of its columns, where the options do not: the label, its classes, categories."""
    names = class_columns(data)
    label = options.get("label") or next((n for n in ("label", "labels", "y", "target") if n in data.features), None)
    roles: dict[str, Any] = {"label": label}
    if label in names and not options.keys() & {"classes", "positive", "target"}:
        roles["classes"] = names[label]
    named = {*options.get("drop", ()), *(options.get("numeric") or ()), label}
    categories = tuple(name for name in names if name not in named)
    if categories and "categorical" not in options:
        roles["categorical"] = categories
    return roles
