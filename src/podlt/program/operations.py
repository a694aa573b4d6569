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
from podlt.exact.aten import attention, recurrences
from podlt.exact.aten.structure import RESHAPES, reshape
from podlt.exact.aten.tensors import named
from podlt.exact.constants import ADAPTIVE
from podlt.exact.operations import ROWS
from podlt.exact.portable.devices import CPU, torch_device
from podlt.program.philox import uniform, uniform_by_loops

STOCK = frozenset(name for name, row in ROWS.items() if row.in_programs)
"""The operations that a program may hold; ATen's own `stock` runs as they are."""

_OWN: Mapping[str, Callable[..., Any]] = {**recurrences.STOCK, **attention.STOCK}
"""Those that are none of ATen's, by PyTorch's kernels."""


def _nll_backward(
    name: str, classes: int, grad: torch.Tensor, x: torch.Tensor, target: torch.Tensor, *rest: Any
) -> torch.Tensor:
    """As aten::nll_loss_backward or aten::nll_loss2d_backward, which write at classes that there are not where nothing
    is reduced (torch 2.13).

    Args:
        name: of the operation.
        classes: their dimension.

    Raises:
        IndexError: a target is no class, nor the one to ignore.
    """
    if target.device.type != "meta":
        outside = (target != rest[2]) & ((target < 0) | (target >= x.shape[classes]))
        if bool(outside.any()):
            raise IndexError(f"{name}: expected classes below {x.shape[classes]}")
    given = grad, x.contiguous(), target, *rest  # in two dimensions it wants memory in order
    return getattr(torch.ops.aten, name)(*given)  # type: ignore[no-any-return]


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
    "nll_loss_backward.default": partial(_nll_backward, "nll_loss_backward", -1),
    "nll_loss2d_backward.default": partial(_nll_backward, "nll_loss2d_backward", 1),
}
"""The same kernels by PyTorch's own binding, which reads its arguments in a third less time than the registry's; two
are held to their classes."""


def constant(
    dtype: torch.dtype, shape: list[int], values: list[Any], device: torch.device | None = None
) -> torch.Tensor:
    """A small constant that the model holds."""
    return torch.tensor(values, dtype=dtype).reshape(shape).to(device)


STOCK_ARITHMETIC = "stock"
EXACT_ARITHMETIC = {"exact/auto": ADAPTIVE, **{f"exact/{digits}": digits for digits in (1, 2, 3)}}
"""The exact arithmetics, by the number of digits into which products cut their operands; "auto" lets rows decide."""


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
    if arithmetic in EXACT_ARITHMETIC:
        exact = _exact_table(EXACT_ARITHMETIC[arithmetic], device)
        found = {name: operation for name, operation in exact.items() if name in STOCK}
    elif device != CPU:
        raise UnsupportedError(f"device {device}: expected an exact arithmetic, got {arithmetic!r}")
    elif arithmetic == STOCK_ARITHMETIC:
        found = {**named(STOCK - set(_OWN)), **_OWN, **_BOUND, **dict.fromkeys(RESHAPES, reshape)}
    else:
        known = ", ".join([STOCK_ARITHMETIC, *EXACT_ARITHMETIC])
        raise UnsupportedError(f"no arithmetic named {arithmetic!r}: expected one of {known}")
    at = torch_device(device)
    compiled = device == CPU and arithmetic in EXACT_ARITHMETIC
    draws = uniform_by_loops if compiled else partial(uniform, device=at)
    return found | {"uniform": draws, "constant": partial(constant, device=at)}


def writing(arithmetic: str, device: str = CPU) -> Mapping[str, Callable[..., Any]]:
    """The operations of an arithmetic that can write into given memory (`out`) the bits that they have without."""
    if arithmetic == STOCK_ARITHMETIC:
        return {"mm.default": torch.mm}
    if device != CPU or arithmetic not in EXACT_ARITHMETIC:
        return {}
    from podlt.exact.cpu.places import embedding_backward
    from podlt.exact.cpu.products import mm

    return {
        "mm.default": partial(mm, digits=EXACT_ARITHMETIC[arithmetic]),
        "embedding_dense_backward.default": embedding_backward,
    }


def _exact_table(digits: int, device: str) -> Mapping[str, Callable[..., Any]]:
    if device == CPU:
        from podlt.exact.cpu.backend import table  # brings a compiler along: only who needs it waits for it

        return table(digits)
    from podlt.exact.device_table import device_table

    return device_table(digits, device)
