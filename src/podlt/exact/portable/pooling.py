"""Maximum pooling, one tap of the window after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from podlt.exact.geometry import Pair
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, rounded, units


def max_pool(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, size: Pair) -> tuple[Tensor, Tensor]:
    """`Pooling.max_pool`."""
    k, s, p, d = kernel, stride, padding, dilation
    h, w = x.shape[-2:]
    more = [max((size[i] - 1) * s[i] + d[i] * (k[i] - 1) + 1 - (h, w)[i] - p[i], 0) for i in (0, 1)]
    around = (p[1], more[1], p[0], more[0])
    values = pad(x, around)
    places = pad(torch.arange(h * w, device=x.device).reshape(h, w), around, value=-1)
    out = torch.full((*x.shape[:-2], *size), -torch.inf, device=x.device)
    index = torch.full(out.shape, -1, dtype=torch.int64, device=x.device)
    for tap in range(k[0] * k[1]):
        y, z = (tap // k[1]) * d[0], (tap % k[1]) * d[1]
        window = (..., slice(y, y + (size[0] - 1) * s[0] + 1, s[0]), slice(z, z + (size[1] - 1) * s[1] + 1, s[1]))
        value, place = values[window], places[window]
        better = (place >= 0) & ((index < 0) | (value > out) | torch.isnan(value))
        out, index = torch.where(better, value, out), torch.where(better, place, index)
    return out, index


def max_pool_backward(grad: Tensor, index: Tensor, shape: Sequence[int], bits: int, operation: str) -> Tensor:
    """`Pooling.max_pool_backward`."""
    area = shape[-2] * shape[-1]
    planes = math.prod(shape) // area
    values, places = grad.reshape(planes, -1), index.reshape(planes, -1)
    e = exponents(magnitudes(values).amax(dim=1, keepdim=True), operation) - bits
    sums = torch.zeros((planes, area), dtype=torch.int64, device=grad.device)
    return rounded(sums.scatter_add_(1, places, units(values, e)), e).reshape(tuple(shape))
