"""Of how few lines a program can be run: a fact of the program, to be held against the fragments of a plan."""

from __future__ import annotations

from math import prod

from podlt.errors import InvalidProofError
from podlt.program.ir import Program
from podlt.program.line_sums import BATCH_NORM
from podlt.program.validate import check_lines

MOST = 3
"""A step that cannot be run with so many lines is refused when it is validated."""


def least_lines(program: Program) -> tuple[int, str]:
    """The smallest number of lines that a program can be run with, and why it is not one ("" if it is).

    A batch normalisation needs two values a channel, as in PyTorch: of one value there is no variance.
    """
    found = ""
    for lines in range(1, MOST):
        why = _why_not(program, lines)
        if not why:
            return lines, found
        found = why
    return MOST, found


def _why_not(program: Program, lines: int) -> str:
    for node in program.nodes:
        if node.operation == BATCH_NORM and node.arguments[5] is True:
            shape = program.types[node.arguments[0]["v"]].at(lines)
            if prod(shape) <= shape[1]:
                return "BatchNorm in train mode has no variance of one value a channel"
    try:
        check_lines(program, lines)
    except InvalidProofError as error:
        return str(error)
    return ""
