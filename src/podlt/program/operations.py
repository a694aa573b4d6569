"""The closed table of operations: what a program may hold, and nothing else runs.

A name is that of an ATen overload ("mm.default"); the names are fixed here, never taken from a program. `stock` runs
PyTorch's own kernels, on one thread: equal bits between processes of one machine, not between machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch

from podlt.errors import UnsupportedError
from podlt.exact.operations import ROWS
from podlt.exact.portable.devices import CPU, torch_device
from podlt.program.philox import uniform

STOCK = frozenset(name for name, row in ROWS.items() if row.in_programs)
"""The ATen overloads that a program may hold, and that `stock` runs as they are."""

_BOUND: Mapping[str, Callable[..., Any]] = {
    "mm.default": torch.mm,
    "bmm.default": torch.bmm,
    "addmm.default": torch.addmm,
    "t.default": torch.t,
    "transpose.int": torch.transpose,
    "permute.default": torch.permute,
    "relu.default": torch.relu,
    "sigmoid.default": torch.sigmoid,
    "tanh.default": torch.tanh,
    "add.Tensor": torch.add,
    "sub.Tensor": torch.sub,
    "mul.Tensor": torch.mul,
    "sum.dim_IntList": torch.sum,
}
"""The same kernels by PyTorch's own binding, which reads its arguments in a third less time than the registry's."""

_RESHAPES = {"view.default", "_unsafe_view.default", "reshape.default"}
"""On row-major values these are one operation: a program knows no strides."""


def draw_uniform(seed: int, draw: int, shape: list[int]) -> torch.Tensor:
    """A tensor of uniform float32 in [0, 1): the program's `draw`-th, for the task's seed."""
    count = 1
    for dim in shape:
        count *= dim
    return torch.from_numpy(uniform(seed, draw, count)).reshape(shape)


def constant(dtype: torch.dtype, shape: list[int], values: list[Any]) -> torch.Tensor:
    """A small constant that the model holds."""
    return torch.tensor(values, dtype=dtype).reshape(shape)


def _make_contiguous_reshape(value: torch.Tensor, shape: list[int]) -> torch.Tensor:
    return value.reshape(shape)


STOCK_ARITHMETIC = "stock"
EXACT_ARITHMETIC = {f"exact/{digits}": digits for digits in (1, 2, 3)}
"""The exact arithmetics, by the number of digits into which products cut their operands."""


@cache
def table(arithmetic: str, device: str = CPU) -> Mapping[str, Callable[..., Any]]:
    """The operations of an arithmetic, by name; those of exact ones give the same bits on every device.

    Args:
        arithmetic: "stock", or one of `EXACT_ARITHMETIC`.
        device: as `exact.portable.devices` names it; all but the CPU are for exact arithmetics.

    Raises:
        UnsupportedError: there is no such arithmetic here, or not on this device.
        UsageError: no such device here.
    """
    if device != CPU:
        return _device_table(arithmetic, device)
    if arithmetic == STOCK_ARITHMETIC:
        found: dict[str, Callable[..., Any]] = {name: _overload(name)._op for name in STOCK - _RESHAPES}
        found |= _BOUND
        found |= dict.fromkeys(_RESHAPES, _make_contiguous_reshape)
    elif arithmetic in EXACT_ARITHMETIC:
        from podlt.exact.cpu.table import (
            table as exact_table,  # brings a compiler along: only who needs it waits for it
        )

        exact = exact_table(EXACT_ARITHMETIC[arithmetic])
        found = {name: operation for name, operation in exact.items() if name in STOCK}
    else:
        known = ", ".join([STOCK_ARITHMETIC, *EXACT_ARITHMETIC])
        raise UnsupportedError(f"no arithmetic named {arithmetic!r}: expected one of {known}")
    found["uniform"] = draw_uniform
    found["constant"] = constant
    return found


def writing(arithmetic: str, device: str = CPU) -> Mapping[str, Callable[..., Any]]:
    """The operations of an arithmetic that can write into given memory (`out`) the bits that they have without."""
    if arithmetic == STOCK_ARITHMETIC:
        return {"mm.default": torch.mm}
    if device != CPU or arithmetic not in EXACT_ARITHMETIC:
        return {}
    from podlt.exact.cpu.products import mm

    return {"mm.default": partial(mm, digits=EXACT_ARITHMETIC[arithmetic])}


def _device_table(arithmetic: str, device: str) -> Mapping[str, Callable[..., Any]]:
    if arithmetic not in EXACT_ARITHMETIC:
        raise UnsupportedError(
            f"device {device}: expected an exact arithmetic, got {arithmetic!r}, which is the CPU's own"
        )
    from podlt.exact.portable.random import uniform as uniform_there
    from podlt.exact.portable.table import table as portable_table

    at = torch_device(device)
    portable = portable_table(EXACT_ARITHMETIC[arithmetic], device)
    found = {name: operation for name, operation in portable.items() if name in STOCK}
    found["uniform"] = lambda seed, draw, shape: uniform_there(seed, draw, shape, at)
    found["constant"] = lambda dtype, shape, values: constant(dtype, shape, values).to(at)
    return found


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload)
