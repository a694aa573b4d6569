"""Exact convolutions by blocks of samples: digits are laid out by loops, and multiplied as int8 matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch

from podlt.exact.aten.backend import Filters, SampleDigits
from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, WIDE_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import depthwise, quad_gradient, quads, scratch
from podlt.exact.cpu.blocks import SampleBlock, blocks, gradient_levels, phases
from podlt.exact.cpu.digits import cached, cut_wide
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.kernels import digits as kernels_digits
from podlt.exact.cpu.products import level_products, narrow
from podlt.exact.cpu.wide_convolution import widen_gradient, widen_samples
from podlt.exact.geometry import Geometry, Pair, Sizes, spread

Tensor = torch.Tensor
_none = np.empty(0, np.float32)
_nowhere = np.empty(0, np.int64)


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> SampleDigits:
    """The digits of float32 (n, c, h, w): last first, in scratch memory; of wide ones the sample and group (r, 2)."""
    n, c, h, w = x.shape
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, -1)
    count = digits or NARROW_DIGITS
    planes = scratch.take("cut right", (values.shape[0], count * values.shape[1]), np.int8)
    exponents, wide = _cut(values, planes, digits, True, operation)
    shape = (n, groups, count, c // groups, h, w)
    found = SampleDigits(torch.from_numpy(planes.reshape(shape)), torch.from_numpy(exponents.reshape(n, groups)))
    if not len(wide):
        return found
    cut, own = cut_wide(torch.from_numpy(values[wide]), "right")
    more = cut.t().reshape(-1, 1, WIDE_DIGITS, c // groups, h, w)
    places = torch.from_numpy(np.stack([wide // groups, wide % groups], 1))
    return replace(found, places=places, wide=SampleDigits(more, torch.from_numpy(own).unsqueeze(1)))


def _spaced(stride: Pair, planes: Tensor) -> Tensor:
    """Planes int8 (..., h, w) with zeros between their values: NumPy copies bytes with steps twice as fast as torch."""
    out = np.zeros((*planes.shape[:-2], *spread((planes.shape[-2], planes.shape[-1]), stride)), np.int8)
    out[..., :: stride[0], :: stride[1]] = planes.numpy()
    return torch.from_numpy(out)


@dataclass(frozen=True, slots=True)
class CutFilters:
    """The digits of a convolution's weight.

    Args:
        rows: float32 (groups, o, k).
        left: int8 (groups, o, digits * k), first digit first.
        exponents: int64 (groups, o).
        marked: which of the groups * o rows are wide.
    """

    rows: Tensor
    left: Array
    exponents: Array
    marked: Array


def cut_filters(filters: Filters, digits: int, operation: str) -> CutFilters:
    """Cut a weight, or take what is kept of one that does not change.

    Raises:
        NonFiniteError: naming `operation`.
    """

    def cut(keep: bool) -> CutFilters:
        rows = filters.rows().contiguous()
        groups, per, k = rows.shape
        left = np.empty((groups * per, (digits or NARROW_DIGITS) * k), np.int8)
        exponents, marked = _cut(rows.numpy().reshape(groups * per, k), left, digits, False, operation)
        return CutFilters(rows, left.reshape(groups, per, -1), exponents.reshape(groups, per), marked)

    return cached(filters.weight, f"filters {filters.groups} {filters.turned}", digits, cut)


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
    """`Convolutions.convolve`; of samples that lie apart, each phase of the result meets a part of the taps."""
    weight = cut_filters(filters, digits, operation)
    rows, left = weight.exponents, weight.left
    (groups, per, k), c = weight.rows.shape, x.shape[1] // filters.groups
    added = _none if bias is None else bias.detach().contiguous().numpy()
    if quads.suits(digits, k):
        how = quads.plan((x.shape[2], x.shape[3]), taps, c, digits or NARROW_DIGITS, g, size, apart)
        side = f"packed filters {how.number} {filters.turned}"
        packed = cached(filters.weight, side, digits, lambda keep: quads.pack(left, c, how))
        out, widens = quads.convolve(x, packed, rows, added, how, size, digits, operation)
    else:
        samples = cut_samples(x, groups, digits, operation)
        widens, multiply = samples.wide is not None, _multiplier(samples, added, depthwise.suits(per, c))
        if apart == (1, 1):
            out = multiply(left, rows, _window(g, taps), size)
        else:
            out = _convolve_apart(multiply, left, rows, g, taps, added, (len(x), groups * per, *size), apart)
    if widens or len(weight.marked):
        samples = cut_samples(x, groups, digits, operation)
        samples = samples if apart == (1, 1) else samples.mapped(partial(_spaced, apart))
        target = out.numpy().reshape(len(out), groups * per, -1)
        widen_samples(samples, weight.rows, left, rows, weight.marked, added, _window(g, taps), size, target)
    return out


Multiply = Callable[[Array, Array, Array, Pair], Tensor]
"""The products of samples with a weight: its digits, int8 (groups, o, digits * k); exponents; window; result's size."""


def _multiplier(samples: SampleDigits, bias: Array, by_loops: bool) -> Multiply:
    """What multiplies samples by the digits of a weight, by loops or as matrices."""

    def multiply(left: Array, rows: Array, window: Array, size: Pair) -> Tensor:
        if by_loops:
            planes, shared = samples.planes.numpy(), samples.exponents.numpy()
            return depthwise.convolve(planes, shared, left, rows, window, bias, size)
        out = torch.empty((len(samples.planes), rows.size, *size))
        _multiply(samples, left, rows, window, bias, out)
        return out

    return multiply


def _convolve_apart(
    multiply: Multiply, left: Array, rows: Array, g: Geometry, taps: Pair, bias: Array, shape: Sizes, apart: Pair
) -> Tensor:
    """The products of samples with zeros between their values, which are not multiplied; of this `shape`."""
    groups, per, k = left.shape
    out = torch.zeros(tuple(shape))
    if len(bias):
        out += torch.from_numpy(bias).reshape(1, -1, 1, 1)
    cells = left.reshape(groups, per, k // (taps[0] * taps[1]), *taps)
    for a in range(min(apart[0], shape[2])):
        for b in range(min(apart[1], shape[3])):
            phase = out[:, :, a :: apart[0], b :: apart[1]]
            down, right = (_seen(p, i, g, taps, apart) for i, p in enumerate((a, b)))
            met = cells[..., down.taps, right.taps]
            if met.size:
                window = np.array([*met.shape[3:], 1, 1, down.padding, right.padding, down.step, right.step], np.int64)
                chosen = np.ascontiguousarray(met).reshape(groups, per, -1)
                phase.copy_(multiply(chosen, rows, window, (phase.shape[2], phase.shape[3])))
    return out


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one phase of a result sees along one dimension of values that lie apart.

    Args:
        taps: those that meet values.
        padding: before the values, as they lie in memory; it may be negative.
        step: between the values that two neighbouring taps meet.
    """

    taps: slice
    padding: int
    step: int


@lru_cache(maxsize=512)
def _seen(phase: int, axis: int, g: Geometry, taps: Pair, apart: Pair) -> _Seen:
    d, s, before = g.dilation[axis], apart[axis], phase - g.padding[axis]
    met = [k for k in range(taps[axis]) if (before + k * d) % s == 0]
    if not met:
        return _Seen(slice(0, 0), 0, 1)
    step = s // math.gcd(s, d)
    return _Seen(slice(met[0], None, step), -((before + met[0] * d) // s), step * d // s)


def _multiply(samples: SampleDigits, left: Array, rows: Array, window: Array, bias: Array, out: Tensor) -> None:
    """Write to `out` (n, groups * o, height, width) the products of samples with the rows of a weight.

    Args:
        left: int8 (groups, o, digits * k), first digit first.
        rows: int64 (groups, o): their exponents.
        bias: float32 (groups * o,) or (0,).
    """
    n, groups, digits = samples.planes.shape[:3]
    per, k, size = left.shape[1], left.shape[2] // digits, (out.shape[2], out.shape[3])
    length, target = size[0] * size[1], out.numpy().reshape(n, groups * per, -1)
    source = phases(samples.planes.numpy().reshape(n * groups, *samples.planes.shape[2:]), window)
    shared = samples.exponents.numpy()
    for group in range(groups):
        ours = bias[group * per : (group + 1) * per]
        weights = torch.from_numpy(left[group])
        firsts = [weights[:, : (level + 1) * k] for level in range(digits)]
        for first, several in blocks(n, length * (digits * k + 4 * digits * per)):
            numbers = (digits, k, several, length, per)
            block = scratch.view(("block", *numbers), partial(SampleBlock, *numbers))
            start = first * groups + group
            convolution.patches(source, start, several, groups, window, *size, block.places, block.columns)
            theirs = shared[first : first + several, group].copy()
            fits = narrow(digits, k)
            levels = block.multiply(firsts) if fits else level_products(weights, block.right, k, digits)
            convolution.combine_samples(levels, rows[group], theirs, digits, fits, ours, target, first, group * per)


def weight_gradient(grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
    """`Convolutions.weight_gradient`."""
    size, taps = (grad.shape[2], grad.shape[3]), shape[2] * shape[3]
    per_o, per_c, count = grad.shape[1] // g.groups, x.shape[1] // g.groups, digits or NARROW_DIGITS
    window, by_quads = _window(g, (shape[2], shape[3])), quad_gradient.suits(digits)
    by_loops = not by_quads and depthwise.suits(per_o, per_c)
    if by_quads:
        out, wide = quad_gradient.weight_gradient(grad, x, tuple(shape), g, digits)
        if not wide[0].any() and not wide[1].any():
            return out
    left, ea, wide_o = _cut_channels(grad, digits, reverse=False)
    right, eb, wide_c = _cut_channels(x, digits, reverse=True)
    if by_loops:
        out = depthwise.weight_gradient(left, ea, right, eb, window, tuple(shape))
    elif not by_quads:
        out = torch.empty(tuple(shape))
    flat = out.numpy().reshape(g.groups, per_o, -1)
    for group in range(g.groups):
        outs = slice(group * per_o, (group + 1) * per_o)
        ins = slice(group * per_c, (group + 1) * per_c)
        if not by_loops and not by_quads:
            total = gradient_levels(left[:, :, outs], right[:, :, ins], window, size, count)
            kernels_digits.combine(total, ea[outs], np.repeat(eb[ins], taps), count, _none, flat[group])
        marks = wide_o[outs], wide_c[ins]
        if digits == ADAPTIVE and (marks[0].any() or marks[1].any()):
            pair = (left[:, :, outs], ea[outs]), (right[:, :, ins], eb[ins])
            widen_gradient(grad[:, outs], x[:, ins], pair, marks, window, size, flat[group])
    return out


def _window(g: Geometry, taps: Pair) -> Array:
    """The numbers that `kernels.convolution.patches` takes."""
    return np.array([*taps, *g.stride, *g.padding, *g.dilation], np.int64)


def _cut(values: Array, planes: Array, digits: int, last_first: bool, operation: str) -> tuple[Array, Array]:
    """Cut float32 (rows, k) into `planes`, int8 (rows, digits * k); exponents, int64 (rows,), and which are wide."""
    exponents, wide = np.empty(len(values), np.int64), np.empty(len(values), np.uint8)
    found = kernels_digits.cut_rows(values, planes, exponents, wide, digits, last_first)
    if found == kernels_digits.NOT_FINITE:
        raise NonFiniteError(operation)
    return exponents, np.flatnonzero(wide) if found else _nowhere


def _cut_channels(x: Tensor, digits: int, reverse: bool) -> tuple[Array, Array, Array]:
    """Planes int8 (n, digits, c, h, w), exponents (c,) and which channels are wide, uint8 (c,)."""
    n, c, h, w = x.shape
    values: Array = x.detach().contiguous().numpy().reshape(n, c, h * w)
    count = digits or NARROW_DIGITS
    planes = scratch.take("cut right" if reverse else "cut left", (n, count, c, h * w), np.int8)
    exponents, wide = np.empty(c, np.int64), np.zeros(c, np.uint8)
    if convolution.cut_channels(values, planes, exponents, wide, digits, reverse) == kernels_digits.NOT_FINITE:
        raise NonFiniteError("convolution_backward")
    return planes.reshape(n, count, c, h, w), exponents, wide
