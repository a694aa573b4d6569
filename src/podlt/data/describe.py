"""Prepared examples described for a person: how many, what is in them, what looks wrong, and who will see them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.dataset import Dataset
from podlt.data.field import Field
from podlt.data.prepare import Prepared

_SAMPLE_EXAMPLES = 2**14
_SAMPLE_BYTES = 2**26
_LEAVES = 2**20
_SHORT = 40
_UNEQUAL = 1000.0
_STEPS = 16
"""An input that varies by fewer steps of the arithmetic is as good as lost."""


def describe(prepared: Prepared) -> str:
    """A few examples: how many examples there are, what is in them, and the root that names them."""
    train, test, validation = prepared.train, prepared.test, prepared.validation
    held = f"{test.examples if test else 0:,} to test on"
    if validation is not None:
        held += f", {validation.examples:,} to choose a model by"
    lines = [f"{prepared.source}: {train.examples:,} examples to train on, {held}"]
    for field in train.fields:
        shape = f"[{', '.join(map(str, field.shape))}]" if field.shape else ""
        scale = f", times {field.scale:.6g}" if field.scale is not None else ""
        lines.append(f"  {field.role:5}  {field.name}: {field.dtype}{shape}{scale}")
    classes = train.info.get("classes")
    if classes:
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        lines.append(f"  classes: {len(classes)} ({shown})")
    if "vocabulary" in train.info:
        lines.append(f"  characters: {len(train.info['vocabulary'])}, and one code for any other")
    lines.append(f"  root: {train.root.hex()}")
    lines += [f"  note: {note}" for note in prepared.notes]
    lines += [f"  warning: {warning}" for warning in warnings_of(prepared)]
    bytes_an_example = sum(field.row_bytes for field in train.fields)
    lines.append(
        f"  privacy: a worker sees the whole model, and each example that it is dealt, label included "
        f"({bytes_an_example:,} bytes an example, without names of columns)"
    )
    return "\n".join(lines)


def said_of(info: Mapping[str, Any]) -> str:
    """What the data say of themselves, as a recipe's arguments name it: "@name", with its value where that is short."""
    values = ((name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(info.items()))
    return ", ".join(f"@{name} {text}" if len(text) <= _SHORT else f"@{name}" for name, text in values)


def warnings_of(prepared: Prepared) -> list[str]:
    """What in the prepared examples looks like a mistake, a sentence each with its cure."""
    parts = {"train": prepared.train, "test": prepared.test, "validation": prepared.validation}
    there = {name: part for name, part in parts.items() if part is not None}
    found = [warning for name, part in there.items() for warning in _class_warnings(name, part)]
    found += [warning for field in prepared.train.fields for warning in _scale_warnings(prepared.train, field)]
    return found + _duplicates(there)


def precision_warnings(train: Dataset, digits: int | str) -> list[str]:
    """The inputs that exact products cannot see beside larger ones, a sentence for each field with the cure.

    A product cuts what is below 2^(-7 digits) of the largest value of its row (docs/NUMERICS.md); an input that varies
    by few such steps is lost.

    Args:
        train: the examples to train on.
        digits: of the recipe's exact arithmetic.
    """
    found, cut = [], 2 if isinstance(digits, str) else digits
    for field in train.fields:
        if field.role != "input" or field.dtype != "f32" or not field.shape:
            continue
        sample = _sampled(train.examples, field.row_bytes)
        values = train.read(sample)[field.name].reshape(len(sample), -1).astype(np.float64)
        step = float(np.median(np.abs(values).max(axis=1))) * 2.0 ** (-7 * cut)
        ranges = values.max(axis=0) - values.min(axis=0)
        lost = np.flatnonzero((ranges > 0) & (ranges < _STEPS * step))
        if len(lost):
            columns = [column["column"] for column in train.info.get("numeric", [])] if field.name == "numeric" else []
            names = ", ".join(repr(columns[place]) if columns else str(place) for place in lost[:10].tolist())
            found.append(
                f"inputs {names}{', ...' if len(lost) > 10 else ''} of {field.name!r} vary by less than {_STEPS} steps "
                f"of {step:.3g}, below which products of {cut} digits see nothing beside the largest input: "
                "standardise = true makes inputs alike, digits = 3 keeps more of them"
            )
    return found


def _class_warnings(name: str, part: Dataset) -> Iterator[str]:
    label = next((f for f in part.fields if f.role == "label" and f.dtype == "i64" and not f.shape), None)
    classes = part.info.get("classes")
    if label is None or not classes or len(classes) < 2:
        return
    counts = np.zeros(len(classes), np.int64)
    for start in range(0, part.examples, _LEAVES):
        ids = np.arange(start, min(part.examples, start + _LEAVES))
        counts += np.bincount(part.read(ids)[label.name], minlength=len(classes))
    present = np.flatnonzero(counts)
    if len(present) == 1:
        yield f"the {name} part has only examples of class {classes[present[0]]!r}"
    elif name == "train" and len(present) < len(classes):
        absent = [classes[code] for code in np.flatnonzero(counts == 0)]
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        yield f"no example to train on is of class {shown}"


def _scale_warnings(train: Dataset, field: Field) -> Iterator[str]:
    """Inputs of very unequal size: an exact product keeps few digits beside its largest factor; training is slow."""
    if field.role != "input" or field.dtype != "f32":
        return
    sample = _sampled(train.examples, field.row_bytes)
    values = train.read(sample)[field.name].reshape(len(sample), -1).astype(np.float64)
    ranges = values.max(axis=0) - values.min(axis=0)
    constant = np.flatnonzero(ranges == 0)
    columns = [column["column"] for column in train.info.get("numeric", [])] if field.name == "numeric" else []
    if columns and len(constant):
        names = ", ".join(repr(columns[place]) for place in constant[:10])
        yield f"constant: {names}; `drop` leaves it out"
    varied = ranges[ranges > 0]
    if len(varied) > 1 and varied.max() > _UNEQUAL * varied.min():
        yield (
            f"inputs of unequal scales: the ranges in {field.name!r} go from {varied.min():.3g} to {varied.max():.3g}; "
            "standardise = true makes them alike"
        )


def _duplicates(parts: dict[str, Dataset]) -> list[str]:
    """Examples that occur again, by their leaf hashes: within a part, and in another one."""
    found = []
    leaves = {name: _leaves(part) for name, part in parts.items()}
    train = np.unique(leaves["train"])
    again = len(leaves["train"]) - len(train)
    if again > len(leaves["train"]) // 100:
        found.append(f"{again:,} of {len(leaves['train']):,} examples to train on occur more than once")
    for name in parts.keys() - {"train"}:
        both = int(np.isin(leaves[name], train).sum())
        if both:
            found.append(f"{both:,} of {len(leaves[name]):,} examples of the {name} part are among those to train on")
    return found


def _leaves(part: Dataset) -> npt.NDArray[np.uint64]:
    """The first 64 bits of the leaf hash of each of the first examples."""
    ids = np.arange(min(part.examples, _LEAVES), dtype=np.int64)
    return np.ascontiguousarray(part.leaves(ids)[:, :8]).view("<u8")[:, 0]


def _sampled(examples: int, row_bytes: int) -> npt.NDArray[np.int64]:
    """The numbers of some examples, evenly spread."""
    count = max(1, min(examples, _SAMPLE_EXAMPLES, _SAMPLE_BYTES // row_bytes))
    return np.arange(count, dtype=np.int64) * examples // count
