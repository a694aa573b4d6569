"""Signatures that say which types an operation gives for which it takes: "f32[m k] f32[k n] -> f32[m n]".

The notation is jaxtyping's. A dimension's name stands for one size, "*s" for any number of dimensions, and "*#s" for
those of all tensors that are marked so, broadcast; "n+" is no size of 0. Beside tensors there are the words of `WORDS`.
"f32[c]?" may be None, or is a result that "mask" asks for; "whole=" may be left out; " | " separates alternatives. A
signature answers only for the plain case that it is sure of, and never where PyTorch would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

Shape = tuple[int, ...]

Type = tuple[str, Shape]
"""A dtype's short name, and a shape."""

Given = list[Any]
"""Arguments: a `Type` for a tensor, a list of them for several, anything else as a program's document has it."""

Types = list[Type | None]
"""Of an operation's results: None for a gradient that is not asked for."""

Rule = Callable[[Given], Types | None]
"""The results' types for some arguments, or None where it does not know."""

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


def is_mask(item: Any) -> bool:
    """Whether it says of each of three gradients if it is asked for."""
    return isinstance(item, list) and len(item) == 3 and all(isinstance(part, bool) for part in item)


WORDS: Mapping[str, Callable[[Any, int], bool]] = {
    "axis": lambda item, dimensions: axis_of(item, dimensions or 1) is not None,
    "bool": lambda item, _: isinstance(item, bool),
    "dtype": lambda item, _: item == {"t": "f32"},
    "float": lambda item, _: isinstance(item, float),
    "false": lambda item, _: item is False,
    "mask": lambda item, _: is_mask(item),
    "none": lambda item, _: item is None,
    "number": lambda item, _: is_number(item),
    "reduced": lambda item, _: is_whole(item) and item in (1, 2),
    "true": lambda item, _: item is True,
    "whole": lambda item, _: is_whole(item),
}
"""What an argument that is no tensor may be, given the number of dimensions of the tensor before it."""

_PART = re.compile(r"(\w+)(?:\[([^]]*)\])?([?=]?)")


@cache
def signature(text: str) -> Rule:
    """The rule that a signature stands for."""
    cases = [case.split("->") for case in text.split(" | ")]
    parsed = [(_PART.findall(wanted), _PART.findall(results)) for wanted, results in cases]

    def rule(given: Given) -> Types | None:
        for wanted, results in parsed:
            sizes = _matched(wanted, given)
            if sizes is not None:
                asked = given[-1] if wanted[-1][0] == "mask" else [True] * len(results)
                return [
                    (dtype, sum((sizes[name] for name in dims.split()), ())) if is_asked or mark != "?" else None
                    for (dtype, dims, mark), is_asked in zip(results, asked, strict=True)
                ]
        return None

    return rule


def _matched(wanted: list[tuple[str, str, str]], given: Given) -> dict[str, Shape] | None:
    """The sizes that the names of dimensions stand for, if the arguments are those wanted."""
    sizes: dict[str, Shape] = {}
    dimensions = 0
    least = len([part for part in wanted if part[2] != "="])
    if not least <= len(given) <= len(wanted):
        return None
    for (word, dims, mark), item in zip(wanted, given, strict=False):
        if word in WORDS:
            if not WORDS[word](item, dimensions):
                return None
        elif is_tensor(item, word):
            dimensions = len(item[1])
            if not _fits(dims.split(), item[1], sizes):
                return None
        elif mark != "?" or item is not None:
            return None
    return sizes


def _fits(names: list[str], shape: Shape, sizes: dict[str, Shape]) -> bool:
    """Whether a shape has these dimensions, as far as their sizes are known; those that are not become so."""
    several = len(shape) - len([name for name in names if name[0] != "*"])
    if several < 0 or (several and not any(name[0] == "*" for name in names)):
        return False
    start = 0
    for name in names:
        found = shape[start : start + (several if name[0] == "*" else 1)]
        start += len(found)
        if name.startswith("*#"):
            try:
                found = np.broadcast_shapes(found, sizes.pop(name, ()))
            except ValueError:
                return False
        if sizes.setdefault(name, found) != found or (name[-1] == "+" and 0 in found):
            return False
    return True
