"""What common operations give, by rules of our own, where PyTorch would import its compiler to say it.

The first inference on a meta tensor imports `sympy`, and many import `torch._dynamo`: a second of the processor's time
that a worker would wait before its first task. The rules are the rows' (`exact.operations`), and leave to PyTorch what
they are not sure of.
"""

from __future__ import annotations

from typing import Any

from podlt.exact.operations import ROWS
from podlt.exact.operations.types import Rule, Types
from podlt.program.ir import Program, is_affine, resolve

RULES: dict[str, Rule] = {name: row.rule for name, row in ROWS.items() if row.rule is not None}
"""By operation."""

_APPROXIMATE = ("gelu.default", "gelu_backward.default")


def infer(program: Program, number: int, examples: int) -> Types | None:
    """The types of a node's outputs (None for a gradient that is not asked for), or None where no rule says them.

    Args:
        program: whose arguments have a known form.
        number: of the node.
        examples: the number of examples.
    """
    node = program.nodes[number]
    rule = RULES.get(node.operation)
    if rule is None or (node.keywords and node.operation not in _APPROXIMATE):
        return None
    if any(key != "approximate" or value not in ("none", "tanh") for key, value in node.keywords.items()):
        return None
    found = rule([given_types(program, item, examples) for item in node.arguments])
    return found if found is not None and len(found) == len(node.outputs) else None


def given_types(program: Program, item: Any, examples: int) -> Any:
    """An argument as rules take it: tensors by their types, everything else resolved."""
    if isinstance(item, dict) and "v" in item:
        kind = program.types[item["v"]]
        return kind.dtype, kind.at(examples)
    if isinstance(item, list):
        return [given_types(program, part, examples) for part in item]
    return resolve(item, examples) if is_affine(item) else item
