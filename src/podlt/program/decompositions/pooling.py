"""Poolings without an operation of their own: the cells of each window gathered, then a maximum or a mean.

A window's cells are numbered in row-major order, so that of equal values the first is taken, as PyTorch takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from podlt.exact.constants import Array
from podlt.exact.geometry import pooled_length

aten = torch.ops.aten
Tensor = torch.Tensor
Sizes = Sequence[int]
Line = Array
"""Int64: the cells (windows, cells) that windows along one dimension see, or one number a window."""


def _spread(values: Sizes, dims: int) -> list[int]:
    """A number for each dimension; one may stand for all."""
    return [int(v) for v in (list(values) * dims if len(values) == 1 else values)]


def _table(lines: Sequence[Line], sizes: Sizes) -> Tensor:
    """The flat places that windows see, (windows..., cells...); beyond the last for a cell that lies outside."""
    dims = len(lines)
    places = torch.zeros([1] * (2 * dims), dtype=torch.int64)
    outside = None
    for i, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        shape = [1] * (2 * dims)
        shape[i], shape[dims + i] = line.shape
        places = places * size + torch.tensor(line.clip(0).tolist()).reshape(shape)
        if (line < 0).any():
            beyond = torch.tensor((line < 0).tolist()).reshape(shape)
            outside = beyond if outside is None else outside | beyond
    return places if outside is None else torch.where(outside, prod(sizes), places)


def _regular(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> Line:
    """The cells of windows that are all alike, -1 for those in the padding."""
    cells = np.arange(pooled_length(n, k, s, p, d, ceil))[:, None] * s - p + np.arange(k) * d
    return np.where((cells >= 0) & (cells < n), cells, -1)


def _adaptive(n: int, size: int) -> Line:
    """The cells from floor(i n / size) to ceil((i + 1) n / size)."""
    index = np.arange(size)
    first, stop = index * n // size, -(-(index + 1) * n // size)
    cells = first[:, None] + np.arange(int((stop - first).max(initial=0)))
    return np.where(cells < stop[:, None], cells, -1)


def _seen(x: Tensor, lines: Sequence[Line], fill: float) -> tuple[Tensor, Tensor, list[int]]:
    """What each window sees, (..., windows, cells), at which flat places (windows, cells), and the windows' shape."""
    dims = len(lines)
    windows = [len(line) for line in lines]
    places = _table(lines, x.shape[-dims:]).reshape(prod(windows), -1)
    flat = x.flatten(-dims)
    if any((line < 0).any() for line in lines):
        flat = torch.nn.functional.pad(flat, (0, 1), value=fill)
    return flat[..., places], places, windows


def _maxima(x: Tensor, lines: Sequence[Line]) -> tuple[Tensor, Tensor]:
    """The largest value of each window, and its flat place."""
    seen, places, windows = _seen(x, lines, float("-inf"))
    values, which = seen.max(-1)
    index = places.expand(seen.shape).gather(-1, which.unsqueeze(-1)).squeeze(-1)
    return _parted(values, windows), _parted(index, windows)


def _means(x: Tensor, lines: Sequence[Line], counts: Sequence[Line]) -> Tensor:
    """The sum of each window, by the product of its counts along each dimension."""
    seen, _, windows = _seen(x, lines, 0.0)
    total = _parted(seen.sum(-1), windows)
    if all((count == count[:1]).all() for count in counts):
        return total / float(prod(int(count[0]) for count in counts if len(count)))
    area = torch.ones((), dtype=torch.int64)
    for count in counts:
        area = area.unsqueeze(-1) * torch.tensor(count.tolist())
    return total / area.to(x.dtype)


def _parted(x: Tensor, windows: list[int]) -> Tensor:
    """The windows of the last dimension along several."""
    return x.reshape(*x.shape[:-1], *windows)


def _inside(lines: Sequence[Line]) -> list[Line]:
    """How many cells each window has."""
    return [(line >= 0).sum(1) for line in lines]


def _max_pool3d(
    x: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = (0,), dilation: Sizes = (1,), ceil: bool = False
) -> tuple[Tensor, Tensor]:
    k, s, p, d = (_spread(v, 3) for v in (kernel, stride or kernel, padding, dilation))
    return _maxima(x, [_regular(x.shape[i - 3], k[i], s[i], p[i], d[i], ceil) for i in range(3)])


def _avg_pool3d(
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    k, s, p = (_spread(v, 3) for v in (kernel, stride or kernel, padding))
    lines = [_regular(x.shape[i - 3], k[i], s[i], p[i], 1, ceil) for i in range(3)]
    if divisor is not None:
        return _means(x, lines, [np.array([divisor])])
    if not include_pad:
        return _means(x, lines, _inside(lines))
    first = [np.arange(len(line)) * s[i] - p[i] for i, line in enumerate(lines)]
    ends = [np.minimum(f + k[i], x.shape[i - 3] + p[i]) for i, f in enumerate(first)]
    return _means(x, lines, [end - f for end, f in zip(ends, first, strict=True)])


def _adaptive_avg_pool3d(x: Tensor, size: Sizes) -> Tensor:
    lines = [_adaptive(x.shape[i - 3], int(size[i])) for i in range(3)]
    return _means(x, lines, _inside(lines))


def _adaptive_max_pool(x: Tensor, size: Sizes) -> tuple[Tensor, Tensor]:
    dims = len(size)
    return _maxima(x, [_adaptive(x.shape[i - dims], int(size[i])) for i in range(dims)])


def _fractional(dims: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """Fractional maximum pooling: each line and channel has windows of its own, by its samples.

    Window i of a line of n cells begins at floor((i + u) a) - floor(u a), where a = (n - k) / (windows - 1), and the
    last at n - k.
    """

    def pool(x: Tensor, kernel: Sizes, size: Sizes, samples: Tensor) -> tuple[Tensor, Tensor]:
        lead = x.shape[:-dims]
        samples = samples.reshape(*lead, dims)
        places = torch.zeros([1] * (len(lead) + 2 * dims), dtype=torch.int64)
        for i in range(dims):
            n, k, m = x.shape[i - dims], int(kernel[i]), int(size[i])
            u = samples[..., dims - 1 - i].detach()[..., None]
            step = (n - k) / (m - 1) if m > 1 else 0.0
            first = torch.floor((torch.arange(m) + u) * step) - torch.floor(u * step)
            first = torch.where(torch.arange(m) < m - 1, first, float(n - k)).long()
            cells = first[..., None] + torch.arange(k)
            shape = [1] * (2 * dims)
            shape[i], shape[dims + i] = m, k
            places = places * n + cells.reshape(*lead, *shape)
        flat = places.expand(*lead, *size, *kernel).reshape(*lead, prod(size), prod(kernel))
        seen = x.flatten(-dims).unsqueeze(-2).expand(*lead, prod(size), -1).gather(-1, flat)
        values, which = seen.max(-1)
        index = flat.gather(-1, which.unsqueeze(-1)).squeeze(-1)
        return values.reshape(*lead, *size), index.reshape(*lead, *size)

    return pool


def _replicated(x: Tensor, padding: Sizes) -> Tensor:
    """The values at the border, repeated: one dimension after the other."""
    for i in range(len(padding) // 2):
        dim = x.ndim - 1 - i
        before, after = int(padding[2 * i]), int(padding[2 * i + 1])
        places = torch.arange(-before, x.shape[dim] + after).clamp(0, x.shape[dim] - 1)
        x = x.index_select(dim, places)
    return x


COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.max_pool3d_with_indices.default: _max_pool3d,
    aten.avg_pool3d.default: _avg_pool3d,
    aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
    aten.adaptive_max_pool2d.default: _adaptive_max_pool,
    aten.adaptive_max_pool3d.default: _adaptive_max_pool,
    aten.fractional_max_pool2d.default: _fractional(2),
    aten.fractional_max_pool3d.default: _fractional(3),
    aten.replication_pad1d.default: _replicated,
    aten.replication_pad2d.default: _replicated,
    aten.replication_pad3d.default: _replicated,
}
