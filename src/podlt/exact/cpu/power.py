"""Powers by the loops of `kernels.power`: in binary64, rounded once."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.coefficients import LARGEST_INTEGER_POWER
from podlt.exact.cpu.kernels import elementwise as loops
from podlt.exact.cpu.kernels import power as kernels
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor


def power(x: Tensor, y: Tensor | float) -> Tensor:
    """`Elementwise.power`."""
    if isinstance(y, Tensor):
        return _of_each(x, y)
    values, out = x.contiguous(), torch.empty(x.shape)
    n, exponent = values.numel(), np.float64(np.float32(y))
    if abs(exponent) <= LARGEST_INTEGER_POWER and exponent == int(exponent):
        loops.whole_power(address(values), n, int(exponent), address(out))
    else:
        kernels.power_of_one(address(values), n, exponent, address(out))
    return out


def _of_each(x: Tensor, y: Tensor) -> Tensor:
    """Powers by an exponent each."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    base, exponents = (t.detach().float().expand(shape).contiguous().numpy().reshape(-1) for t in (x, y))
    out = torch.empty(shape)
    kernels.power_of_each(base, exponents, out.numpy().reshape(-1))
    return out
