"""Scratch memory that is kept: a fresh buffer of a megabyte costs more, in page faults, than the loop that fills it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import numpy as np
import torch

from podlt.exact.constants import Array

MOST_VIEWS = 512
"""So many ways to look at scratch memory are kept; then all are made anew."""

_local = threading.local()
V = TypeVar("V")


def take(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """An uninitialised array in the memory kept under `name` for this thread, grown where it is too small.

    What an earlier `take` of the same name returned is overwritten: results never live here.
    """
    kept: dict[str, torch.Tensor] = _local.__dict__.setdefault("kept", {})
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if name not in kept or kept[name].numel() < size:
        kept[name] = torch.empty(max(size, 64), dtype=torch.uint8)
        _local.__dict__.get("views", {}).clear()
    array: Array = kept[name].numpy()[:size].view(dtype).reshape(shape)
    return array


def view(key: Hashable, make: Callable[[], V]) -> V:
    """What `make` returns, kept for this thread under `key`: tensors and addresses in memory that `take` gave.

    They are made again once any of that memory has grown.
    """
    views: dict[Hashable, object] = _local.__dict__.setdefault("views", {})
    found = views.get(key)
    if found is None:
        made = make()
        if len(views) >= MOST_VIEWS:
            views.clear()
        found = views[key] = made
    return cast(V, found)


def address(x: torch.Tensor, dtype: torch.dtype = torch.float32) -> int:
    """Where the values of a tensor lie, for loops that take addresses.

    Raises:
        TypeError: `x` is not contiguous `dtype` in the CPU's memory: a loop would read what is not its own.
    """
    if x.dtype is not dtype or not x.is_cpu or not x.is_contiguous():
        raise TypeError(f"expected contiguous {dtype} on the CPU, got {x.dtype} {tuple(x.shape)} on {x.device}")
    return x.data_ptr()
