"""The exact table on any device that torch has, in plain torch operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from podlt.exact.aten.backend import Operation
from podlt.exact.aten.table import aten_table
from podlt.exact.portable.backend import PortableBackend
from podlt.exact.portable.devices import torch_device


@cache
def table(digits: int, device: str = "cpu") -> Mapping[str, Operation]:
    """`aten_table` of a `PortableBackend`, whose bits are those of the CPU's own.

    Args:
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, or 3 (about 1e-6).
        device: "cuda", "cuda:N", or the CPU, as which both "cpu" and "portable" count here.

    Raises:
        UsageError: `digits` is none of these, or there is no such device.
    """
    return aten_table(PortableBackend(digits, torch_device(device)))
