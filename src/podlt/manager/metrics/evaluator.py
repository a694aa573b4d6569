"""Measures a run's parameters on the parts that are held out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import nn

from podlt.data.dataset import Dataset
from podlt.data.prepare import Prepared
from podlt.errors import UsageError
from podlt.manager.metrics.evaluation import MOST_EXAMPLES, Evaluation, evaluate_part, load_state
from podlt.manager.metrics.given import MetricSet
from podlt.program.step import Loss

VALIDATION = "val_"
"""Before the names of the figures of the validation part."""


def called(prefix: str) -> str:
    """The part whose figures have this before their names, for people."""
    return "validation set" if prefix else "test set"


class Evaluator(msgspec.Struct, frozen=True):
    """What is measured, and on what.

    Attributes:
        module: the user's, which takes the parameters.
        loss: a name, a module or a callable.
        metrics: in addition to it.
        test: the test part, None if there is none.
        validation: the validation part, None if there is none.
        examples: how many are evaluated at once.
    """

    module: nn.Module
    loss: Loss
    metrics: MetricSet = MetricSet()
    test: Dataset | None = None
    validation: Dataset | None = None
    examples: int = MOST_EXAMPLES

    @classmethod
    def of(cls, module: nn.Module, loss: Loss, metrics: MetricSet, data: Prepared) -> Evaluator:
        """Over the parts of some data."""
        return cls(module, loss, metrics, data.test, data.validation)

    @property
    def parts(self) -> list[tuple[str, Dataset]]:
        """What comes before the figures of each part, and the part."""
        found = (("", self.test), (VALIDATION, self.validation))
        return [(prefix, part) for prefix, part in found if part is not None]

    def measure(self, state: Mapping[str, torch.Tensor]) -> Evaluation:
        """The figures of some parameters, and why others are missing; never an error.

        Args:
            state: parameters and buffers by their names.
        """
        load_state(self.module, state)
        found = Evaluation({}, {})
        for prefix, part in self.parts:
            try:
                one = evaluate_part(self.module, self.loss, part, self.metrics, self.examples, called=called(prefix))
            except UsageError as error:
                found.missing[f"{prefix}loss"] = str(error)
                continue
            found.values.update({prefix + name: value for name, value in one.values.items()})
            found.missing.update({prefix + name: why for name, why in one.missing.items()})
        return found
