"""The windows of pooling along each dimension: which cells they see, and by what their sums are divided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from podlt.exact.aten.backend import Tensor
from podlt.exact.aten.tensors import number
from podlt.exact.geometry import Sizes, pair, pooled_length


@dataclass(frozen=True, slots=True)
class Line:
    """The windows along one dimension; cells outside of the line hold nothing. Tensors are int64 (windows,).

    Args:
        cells: how many the line has.
        start: the first window's first cell.
        first: each window's first cell.
        length: how many cells a window has.
        stop: each window's first cell that is not seen any more.
        count: each window's share of the divisor.
        step: between windows that are all of this length, or 0 where they are not.
    """

    cells: int
    start: int
    first: Tensor
    length: int
    stop: Tensor
    count: Tensor
    step: int

    @property
    def seen(self) -> Tensor:
        """How many cells each window sees."""
        return (self.stop - self.first.clamp(min=0)).clamp(min=0)


Lines = tuple[Line, Line]


def windows(x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include_pad: bool) -> Lines:
    """Those of a pooling over the last two dimensions of `x`."""
    k, s, p = pair(kernel), pair(stride or kernel), pair(padding)
    n, m = (_line(x.shape[x.ndim - 2 + i], k[i], s[i], p[i], ceil, include_pad, x.device) for i in (0, 1))
    return n, m


@lru_cache(maxsize=256)
def _line(n: int, k: int, s: int, p: int, ceil: bool, include_pad: bool, device: torch.device) -> Line:
    """The windows of `k` cells, `s` apart, over a line of `n` cells with `p` more at each end."""
    first = torch.arange(pooled_length(n, k, s, p, 1, ceil), device=device) * s - p
    stop = (first + k).clamp(max=n)
    counted = (first + k).clamp(max=n + p) - first
    return Line(n, -p, first, k, stop, counted if include_pad else stop - first.clamp(min=0), s)


def adaptive_windows(x: Tensor, size: Sizes) -> Lines:
    """As many as `size` says, of lengths that divide the last two dimensions of `x` as evenly as may be."""
    n, m = (_adaptive_line(x.shape[x.ndim - 2 + i], int(size[i]), x.device) for i in (0, 1))
    return n, m


@lru_cache(maxsize=256)
def _adaptive_line(m: int, n: int, device: torch.device) -> Line:
    """`n` windows over a line of `m` cells."""
    index = torch.arange(n, device=device)
    first, stop = index * m // max(n, 1), ((index + 1) * m + n - 1) // max(n, 1)
    length = int((stop - first).max()) if n else 0
    return Line(m, 0, first, length, stop, stop - first, length if n and m % n == 0 else 0)


def area(lines: Lines, divisor: int | None, like: Tensor) -> Tensor:
    """By what each window's sum is divided."""
    if divisor is not None:
        return number(float(divisor), like)
    return (lines[0].count[:, None] * lines[1].count).float()
