"""Order and extremes by torch's and NumPy's kernels, whose only freedom is the sign of a zero."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.aten.tensors import order_keys

Tensor = torch.Tensor


def sort(x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    """`Selection.sort`."""
    values, index = torch.sort(x, dim=dim, descending=descending, stable=True)
    return values.contiguous(), index.contiguous()


def first(x: Tensor, dim: int, largest: bool) -> Tensor:
    """`Selection.first`."""
    where = np.argmax if largest else np.argmin
    return torch.from_numpy(np.ascontiguousarray(where(x.detach().numpy(), axis=dim, keepdims=True)))


def extreme(x: Tensor, dims: list[int], keepdim: bool, largest: bool) -> Tensor:
    """`Selection.extreme`: torch's own; where a zero comes out, zeros of both signs are ordered by their bits."""
    of = torch.amax if largest else torch.amin
    found = of(x, dims, keepdim)
    if not x.is_floating_point() or not bool((found == 0).any()):
        return found
    zeros = torch.where(of(order_keys(x), dims, keepdim) < 0, -0.0, 0.0)
    return torch.where(found == 0, zeros, found)


def check_places(index: Tensor, size: int, operation: str, least: int = 0) -> None:
    """`Selection.check_places`: nothing, since torch's kernels for the CPU look at every index themselves."""
