"""The user's own code, on the manager alone: builds the model that a recipe names, and finds its loss."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from podlt.errors import UsageError
from podlt.recipe import Recipe

Loss = str | Callable[..., torch.Tensor]

NAMED_LOSSES = ("cross_entropy", "mse", "bce")


def build_model(recipe: Recipe, info: Mapping[str, Any], base: Path) -> nn.Module:
    """The model, freshly initialised from the recipe's seed.

    Args:
        info: what the data say of themselves, for arguments written "@name".
        base: the folder that the user's modules are looked for in first.

    Raises:
        UsageError: it cannot be imported or built; says where.
    """
    name = recipe.model.name
    factory = load_name(name, base, "model.name")
    arguments = {key: _resolve(key, value, info) for key, value in recipe.model.args.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        try:
            model = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise UsageError(f"model.name {name}: cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model.name {name}: expected an nn.Module, got {type(model).__name__}")
    return model


def find_loss(recipe: Recipe, base: Path) -> Loss:
    """A named loss, or the user's own."""
    name = recipe.loss.name
    if ":" in name:
        return load_name(name, base, "loss.name")
    if name not in NAMED_LOSSES:
        known = ", ".join(NAMED_LOSSES)
        raise UsageError(f"loss.name: expected one of {known}, or module:callable, got {name!r}")
    return name


def load_name(name: str, base: Path, what: str) -> Callable[..., Any]:
    """Imports `module:callable`.

    Raises:
        UsageError: there is no such module or callable, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    with _importable(base):
        try:
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            message = f"cannot be imported (looked in {base} first): {type(error).__name__}: {error}"
            raise UsageError(f"{what} {name}: {message}") from error
    if not callable(found):
        raise UsageError(f"{what} {name}: is not callable")
    return found  # type: ignore[no-any-return]


def _resolve(key: str, value: Any, info: Mapping[str, Any]) -> Any:
    if not (isinstance(value, str) and value.startswith("@")):
        return value
    if value[1:] not in info:
        known = ", ".join(f"@{name}" for name in sorted(info))
        raise UsageError(f"model.args.{key}: the data say nothing named {value}; they say {known}")
    return info[value[1:]]


@contextmanager
def _importable(base: Path) -> Any:
    sys.path.insert(0, str(base))
    try:
        yield
    finally:
        sys.path.remove(str(base))
