"""The names of devices: "cpu" (its own backend), "cuda" and "cuda:N", and "portable": the CPU by the table of a GPU."""

from __future__ import annotations

import torch

from podlt.errors import UsageError

CPU = "cpu"
PORTABLE = "portable"


def torch_device(name: str) -> torch.device:
    """The device that torch computes on.

    Raises:
        UsageError: torch knows no such device, or finds none on this machine.
    """
    try:
        found = torch.device(CPU if name == PORTABLE else name)
    except RuntimeError:
        raise UsageError(f"device: expected cpu, cuda, cuda:N or portable, got {name!r}") from None
    if found.type not in ("cpu", "cuda"):
        raise UsageError(f"device: expected cpu, cuda, cuda:N or portable, got {name!r}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name}: expected a GPU, but torch {torch.__version__} finds none on this machine")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name}: expected one of {torch.cuda.device_count()} GPUs, counted from 0")
    return found
