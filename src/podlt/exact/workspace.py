"""Scratch memory that is kept: a fresh buffer of a megabyte costs more, in page faults, than the loop that fills it."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from podlt.exact.rules import Array

_local = threading.local()


def take(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """An uninitialised array in the memory kept under `name` for this thread, grown where it is too small.

    What an earlier `take` of the same name returned is overwritten: results never live here.
    """
    kept: dict[str, torch.Tensor] = _local.__dict__.setdefault("kept", {})
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if name not in kept or kept[name].numel() < size:
        kept[name] = torch.empty(max(size, 64), dtype=torch.uint8)
    array: Array = kept[name].numpy()[:size].view(dtype).reshape(shape)
    return array
