"""The golden vectors on another device, or by another way of products: the same digest as everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from podlt.exact import conformance
from podlt.exact.aten.backend import Operation
from podlt.exact.portable.backend import table
from podlt.exact.portable.devices import CPU, torch_device


def check(device: str) -> conformance.Report:
    """Recompute every golden vector on `device`: "cpu", "portable", "cuda" or "cuda:N".

    Raises:
        UsageError: there is no such device here.
    """
    return conformance.check() if device == CPU else conformance.check(partial(visited, device))


def visited(device: str, digits: int) -> Mapping[str, Operation]:
    """The portable table of a device for tensors on the CPU: they go there, and what comes out comes back."""
    at = torch_device(device)
    return {name: _visiting(run, at) for name, run in table(digits, device).items()}


def _visiting(run: Operation, device: torch.device) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return moved(run(*moved(arguments, device), **moved(options, device)), torch.device(CPU))

    return call


def moved(item: Any, device: torch.device) -> Any:
    """`item` with every tensor in it on `device`."""
    if isinstance(item, torch.Tensor):
        return item.to(device)
    if isinstance(item, dict):
        return {key: moved(value, device) for key, value in item.items()}
    return type(item)(moved(part, device) for part in item) if isinstance(item, list | tuple) else item
