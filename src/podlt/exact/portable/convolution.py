"""Exact convolutions: digits are laid out as a matrix by one strided copy, and multiplied like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from podlt.exact.geometry import Geometry, Pair, apart
from podlt.exact.portable.bits import Tensor
from podlt.exact.portable.products import cut_exponents, cut_planes, level_sum, padded_rows, padded_terms, scaled

BLOCK_BYTES = 2**28
"""What the laid out digits of a block of samples may take."""

_LAYOUT_ROWS = (0, 5, 6, 1, 2, 3, 4)  # (n, oh, ow | s, c, kh, kw)
_LAYOUT_TERMS = (2, 3, 4, 1, 0, 5, 6)  # (c, kh, kw | s, n, oh, ow)


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> tuple[Tensor, Tensor]:
    """`Convolutions.cut_samples`: most significant digit first."""
    n, c, h, w = x.shape
    values = x.reshape(n, groups, c // groups, h, w)
    if not x.numel():
        planes = torch.zeros((n, groups, digits, c // groups, h, w), dtype=torch.int8, device=x.device)
        return planes, torch.zeros((n, groups), dtype=torch.int64, device=x.device)
    e = cut_exponents(values, [2, 3, 4], operation)
    return torch.stack(cut_planes(values, e, digits, last_first=False), 2), e.reshape(n, groups)


def spaced(planes: Tensor, stride: Pair) -> Tensor:
    """`Convolutions.spaced`."""
    shape = *planes.shape[:-2], *apart((planes.shape[-2], planes.shape[-1]), stride)
    out = torch.zeros(shape, dtype=torch.int8, device=planes.device)
    out[..., :: stride[0], :: stride[1]] = planes
    return out


def convolve(
    planes: Tensor,
    exponents: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    g: Geometry,
    taps: Pair,
    size: Pair,
    digits: int,
    operation: str,
) -> Tensor:
    """`Convolutions.convolve`."""
    n, (groups, per, k), length = planes.shape[0], weight.shape, size[0] * size[1]
    out = torch.zeros((n, groups, per, length), device=planes.device)
    if weight.numel():
        eb = cut_exponents(weight, [2], operation)
        cut = torch.stack(cut_planes(weight, eb, digits, last_first=True), 2)
        right = torch.zeros((groups, padded_rows(per), digits, padded_terms(k)), dtype=torch.int8, device=planes.device)
        right[:, :per, :, :k] = cut
        for group in range(groups if out.numel() else 0):
            for first, last in _blocks(n, digits * length * k):
                rows = _laid_out(planes[first:last, group], g, taps, size, _LAYOUT_ROWS)
                sums = level_sum(rows, right[group].flatten(1), digits)[: (last - first) * length, :per]
                sums = sums.reshape(last - first, length, per).mT
                out[first:last, group] = scaled(sums, exponents[first:last, group, None, None], eb[group], digits)
    out = out.reshape(n, groups * per, *size)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def weight_gradient(grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
    """`Convolutions.weight_gradient`."""
    n, c, o = x.shape[0], x.shape[1], grad.shape[1]
    size, taps = (grad.shape[2], grad.shape[3]), (shape[2], shape[3])
    per_o, per_c, length = o // g.groups, c // g.groups, size[0] * size[1]
    left, ea = _cut_channels(grad, digits, last_first=False)
    right, eb = _cut_channels(x, digits, last_first=True)
    one = Geometry((1, 1), (0, 0), (1, 1), 1)
    k = per_c * taps[0] * taps[1]
    found = []
    for group in range(g.groups):
        rows = left[:, :, group * per_o : (group + 1) * per_o]
        columns = right[:, :, group * per_c : (group + 1) * per_c]
        total = torch.zeros((padded_rows(per_o), padded_rows(k)), dtype=torch.float64, device=x.device)
        for first, last in _blocks(n, digits * length * (per_o + k)) if n * length else ():
            a = _laid_out(rows[first:last], one, (1, 1), size, _LAYOUT_TERMS)
            b = _laid_out(columns[first:last], g, taps, size, _LAYOUT_TERMS)
            total = total + level_sum(a, b, digits)
        ours = ea[group * per_o : (group + 1) * per_o].unsqueeze(1)
        theirs = eb[group * per_c : (group + 1) * per_c].repeat_interleave(taps[0] * taps[1]).unsqueeze(0)
        found.append(scaled(total[:per_o, :k], ours, theirs, digits))
    return torch.stack(found).reshape(tuple(shape))


def _laid_out(source: Tensor, g: Geometry, taps: Pair, size: Pair, layout: tuple[int, ...]) -> Tensor:
    """What each output position sees of int8 (n, s, c, h, w), zeros outside of the image, as `cut_rows` pads it.

    Args:
        layout: which dimensions of (n, s, c, kh, kw, oh, ow) come first and make rows (three), then s, then the terms.

    Returns:
        int8 (padded rows, s * padded terms).
    """
    n, s, c = source.shape[:3]
    high, wide = ((size[i] - 1) * g.stride[i] + g.dilation[i] * (taps[i] - 1) + 1 for i in (0, 1))
    canvas = torch.zeros((n, s, c, high, wide), dtype=torch.int8, device=source.device)
    y, x = max(g.padding[0], 0), max(g.padding[1], 0)
    seen = source[..., max(-g.padding[0], 0) :, max(-g.padding[1], 0) :][..., : max(high - y, 0), : max(wide - x, 0)]
    canvas[..., y : y + seen.shape[-2], x : x + seen.shape[-1]] = seen
    steps = canvas.stride()
    view = canvas.as_strided(
        (n, s, c, *taps, *size),
        (*steps[:3], wide * g.dilation[0], g.dilation[1], wide * g.stride[0], g.stride[1]),
    ).permute(layout)
    shape = view.shape
    rows, terms = shape[0] * shape[1] * shape[2], shape[4] * shape[5] * shape[6]
    out = torch.zeros((padded_rows(rows), s, padded_terms(terms)), dtype=torch.int8, device=source.device)
    out[:rows, :, :terms].view(shape).copy_(view)
    return out.flatten(1)


def _blocks(n: int, bytes_each: int) -> Iterator[Pair]:
    """Cut `n` samples into (first, last) such that a block's digits take BLOCK_BYTES; at least one sample each."""
    step = max(1, BLOCK_BYTES // max(bytes_each, 1))
    for first in range(0, n, step):
        yield first, min(n, first + step)


def _cut_channels(x: Tensor, digits: int, last_first: bool) -> tuple[Tensor, Tensor]:
    """Planes int8 (n, digits, c, h, w) and exponents (c,)."""
    n, c, h, w = x.shape
    if not x.numel():
        planes = torch.zeros((n, digits, c, h, w), dtype=torch.int8, device=x.device)
        return planes, torch.zeros(c, dtype=torch.int64, device=x.device)
    e = cut_exponents(x, [0, 2, 3], "convolution_backward")
    return torch.stack(cut_planes(x, e, digits, last_first), 1), e.reshape(c)
