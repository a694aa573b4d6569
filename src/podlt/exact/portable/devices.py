"""The names of devices.

"cpu" has its own backend; "cuda" and "cuda:N" are GPUs; on the CPU, "portable" is what a GPU without Triton runs, and
"triton" the kernels of one with it, by Triton's interpreter.
"""

from __future__ import annotations

import importlib.util
import os

import torch

from podlt.errors import UsageError

CPU = "cpu"
PORTABLE = "portable"
INTERPRETED = "triton"
_EXPECTED = "cpu, cuda, cuda:N, portable or triton"


def torch_device(name: str) -> torch.device:
    """The device that torch computes on.

    Raises:
        UsageError: torch knows no such device, or finds none on this machine.
    """
    if name == INTERPRETED:
        _require_interpreter()
    try:
        found = torch.device(CPU if name in (PORTABLE, INTERPRETED) else name)
    except RuntimeError:
        raise UsageError(f"device: expected {_EXPECTED}, got {name!r}") from None
    if found.type not in ("cpu", "cuda"):
        raise UsageError(f"device: expected {_EXPECTED}, got {name!r}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name}: expected a GPU, but torch {torch.__version__} finds none on this machine")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name}: expected one of {torch.cuda.device_count()} GPUs, counted from 0")
    return found


def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def _require_interpreter() -> None:
    if not has_triton() or os.environ.get("TRITON_INTERPRET") != "1":
        raise UsageError("device triton: expected Triton (pip install '.[gpu]') and TRITON_INTERPRET=1")
