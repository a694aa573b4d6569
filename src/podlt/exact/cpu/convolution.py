"""Exact convolutions by blocks of samples: digits are laid out by loops, and multiplied as int8 matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from podlt.exact.aten.backend import SampleDigits
from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, WIDE_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import depthwise, scratch
from podlt.exact.cpu.blocks import SampleBlock, blocks, gradient_levels
from podlt.exact.cpu.digits import cut_wide
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.kernels import digits as kernels_digits
from podlt.exact.cpu.products import level_products, narrow
from podlt.exact.cpu.wide_convolution import widen_gradient, widen_samples
from podlt.exact.geometry import Geometry, Pair, apart

Tensor = torch.Tensor
_none = np.empty(0, np.float32)
_nowhere = np.empty(0, np.int64)


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> SampleDigits:
    """`Convolutions.cut_samples`: last digit first, in scratch memory; of wide ones the sample and group (r, 2)."""
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


def spaced(planes: Tensor, stride: Pair) -> Tensor:
    """`Convolutions.spaced`, in NumPy, which copies bytes with steps in half of torch's time."""
    out = np.zeros((*planes.shape[:-2], *apart((planes.shape[-2], planes.shape[-1]), stride)), np.int8)
    out[..., :: stride[0], :: stride[1]] = planes.numpy()
    return torch.from_numpy(out)


def convolve(
    samples: SampleDigits,
    weight: Tensor,
    bias: Tensor | None,
    g: Geometry,
    taps: Pair,
    size: Pair,
    digits: int,
    operation: str,
) -> Tensor:
    """`Convolutions.convolve`."""
    groups, per, k = weight.shape
    values: Array = weight.detach().contiguous().numpy().reshape(groups * per, k)
    count = digits or NARROW_DIGITS
    cut = np.empty((groups * per, count * k), np.int8)
    exponents, marked = _cut(values, cut, digits, False, operation)
    rows, left = exponents.reshape(groups, per), cut.reshape(groups, per, -1)
    added = _none if bias is None else bias.detach().contiguous().numpy()
    window = _window(g, taps)
    if depthwise.suits(per, samples.planes.shape[3]):
        planes, shared = samples.planes.numpy(), samples.exponents.numpy()
        out = depthwise.convolve(planes, shared, left, rows, window, added, size)
    else:
        out = torch.empty((samples.planes.shape[0], groups * per, *size))
        _multiply(samples, left, rows, window, added, out)
    if samples.wide is not None or len(marked):
        target = out.numpy().reshape(len(out), groups * per, -1)
        widen_samples(samples, weight.detach(), left, rows, marked, added, window, size, target)
    return out


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
    source, shared = samples.planes.numpy().reshape(n * groups, *samples.planes.shape[2:]), samples.exponents.numpy()
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
    left, ea, wide_o = _cut_channels(grad, digits, reverse=False)
    right, eb, wide_c = _cut_channels(x, digits, reverse=True)
    window, by_loops = _window(g, (shape[2], shape[3])), depthwise.suits(per_o, per_c)
    if by_loops:
        out = depthwise.weight_gradient(left, ea, right, eb, window, tuple(shape))
    else:
        out = torch.empty(tuple(shape))
    flat = out.numpy().reshape(g.groups, per_o, -1)
    for group in range(g.groups):
        outs = slice(group * per_o, (group + 1) * per_o)
        ins = slice(group * per_c, (group + 1) * per_c)
        if not by_loops:
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


class _Block:
    """Scratch memory for the patches of some samples and for their products.

    Args:
        k: how many values a patch has.
        count: samples.
        length: positions of each.
        per: rows of the products.
    """

    def __init__(self, digits: int, k: int, count: int, length: int, per: int) -> None:
        self.columns: Array = scratch.take("planes right", (digits * k * count * length,), np.int8)
        self.places = np.array([k * count * length, count * length, length], np.int64)
        self.right = torch.from_numpy(self.columns).reshape(digits * k, count * length)
        self._lasts = [self.right[(digits - 1 - level) * k :] for level in range(digits)]
        self._levels: Array = scratch.take("levels", (digits, per, count * length), np.int32)
        self._parts = list(torch.from_numpy(self._levels))

    def multiply(self, firsts: Sequence[Tensor]) -> Array:
        """As `products.level_products`, for int8 and operands short enough."""
        for a, b, part in zip(firsts, self._lasts, self._parts, strict=True):
            torch._int_mm(a, b, out=part)
        return self._levels


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
