"""What msgspec says of a malformed recipe, in a recipe's words: `$.data` is the table [data]."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

_FIELD = re.compile(r"Object (missing required|contains unknown) field `(\w+)`(?: - at `\$\.?(.*)`)?")
_VALUE = re.compile(r"(Expected .*|Invalid enum value .*) - at `\$\.?(.*)`")
_TYPE = re.compile(r"`([a-z |]+)`")

_TYPES: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
"""msgspec's name of a type -> a person's."""

OPTIMIZER = "the rate follows the optimizer's schedule: optimizer={'name': 'adamw', 'lr': 0.01, 'schedule': 'cosine'}"

_ELSEWHERE: Mapping[str, str] = {
    "scheduler": OPTIMIZER,
    "lr_scheduler": OPTIMIZER,
    "schedule": OPTIMIZER,
    "lr": "the rate is the optimizer's: optimizer={'name': 'adamw', 'lr': 0.01}",
    "device": "workers choose where they compute: podlt worker --device",
    "shuffle": "each epoch permutes all examples; evaluation does not",
}
"""What PyTorch's users give that no recipe has at its top -> where it belongs."""


def in_words(fault: str, recipe: type[msgspec.Struct]) -> str:
    """A fault with the table and field that it is about, and what may have been meant.

    Args:
        fault: as msgspec says it.
        recipe: the type of the whole document.
    """
    found = _FIELD.fullmatch(fault)
    if found is None:
        return _of_value(fault, recipe)
    kind, field, table = found.groups()
    place = f"the field {field} of [{table}]" if table else f"[{field}]"
    if kind == "missing required":
        return f"{place} is missing; podlt init writes a whole recipe, podlt recipe new FILE one with every field"
    if not table and field in _ELSEWHERE:
        return f"{place} is none that a recipe has: {_ELSEWHERE[field]}"
    meant = _meant(field, table, recipe)
    return f"{place} is none that a recipe has{meant}; podlt recipe new FILE writes one with every field"


def in_table(fault: str, table: type[msgspec.Struct], where: str) -> str:
    """The same for a table that is decoded by itself.

    Args:
        where: its dotted path in the recipe.
    """
    found = _FIELD.fullmatch(fault)
    if found is not None and not found[3]:
        is_missing = found[1] == "missing required"
        return f"{where}.{found[2]} is missing" if is_missing else f"{where}: {table.__name__} has no option {found[2]}"
    words = _of_value(fault, table)
    return f"{where}: {words}" if words == fault else f"{where}.{words}"


def of_argument(fault: str, recipe: type[msgspec.Struct], arguments: tuple[str, ...]) -> str:
    """The same for somebody who called a function: a field at the top is an argument.

    Args:
        arguments: what the function takes besides the recipe's tables.
    """
    found = _FIELD.fullmatch(fault)
    if found is None or found[1] == "missing required" or found[3]:
        return in_words(fault, recipe)
    name = found[2]
    if name in _ELSEWHERE:
        return f"there is no argument {name}: {_ELSEWHERE[name]}"
    near = difflib.get_close_matches(name, [*arguments, *(f.encode_name for f in msgspec.structs.fields(recipe))], 1)
    return f"there is no argument {name}" + (f"; was {near[0]} meant?" if near else "")


def _of_value(fault: str, recipe: type[msgspec.Struct]) -> str:
    """A value of the wrong type or range, led by its field."""
    found = _VALUE.fullmatch(fault)
    if found is None:
        return fault
    what, place = found.groups()
    if what.startswith("Invalid enum value"):
        got = what.removeprefix("Invalid enum value ")
        choices = _choices(_type_at(place, recipe))
        return f"{place}: expected one of {', '.join(choices)}, got {got}" if choices else f"{place}: {what}"
    words = _TYPE.sub(lambda match: " or ".join(_TYPES.get(t, t) for t in match[1].split(" | ")), what)
    return f"{place}: e{words.removeprefix('E')}"


def _type_at(place: str, recipe: type[msgspec.Struct]) -> Any:
    """The type of a field by its dotted path; None where there is none such."""
    kind: Any = recipe
    for name in place.split("."):
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return None
        kind = next(
            (one.type for one in msgspec.structs.fields(kind) if one.encode_name == name.partition("[")[0]), None
        )
    return kind


def _choices(kind: Any) -> list[str]:
    """The values of a type that has a few only."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [value for part in get_args(kind) for value in _choices(part)]


def _meant(field: str, table: str, recipe: type[msgspec.Struct]) -> str:
    """What may have been meant by a field, or a table, of another name."""
    owner = _type_at(table, recipe) if table else recipe
    if not (isinstance(owner, type) and issubclass(owner, msgspec.Struct)):
        return ""
    near = difflib.get_close_matches(field, [one.encode_name for one in msgspec.structs.fields(owner)], 1)
    return f"; was {near[0] if table else f'[{near[0]}]'} meant?" if near else ""
