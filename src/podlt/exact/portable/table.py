"""The exact table for one device: `exact.table` with the same names, signatures and bits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch

from podlt.errors import UsageError
from podlt.exact.portable.elementwise import Operation, elementwise
from podlt.exact.portable.layers import layers
from podlt.exact.portable.losses import losses
from podlt.exact.portable.selection import selection
from podlt.exact.portable.structure import structure
from podlt.exact.rules import MAX_DIGITS


@cache
def table(digits: int, device: str = "cpu") -> Mapping[str, Operation]:
    """Each operation that has an exact definition, under its ATen overload's name and with its signature.

    Tensors are float32, int64 or bool on `device`, with any strides; so is what comes out.

    Args:
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, or 3 (about 1e-6).
        device: as torch names it: "cuda", "cuda:1", "cpu".

    Raises:
        UsageError: `digits` is none of these, or there is no such device.
    """
    if digits not in range(1, MAX_DIGITS + 1):
        raise UsageError(f"arithmetic: expected 1, 2 or 3 digits, got {digits}")
    at = usable(device)
    return MappingProxyType({**structure(at), **selection(at), **elementwise(), **losses(), **layers(digits)})


def usable(device: str) -> torch.device:
    """The device of this name.

    Raises:
        UsageError: torch knows no such device, or finds none on this machine.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device: expected cpu, cuda or cuda:N, got {device!r}") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device}: expected a GPU, but torch {torch.__version__} finds none on this machine")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device}: expected one of {torch.cuda.device_count()} GPUs")
    return found
