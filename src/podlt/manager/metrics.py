"""Figures on the test set, by the user's module with the run's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from podlt.data.dataset import Dataset
from podlt.errors import UsageError
from podlt.program.losses import CLASS_DIMENSION, NAMED, scores
from podlt.program.step import Loss, is_mean, loss_value

BATCH = 1000


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Gives a module the run's parameters and buffers ("param:name", "frozen:name", "buffer:name")."""
    module.load_state_dict({name.partition(":")[2]: value for name, value in state.items()}, strict=False)


def evaluate(module: nn.Module, loss: Loss, dataset: Dataset) -> dict[str, float]:
    """Loss a line, and what else the loss's kind has: accuracy, area under the ROC curve for two classes.

    A figure that is not finite is left out: a module may overflow on test lines only, and then there is no such figure.

    Args:
        module: it is put into eval mode.
        loss: as the recipe names it.
        dataset: the test part.

    Raises:
        UsageError: the module or the loss fails on it.
    """
    return {name: value for name, value in evaluate_all(module, loss, dataset).items() if math.isfinite(value)}


@torch.no_grad()
def evaluate_all(module: nn.Module, loss: Loss, dataset: Dataset) -> dict[str, float]:
    """The same with those figures that are not finite. Arguments and errors as `evaluate`."""
    try:
        return _evaluate(module, loss, dataset)
    except Exception as error:  # the module is the user's own
        raise UsageError(f"figures on the test set: {type(error).__name__}: {error}") from error


def _evaluate(module: nn.Module, loss: Loss, dataset: Dataset) -> dict[str, float]:
    module.eval()
    total, correct, decided = 0.0, 0, 0
    scored: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    mean: bool | None = None
    for batch, label in _batches(dataset):
        if not isinstance(loss, str):
            if mean is None:
                mean = is_mean(loss, module, [v[:2] for v in batch], [v[:2] for v in label])
            value = loss_value(loss, module, batch, label)
            total += float(value.sum()) * (len(batch[0]) if mean and not value.ndim else 1)
            continue
        output, target = scores(module(*batch)), label[0]
        total += float(_loss(loss, output, target))
        guess = _guess(loss, output, target)
        if guess is None:
            continue
        correct += int((guess == target).sum())
        decided += target.numel()
        score = _binary_score(loss, output)
        if score is not None:
            scored.append(score.reshape(-1).numpy())
            truths.append(target.reshape(-1).numpy())
    figures = {"loss": total / dataset.lines}
    if decided:
        figures["accuracy"] = correct / decided
    if scored and len(np.unique(np.concatenate(truths))) == 2:
        figures["auc"] = _area(np.concatenate(truths), np.concatenate(scored))
    return figures


def _guess(loss: str, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    """The likeliest class of each label; None where labels are numbers."""
    if loss == "bce":
        return (output.reshape(target.shape) > 0).to(target.dtype)
    if loss not in CLASS_DIMENSION or target.is_floating_point():
        return None
    return output.argmax(CLASS_DIMENSION[loss])


def _area(truths: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve; NaN where there is none."""
    if len(np.unique(truths)) != 2 or not np.isfinite(scores).all():
        return math.nan
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truths, scores))


def _batches(dataset: Dataset) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Inputs and labels as the model takes them."""
    for start in range(0, dataset.lines, BATCH):
        arrays = dataset.read(np.arange(start, min(start + BATCH, dataset.lines), dtype=np.int64))
        inputs: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        for field in dataset.fields:
            value = torch.from_numpy(arrays[field.name])
            if field.scale is not None:
                value = value.to(torch.float32) * torch.tensor(field.scale, dtype=torch.float32)
            (inputs if field.role == "input" else labels).append(value)
        yield inputs, labels


def _loss(loss: str, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Summed over lines."""
    return NAMED[loss](output, target)


def _binary_score(loss: str, output: torch.Tensor) -> torch.Tensor | None:
    """How much likelier the second of two classes is; None where there are others."""
    if loss == "bce":
        return output
    first, *others = output.unbind(CLASS_DIMENSION[loss])
    return others[0] - first if len(others) == 1 else None
