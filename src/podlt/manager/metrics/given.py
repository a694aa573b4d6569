"""The metrics of a run: by name, by `module:callable`, or as objects that a Python call was given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec
import torch

from podlt.errors import NotCheckedError, UsageError
from podlt.manager.metrics.forms import Form
from podlt.manager.metrics.named import Accumulator, named_metric
from podlt.recipe import METRIC_OBJECT, Recipe

FIELD = "evaluation.metrics"

MOST_BYTES = 2**30
"""What the outputs and labels of a part may take, where a callable needs them all at once."""


@runtime_checkable
class StreamingMetric(Protocol):
    """A metric object of torchmetrics' kind."""

    def reset(self) -> None:
        """Begins anew."""

    def update(self, preds: torch.Tensor, target: torch.Tensor) -> None:
        """Takes a batch."""

    def compute(self) -> Any:
        """One number over all batches since."""


Metric = str | StreamingMetric | Callable[[torch.Tensor, torch.Tensor], Any]
"""A name, a torchmetrics object, or a callable taking (outputs, targets) of the whole part and giving a number."""

Metrics = Sequence[Metric] | Mapping[str, Metric]
"""What a Python call takes: a list, or a map that says what each is to be called."""


class ChosenMetric(msgspec.Struct, frozen=True):
    """A metric of a run.

    Attributes:
        name: of its figure.
        source: as the recipe names it: "f1", "module:callable", "object:NAME".
        make: begins to measure.
        whole: whether it keeps the outputs of the whole part.
    """

    name: str
    source: str
    make: Callable[[Form], Accumulator]
    whole: bool = False


class MetricSet(msgspec.Struct, frozen=True):
    """The metrics of a run.

    Attributes:
        chosen: those that can be measured; None for what the loss has by itself.
        missing: name -> why it cannot be measured here.
    """

    chosen: tuple[ChosenMetric, ...] | None = None
    missing: Mapping[str, str] = {}


def figure_name(source: str) -> str:
    """What a metric's figure is called: its name, or the last part of `module:callable`."""
    return source.rpartition(":")[2].rpartition(".")[2]


def named_objects(metrics: Metrics) -> dict[str, Metric]:
    """Metrics of a Python call by what the recipe calls them.

    Raises:
        UsageError: one has no name, or is no metric.
    """
    if isinstance(metrics, Mapping):
        return {_source(metric, name): metric for name, metric in metrics.items()}
    found = {_source(metric, ""): metric for metric in metrics}
    if len(found) < len(metrics):
        raise UsageError("metrics: two have one name: give a map, metrics={name: metric}")
    return found


def naming_metrics(recipe: Recipe, metrics: Metrics) -> Recipe:
    """The recipe that names the metrics which a Python call was given, for the record.

    Raises:
        UsageError: as `named_objects`.
    """
    evaluation = msgspec.structs.replace(recipe.evaluation, metrics=tuple(named_objects(metrics)))
    return msgspec.structs.replace(recipe, evaluation=evaluation)


def choose_metrics(
    recipe: Recipe, load: Callable[[str], Callable[..., Any]], objects: Mapping[str, Metric] | None = None
) -> MetricSet:
    """The metrics that a recipe names.

    Args:
        recipe: names them.
        load: imports a `module:callable`; one of which it raises `NotCheckedError` is missing.
        objects: those of a Python call, by what the recipe calls them.

    Raises:
        UsageError: there is no such metric, or two figures have one name.
    """
    sources = recipe.evaluation.metrics
    if sources is None:
        return MetricSet()
    _check_names(sources)
    chosen: list[ChosenMetric] = []
    missing: dict[str, str] = {}
    for source in sources:
        name = figure_name(source)
        if source.startswith(METRIC_OBJECT) and source not in (objects or {}):
            missing[name] = f"{name} was given as an object in Python, which is not here (metrics=[...])"
            continue
        try:
            chosen.append(_chosen(name, source, load, objects or {}))
        except NotCheckedError as error:
            missing[name] = str(error)
    return MetricSet(tuple(chosen), missing)


def _check_names(sources: Sequence[str]) -> None:
    for name, count in Counter(map(figure_name, sources)).items():
        if count > 1:
            cure = "give a map in Python, metrics={name: metric}"
            raise UsageError(f"{FIELD}: two figures would be called {name}: {cure}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name == "loss" or name.startswith("val_"):
            raise UsageError(
                f"{FIELD}: a figure cannot be called {name!r} (letters, digits and _; not loss, not val_...): name the "
                "function otherwise, or give a map in Python, metrics={name: metric}"
            )


def _chosen(
    name: str, source: str, load: Callable[[str], Callable[..., Any]], objects: Mapping[str, Metric]
) -> ChosenMetric:
    if ":" in source:
        found = objects[source] if source in objects else load(source)
        return _of_object(name, source, found)
    try:
        row = named_metric(source)
    except UsageError as error:
        raise UsageError(f"{FIELD}: {error}") from None

    def make(form: Form) -> Accumulator:
        row.require(source, form)
        return row.make(form)

    return ChosenMetric(name, source, make)


def _of_object(name: str, source: str, found: Any) -> ChosenMetric:
    if isinstance(found, type) or not (isinstance(found, StreamingMetric) or callable(found)):
        raise UsageError(
            f"{FIELD}: {name} is {found!r}: expected a callable (outputs, targets) -> number, or a torchmetrics object"
        )
    if isinstance(found, StreamingMetric):
        return ChosenMetric(name, source, lambda form: _Streamed(found))
    return ChosenMetric(name, source, lambda form: _Whole(found), whole=True)


class _Streamed:
    """A metric object, batch by batch."""

    def __init__(self, metric: StreamingMetric) -> None:
        metric.reset()
        self._metric = metric

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Passes a batch on."""
        self._metric.update(output, target)

    def compute(self) -> float | None:
        """Its number."""
        return _number(self._metric.compute())


class _Whole:
    """A callable, of all outputs and targets at once: a mean over batches would be another figure."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Keeps them."""
        self._outputs.append(output)
        self._targets.append(target)

    def compute(self) -> float | None:
        """What the callable gives."""
        return _number(self._function(torch.cat(self._outputs), torch.cat(self._targets)))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise UsageError(f"expected one number, got a {type(value).__name__}{shape}") from None


def _source(metric: Metric, name: str) -> str:
    """What the recipe calls a metric."""
    if isinstance(metric, str):
        if name and name != figure_name(metric):
            raise UsageError(f"metrics: {metric} cannot be called {name}: its figure is {figure_name(metric)}")
        return metric
    found = name or _own_name(metric)
    return METRIC_OBJECT + found


def _own_name(metric: Any) -> str:
    """A function's name, or that of an object's class in lower case with underscores."""
    if isinstance(metric, StreamingMetric) or not hasattr(metric, "__name__"):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(metric).__name__).lower()
    return str(metric.__name__)
