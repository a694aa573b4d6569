"""What the other parts are made of: exponents from bits, exact scaling, integers rounded once."""

from __future__ import annotations

import torch

from podlt.exact.aten.tensors import INFINITY
from podlt.exact.constants import NonFiniteError

_MAGNITUDE = 0x7FFFFFFF
_LOW = 0x7FF
_STICKY = 0x400
Tensor = torch.Tensor


def magnitudes(x: Tensor) -> Tensor:
    """The bits of |x|, int32: they order like the magnitudes, and infinities and NaNs come last."""
    return x.detach().view(torch.int32) & _MAGNITUDE


def exponents(tops: Tensor, operation: str) -> Tensor:
    """The e with max|x| < 2**e, int64, from the largest `magnitudes`.

    Raises:
        NonFiniteError: one is that of an infinity or a NaN. The message names `operation`.
    """
    if bool((tops >= INFINITY).any()):
        raise NonFiniteError(operation)
    return (tops >> 23).long() - 126


def power32(e: Tensor) -> Tensor:
    """2**e as float32 for whole e with a normal result, from its bits."""
    return ((e + 127) << 23).to(torch.int32).view(torch.float32)


def power64(e: Tensor) -> Tensor:
    """2**e as float64 for int64 e with a normal result, from its bits."""
    return ((e + 1023) << 52).view(torch.float64)


def units(x: Tensor, e: Tensor) -> Tensor:
    """round_half_even(x / 2**e) as int64; exact as float64, since it only moves the exponent of a float32."""
    return torch.round(x.double() * power64(-e)).long()


def rounded(total: Tensor, e: Tensor) -> Tensor:
    """total * 2**e for int64 `total`, rounded to float32 once: beyond 2**53 the lowest bits become one sticky bit."""
    sticky = (total & ~_LOW) | torch.where((total & _LOW) != 0, _STICKY, 0)
    total = torch.where(total.abs() >= 2**53, sticky, total)
    return (total.double() * power64(e)).float()


def from_order_keys(keys: Tensor) -> Tensor:
    """The float32 values of `aten.tensors.order_keys`."""
    return (keys ^ ((keys >> 31) & _MAGNITUDE)).view(torch.float32)
