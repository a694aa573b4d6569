"""The backend for any device: plain torch operations, each a kernel that rounds once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import torch

from podlt.exact.aten.backend import Operation, Tensor
from podlt.exact.aten.table import aten_table
from podlt.exact.aten.tensors import as_float
from podlt.exact.portable import convolution, elementary, losses, normalise, pooling, products, reduce, selection
from podlt.exact.portable.bits import check_places
from podlt.exact.portable.devices import PORTABLE, torch_device

Function = Callable[[Tensor], Tensor]
_NAMES = "exp log log1p expm1 tanh sigmoid log2 erf erfc atan rsqrt silu gelu gelu_tanh"
_FUNCTIONS: Mapping[str, Function] = {
    **{name: getattr(elementary, name) for name in _NAMES.split()},
    "sqrt": elementary.square_root,
    "sin": partial(elementary.wave, quarters=0),
    "cos": partial(elementary.wave, quarters=1),
}
_SLOPES: Mapping[str, Function] = {
    "silu": elementary.silu_slope,
    "gelu": elementary.gelu_slope,
    "gelu_tanh": elementary.gelu_tanh_slope,
}


def _of_floats(function: Function) -> Function:
    return lambda x: function(as_float(x))


def _of_gradient(slope: Function) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda grad, x: grad * slope(x)


@dataclass(frozen=True)
class PortableBackend:
    """`aten.backend.Backend` on one device.

    Args:
        digits: into how many 7-bit digits products cut their operands.
        device: where it computes.
    """

    digits: int
    device: torch.device
    native: ClassVar[Mapping[str, Operation]] = {}
    functions: ClassVar[Mapping[str, Function]] = {name: _of_floats(run) for name, run in _FUNCTIONS.items()}
    slopes: ClassVar[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
        name: _of_gradient(slope) for name, slope in _SLOPES.items()
    }

    power = staticmethod(elementary.power)
    fmod = staticmethod(elementary.fmod)
    check_places = staticmethod(check_places)
    total = staticmethod(reduce.total)
    cumulative = staticmethod(reduce.cumulative)
    scatter_rows = staticmethod(reduce.scatter_rows)
    mm = staticmethod(products.mm)
    bmm = staticmethod(products.bmm)
    cut_samples = staticmethod(convolution.cut_samples)
    spaced = staticmethod(convolution.spaced)
    convolve = staticmethod(convolution.convolve)
    weight_gradient = staticmethod(convolution.weight_gradient)
    softmax = staticmethod(normalise.softmax)
    softmax_backward = staticmethod(normalise.softmax_backward)
    layer_norm = staticmethod(normalise.layer_norm)
    layer_norm_backward = staticmethod(normalise.layer_norm_backward)
    batch_norm = staticmethod(normalise.batch_norm)
    mixed = staticmethod(normalise.mixed)
    inverse_deviation = staticmethod(normalise.inverse_deviation)
    channel_normalise = staticmethod(normalise.channel_normalise)
    batch_norm_backward = staticmethod(normalise.batch_norm_backward)
    max_pool = staticmethod(pooling.max_pool)
    max_pool_backward = staticmethod(pooling.max_pool_backward)
    picked = staticmethod(losses.picked)
    spread = staticmethod(losses.spread)
    sort = staticmethod(selection.sort)
    first = staticmethod(selection.first)
    extreme = staticmethod(selection.extreme)


@cache
def table(digits: int, device: str = PORTABLE) -> Mapping[str, Operation]:
    """`aten_table` of a `PortableBackend`, on a device that `torch_device` names.

    Raises:
        UsageError: `digits` is none of 1, 2 and 3, or there is no such device.
    """
    return aten_table(PortableBackend(digits, torch_device(device)))
