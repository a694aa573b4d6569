"""The metrics that a recipe can name, each worked out batch by batch; values are those of scikit-learn."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import msgspec
import numpy as np
import torch
from torch.nn import functional

from podlt.errors import UsageError
from podlt.manager.metrics.forms import DESCRIBED, IGNORED, Form, Kind, counted

Better = Literal["min", "max"]


class Accumulator(Protocol):
    """A metric while it passes over the examples, as torchmetrics has it."""

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Takes the outputs and labels of the next examples."""

    def compute(self) -> float | None:
        """The value over all of them; None where it is not defined."""


class NamedMetric(msgspec.Struct, frozen=True):
    """A metric that has a name here.

    Attributes:
        make: begins to measure.
        kinds: of which outputs and labels it is.
        better: whether a larger or a smaller value is better.
        of: what it is of, for people.
    """

    make: Callable[[Form], Accumulator]
    kinds: frozenset[Kind]
    better: Better
    of: str

    def require(self, name: str, form: Form) -> None:
        """Refuses outputs and labels that it is not of.

        Raises:
            UsageError: says why, and what fits.
        """
        if form.kind not in self.kinds:
            fits = [other for other, row in NAMED_METRICS.items() if form.kind in row.kinds]
            cure = f"take {', '.join(fits)}, or a callable" if fits else "give a callable (outputs, targets) -> number"
            raise UsageError(f"{name} is of {self.of}, and {DESCRIBED[form.kind]}: {cure}")


# -- classes ----------------------------------------------------------------------------------------------------------


def _likeliest(form: Form, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The likeliest class of each label, in the labels' shape."""
    if form.kind == "classes":
        return output.argmax(form.dimension)
    if form.kind == "elements" and len(target) and int(target.max()) > 1:
        raise UsageError(f"there is one output a label, so labels are 0 or 1, and one is {int(target.max())}")
    return (output.reshape(target.shape) > 0).to(target.dtype)


class _Share:
    """The share of labels that are right."""

    def __init__(self, right: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self._is_right = right
        self._right = self._count = 0

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Counts."""
        mask = counted(target)
        self._right += int((self._is_right(output, target) & mask).sum())
        self._count += int(mask.sum())

    def compute(self) -> float | None:
        """Of all labels that count."""
        return self._right / self._count if self._count else None


def _accuracy(form: Form) -> Accumulator:
    return _Share(lambda output, target: _likeliest(form, output, target) == target)


def _top(most: int) -> Callable[[Form], Accumulator]:
    def make(form: Form) -> Accumulator:
        if most >= form.classes:
            raise UsageError(f"top{most} of {form.classes} classes is always 1: take a smaller number, or accuracy")

        def right(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            best = output.topk(most, form.dimension).indices
            return (best == target.unsqueeze(form.dimension)).any(form.dimension)

        return _Share(right)

    return make


class _F1:
    """The harmonic mean of precision and recall: of class 1, or of all classes averaged.

    Args:
        form: of two or more classes.
        macro: average over the classes that occur, whether there are two or more.
    """

    def __init__(self, form: Form, macro: bool) -> None:
        self._form, self._classes = form, form.classes or 2
        self._one = self._classes == 2 and not macro
        self._hits, self._found, self._there = (np.zeros(self._classes, np.int64) for _ in range(3))

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Counts by class."""
        mask = counted(target)
        guess, truth = _likeliest(self._form, output, target)[mask].long(), target[mask].long()
        for counts, labels in ((self._hits, truth[guess == truth]), (self._found, guess), (self._there, truth)):
            counts += np.bincount(labels.numpy(), minlength=self._classes)

    def compute(self) -> float | None:
        """0 for a class that is found and never there, or the other way round."""
        both = self._found + self._there
        if self._one:
            return float(2 * self._hits[1] / both[1]) if both[1] else 0.0
        occurring = both > 0
        return float((2 * self._hits[occurring] / both[occurring]).mean()) if occurring.any() else None


class Auc:
    """The area under the ROC curve of two classes; keeps a score for each label."""

    def __init__(self, form: Form) -> None:
        if form.kind == "classes" and form.classes != 2:
            raise UsageError(
                f"auc is of two classes, and there are {form.classes}: give a callable or a torchmetrics object"
            )
        self._form = form
        self._scores: list[np.ndarray] = []
        self._truths: list[np.ndarray] = []

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Takes how much likelier class 1 is than class 0."""
        score = output
        if self._form.kind == "classes":
            first, second = output.unbind(self._form.dimension)
            score = second - first
        mask = counted(target).reshape(-1)
        self._scores.append(score.reshape(-1)[mask].numpy())
        self._truths.append(target.reshape(-1)[mask].numpy())

    def compute(self) -> float | None:
        """None where the labels are all of one class, NaN where a score is not finite."""
        truths, scores = np.concatenate(self._truths), np.concatenate(self._scores)
        if len(np.unique(truths)) != 2:
            return None
        return area(truths, scores)


def area(truths: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve; NaN where there is none."""
    if len(np.unique(truths)) != 2 or not np.isfinite(scores).all():
        return math.nan
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truths, scores))


class _Perplexity:
    """e to the mean loss of a label: the loss itself may be a mean over examples of another length."""

    def __init__(self, form: Form) -> None:
        self._dimension = form.dimension
        self._total, self._count = 0.0, 0

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Adds the logarithms."""
        classes = output.movedim(self._dimension, -1).flatten(0, -2)
        labels = target.reshape(-1).long()
        self._total += float(functional.cross_entropy(classes, labels, reduction="sum", ignore_index=IGNORED))
        self._count += int((labels != IGNORED).sum())

    def compute(self) -> float | None:
        """Infinite where it is above float64's range."""
        if not self._count:
            return None
        mean = self._total / self._count
        return math.exp(mean) if mean < 700 else math.inf if mean == mean else mean


# -- numbers ----------------------------------------------------------------------------------------------------------


class _Errors:
    """The mean of a function of the differences between outputs and labels, over all of them.

    Args:
        of: the function.
        then: what becomes of the mean.
    """

    def __init__(self, of: Callable[[torch.Tensor], torch.Tensor], then: Callable[[float], float]) -> None:
        self._of, self._then = of, then
        self._total, self._count = 0.0, 0

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Adds, in float64."""
        self._total += float(self._of(_paired(output).double() - _paired(target).double()).sum())
        self._count += target.numel()

    def compute(self) -> float | None:
        """Over all labels."""
        return self._then(self._total / self._count) if self._count else None


class _R2:
    """The share of the labels' variance that is explained; several labels an example count alike."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._spread = self._left = np.zeros(0)

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Merges the means and the sums of squares, so that labels far from 0 lose nothing."""
        wanted, found = (_paired(v).double().numpy() for v in (target, output))
        if not self._count:
            self._mean = self._spread = self._left = np.zeros(wanted.shape[1])
        count, mean = len(wanted), wanted.mean(0)
        off, whole = mean - self._mean, self._count + count
        self._spread = self._spread + ((wanted - mean) ** 2).sum(0) + off**2 * self._count * count / whole
        self._mean = self._mean + off * count / whole
        self._left = self._left + ((found - wanted) ** 2).sum(0)
        self._count = whole

    def compute(self) -> float | None:
        """None where a label never changes: it has no variance."""
        if self._count < 2 or not (self._spread > 0).all():
            return None
        return float((1 - self._left / self._spread).mean())


def _paired(value: torch.Tensor) -> torch.Tensor:
    return value.reshape(value.shape[0], -1)


_GUESSED: frozenset[Kind] = frozenset({"classes", "binary", "elements"})
_SCORED: frozenset[Kind] = frozenset({"classes"})
_NUMBERS: frozenset[Kind] = frozenset({"numbers", "elements"})

NAMED_METRICS: Mapping[str, NamedMetric] = {
    "accuracy": NamedMetric(_accuracy, _GUESSED, "max", "classes"),
    "top5": NamedMetric(_top(5), _SCORED, "max", "scores of classes"),
    "f1": NamedMetric(lambda form: _F1(form, macro=False), _GUESSED, "max", "classes"),
    "f1_macro": NamedMetric(lambda form: _F1(form, macro=True), _GUESSED, "max", "classes"),
    "auc": NamedMetric(Auc, _GUESSED, "max", "two classes"),
    "perplexity": NamedMetric(_Perplexity, _SCORED, "min", "scores of classes"),
    "mae": NamedMetric(lambda form: _Errors(torch.abs, float), _NUMBERS, "min", "numbers"),
    "rmse": NamedMetric(lambda form: _Errors(torch.square, math.sqrt), _NUMBERS, "min", "numbers"),
    "r2": NamedMetric(lambda form: _R2(), _NUMBERS, "max", "numbers"),
}
"""By name. "f1" is that of class 1 where there are two classes, else the mean over classes ("f1_macro"); "top5" stands
for any number."""

_TOP = re.compile(r"top([1-9][0-9]{0,5})")


def is_top(name: str) -> bool:
    """Whether a name is that of a top-k accuracy."""
    return _TOP.fullmatch(name) is not None


def named_metric(name: str) -> NamedMetric:
    """The metric of a name.

    Raises:
        UsageError: there is none; says which there are.
    """
    if name in NAMED_METRICS:
        return NAMED_METRICS[name]
    if (found := _TOP.fullmatch(name)) is not None:
        return NamedMetric(_top(int(found[1])), _SCORED, "max", "scores of classes")
    known = ", ".join(NAMED_METRICS)
    raise UsageError(f"expected one of {known} (or another top-k), or module:callable, got {name!r}")


def better_of(figure: str) -> Better | None:
    """Whether a larger or a smaller value of a figure is better; None where nobody knows."""
    name = figure.removeprefix("val_")
    if name == "loss":
        return "min"
    if name in NAMED_METRICS or is_top(name):
        return named_metric(name).better
    return None
