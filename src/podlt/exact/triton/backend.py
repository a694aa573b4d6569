"""The backend for GPUs with Triton: its kernels where there are some, the portable table's primitives elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache

import torch

from podlt.exact.aten.backend import Backend, Operation
from podlt.exact.aten.table import aten_table
from podlt.exact.portable.backend import backend as portable_backend
from podlt.exact.portable.devices import torch_device
from podlt.exact.triton import attention, convolution, elementwise, normalise, products, reduce


@cache
def backend(digits: int, device: torch.device) -> Backend:
    """The primitives on one device."""
    portable = portable_backend(digits, device)
    return dataclasses.replace(
        portable,
        functions={**portable.functions, **elementwise.FUNCTIONS},
        slopes={**portable.slopes, **elementwise.SLOPES},
        sums=reduce,
        products=products,
        convolutions=convolution,
        norms=normalise,
        attention=attention,
    )


@cache
def table(digits: int, device: str) -> Mapping[str, Operation]:
    """`aten_table` of this backend, on a device that `torch_device` names.

    Raises:
        UsageError: `digits` is none that products can be cut into, or there is no such device.
    """
    return aten_table(backend(digits, torch_device(device)))
