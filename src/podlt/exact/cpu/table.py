"""The exact table of operations: an ATen name to what computes it with the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
import torch

from podlt.errors import UsageError
from podlt.exact.constants import MAX_DIGITS
from podlt.exact.cpu import selection
from podlt.exact.cpu.elementwise import Operation, Scalar, elementwise, named
from podlt.exact.cpu.layers import layers
from podlt.exact.cpu.losses import losses
from podlt.exact.quotients import cumprod

_STRUCTURE = """
view.default reshape.default _unsafe_view.default permute.default t.default transpose.int expand.default
unsqueeze.default squeeze.default squeeze.dim squeeze.dims select.int slice.Tensor cat.default stack.default
split.Tensor split_with_sizes.default unbind.int constant_pad_nd.default flip.default select_backward.default
slice_backward.default slice_scatter.default select_scatter.default repeat.default full.default full_like.default
roll.default zeros.default zeros_like.default ones.default ones_like.default
scalar_tensor.default new_zeros.default new_full.default new_ones.default tril.default triu.default
gather.default scatter.value index.Tensor index_select.default embedding.default
any.default any.dim all.default
"""


def _reshape(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    return x.reshape(shape)


def _arange(
    start: Scalar, end: Scalar, step: Scalar = 1, *, dtype: torch.dtype | None = None, **layout: object
) -> torch.Tensor:
    """As aten::arange; floats are start + i * step in binary64, each operation rounded, and then rounded to float32."""
    whole = all(isinstance(value, int) for value in (start, end, step))
    if dtype not in (None, torch.float32) or (dtype is None and whole):
        return torch.arange(start, end, step, dtype=dtype)
    count = max(math.ceil((end - start) / step), 0)
    return torch.from_numpy((start + np.arange(count, dtype=np.float64) * step).astype(np.float32))


def _selection() -> dict[str, Operation]:
    return {
        "arange.default": lambda end, **options: _arange(0, end, **options),
        "arange.start": _arange,
        "arange.start_step": _arange,
        "amax.default": selection.largest,
        "amin.default": selection.least,
        "argmax.default": selection.argmax,
        "max.dim": selection.maximum_along,
        "min.dim": selection.minimum_along,
        "sort.default": selection.sort,
        "topk.default": selection.topk,
        "prod.default": selection.product,
        "cumprod.default": cumprod,
        "logsumexp.default": selection.log_sum_exp,
        "scatter.src": selection.scatter,
    }


@cache
def table(digits: int) -> Mapping[str, Operation]:
    """Each operation that has an exact definition, under its ATen overload's name and with its signature.

    Tensors are float32, int64 or bool on the CPU, with any strides. What is not in the table has no definition: the
    caller refuses it by name.

    Args:
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, or 3 (about 1e-6).

    Raises:
        UsageError: `digits` is none of these.
    """
    if digits not in range(1, MAX_DIGITS + 1):
        raise UsageError(f"arithmetic: expected 1, 2 or 3 digits, got {digits}")
    views = dict.fromkeys(("view.default", "_unsafe_view.default", "reshape.default"), _reshape)
    return MappingProxyType(
        {**named(_STRUCTURE), **elementwise(), **_selection(), **losses(), **layers(digits), **views}
    )
