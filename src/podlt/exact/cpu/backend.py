"""The CPU's backend: torch and loops that Numba compiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch

from podlt.exact.aten.backend import Operation, Tensor
from podlt.exact.aten.table import aten_table
from podlt.exact.aten.tensors import named
from podlt.exact.cpu import convolution, elementwise, losses, normalise, pooling, products, reduce, selection

_ONE_KERNEL = """
div.Tensor div.Scalar threshold_backward.default sign.default clone.default
gather.default scatter.value index_select.default index.Tensor embedding.default
full.default zeros.default ones.default scalar_tensor.default
"""


def _relu(x: Tensor) -> Tensor:
    """0 where x < 0, else x: -0 and NaN stay. One pass of a comparison and a choice, where processors' own maxima
    disagree about zeros: what is below 0 is at most the subnormal next to it."""
    return torch.threshold(x, -(2.0**-149) if x.is_floating_point() else -1, 0)


def _check_places(index: Tensor, size: int, operation: str, least: int = 0) -> None:
    """Nothing: torch's kernels for the CPU look at every index themselves."""


@dataclass(frozen=True)
class CpuBackend:
    """`aten.backend.Backend` on one CPU.

    Args:
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, or 3 (about 1e-6).
    """

    digits: int
    device: ClassVar[torch.device] = torch.device("cpu")
    native: ClassVar[Mapping[str, Operation]] = {**named(_ONE_KERNEL.split()), "relu.default": _relu}
    functions = elementwise.FUNCTIONS
    slopes = elementwise.SLOPES

    power = staticmethod(elementwise.power)
    fmod = staticmethod(elementwise.fmod)
    check_places = staticmethod(_check_places)
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
def table(digits: int) -> Mapping[str, Operation]:
    """`aten_table` of a `CpuBackend`."""
    return aten_table(CpuBackend(digits))
