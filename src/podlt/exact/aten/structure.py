"""Operations that move values or make them from numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from podlt.exact import operations
from podlt.exact.aten.backend import Backend, Operation, Scalar, Tensor
from podlt.exact.aten.tensors import named
from podlt.exact.operations.row import Family

_FACTORIES = named(operations.named(Family.FACTORY))
RESHAPES = ("view.default", "_unsafe_view.default", "reshape.default")
_TRUTHS = ["any.default", "any.dim", "all.default"]


def reshape(x: Tensor, shape: list[int]) -> Tensor:
    """As aten::reshape and its views: on row-major values these are one operation, and programs know no strides."""
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


def _made(name: str, b: Backend, *arguments: Any, **options: Any) -> Tensor:
    """A tensor from numbers, on the backend's device unless the call says another."""
    return _FACTORIES[name](*arguments, **{"device": b.device, **options})  # type: ignore[no-any-return]


ANYWHERE: Mapping[str, Operation] = {
    **named([*operations.named(Family.VIEW, Family.STRUCTURE), *_TRUTHS]),
    **dict.fromkeys(RESHAPES, reshape),
}
BY_BACKEND: Mapping[str, Operation] = {
    **{name: partial(_made, name) for name in _FACTORIES},
    **dict.fromkeys(("arange.start", "arange.start_step"), _arange),
    "arange.default": lambda b, end, **options: _arange(b, 0, end, **options),
}
