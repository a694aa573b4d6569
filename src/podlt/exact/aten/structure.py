"""Operations that move values or make them from numbers."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from podlt.exact.aten.backend import Backend, Operation, Scalar, Tensor
from podlt.exact.aten.tensors import bound, named

_FROM_TORCH = """
permute.default t.default transpose.int expand.default
unsqueeze.default squeeze.default squeeze.dim squeeze.dims select.int slice.Tensor cat.default stack.default
split.Tensor split_with_sizes.default unbind.int constant_pad_nd.default flip.default select_backward.default
slice_backward.default slice_scatter.default select_scatter.default repeat.default full_like.default
zeros_like.default ones_like.default new_zeros.default new_full.default new_ones.default tril.default triu.default
any.default any.dim all.default
"""
_FACTORIES = "full.default zeros.default ones.default scalar_tensor.default"


def _reshape(x: Tensor, shape: list[int]) -> Tensor:
    return x.reshape(shape)


def _arange(
    b: Backend, start: Scalar, end: Scalar, step: Scalar = 1, *, dtype: torch.dtype | None = None, **layout: object
) -> Tensor:
    """As aten::arange; floats are start + i * step in binary64, each operation rounded, and then rounded to float32."""
    whole = all(isinstance(value, int) for value in (start, end, step))
    if dtype not in (None, torch.float32) or (dtype is None and whole):
        return torch.arange(start, end, step, dtype=dtype, device=b.device)
    count = max(math.ceil((end - start) / step), 0)
    return torch.from_numpy((start + np.arange(count, dtype=np.float64) * step).astype(np.float32)).to(b.device)


def structure(b: Backend) -> dict[str, Operation]:
    """Every operation that moves values, by its ATen name; tensors from numbers are made on the backend's device."""
    here = b.device == torch.get_default_device()
    factories = named(_FACTORIES)
    return {
        **named(_FROM_TORCH),
        **{name: run if here else partial(run, device=b.device) for name, run in factories.items()},
        **dict.fromkeys(("view.default", "_unsafe_view.default", "reshape.default"), _reshape),
        **bound(dict.fromkeys(("arange.start", "arange.start_step"), _arange), b),
        "arange.default": lambda end, **options: _arange(b, 0, end, **options),
    }
