"""The exact table on this machine's CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from podlt.exact.aten.backend import Operation
from podlt.exact.aten.table import aten_table
from podlt.exact.cpu.backend import CpuBackend


@cache
def table(digits: int) -> Mapping[str, Operation]:
    """`aten_table` of a `CpuBackend`."""
    return aten_table(CpuBackend(digits))
