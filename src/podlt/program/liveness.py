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


_OWN = frozenset(("mm.default", "embedding_dense_backward.default"))
"""Operations whose output is memory of its own, of the size of a parameter."""


def sums_in_place(program: Program, dying: list[list[int]]) -> frozenset[int]:
    """Additions whose second term nothing needs afterwards, and nothing else lies in: gradients of a tied weight.

    Args:
        program: the program.
        dying: its `last_uses`.
    """
    own = {node.outputs[0] for node in program.nodes if node.operation in _OWN} - {v for _, v in program.outputs}
    return frozenset(
        i
        for i, node in enumerate(program.nodes)
        if node.operation == "add.Tensor" and len(references(node.arguments)) == 2 and not node.keywords
        for first, second in [references(node.arguments)]
        if first != second and second in own and second in dying[i] and program.types[first] == program.types[second]
    )
