"""One pass over a part of the data, by the user's module with the run's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podlt.data.dataset import Dataset
from podlt.errors import UnsupportedError, UsageError
from podlt.manager.metrics.forms import Form, form_of
from podlt.manager.metrics.given import ChosenMetric, MetricSet
from podlt.manager.metrics.named import Accumulator, Auc, named_metric
from podlt.program.ir import ITEM_BYTES, Program, TensorType
from podlt.program.losses import NAMED, scores
from podlt.program.step import Loss, is_mean, loss_value

MOST_EXAMPLES = 1000
BATCH_BYTES = 64 * 2**20
"""A batch has as many examples as fit: of the largest tensor that the training step makes of an example, so many
bytes."""


class Evaluation(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        values: by the figures' names; some may not be finite.
        missing: figure -> why there is none.
    """

    values: dict[str, float] = {}
    missing: dict[str, str] = {}

    @property
    def finite(self) -> dict[str, float]:
        """The figures that are."""
        return {name: value for name, value in self.values.items() if math.isfinite(value)}

    def why_missing(self) -> str:
        """Which figures are missing and why, for people; "" if none is."""
        infinite = [name for name in self.values if name not in self.finite]
        text = [f"{name}: {why}" for name, why in self.missing.items()]
        if infinite:
            text.append(f"{' and '.join(sorted(infinite))}: not finite (an example is far outside the others?)")
        return "; ".join(text)


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Gives a module the run's parameters and buffers ("param:name", "frozen:name", "buffer:name")."""
    own = {
        **dict(module.named_parameters()),
        **dict(module.named_buffers()),
    }  # buffers that no state_dict() has as well
    with torch.no_grad():
        for name, value in state.items():
            if (place := own.get(name.partition(":")[2])) is not None:
                place.copy_(value)


def batch_examples(program: Program) -> int:
    """How many examples are evaluated at once: a function of the program, so that an audit's figures have equal
    bits."""

    def size(kind: TensorType, examples: int) -> int:
        return math.prod(kind.at(examples)) * ITEM_BYTES[kind.dtype]

    largest = max(size(kind, 2) - size(kind, 1) for kind in program.types)
    return max(1, min(MOST_EXAMPLES, BATCH_BYTES // max(1, largest)))


def evaluate(
    module: nn.Module, loss: Loss, dataset: Dataset, metrics: MetricSet | None = None, examples: int = MOST_EXAMPLES
) -> dict[str, float]:
    """Loss an example and the metrics, those that are finite: a module may overflow on test examples only.

    Args:
        module: it is put into eval mode meanwhile.
        loss: as the recipe names it.
        dataset: the part.
        metrics: unless given, accuracy where the loss is of classes, and the area under the ROC curve for two.
        examples: how many are evaluated at once.

    Raises:
        UsageError: the module or the loss fails on it.
    """
    return evaluate_part(module, loss, dataset, metrics or MetricSet(), examples).finite


@torch.no_grad()
def evaluate_part(
    module: nn.Module,
    loss: Loss,
    dataset: Dataset,
    metrics: MetricSet,
    examples: int = MOST_EXAMPLES,
    ids: npt.NDArray[np.int64] | None = None,
    called: str = "test set",
) -> Evaluation:
    """All that can be measured, and what could not be. A metric that fails costs no other its figure.

    Args:
        module: as in `evaluate`.
        loss: as in `evaluate`.
        dataset: as in `evaluate`.
        metrics: as in `evaluate`.
        examples: as in `evaluate`.
        ids: which examples, int64[n]; all unless given.
        called: the part, in an error.

    Raises:
        UsageError: the module or the loss fails on it.
    """
    over = _Pass(module, loss, metrics)
    with evaluating(module):
        try:
            for inputs, labels in _batches(dataset, examples, ids):
                over.take(inputs, labels)
        except Exception as error:  # the module is the user's own
            raise UsageError(f"figures on the {called}: {type(error).__name__}: {error}") from error
    return over.evaluation(dataset.examples if ids is None else len(ids))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into eval mode, and each of its parts back into the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class _Pass:
    """The loss and the metrics, while batches come."""

    def __init__(self, module: nn.Module, loss: Loss, metrics: MetricSet) -> None:
        self._module, self._loss, self._metrics = module, loss, metrics
        self._total = 0.0
        self._mean: bool | None = None
        self._running: dict[str, Accumulator] | None = None
        self._missing = dict(metrics.missing)

    def take(self, inputs: list[torch.Tensor], labels: list[torch.Tensor]) -> None:
        """Evaluates the next examples."""
        if isinstance(self._loss, str):
            if len(labels) != 1:
                raise UnsupportedError(f"{self._loss} takes one label, got {len(labels)}")
            output = scores(self._module(*inputs))
            self._total += float(NAMED[self._loss](output, labels[0]))
            self._measure(output, labels)
            return
        if self._mean is None:
            self._mean = is_mean(self._loss, self._module, [v[:2] for v in inputs], [v[:2] for v in labels])
        value = loss_value(self._loss, self._module, inputs, labels)
        self._total += float(value.sum()) * (len(inputs[0]) if self._mean and not value.ndim else 1)
        if self._metrics.chosen:
            self._measure_own(inputs, labels)

    def _measure_own(self, inputs: list[torch.Tensor], labels: list[torch.Tensor]) -> None:
        """The user's loss keeps its outputs to itself: the module is run once more for the metrics."""
        try:
            if len(labels) != 1:
                raise UsageError(f"metrics take one label, got {len(labels)}")
            output = scores(self._module(*inputs))
        except Exception as error:
            self._running = {}
            self._missing |= {metric.name: reason(error) for metric in self._metrics.chosen or ()}
            return
        self._measure(output, labels)

    def _measure(self, output: torch.Tensor, labels: list[torch.Tensor]) -> None:
        target = labels[0]
        if self._running is None:
            self._running = self._begin(form_of(self._loss, output, target))
        if output.shape != target.shape and output.numel() == target.numel():
            output = output.reshape(target.shape)  # (n, 1) beside (n,) would be broadcast to (n, n)
        for name, metric in list(self._running.items()):
            try:
                metric.update(output, target)
            except Exception as error:
                self._fail(name, error)

    def _begin(self, form: Form) -> dict[str, Accumulator]:
        if self._metrics.chosen is None:
            return _usual(self._loss, form)
        found: dict[str, Accumulator] = {}
        for chosen in self._metrics.chosen:
            try:
                found[chosen.name] = chosen.make(form)
            except Exception as error:
                self._missing[chosen.name] = reason(error)
        return found

    def _fail(self, name: str, error: Exception) -> None:
        assert self._running is not None
        del self._running[name]
        self._missing[name] = reason(error)

    def evaluation(self, examples: int) -> Evaluation:
        """What came of it."""
        values = {"loss": self._total / examples}
        for name, metric in list((self._running or {}).items()):
            try:
                value = metric.compute()
            except Exception as error:
                self._fail(name, error)
                continue
            if value is not None:
                values[name] = value
            elif self._metrics.chosen is not None:
                self._missing[name] = "not defined on these examples (all labels alike, or none that counts)"
        return Evaluation(values, self._missing)


def _usual(loss: Loss, form: Form) -> dict[str, Accumulator]:
    """What is measured unless metrics are given."""
    if not isinstance(loss, str) or form.kind not in ("classes", "binary"):
        return {}
    found = {"accuracy": named_metric("accuracy").make(form)}
    return found | ({"auc": Auc(form)} if form.kind == "binary" or form.classes == 2 else {})


def reason(error: Exception) -> str:
    """Why something is missing, for a person."""
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


def whole_bytes(module: nn.Module, dataset: Dataset, metrics: Sequence[ChosenMetric]) -> int:
    """The bytes of all outputs and labels, where a metric needs them at once; 0 where none does."""
    if not any(metric.whole for metric in metrics):
        return 0
    with evaluating(module), torch.no_grad():
        inputs, labels = next(_batches(dataset, 1, np.zeros(1, np.int64)))
        output = scores(module(*inputs))
    return dataset.examples * (output.nbytes + sum(label.nbytes for label in labels))


def _batches(
    dataset: Dataset, examples: int, ids: npt.NDArray[np.int64] | None
) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Inputs and labels as the model takes them."""
    count = dataset.examples if ids is None else len(ids)
    for start in range(0, count, examples):
        stop = min(start + examples, count)
        arrays: Mapping[str, npt.NDArray[Any]] = dataset.read(
            np.arange(start, stop, dtype=np.int64) if ids is None else ids[start:stop]
        )
        inputs: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        for field in dataset.fields:
            value = torch.from_numpy(arrays[field.name])
            if field.scale is not None:
                value = value.to(torch.float32) * torch.tensor(field.scale, dtype=torch.float32)
            (inputs if field.role == "input" else labels).append(value)
        yield inputs, labels
