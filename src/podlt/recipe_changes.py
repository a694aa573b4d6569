"""Changes of single fields of a recipe, as `--set training.epochs=3` gives them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import msgspec

from podlt import canonical
from podlt.errors import UsageError
from podlt.recipe import Recipe

EXAMPLES = {"--set": "training.epochs=3", "--arg": "hidden=64"}
"""Options that take NAME=VALUE -> an example, for errors."""

_WORD = re.compile(r"@?[A-Za-z_][\w./:@-]*")


def read_changes(assignments: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """Fields and their new values, of texts such as "training.epochs=3"; a value is TOML, and a bare word is a text.

    Args:
        assignments: as the user wrote them.
        option: by which, for errors.

    Raises:
        UsageError: one is not FIELD=VALUE.
    """
    return dict(_read(text, option) for text in assignments)


def _read(text: str, option: str) -> tuple[str, Any]:
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path or not value:
        raise UsageError(f"{option} {text}: expected NAME=VALUE, such as {EXAMPLES[option]}")
    try:
        found = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        if not _WORD.fullmatch(value):
            raise UsageError(f"{option} {text}: {value!r} is no TOML value (texts with blanks go in quotes)") from None
        return path, value
    if set(found) != {"value"}:
        raise UsageError(f"{option} {text}: expected one value")
    return path, found["value"]


def changed(recipe: Recipe, changes: Mapping[str, Any], where: str = "--set") -> Recipe:
    """The recipe with other values in some fields.

    Args:
        recipe: the recipe as it is.
        changes: dotted path of a field -> its value, in TOML's types; a table replaces the whole table.
        where: what errors begin with.

    Raises:
        UsageError: there is no such field, or the value is none that it can have; names the nearest field.
    """
    if not changes:
        return recipe
    document = canonical.from_json(recipe.to_bytes())
    assert isinstance(document, dict)
    for path, value in changes.items():
        _set(document, path, value, where)
    return Recipe.of_document(document, where)


def _set(document: dict[str, Any], path: str, value: Any, where: str) -> None:
    parts = path.split(".")
    names = _fields()
    if path not in names and ".".join(parts[:2]) not in _tables(names) and parts[0] not in _tables(names):
        last = path.rpartition(".")[2]
        near = [name for name in names if name.rpartition(".")[2] == last] or get_close_matches(path, names, 1, 0.0)
        are = "the nearest is" if len(near) == 1 else "there are"
        raise UsageError(f"{where}: a recipe has no field {path!r}; {are} {' and '.join(sorted(near))}")
    inner = document
    for part in parts[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{where}: {path}: {part} is a value, not a table")
    inner[parts[-1]] = value


def _tables(names: Mapping[str, Any]) -> set[str]:
    """The fields that hold tables of the user's own keys, such as model.args."""
    return {path for path, kind in names.items() if _is_table(kind)}


def _is_table(kind: Any) -> bool:
    return kind is dict or any(_is_table(part) for part in (getattr(kind, "__origin__", None), *get_args(kind)) if part)


def _fields() -> dict[str, Any]:
    """The dotted path of every field of a recipe, with its type."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(Recipe).items():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found |= {f"{name}.{inner}": type_ for inner, type_ in get_type_hints(kind).items()}
        else:
            found[name] = kind
    return found
