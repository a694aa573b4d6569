"""Which values a node names, and until when each is needed."""

from __future__ import annotations

from typing import Any

from podlt.exact.operations import named
from podlt.exact.operations.row import Family
from podlt.program.ir import Program

VIEWS = named(Family.VIEW)
"""Operations whose outputs lie in the memory of their first argument."""


def references(item: Any) -> list[int]:
    """The numbers of the values that an argument names."""
    if isinstance(item, dict):
        return [item["v"]] if "v" in item else []
    if isinstance(item, list):
        return [number for part in item for number in references(part)]
    return []


def last_uses(program: Program) -> list[list[int]]:
    """For each node, the values that nothing needs after it: their memory is given back at once.

    A value is needed as long as a view of it is, and to the end if it is an input or an output.
    """
    last: dict[int, int] = {}
    for i, node in enumerate(program.nodes):
        for number in [*references(node.arguments), *node.outputs]:
            last[number] = i
    end = len(program.nodes)
    last.update((value, end) for _, value in program.outputs)
    for node in reversed(program.nodes):
        if node.operation in VIEWS:
            for source in references(node.arguments[:1]):
                last[source] = max(last[source], *(last[output] for output in node.outputs))
    dying: list[list[int]] = [[] for _ in program.nodes]
    for number, i in last.items():
        if i < end and number >= len(program.inputs):
            dying[i].append(number)
    return dying
