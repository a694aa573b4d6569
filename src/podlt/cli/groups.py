"""Option groups: a dataclass whose fields are options of the command line, as one parameter of a command.

Each option is declared once, with the group that it belongs to; commands that share a group share its options.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

KIND = inspect.Parameter.KEYWORD_ONLY
"""Typer calls commands by keyword: so options may stand in any order, with and without a default."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: every parameter that is a dataclass becomes its fields, in their order.

    Args:
        command: its annotations are dataclasses of typer's options, or what typer takes itself.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group: type[Any] = parameter.annotation
        if dataclasses.is_dataclass(group):
            found = _options(group)
            groups[parameter.name] = group, [option.name for option in found]
            parameters += found
        else:
            parameters.append(parameter.replace(kind=KIND))

    def call(**values: Any) -> None:
        made = {name: group(**{n: values.pop(n) for n in names}) for name, (group, names) in groups.items()}
        command(**values, **made)

    call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(field.name, KIND, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(group)
        if field.init
    ]
