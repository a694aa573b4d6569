"""From a source that was looked at to what a recipe says of it: its columns, a model that takes them, a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from podlt.data.dataset import Dataset
from podlt.data.describe import said_of
from podlt.data.field import Field
from podlt.data.prepare import Prepared
from podlt.data.spec import DataSpec
from podlt.data.tables import nearest
from podlt.draft.columns import ColumnFacts
from podlt.draft.source import ARRAYS, IMAGES, NAMED_SET, TABLE, TEXT, Source
from podlt.errors import UsageError

TEST_FRACTION = 0.2
CONTEXT = 64
MANY_EXAMPLES = 4_096
"""Of which a number's mean and deviation are taken."""

_OF_KIND: Mapping[str, dict[str, Any]] = {
    NAMED_SET: {"test_fraction": 0.0},  # they bring their own test part
    TEXT: {"context": CONTEXT},
    IMAGES: {"size": (32, 32)},
}

_ROUNDS = 240
"""About how many steps a first run takes."""


class ModelChoice(msgspec.Struct, frozen=True):
    """A model, with what goes with it.

    Attributes:
        name: `module:callable`.
        args: what it is called with.
        loss: by name.
        rate: the learning rate.
        metrics: besides the loss and what its kind has.
    """

    name: str
    args: dict[str, Any]
    loss: str
    rate: float
    metrics: tuple[str, ...] = ()


class DealingPlan(msgspec.Struct, frozen=True):
    """How the examples are dealt: the fields of `[training]`."""

    epochs: int
    workers: int
    batch_size: int


def spec_of(source: Source, label: str) -> DataSpec:
    """What the `[data]` table says.

    Args:
        source: that was looked at.
        label: what is to be predicted, as `Source.candidates` names it; "" where there is none to choose.

    Raises:
        UsageError: it cannot be predicted.
    """
    spec = msgspec.structs.replace(source.spec, test_fraction=TEST_FRACTION)
    if source.kind not in (TABLE, ARRAYS):
        if label:
            raise UsageError(f"--label {label}: is for tables and arrays; {spec.source} is of the kind {source.kind}")
        return msgspec.structs.replace(spec, **_OF_KIND[source.kind])
    if label not in source.candidates:
        known = ", ".join(source.candidates) or "none: every column is a text of its own, a date or constant"
        near = nearest(label, source.candidates)
        raise UsageError(f"--label {label}: expected one of the columns that can be predicted: {known}{near}")
    if source.kind == ARRAYS:
        inputs = tuple(name for name in source.arrays if name != label)
        if not inputs:
            raise UsageError(f"{spec.source}: expected an array besides {label!r} to predict it from")
        return msgspec.structs.replace(spec, inputs=inputs, label=label, standardise=True)
    columns = {str(column.name): column for column in source.columns}
    return _table(spec, columns[label], [column for column in source.columns if str(column.name) != label])


def _table(spec: DataSpec, label: ColumnFacts, others: Sequence[ColumnFacts]) -> DataSpec:
    inputs = [column for column in others if not column.is_index]
    by_role: dict[str, tuple[str | int, ...]] = {
        role: tuple(column.name for column in inputs if column.role == role)
        for role in ("categorical", "dates", "drop")
    }
    if len(by_role["drop"]) == len(inputs):
        raise UsageError(
            f"{spec.source}: no column says anything of {label.name!r}: all are constant, or texts of their own"
        )
    lacks = any(column.missing for column in inputs if column.role != "drop")
    missing = "drop" if label.missing else "mean" if lacks else "error"
    target = "class" if label.is_class else "number"
    return msgspec.structs.replace(spec, label=label.name, target=target, missing=missing, **by_role)


def choose_model(spec: DataSpec, prepared: Prepared) -> ModelChoice | None:
    """A model of podlt's that takes these examples, or None if it has none."""
    train = prepared.train
    inputs = [field for field in train.fields if field.role == "input"]
    label = next((field for field in train.fields if field.role == "label"), None)
    if label is None:
        return None
    if label.shape:  # text: a class for each position
        args = {"vocabulary": "@vocabulary_size", "context": inputs[0].shape[0], "layers": 2, "heads": 4, "width": 64}
        return ModelChoice("podlt.models:gpt", args, "token_cross_entropy", 0.002)
    is_number = label.dtype == "f32"
    classes = train.info.get("classes") or []
    outputs: dict[str, Any] = {"outputs": 1 if is_number else max(2, len(classes))}
    if is_number:
        outputs |= _spread(train, label)
    found = _for_inputs(inputs)
    if found is None:
        return None
    name, args, rate = found
    loss, metrics = ("mse", ("r2", "mae")) if is_number else ("cross_entropy", ())
    return ModelChoice(name, args | outputs, loss, rate, metrics)


def _for_inputs(inputs: Sequence[Field]) -> tuple[str, dict[str, Any], float] | None:
    """The name of a model for these inputs, its arguments but for the outputs, and a learning rate."""
    named = {field.name: field for field in inputs}
    if named.keys() == {"numeric", "category"}:
        args = {"cardinalities": "@cardinalities", "numeric": named["numeric"].shape[0]}
        return "podlt.models:embedding_mlp", args, 0.005
    if named.keys() == {"category"}:
        return "podlt.models:category_mlp", {"cardinalities": "@cardinalities"}, 0.005
    if len(inputs) != 1 or inputs[0].dtype == "i64":
        return None
    shape = inputs[0].shape
    if len(shape) == 3 and shape[1] == shape[2] and shape[0] <= 4:
        return "podlt.models:cnn", {"side": shape[1], "channels": shape[0]}, 0.003
    return "podlt.models:mlp", {"inputs": math.prod(shape), "hidden": 64}, 0.01


def _spread(train: Dataset, label: Field) -> dict[str, float]:
    """Mean and deviation of a number that is to be predicted: the model's outputs begin there."""
    ids = np.linspace(0, train.examples - 1, min(train.examples, MANY_EXAMPLES)).astype(np.int64)
    values = train.read(ids)[label.name].astype(np.float64)
    deviation = float(values.std())
    return {"mean": _rounded(float(values.mean())), "deviation": _rounded(deviation) if deviation else 1.0}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def choose_plan(examples: int, workers: int, epochs: int) -> DealingPlan:
    """How to deal so many examples; 0 epochs: as many as make a first run of some hundred steps.

    Raises:
        UsageError: too few examples for so many workers.
    """
    useful = max(1, workers - 2)
    if examples < 2 * useful:
        raise UsageError(
            f"{examples} examples to train on are too few for {workers} workers: fewer --workers, or more data"
        )
    batch = min(examples, max(8 * useful, min(1_000, examples // 16)))
    return DealingPlan(epochs or max(2, min(40, _ROUNDS * batch // examples)), workers, batch)


def arguments_for(parameters: Mapping[str, bool], prepared: Prepared, given: Mapping[str, Any]) -> dict[str, Any]:
    """What to call a user's own model with.

    Args:
        parameters: of the callable, by name: whether it must be given.
        prepared: the examples.
        given: by the user.

    Raises:
        UsageError: one that must be given is not known here, or one that is given is none of the callable's.
    """
    unknown = sorted(given.keys() - parameters.keys())
    if unknown:
        raise UsageError(f"--arg {unknown[0]}: the model takes {', '.join(parameters) or 'no argument'}")
    known = _known_of(prepared)
    found = {name: known[name] for name in parameters if name in known} | dict(given)
    lacking = [name for name, is_needed in parameters.items() if is_needed and name not in found]
    if lacking:
        raise UsageError(
            f"the model must be given {', '.join(lacking)}: say it with --arg {lacking[0]}=VALUE; an example is "
            f"{shapes(prepared)}; --arg {lacking[0]}=@NAME takes what the data say: {said_of(prepared.train.info)}"
        )
    return {name: found[name] for name in parameters if name in found}


def shapes(prepared: Prepared) -> str:
    """What a model is given, a shape for each input."""
    fields = [field for field in prepared.train.fields if field.role == "input"]
    return " and ".join(f"{field.name} {list(field.shape)}" for field in fields)


def _known_of(prepared: Prepared) -> dict[str, Any]:
    """Arguments under their usual names, as far as the examples say them."""
    train = prepared.train
    inputs = [field for field in train.fields if field.role == "input"]
    width = math.prod(inputs[0].shape) if len(inputs) == 1 else 0
    classes = len(train.info.get("classes") or [])
    known: dict[str, Any] = {}
    if width:
        known |= dict.fromkeys(("inputs", "columns", "features", "in_features", "input_size"), width)
    known |= {field.name: field.shape[0] for field in inputs if field.dtype == "f32" and len(field.shape) == 1}
    if classes:
        known |= dict.fromkeys(("outputs", "classes", "num_classes", "n_classes", "out_features"), classes)
    known |= {name: f"@{name}" for name in ("cardinalities", "vocabulary_size") if train.info.get(name)}
    if "vocabulary_size" in known:
        known["vocabulary"] = "@vocabulary_size"
    return known
