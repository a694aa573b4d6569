"""An optimiser as a Python program has it, as a recipe's `[optimizer]` table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from podlt.errors import UsageError

OptimizerLike = str | Mapping[str, Any] | torch.optim.Optimizer
"""A name, a table as a recipe has it, or an optimiser of `torch.optim` over the model's parameters."""

_ADAM = ("lr", "betas", "eps", "weight_decay")
_KINDS: Mapping[type[torch.optim.Optimizer], tuple[str, tuple[str, ...]]] = {
    torch.optim.SGD: ("sgd", ("lr", "momentum", "weight_decay", "nesterov")),
    torch.optim.Adam: ("adam", _ADAM),
    torch.optim.AdamW: ("adamw", _ADAM),
}
"""PyTorch's optimisers -> the name of the same, and the options that a recipe has."""

_WITHOUT_EFFECT = frozenset(("params", "foreach", "fused", "capturable", "decoupled_weight_decay"))
"""Options by which PyTorch computes the same in another way, or that the name says."""

_SCHEDULED = "initial_lr"
_DEFAULT_LR = 1e-3
"""PyTorch's own, of all three."""


def translate_optimizer(optimizer: OptimizerLike, model: nn.Module) -> dict[str, Any]:
    """An optimiser in a recipe's words.

    Args:
        optimizer: a name (with PyTorch's learning rate), a table, or an object whose groups hold parameters of the
            model. The values of the largest group stand for all; the other groups name their parameters.
        model: whose parameters they are.

    Raises:
        UsageError: an option or an optimiser that podlt does not have, parameters of another module or in no group,
            or an optimiser that has made steps already; says which.
    """
    if isinstance(optimizer, str):
        return {"name": optimizer, "lr": _DEFAULT_LR}
    if isinstance(optimizer, Mapping):
        return dict(optimizer)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"optimizer: expected a name, a table or an optimiser of torch.optim, got {type(optimizer).__name__}"
        )
    return _translated(optimizer, model)


def _translated(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    kind = type(optimizer).__name__
    if type(optimizer) not in _KINDS:
        known = ", ".join(f"torch.optim.{found.__name__}" for found in _KINDS)
        raise UsageError(f"optimizer: {kind}: expected {known}, or a table of the recipe's own")
    if optimizer.state:
        raise UsageError(f"optimizer: {kind} has made steps already, and its state would be lost: make a new one")
    name, options = _KINDS[type(optimizer)]
    if name == "adam" and optimizer.defaults["decoupled_weight_decay"]:
        name = "adamw"
    groups = [(_names(kind, group["params"], model), _values(kind, group, options)) for group in optimizer.param_groups]
    _require_all(kind, {name for names, _ in groups for name in names}, model)
    groups = [(names, values) for names, values in groups if names]
    rest = max(range(len(groups)), key=lambda place: len(groups[place][0]))
    table = {"name": name, **groups[rest][1]}
    others = [
        {"match": names, **{key: value for key, value in values.items() if value != table[key]}}
        for place, (names, values) in enumerate(groups)
        if place != rest and values != groups[rest][1]
    ]
    return {**table, "groups": others} if others else table


def _names(kind: str, parameters: list[torch.Tensor], model: nn.Module) -> list[str]:
    """The names of a group's parameters; those that need no gradient are not trained by PyTorch either."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    missing = [tuple(parameter.shape) for parameter in parameters if id(parameter) not in known]
    if missing:
        raise UsageError(
            f"optimizer: {kind} holds a parameter of shape {missing[0]} that is none of the model's: make it from the "
            "parameters of this module, after it was changed or moved"
        )
    return [known[id(parameter)] for parameter in parameters if parameter.requires_grad]


def _values(kind: str, group: Mapping[str, Any], options: tuple[str, ...]) -> dict[str, Any]:
    if _SCHEDULED in group:
        raise UsageError(
            f"optimizer: {kind} has a scheduler, which a recipe has as a table of its own: give "
            '{"name": ..., "lr": ..., "schedule": "cosine", ...}'
        )
    others = {key: value for key, value in group.items() if key not in options and key not in _WITHOUT_EFFECT}
    if wrong := [key for key, value in others.items() if value and key != "param_names"]:
        raise UsageError(f"optimizer: {kind}({wrong[0]}={others[wrong[0]]!r}): podlt does not have this option")
    return {key: _plain(group[key]) for key in options}


def _plain(value: Any) -> Any:
    """A number of PyTorch's as one of Python's."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, torch.Tensor) else value


def _require_all(kind: str, held: set[str], model: nn.Module) -> None:
    """Refuses parameters that PyTorch would leave as they are: whether a parameter is trained is the module's to say.

    Raises:
        UsageError: names them.
    """
    left = [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in held]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise UsageError(
            f"optimizer: {left[0]}{more} of the model: in no group of {kind}, so PyTorch would not train them. Freeze "
            "them by requires_grad_(False), or put them into a group"
        )
    if not held:
        raise UsageError(f"optimizer: {kind} has no parameter to train")
