"""What msgspec says of a malformed recipe, in a recipe's words: `$.data` is the table [data]."""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

_FIELD = re.compile(r"Object (missing required|contains unknown) field `(\w+)`(?: - at `\$\.?(.*)`)?")


def in_words(fault: str, recipe: type[msgspec.Struct]) -> str:
    """A fault with the table and field that it is about, and what may have been meant.

    Args:
        fault: as msgspec says it.
        recipe: the type of the whole document.
    """
    found = _FIELD.fullmatch(fault)
    if found is None:
        return fault
    kind, field, table = found.groups()
    place = f"the field {field} of [{table}]" if table else f"[{field}]"
    if kind == "missing required":
        return f"{place} is missing; podlt init writes a whole recipe, podlt recipe new FILE one with every field"
    meant = _meant(field, table, recipe)
    return f"{place} is none that a recipe has{meant}; podlt recipe new FILE writes one with every field"


def _meant(field: str, table: str, recipe: type[msgspec.Struct]) -> str:
    """What may have been meant by a field, or a table, of another name."""
    owner: Any = recipe
    for name in table.split(".") if table else []:
        owner = next((one.type for one in msgspec.structs.fields(owner) if one.name == name.partition("[")[0]), None)
        if not (isinstance(owner, type) and issubclass(owner, msgspec.Struct)):
            return ""
    near = difflib.get_close_matches(field, [one.encode_name for one in msgspec.structs.fields(owner)], 1)
    return f"; was {near[0] if table else f'[{near[0]}]'} meant?" if near else ""
