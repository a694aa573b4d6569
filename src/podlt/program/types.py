"""The words of the rules in `shapes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Type = tuple[str, tuple[int, ...]]
"""A dtype's short name, and a shape."""

Given = list[Any]
"""Arguments: a `Type` for a tensor, a list of them for several, anything else as the document has it."""

Rule = Callable[[Given], list[Type | None] | None]
"""The outputs' types for some arguments, or None where it does not know."""

LARGEST = 2**31
"""Numbers of this size and beyond are left to PyTorch."""


def is_tensor(item: Any, dtype: str, dimensions: int | None = None) -> bool:
    """Whether an argument is a tensor of a dtype, and of so many dimensions."""
    is_one = isinstance(item, tuple) and item[0] == dtype
    return is_one and (dimensions is None or len(item[1]) == dimensions)


def is_whole(item: Any) -> bool:
    """Whether it is an integer, and no large one."""
    return isinstance(item, int) and not isinstance(item, bool) and abs(item) < LARGEST


def is_number(item: Any) -> bool:
    """Whether it is a number that float32 arithmetic may be done with."""
    return is_whole(item) or isinstance(item, float) or (isinstance(item, dict) and "f" in item)


def are_wholes(item: Any, count: int, least: int) -> bool:
    """Whether it is a list of so many integers, each of at least some size."""
    return isinstance(item, list) and len(item) == count and all(is_whole(part) and part >= least for part in item)


def axis_of(item: Any, dimensions: int) -> int | None:
    """A dimension's number from 0, if it is one of so many."""
    return item % dimensions if is_whole(item) and -dimensions <= item < dimensions else None
