"""The elementary functions of tensors, by the loops of `kernels.elementary`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from podlt.exact.aten.backend import AS_THEY_ARE, OTHERS
from podlt.exact.constants import Array
from podlt.exact.cpu.kernels import elementary as loops

_SLOPES = "gelu gelu_tanh silu"


def _flat(x: torch.Tensor) -> Array:
    """The values of a tensor as float32, flat, made contiguous where they are not."""
    values: Array = x.detach().float().contiguous().numpy().reshape(-1)
    return values


def _unary(which: int, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty(x.shape)
    loops.unary(which, _flat(x), out.numpy().reshape(-1))
    return out


def _slope(which: int, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty(x.shape)
    loops.slope(which, _flat(grad.expand(x.shape)), _flat(x), out.numpy().reshape(-1))
    return out


def fmod(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`Elementwise.fmod`."""
    out = torch.empty(a.shape)
    loops.fmod(_flat(a), _flat(b), out.numpy().reshape(-1))
    return out


def power(x: torch.Tensor, y: torch.Tensor | float) -> torch.Tensor:
    """`Elementwise.power`: in binary64, rounded once."""
    if isinstance(y, torch.Tensor):
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, exponents = x.expand(shape), _flat(y.expand(shape))
    else:
        exponents = np.array([y], np.float32)
    out = torch.empty(x.shape)
    loops.power(_flat(x), exponents, out.numpy().reshape(-1))
    return out


FUNCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    name: partial(_unary, getattr(loops, name.upper())) for name in (*AS_THEY_ARE, *OTHERS)
}
SLOPES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    name: partial(_slope, getattr(loops, name.upper())) for name in _SLOPES.split()
}
