"""Images read at places that a network computes: gathers, and sums weighted by the distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
from torch._decomp import decompositions

aten = torch.ops.aten
Tensor = torch.Tensor


def _grid_sampler_3d(x: Tensor, grid: Tensor, mode: int, padding: int, align: bool) -> Tensor:
    """Volumes (n, c, d, h, w) at (n, d', h', w', 3), whose last are x, y, z; mode 0 is trilinear, 1 nearest."""
    sizes = x.shape[2:]
    at = [_places(grid[..., 2 - i], sizes[i], padding, align) for i in range(3)]
    if mode == 1:
        return _read(x, [torch.round(place) for place in at])
    lower = [torch.floor(place) for place in at]
    total = None
    for corner in product((0, 1), repeat=3):
        cells = [low + c for low, c in zip(lower, corner, strict=True)]
        weight = torch.ones(())
        for place, low, c in zip(at, lower, corner, strict=True):
            weight = weight * ((place - low) if c else (low + 1 - place))
        part = _read(x, cells) * weight.unsqueeze(1)
        total = part if total is None else total + part
    assert total is not None
    return total


def _places(at: Tensor, size: int, padding: int, align: bool) -> Tensor:
    """From [-1, 1] to cells; padding 0 is zeros, 1 the border, 2 reflection."""
    place = (at + 1) * ((size - 1) / 2) if align else ((at + 1) * size - 1) / 2
    if padding == 0:
        return place
    if padding == 2:
        low, span = (0.0, float(size - 1)) if align else (-0.5, float(size))
        if span == 0:
            return torch.zeros_like(place)
        distance = (place - low).abs()
        flips = torch.floor(distance / span)
        extra = distance - flips * span
        place = torch.where(torch.remainder(flips, 2.0) == 0, extra + low, span - extra + low)
    return place.clamp(0, size - 1)


def _read(x: Tensor, cells: list[Tensor]) -> Tensor:
    """Values (n, c, ...) at whole cells (n, ...) along each dimension; 0 outside."""
    inside = torch.ones((), dtype=torch.bool)
    flat = torch.zeros((), dtype=torch.int64)
    for cell, size in zip(cells, x.shape[2:], strict=True):
        inside = inside & (cell >= 0) & (cell < size)
        flat = flat * size + cell.detach().clamp(0, size - 1).long()
    n, c = x.shape[:2]
    index = flat.reshape(n, 1, -1).expand(n, c, -1)
    found = x.flatten(2).gather(2, index).reshape(n, c, *flat.shape[1:])
    return torch.where(inside.unsqueeze(1), found, 0.0)


COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.grid_sampler_2d.default: decompositions.grid_sampler_2d,
    aten.grid_sampler_3d.default: _grid_sampler_3d,
}
