"""Figures on the test set, by the user's module with the run's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from podlt.data.dataset import Dataset
from podlt.errors import UsageError
from podlt.manager.modules import Loss

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
    scores: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    for batch, label in _batches(dataset):
        if callable(loss):
            value = loss(module, *batch, *label)
            total += float(value.sum()) if value.ndim else float(value)
            continue
        output, target = module(*batch), label[0]
        total += float(_loss(loss, output, target))
        if loss == "mse":
            continue
        guess = _guess(output) if loss == "cross_entropy" else (output.reshape(target.shape) > 0).to(target.dtype)
        correct += int((guess == target).sum())
        decided += target.numel()
        score = _binary_score(loss, output)
        if score is not None:
            scores.append(score.reshape(-1).numpy())
            truths.append(target.reshape(-1).numpy())
    figures = {"loss": total / dataset.lines}
    if decided:
        figures["accuracy"] = correct / decided
    if scores and len(np.unique(np.concatenate(truths))) == 2:
        figures["auc"] = _area(np.concatenate(truths), np.concatenate(scores))
    return figures


def _guess(output: torch.Tensor) -> torch.Tensor:
    """The likeliest class: of scores (n, classes), (n, positions, classes), or (n, classes, height, width, ...)."""
    return output.argmax(1) if output.ndim > 3 else output.argmax(-1)


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
    """Summed over lines; over a line's positions the mean."""
    if loss == "cross_entropy":
        if output.ndim == 3:
            output, flat = output.flatten(0, 1), target.flatten()
            return functional.cross_entropy(output, flat, reduction="sum") / target.shape[1]
        return functional.cross_entropy(output, target, reduction="sum") / target[0].numel()
    flat, wanted = output.reshape(len(target), -1), target.reshape(len(target), -1).to(torch.float32)
    if loss == "bce":
        return functional.binary_cross_entropy_with_logits(flat, wanted, reduction="sum") / wanted.shape[1]
    return functional.mse_loss(flat, wanted, reduction="sum") / wanted.shape[1]


def _binary_score(loss: str, output: torch.Tensor) -> torch.Tensor | None:
    if loss == "bce":
        return output
    if output.ndim > 3:
        return output[:, 1] - output[:, 0] if output.shape[1] == 2 else None
    return output[..., 1] - output[..., 0] if output.shape[-1] == 2 else None
