"""The exact table for one device: `exact.table` with the same names, signatures and bits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from podlt.errors import UsageError
from podlt.exact.constants import MAX_DIGITS
from podlt.exact.portable.devices import torch_device
from podlt.exact.portable.elementwise import Operation, elementwise
from podlt.exact.portable.layers import layers
from podlt.exact.portable.losses import losses
from podlt.exact.portable.selection import selection
from podlt.exact.portable.structure import structure


@cache
def table(digits: int, device: str = "cpu") -> Mapping[str, Operation]:
    """Each operation that has an exact definition, under its ATen overload's name and with its signature.

    Tensors are float32, int64 or bool on `device`, with any strides; so is what comes out.

    Args:
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, or 3 (about 1e-6).
        device: "cuda", "cuda:N", or the CPU, as which both "cpu" and "portable" count here.

    Raises:
        UsageError: `digits` is none of these, or there is no such device.
    """
    if digits not in range(1, MAX_DIGITS + 1):
        raise UsageError(f"arithmetic: expected 1, 2 or 3 digits, got {digits}")
    at = torch_device(device)
    return MappingProxyType({**structure(at), **selection(at), **elementwise(), **losses(), **layers(digits)})
