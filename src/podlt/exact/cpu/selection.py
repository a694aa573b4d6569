"""Order and extremes by torch's and NumPy's kernels, whose only freedom is the sign of a zero."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.aten.tensors import order_keys

Tensor = torch.Tensor


def sort(x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    """`Backend.sort`."""
    values, index = torch.sort(x, dim=dim, descending=descending, stable=True)
    return values.contiguous(), index.contiguous()


def first(x: Tensor, dim: int, largest: bool) -> Tensor:
    """`Backend.first`."""
    where = np.argmax if largest else np.argmin
    return torch.from_numpy(np.ascontiguousarray(where(x.detach().numpy(), axis=dim, keepdims=True)))


def extreme(x: Tensor, dims: list[int], keepdim: bool, largest: bool) -> Tensor:
    """`Backend.extreme`: torch's own; where a zero comes out, zeros of both signs are ordered by their bits."""
    of = torch.amax if largest else torch.amin
    found = of(x, dims, keepdim)
    if not x.is_floating_point() or not bool((found == 0).any()):
        return found
    zeros = torch.where(of(order_keys(x), dims, keepdim) < 0, -0.0, 0.0)
    return torch.where(found == 0, zeros, found)
