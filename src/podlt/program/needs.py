"""Of how few examples a program can be run: a fact of the program, to be held against the shards of a plan."""

from __future__ import annotations

from math import prod

from podlt.errors import InvalidProofError
from podlt.program.example_sums import BATCH_NORM
from podlt.program.ir import Program
from podlt.program.validate import check_examples

MOST = 3
"""A step that cannot be run with so many examples is refused when it is validated."""


def least_examples(program: Program) -> tuple[int, str]:
    """The smallest number of examples that a program can be run with, and why it is not one ("" if it is).

    A batch normalisation needs two values a channel, as in PyTorch: of one value there is no variance.
    """
    found = ""
    for examples in range(1, MOST):
        why = _why_not(program, examples)
        if not why:
            return examples, found
        found = why
    return MOST, found


def _why_not(program: Program, examples: int) -> str:
    for node in program.nodes:
        if node.operation == BATCH_NORM and node.arguments[5] is True:
            shape = program.types[node.arguments[0]["v"]].at(examples)
            if prod(shape) <= shape[1]:
                return "BatchNorm in train mode has no variance of one value a channel"
    try:
        check_examples(program, examples)
    except InvalidProofError as error:
        return str(error)
    return ""
