"""Functions of each element: one launch each. Definition: `definition.elementary`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl

from podlt.exact.aten.tensors import as_float
from podlt.exact.triton import scalars
from podlt.exact.triton.jit import kernel, launch

Tensor = torch.Tensor
BLOCK = 1024
NAMES = (
    *("exp", "log", "log1p", "expm1", "tanh", "sigmoid", "log2", "erf", "atan", "sqrt", "rsqrt"),
    *("silu", "gelu", "gelu_tanh"),
)
"""The functions that have a kernel; the others of `aten.backend` are computed in binary64 by the portable table."""


@kernel
def map_kernel(x, out, size, function: tl.constexpr, block: tl.constexpr):
    """out = function(x)."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    tl.store(out + place, function(tl.load(x + place, mask=inside, other=1.0)), mask=inside)


@kernel
def slope_kernel(grad, x, out, size, function: tl.constexpr, block: tl.constexpr):
    """out = grad * function(x)."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    slope = function(tl.load(x + place, mask=inside, other=1.0))
    tl.store(out + place, tl.load(grad + place, mask=inside, other=0.0) * slope, mask=inside)


def _grid(size: int) -> tuple[int]:
    return (-(-size // BLOCK),)


def _function(device_function: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        given = as_float(x).contiguous()
        out = torch.empty_like(given)
        launch(map_kernel, _grid(out.numel()), given, out, out.numel(), function=device_function, block=BLOCK)
        return out

    return run


def _slope(device_function: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def run(grad: Tensor, x: Tensor) -> Tensor:
        steps, given = torch.broadcast_tensors(grad, as_float(x))
        steps, given = steps.contiguous(), given.contiguous()
        out = torch.empty_like(given)
        grid = _grid(out.numel())
        launch(slope_kernel, grid, steps, given, out, out.numel(), function=device_function, block=BLOCK)
        return out

    return run


FUNCTIONS = {name: _function(getattr(scalars, name)) for name in NAMES}
SLOPES = {name: _slope(getattr(scalars, f"{name}_slope")) for name in ("silu", "gelu", "gelu_tanh")}
