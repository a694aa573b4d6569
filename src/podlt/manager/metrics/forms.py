"""What a model's outputs and its labels are to each other: scores of classes, of two classes, or numbers."""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import nn

from podlt.program.losses import CLASS_DIMENSION, CLASSES_LAST
from podlt.program.step import Loss

IGNORED = -100
"""The label that counts for nothing, as PyTorch's losses have it (`ignore_index`)."""

Kind = Literal["classes", "binary", "elements", "numbers", "probabilities", "other"]

DESCRIBED: dict[Kind, str] = {
    "classes": "the outputs are scores of classes",
    "binary": "each label has one output, the logit of class 1",
    "elements": "each label is a whole number and has one output",
    "numbers": "the labels are numbers",
    "probabilities": "the labels are probabilities",
    "other": "the outputs and the labels have shapes that fit no metric",
}


class Form(msgspec.Struct, frozen=True):
    """How outputs and labels belong together.

    Attributes:
        kind: "classes": scores, a label is one of the classes. "binary": a logit for each label, which is 0 or 1.
            "elements": an output for each label, a whole number: either that, or a count. "numbers": an output for
            each label, a number. "probabilities": of each class. "other": none of these.
        dimension: of the outputs, where the classes are.
        classes: how many there are.
    """

    kind: Kind
    dimension: int = 0
    classes: int = 0


_MODULES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll",
    nn.BCEWithLogitsLoss: "bce",
    nn.MSELoss: "mse",
    nn.L1Loss: "l1",
    nn.SmoothL1Loss: "smooth_l1",
    nn.HuberLoss: "huber",
}
"""Losses of PyTorch that are those of a name, as far as their outputs and labels go."""


def form_of(loss: Loss, output: torch.Tensor, target: torch.Tensor) -> Form:
    """How outputs and labels belong together: as the loss says, or as their shapes say where it is the user's own.

    Args:
        loss: a name, a module or a callable.
        output: of some examples, [n, ...].
        target: of the same examples, [n, ...].
    """
    name = loss if isinstance(loss, str) else _MODULES.get(type(loss), "")  # type: ignore[arg-type]
    if name == "bce":
        return Form("binary")
    if name in CLASS_DIMENSION:
        dimension = CLASS_DIMENSION[name]
        return Form("probabilities") if target.is_floating_point() else _classes(output, dimension)
    return Form("numbers") if name else _by_shape(output, target)


def counted(target: torch.Tensor) -> torch.Tensor:
    """Which labels count: all but those that PyTorch's losses ignore, bool in the labels' shape."""
    if target.dtype in (torch.uint8, torch.bool):  # -100 would wrap to a class
        return torch.ones_like(target, dtype=torch.bool)
    return target != IGNORED


def _by_shape(output: torch.Tensor, target: torch.Tensor) -> Form:
    """PyTorch's rule first: classes are dimension 1; then the language models' rule: they are the last."""
    whole = not target.is_floating_point()
    if whole and output.ndim >= 2 and output.shape[1] > 1 and (output.shape[0], *output.shape[2:]) == target.shape:
        return _classes(output, CLASS_DIMENSION["cross_entropy"])
    if whole and output.ndim >= 3 and output.shape[-1] > 1 and output.shape[:-1] == target.shape:
        return _classes(output, CLASS_DIMENSION[CLASSES_LAST])
    if output.numel() == target.numel():
        return Form("elements" if whole else "numbers")
    return Form("other")


def _classes(output: torch.Tensor, dimension: int) -> Form:
    return Form("classes", dimension, output.shape[dimension])
