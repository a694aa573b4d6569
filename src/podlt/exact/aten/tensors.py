"""What every family of operations is written with: torch's own overloads, numbers as tensors, dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from podlt.exact.aten.backend import Operation, Tensor

INFINITY = 0x7F800000
"""The bits of float32 infinity; those of NaNs are larger."""


def named(names: Iterable[str]) -> dict[str, Operation]:
    """The ATen overloads of these names, as torch computes them on any device."""
    found: dict[str, Operation] = {}
    for name in names:
        packet, _, overload = name.partition(".")
        found[name] = getattr(getattr(torch.ops.aten, packet), overload)._op  # the overload itself asks Python first
    return found


def number(value: float, like: Tensor) -> Tensor:
    """A float32 number on the device of `like`: as a divisor, so that CUDA divides instead of taking a reciprocal."""
    return torch.full((), value, dtype=torch.float32, device=like.device)


def as_float(x: Tensor) -> Tensor:
    """`x` as float32."""
    return x if x.dtype == torch.float32 else x.float()


def shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` in this shape, without a call of torch where it has it."""
    return x if x.shape == tuple(shape) else x.reshape(tuple(shape))


def normal_dims(dims: Sequence[int] | None, ndim: int) -> list[int]:
    """Sorted non-negative dimensions; all of them for None or an empty list, as ATen reads it."""
    return sorted({d % ndim for d in dims}) if dims and ndim else list(range(ndim))


def order_keys(x: Tensor) -> Tensor:
    """Int32 keys in the order of the float32 values, -0 below +0; the same formula on keys gives the bits back."""
    bits = x.detach().contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
