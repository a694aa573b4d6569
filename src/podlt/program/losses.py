"""The losses that a recipe can name: each a sum over examples, and over an example's elements PyTorch's mean.

What they take is PyTorch's: scores (n, C, d1, ...) with classes (n, d1, ...). Only `token_cross_entropy` takes the
classes last, as language models give them. Nothing is broadcast, and no number is cut to a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from podlt.errors import UnsupportedError

Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The loss of some outputs and labels, summed over examples."""

CLASSES_LAST = "token_cross_entropy"


def cross_entropy(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Scores (n, C, d1, ...) with classes (n, d1, ...), or with each class's probability (n, C, d1, ...)."""
    if label.is_floating_point():
        if output.ndim < 2 or output.shape != label.shape:
            raise UnsupportedError(
                "cross_entropy: the labels are numbers, and it takes whole numbers as classes: have the data say "
                'target = "class", or use "mse", "l1" or "huber"'
            )
        return _per_position(functional.cross_entropy(output, label, reduction="sum"), output.shape[2:])
    label = _classes("cross_entropy", output, label)
    return _per_position(functional.cross_entropy(output, label, reduction="sum"), label.shape[1:])


def token_cross_entropy(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Scores (n, positions, C) with classes (n, positions), as language models give them."""
    if label.is_floating_point() or output.ndim < 3 or output.shape[:-1] != label.shape:
        raise UnsupportedError(
            f"token_cross_entropy takes scores (n, positions, C) and classes (n, positions), got {_shape(output)} and "
            f'{_shape(label)}: use "cross_entropy" for scores (n, C, ...)'
        )
    _require_classes("token_cross_entropy", output.shape[-1])
    flat = functional.cross_entropy(output.flatten(0, -2), label.long().flatten(), reduction="sum")
    return _per_position(flat, label.shape[1:])


def nll(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Logarithms of probabilities (n, C, d1, ...) with classes (n, d1, ...)."""
    if label.is_floating_point():
        raise UnsupportedError('nll: the labels are numbers, and it takes classes: have the data say target = "class"')
    label = _classes("nll", output, label)
    return _per_position(functional.nll_loss(output, label, reduction="sum"), label.shape[1:])


def _classes(name: str, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The classes as `int64`, once their shape is what PyTorch wants of it."""
    if output.ndim < 2 or (output.shape[0], *output.shape[2:]) != label.shape:
        last = output.ndim >= 3 and output.shape[:-1] == label.shape
        cure = f'use "{CLASSES_LAST}", or transpose the output' if last else "give a score for each class of each label"
        raise UnsupportedError(
            f"{name} takes scores (n, C, d1, ...) and classes (n, d1, ...), got {_shape(output)} and {_shape(label)}: "
            f"{cure}"
        )
    _require_classes(name, output.shape[1])
    return label.long()


def _require_classes(name: str, count: int) -> None:
    if count < 2:
        raise UnsupportedError(f'{name} needs an output for each of two or more classes: use the loss "bce"')


def _per_position(total: torch.Tensor, positions: tuple[int, ...]) -> torch.Tensor:
    """Over an example's positions the mean."""
    count = 1
    for size in positions:
        count *= size
    return total / float(count) if positions else total


def _elementwise(name: str, function: Callable[..., torch.Tensor]) -> Measure:
    """A loss that compares output and label element by element: as many of both in an example."""

    def measure(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        flat, wanted = output.reshape(output.shape[0], -1), label.reshape(label.shape[0], -1)
        if flat.shape != wanted.shape:
            raise UnsupportedError(
                f"{name}: the model gives {_shape(output)} and the labels are {_shape(label)}: as many outputs as "
                "labels in an example are needed, nothing is repeated to fit"
            )
        return function(flat, wanted.to(flat.dtype), reduction="sum") / flat.shape[1]

    return measure


NAMED: Mapping[str, Measure] = {
    "cross_entropy": cross_entropy,
    CLASSES_LAST: token_cross_entropy,
    "nll": nll,
    "mse": _elementwise("mse", functional.mse_loss),
    "l1": _elementwise("l1", functional.l1_loss),
    "smooth_l1": _elementwise("smooth_l1", functional.smooth_l1_loss),
    "huber": _elementwise("huber", functional.huber_loss),
    "bce": _elementwise("bce", functional.binary_cross_entropy_with_logits),
}
"""By name; "bce" takes logits."""

CLASS_DIMENSION: Mapping[str, int] = {"cross_entropy": 1, "nll": 1, CLASSES_LAST: -1}
"""Where the scores of the losses that are of classes have them."""


def scores(output: Any) -> torch.Tensor:
    """What a named loss is of, in whatever a model gives: the tensor itself, or "logits" or "out" among others.

    Raises:
        UnsupportedError: it gives neither.
    """
    if isinstance(output, torch.Tensor):
        return output
    for name in ("logits", "out"):
        found = entry(output, name)
        if isinstance(found, torch.Tensor):
            return found
    if isinstance(output, (tuple, list)) and len(output) == 1 and isinstance(output[0], torch.Tensor):
        return output[0]
    raise UnsupportedError(
        f"the model gives a {type(output).__name__}, and a named loss takes one tensor (or an output with logits): "
        "give a loss of your own, a callable taking (model, *inputs, *labels)"
    )


def entry(output: Any, name: str) -> Any:
    """What an output has under a name, as a mapping or as an attribute; None if it has nothing."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _shape(value: torch.Tensor) -> str:
    return f"(n{''.join(f', {size}' for size in value.shape[1:])})"
