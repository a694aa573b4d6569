"""The CPU's backend: torch and loops that Numba compiles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch

from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.table import aten_table
from podlt.exact.aten.tensors import named
from podlt.exact.cpu import (
    attention,
    convolution,
    elementwise,
    losses,
    normalise,
    places,
    pooling,
    products,
    recurrences,
    reduce,
    scans,
    selection,
)

_ONE_KERNEL = """
div.Tensor div.Scalar threshold_backward.default sign.default clone.default
gather.default scatter.value index_select.default index.Tensor embedding.default
full.default zeros.default ones.default scalar_tensor.default
"""


def _relu(x: Tensor) -> Tensor:
    """0 where x < 0, else x: -0 and NaN stay. One pass of a comparison and a choice, where processors' own maxima
    disagree about zeros: what is below 0 is at most the subnormal next to it."""
    return torch.threshold(x, -(2.0**-149) if x.is_floating_point() else -1, 0)


@cache
def backend(digits: int) -> Backend:
    """The primitives on one CPU."""
    return Backend(
        device=torch.device("cpu"),
        digits=digits,
        native={
            **named(_ONE_KERNEL.split()),
            "relu.default": _relu,
            **elementwise.NATIVE,
            **places.NATIVE,
            **normalise.NATIVE,
            **pooling.NATIVE,
            **recurrences.operations(digits),
        },
        functions=elementwise.FUNCTIONS,
        slopes=elementwise.SLOPES,
        elementwise=elementwise,
        sums=reduce,
        products=products,
        convolutions=convolution,
        norms=normalise,
        attention=attention,
        pooling=pooling,
        losses=losses,
        selection=selection,
    )


@cache
def table(digits: int) -> Mapping[str, Operation]:
    """`aten_table` of this backend, with loops in place of compositions."""
    base = aten_table(backend(digits))
    faster = [module.faster(base) for module in (losses, places, pooling, scans)]
    return MappingProxyType({name: run for part in (base, *faster) for name, run in part.items()})
