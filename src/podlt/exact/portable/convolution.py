"""Exact convolutions: digits are laid out as a matrix by one strided copy, and multiplied like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from podlt.exact.aten.backend import Filters, SampleDigits
from podlt.exact.constants import NARROW_DIGITS, WIDE_DIGITS
from podlt.exact.geometry import Geometry, Pair, spread
from podlt.exact.portable.bits import Tensor, rounded
from podlt.exact.portable.products import (
    Planes,
    cut,
    level_sum,
    padded_rows,
    padded_terms,
    side_by_side,
    unit,
    widened,
)

BLOCK_BYTES = 2**28
"""What the laid out digits of a block of samples may take."""

_LAYOUT_ROWS = (0, 5, 6, 1, 2, 3, 4)  # (n, oh, ow | s, c, kh, kw)
_LAYOUT_TERMS = (2, 3, 4, 1, 0, 5, 6)  # (c, kh, kw | s, n, oh, ow)


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> SampleDigits:
    """The digits of float32 (n, c, h, w), most significant first; if any sample is wide, all in four digits too."""
    n, c, h, w = x.shape
    values = x.detach().reshape(n, groups, c // groups, h, w)
    if not x.numel():
        shape = (n, groups, digits or NARROW_DIGITS, c // groups, h, w)
        planes = torch.zeros(shape, dtype=torch.int8, device=x.device)
        return SampleDigits(planes, torch.zeros((n, groups), dtype=torch.int64, device=x.device))
    found = cut(values, [2, 3, 4], digits, operation)
    narrow = _samples(found)
    if found.wide is None:
        return narrow
    wide = _samples(widened(values, [2, 3, 4], found))
    return replace(narrow, places=found.wide.reshape(n, groups), wide=wide)


def _samples(found: Planes) -> SampleDigits:
    return SampleDigits(torch.stack(found.digits, 2), found.exponents.flatten(1))


def spaced(stride: Pair, planes: Tensor) -> Tensor:
    """Planes int8 (..., h, w) with zeros between their values, which come to lie `stride` apart."""
    shape = *planes.shape[:-2], *spread((planes.shape[-2], planes.shape[-1]), stride)
    out = torch.zeros(shape, dtype=torch.int8, device=planes.device)
    out[..., :: stride[0], :: stride[1]] = planes
    return out


def convolve(
    x: Tensor,
    filters: Filters,
    bias: Tensor | None,
    g: Geometry,
    taps: Pair,
    size: Pair,
    digits: int,
    operation: str,
    apart: Pair = (1, 1),
) -> Tensor:
    """`Convolutions.convolve`."""
    weight = filters.rows()
    samples = cut_samples(x, g.groups, digits, operation)
    samples = samples if apart == (1, 1) else samples.mapped(partial(spaced, apart))
    n, (groups, per, _), length = samples.planes.shape[0], weight.shape, size[0] * size[1]
    out = torch.zeros((n, groups, per, length), device=samples.planes.device)
    if weight.numel():
        narrow = cut(weight, [2], digits, operation)
        count = digits or NARROW_DIGITS
        if out.numel():
            _fill(out, samples, narrow, g, taps, size, count)
        if out.numel() and not (samples.places is None and narrow.wide is None):
            wide = torch.empty_like(out)
            _fill(wide, samples.wide or samples, widened(weight, [2], narrow), g, taps, size, WIDE_DIGITS)
            ours = torch.zeros((), dtype=torch.bool, device=out.device) if narrow.wide is None else narrow.wide
            theirs = torch.zeros_like(ours) if samples.places is None else samples.places[:, :, None, None]
            out = torch.where(ours | theirs, wide, out)
    out = out.reshape(n, groups * per, *size)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def _fill(out: Tensor, samples: SampleDigits, weight: Planes, g: Geometry, taps: Pair, size: Pair, count: int) -> None:
    """Write the products of samples with a weight, cut from (groups, o, k), to (n, groups, o, positions)."""
    n, groups, per, length = out.shape
    digits, k = samples.planes.shape[2], weight.digits[0].shape[2]
    right = side_by_side(weight, last_first=True)
    for group in range(groups):
        for first, last in _blocks(n, digits * length * k):
            rows = _laid_out(samples.planes[first:last, group], g, taps, size, _LAYOUT_ROWS)
            sums = level_sum(rows, right[group], padded_terms(k), count)[: (last - first) * length, :per]
            e = samples.exponents[first:last, group, None, None] + weight.exponents[group] + unit(count)
            out[first:last, group] = rounded(sums.reshape(last - first, length, per).mT, e)


def weight_gradient(grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
    """`Convolutions.weight_gradient`."""
    if not (grad.numel() and x.numel()):
        return torch.zeros(tuple(shape), device=x.device)
    size, taps = (grad.shape[2], grad.shape[3]), (shape[2], shape[3])
    over = [0, 2, 3]
    left, right = (cut(t, over, digits, "convolution_backward") for t in (grad, x))
    out = _gradient(left, right, g, taps, size, digits or NARROW_DIGITS)
    if left.wide is not None or right.wide is not None:
        of_rows, of_columns = (_channels(p, g.groups) for p in (left, right))
        more = _gradient(widened(grad, over, left), widened(x, over, right), g, taps, size, WIDE_DIGITS)
        wide = of_rows.unsqueeze(2) | of_columns.repeat_interleave(taps[0] * taps[1], 1).unsqueeze(1)
        out = torch.where(wide, more, out)
    return out.reshape(tuple(shape))


def _channels(planes: Planes, groups: int) -> Tensor:
    """Which channels are wide, (groups, c)."""
    if planes.wide is None:
        return torch.zeros(planes.exponents.shape, dtype=torch.bool, device=planes.exponents.device).reshape(groups, -1)
    return planes.wide.reshape(groups, -1)


def _gradient(left: Planes, right: Planes, g: Geometry, taps: Pair, size: Pair, count: int) -> Tensor:
    """The gradient of a weight, (groups, o, c * taps), from the digits of the gradient's and the input's channels."""
    n, o = left.digits[0].shape[:2]
    per_o, per_c, length = o // g.groups, right.digits[0].shape[1] // g.groups, size[0] * size[1]
    k, digits = per_c * taps[0] * taps[1], len(left.digits) + len(right.digits)
    one = Geometry((1, 1), (0, 0), (1, 1), 1)
    ours, theirs = torch.stack(left.digits, 1), torch.stack(right.digits[::-1], 1)
    ea = left.exponents.reshape(g.groups, per_o, 1)
    eb = right.exponents.reshape(g.groups, 1, per_c).repeat_interleave(taps[0] * taps[1], 2)
    found = []
    for group in range(g.groups):
        rows = ours[:, :, group * per_o : (group + 1) * per_o]
        columns = theirs[:, :, group * per_c : (group + 1) * per_c]
        total = torch.zeros((padded_rows(per_o), padded_rows(k)), dtype=torch.int64, device=ours.device)
        for first, last in _blocks(n, digits * length * (per_o + k)):
            a = _laid_out(rows[first:last], one, (1, 1), size, _LAYOUT_TERMS)
            b = _laid_out(columns[first:last], g, taps, size, _LAYOUT_TERMS)
            total = total + level_sum(a, b, padded_terms((last - first) * length), count)
        found.append(rounded(total[:per_o, :k], ea[group] + eb[group] + unit(count)))
    return torch.stack(found)


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
