"""The only list of operations: one row each, read by programs, golden vectors and tests.

A new operation is a row and a definition, with which both backends are compared; and a kernel where speed asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from podlt.exact.operations import attention, elementwise, layers, recurrences, reductions, structure
from podlt.exact.operations.row import Definition, Family, Row, Table

ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for part in (elementwise, structure, reductions, layers, recurrences, attention)
        for row in part.ROWS
    }
)
"""By name: that of an ATen overload, or a plain one of our own."""


def named(*families: Family) -> frozenset[str]:
    """The operations of some families."""
    return frozenset(name for name, row in ROWS.items() if row.family in families)


def definitions(digits: int) -> dict[str, Definition]:
    """The definition of each operation.

    Args:
        digits: into how many 7-bit digits products cut their operands, 1 to 3.
    """
    return {name: row.defined(digits) for name, row in ROWS.items()}


def samples(table: Table) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Calls of every operation: its name, arguments and keywords.

    Args:
        table: what computes the results of forward passes that backward passes are given.
    """
    for name, row in ROWS.items():
        for arguments, options in row.calls(table):
            yield name, arguments, options
