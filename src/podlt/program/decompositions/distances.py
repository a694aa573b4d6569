"""Distances and norms, and products of three or of groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

aten = torch.ops.aten
Tensor = torch.Tensor


def _cdist(a: Tensor, b: Tensor, p: float = 2.0, mode: int | None = None) -> Tensor:
    """The distance of each row of a from each of b: by differences, which lose nothing where points are close.

    No distance has no gradient: 0, as PyTorch has it.
    """
    difference = a.unsqueeze(-2) - b.unsqueeze(-3)
    if p == 0:
        return (difference != 0).to(a.dtype).sum(-1)
    size = difference.abs()
    if p == 1:
        return size.sum(-1)
    if math.isinf(p):
        return size.amax(-1)
    total = (difference * difference if p == 2 else _power(size, p)).sum(-1)
    none = total == 0
    return torch.where(none, 0.0, _root(torch.where(none, 1.0, total), p))


def _power(x: Tensor, p: float) -> Tensor:
    """x ** p, without a gradient where x is 0."""
    none = x == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, x).pow(p))


def _root(x: Tensor, p: float) -> Tensor:
    return x.sqrt() if p == 2 else x.pow(1.0 / p)


def _euclidean(a: Tensor, b: Tensor) -> Tensor:
    return _cdist(a, b)


def _trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    sum_dims: Sequence[int],
    unroll_dim: int = 1,
) -> Tensor:
    """aten::_trilinear. As `torch.bilinear` asks for it, (n, i) (o, i, j) (n, j) to (n, o), by one matrix product."""
    if (list(expand_a), list(expand_b), list(expand_c), list(sum_dims)) == ([1, 3], [0], [1, 2], [2, 3]):
        (o, i, j), n = b.shape, a.shape[0]
        half = torch.mm(a, b.permute(1, 0, 2).reshape(i, o * j)).reshape(n, o, j)
        return (half * c.unsqueeze(1)).sum(-1)
    for dims, name in ((expand_a, 0), (expand_b, 1), (expand_c, 2)):
        for dim in dims:
            a, b, c = (t.unsqueeze(dim) if k == name else t for k, t in enumerate((a, b, c)))
    return (a * b * c).sum(list(sum_dims))


def _grouped_mm(
    a: Tensor, b: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """Rows in groups, each times its group's matrix: (m, k) x (groups, k, n), where group g ends before offs[g].

    How many rows a group has depends on the data: each matrix is multiplied with all rows, and each row chooses.
    """
    if a.ndim == 3 and b.ndim == 3:
        return torch.bmm(a, b)
    if a.ndim != 2 or b.ndim != 3 or offs is None or bias is not None:
        return NotImplemented  # type: ignore[no-any-return]
    ends = offs.to(torch.int64).unsqueeze(1)
    row = torch.arange(a.shape[0]).unsqueeze(0)
    starts = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
    own = ((row >= starts) & (row < ends)).unsqueeze(-1)  # (groups, m, 1)
    every = torch.bmm(a.unsqueeze(0).expand(b.shape[0], -1, -1), b)
    return torch.where(own, every, 0.0).sum(0)


def _renorm(x: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along a dimension, made shorter where its norm is above the largest."""
    others = [d for d in range(x.ndim) if d != dim % x.ndim]
    norm = torch.linalg.vector_norm(x, p, others, keepdim=True)
    return x * torch.where(norm > maxnorm, maxnorm / (norm + 1e-7), 1.0)


COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten._cdist_forward.default: _cdist,
    aten._euclidean_dist.default: _euclidean,
    aten._trilinear.default: _trilinear,
    aten._grouped_mm.default: _grouped_mm,
    aten.renorm.default: _renorm,
}
