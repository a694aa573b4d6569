"""The user's own code: builds the model that a recipe names, and finds its loss.

A manager imports what its own recipe names. An audit does not: the recipe is a stranger's, and `os:system` is a name
like any other. It builds what podlt brings along, and else only what lies in a folder that the auditor vouches for
(`load_vouched`): a file is looked at before it is executed, a callable before it is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from podlt import models
from podlt.errors import NotCheckedError, UsageError
from podlt.manager.directory import Settings
from podlt.program.losses import NAMED
from podlt.program.preparation import unwrapped
from podlt.program.step import Loss
from podlt.recipe import Recipe

_GIVEN = "given"


def given_name(name: str) -> str:
    """What a recipe names a model or a loss that a Python program gives as an object."""
    return f"{_GIVEN}:{name.strip('<>')}"


def is_given(name: str) -> bool:
    """Whether a recipe's name stands for an object of a Python program, which no name can find again."""
    return name.partition(":")[0] == _GIVEN


def build_model(recipe: Recipe, info: Mapping[str, Any], base: Path) -> nn.Module:
    """The model, freshly initialised from the recipe's seed.

    Args:
        recipe: which model, and the seed.
        info: properties of the data, for arguments written "@name".
        base: the folder that the user's modules are looked for in first.

    Raises:
        UsageError: it cannot be imported or built; says where.
    """
    return call_factory(load_name(recipe.model.name, base, "model.name"), recipe, info)


def call_factory(factory: Callable[..., Any], recipe: Recipe, info: Mapping[str, Any]) -> nn.Module:
    """The module that a recipe's callable makes, initialised from its seed. Arguments and errors as `build_model`."""
    name = recipe.model.name
    arguments = {key: _resolve(key, value, info) for key, value in recipe.model.args.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        try:
            model = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise UsageError(f"model.name {name}: cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model.name {name}: expected an nn.Module, got {type(model).__name__}")
    return unwrapped(model)


def find_loss(recipe: Recipe, base: Path) -> Loss:
    """A named loss, or the user's own.

    Args:
        recipe: which loss.
        base: the folder that the user's modules are looked for in first.

    Raises:
        UsageError: there is no such loss, or it cannot be imported.
    """
    return named_loss(recipe) or load_name(recipe.loss.name, base, "loss.name")


def named_loss(recipe: Recipe) -> str | None:
    """The recipe's loss if it is one that podlt brings along, None if it is the user's own.

    Raises:
        UsageError: there is no such loss.
    """
    name = recipe.loss.name
    if ":" in name:
        return None
    if name not in NAMED:
        known = ", ".join(NAMED)
        raise UsageError(f"loss.name: expected one of {known}, or module:callable, got {name!r}")
    return name


def load_name(name: str, base: Path, what: str) -> Callable[..., Any]:
    """Imports `module:callable`.

    Raises:
        UsageError: there is no such module or callable, importing it fails, or it is an object of a program's.
    """
    module_name, _, attribute = name.partition(":")
    if is_given(name):
        part = what.partition(".")[0]
        raise UsageError(f"{what} {name}: an object of the Python program that began the run: give {part}=... again")
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


def load_vouched(name: str, code: Path | None, what: str) -> Callable[..., Any]:
    """A stranger's `module:callable`, if it is a model of podlt's or lies in a folder that the caller vouches for.

    Nothing outside is imported or called, whatever the name says: not by a module that was imported before, not
    through a package, a symbolic link, or what a module itself imported.

    Args:
        name: as a recipe has it.
        code: the folder, or None for none.
        what: the recipe's field, for messages.

    Raises:
        NotCheckedError: it is neither, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    if module_name == models.__name__:
        found = vars(models).get(attribute)
        if not callable(found) or getattr(found, "__module__", None) != models.__name__:
            raise NotCheckedError(f"{what} {name}: podlt has no such model")
        return found  # type: ignore[no-any-return]
    if is_given(name):
        raise NotCheckedError(f"{what} {name}: an object of the Python program that began the run")
    if code is None:
        raise NotCheckedError(f"{what} {name} is code of the recipe's author, which is not run unless you vouch for it")
    folder = code.resolve()
    try:
        module = _vouched_module(module_name, folder)
        found = module
        for part in attribute.split("."):
            found = getattr(found, part)
    except NotCheckedError as error:
        raise NotCheckedError(f"{what} {name}: {error}") from None
    except Exception as error:  # the author's code may raise anything
        raise NotCheckedError(f"{what} {name}: cannot be imported: {type(error).__name__}: {error}") from error
    home = sys.modules.get(str(getattr(found, "__module__", "")))
    if not callable(found) or home is None or not _lies_in(home.__spec__, folder):
        raise NotCheckedError(f"{what} {name}: is nothing that a file in {code} defines")
    return found  # type: ignore[no-any-return]


def _vouched_module(name: str, folder: Path) -> ModuleType:
    """Imports a module after it was made sure that its file, and those of its packages, lie in a folder."""
    importlib.invalidate_caches()
    parts, paths = name.split("."), [str(folder)]
    for count in range(1, len(parts) + 1):
        whole = ".".join(parts[:count])
        loaded = sys.modules.get(whole)
        spec = loaded.__spec__ if loaded is not None else PathFinder.find_spec(whole, paths)
        if not _lies_in(spec, folder):
            raise NotCheckedError(f"there is no module {whole} in {folder}" + (", another was loaded" * bool(loaded)))
        assert spec is not None
        paths = list(spec.submodule_search_locations or ())
    with _importable(folder):
        return importlib.import_module(name)


def _lies_in(spec: ModuleSpec | None, folder: Path) -> bool:
    """Whether the file of a module lies in a folder, all of its folders if it is a package without a file."""
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return bool(places) and all(Path(place).resolve().is_relative_to(folder) for place in places)


def _resolve(key: str, value: Any, info: Mapping[str, Any]) -> Any:
    if not (isinstance(value, str) and value.startswith("@")):
        return value
    if value[1:] not in info:
        known = ", ".join(f"@{name}" for name in sorted(info)) or "none"
        raise UsageError(f"model.args.{key}: unknown data property {value}; available: {known}")
    return info[value[1:]]


def code_folder(settings: Settings, run: Path) -> Path:
    """The folder of a run's own modules: as the settings say, or here if that folder has moved."""
    named = [Path(place) for place in (settings.code, settings.base) if place]
    return next((folder for folder in [*named, Path.cwd()] if folder.is_dir()), run.absolute().parent)


@contextmanager
def _importable(base: Path) -> Any:
    sys.path.insert(0, str(base))
    try:
        yield
    finally:
        sys.path.remove(str(base))
