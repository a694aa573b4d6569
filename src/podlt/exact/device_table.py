"""The exact table of a device that is not the CPU by its own backend: by Triton where it is, else in plain torch."""

from __future__ import annotations

from podlt.exact.operations.row import Table
from podlt.exact.portable.backend import table as portable_table
from podlt.exact.portable.devices import INTERPRETED, PORTABLE, has_triton


def by_triton(device: str) -> bool:
    """Whether a device's table has Triton's kernels."""
    return device == INTERPRETED or (device != PORTABLE and has_triton())


def device_table(digits: int, device: str) -> Table:
    """The table of "cuda", "cuda:N", "portable" or "triton".

    Raises:
        UsageError: `digits` is none that products can be cut into, or there is no such device.
    """
    if not by_triton(device):
        return portable_table(digits, device)
    from podlt.exact.triton.backend import table

    return table(digits, device)
