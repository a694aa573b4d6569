"""The backend for any device: plain torch operations, each a kernel that rounds once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch

from podlt.exact.aten.backend import AS_THEY_ARE, OTHERS, Backend, Operation, Tensor
from podlt.exact.aten.table import aten_table
from podlt.exact.aten.tensors import as_float
from podlt.exact.portable import attention, convolution, elementary, normalise, pooling, products, reduce, selection
from podlt.exact.portable.devices import PORTABLE, torch_device

Function = Callable[[Tensor], Tensor]
_SLOPES: Mapping[str, Function] = {
    "silu": elementary.silu_slope,
    "gelu": elementary.gelu_slope,
    "gelu_tanh": elementary.gelu_tanh_slope,
}


def _of_floats(function: Function) -> Function:
    return lambda x: function(as_float(x))


def _of_gradient(slope: Function) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda grad, x: grad * slope(x)


@cache
def backend(digits: int, device: torch.device) -> Backend:
    """The primitives on one device."""
    return Backend(
        device=device,
        digits=digits,
        native={},
        functions={name: _of_floats(getattr(elementary, name)) for name in (*AS_THEY_ARE, *OTHERS)},
        slopes={name: _of_gradient(slope) for name, slope in _SLOPES.items()},
        elementwise=elementary,
        sums=reduce,
        products=products,
        convolutions=convolution,
        norms=normalise,
        attention=attention,
        pooling=pooling,
        losses=None,
        selection=selection,
    )


@cache
def table(digits: int, device: str = PORTABLE) -> Mapping[str, Operation]:
    """`aten_table` of this backend, on a device that `torch_device` names.

    Raises:
        UsageError: `digits` is none of 1, 2 and 3, or there is no such device.
    """
    return aten_table(backend(digits, torch_device(device)))
