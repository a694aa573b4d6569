"""The golden vectors on another device, or by another way of products: the same digest as everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from podlt.exact import conformance
from podlt.exact.portable.elementwise import Operation
from podlt.exact.portable.table import table

HERE = "cpu"
"""The CPU with its own twin."""

PORTABLE = "portable"
"""The CPU with the portable table: the bits that a GPU must give, on a machine that has none."""


def torch_device(device: str) -> str:
    """What torch calls a device on which the portable table runs: "cpu" for "portable", others by their own name."""
    return "cpu" if device == PORTABLE else device


def check(device: str) -> conformance.Report:
    """Recompute every golden vector on `device`: "cpu", "portable", "cuda" or "cuda:N".

    Raises:
        UsageError: there is no such device here.
    """
    return conformance.check() if device == HERE else conformance.check(partial(visited, torch_device(device)))


def visited(device: str, digits: int) -> Mapping[str, Operation]:
    """The portable table of a device for tensors on the CPU: they go there, and what comes out comes back."""
    return {name: _visiting(run, device) for name, run in table(digits, device).items()}


def _visiting(run: Operation, device: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return moved(run(*moved(arguments, device), **moved(options, device)), "cpu")

    return call


def moved(item: Any, device: str) -> Any:
    """`item` with every tensor in it on `device`."""
    if isinstance(item, torch.Tensor):
        return item.to(device)
    if isinstance(item, dict):
        return {key: moved(value, device) for key, value in item.items()}
    return type(item)(moved(part, device) for part in item) if isinstance(item, list | tuple) else item
