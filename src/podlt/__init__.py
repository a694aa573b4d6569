"""Proof of Deep Learning Training: train on machines you do not control, and prove that the work was done.

    import podlt

    result = podlt.train("recipe.toml", cheats=["3:sign-flip"])
    assert podlt.verify(result.run).ok

Names are imported when they are first used: `import podlt` takes no time, and what needs no PyTorch does not load it.
Other errors are in `podlt.errors`, callbacks in `podlt.callbacks`, events in `podlt.manager.events`.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podlt.api import finish, resume, serve, train
    from podlt.data.spec import DataSpec
    from podlt.errors import PodltError, StopTraining, UsageError
    from podlt.manager.audit import audit
    from podlt.manager.result import Result
    from podlt.manager.trained import export, predict
    from podlt.recipe import LossSpec, ModelSpec, ProtocolSpec, Recipe, TrainingSpec
    from podlt.sim.simulate import simulate
    from podlt.translation.recipes import recipe_of
    from podlt.verify import verify

_HOMES = {
    "DataSpec": "podlt.data.spec",
    "LossSpec": "podlt.recipe",
    "ModelSpec": "podlt.recipe",
    "PodltError": "podlt.errors",
    "ProtocolSpec": "podlt.recipe",
    "Recipe": "podlt.recipe",
    "Result": "podlt.manager.result",
    "StopTraining": "podlt.errors",
    "TrainingSpec": "podlt.recipe",
    "UsageError": "podlt.errors",
    "audit": "podlt.manager.audit",
    "finish": "podlt.api",
    "export": "podlt.manager.trained",
    "predict": "podlt.manager.trained",
    "recipe_of": "podlt.translation.recipes",
    "resume": "podlt.api",
    "serve": "podlt.api",
    "simulate": "podlt.sim.simulate",
    "train": "podlt.api",
    "verify": "podlt.verify",
}

_PACKAGES = ("callbacks",)
"""Packages that are there without being imported by name: `podlt.callbacks.TensorBoard()`."""

__all__ = [
    "DataSpec",
    "LossSpec",
    "ModelSpec",
    "PodltError",
    "ProtocolSpec",
    "Recipe",
    "Result",
    "StopTraining",
    "TrainingSpec",
    "UsageError",
    "audit",
    "export",
    "finish",
    "predict",
    "recipe_of",
    "resume",
    "serve",
    "simulate",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now.

    Raises:
        AttributeError: there is no such name; MissingPackageError, an ImportError: what it needs is not installed.
    """
    if name == "__version__":
        return metadata.version("podlt")
    if name in _PACKAGES:
        return import_module(f"podlt.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'podlt' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ImportError as error:
        from podlt.extras import needed_by

        needed = needed_by(f"podlt.{name}", error)
        if needed is error:
            raise
        raise needed from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__


class _Package(ModuleType):
    """Keeps `podlt.verify` the function: importing the module of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
