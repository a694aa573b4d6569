"""Exact convolutions in one and two dimensions, and their gradients. Definition: `definition_layers.convolution`.

A tensor is cut before it is laid out as a matrix, so what is copied is int8. Exponents are shared by whatever one
product contracts: a sample and a group of the input, an output channel of the weight (forward); a sample of the
gradient and an input channel of the weight (gradient of the input); a channel of each (gradient of the weight).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact.constants import Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.kernels import digits as kernels_digits
from podlt.exact.cpu.products import level_products, narrow

_BLOCK_BYTES = 2**20  # what a block of samples may take: its patches and its integer products stay in the cache
_none = np.empty(0, np.float32)
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Strides, paddings and dilations of a two-dimensional convolution, and its number of groups."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def output(self, size: Pair, taps: Pair) -> Pair:
        """The output's height and width."""
        s, p, d = self.stride, self.padding, self.dilation
        h, w = ((size[i] + 2 * p[i] - d[i] * (taps[i] - 1) - 1) // s[i] + 1 for i in (0, 1))
        return h, w

    def window(self, taps: Pair) -> Array:
        """The numbers that `kernels_convolution.patches` takes."""
        return np.array([*taps, *self.stride, *self.padding, *self.dilation], np.int64)


def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, g: Geometry, digits: int) -> torch.Tensor:
    """The convolution of float32 (n, c, h, w) with (o, c / groups, kh, kw), `+ bias` as one float32 operation."""
    n, c, h, w = x.shape
    taps = (weight.shape[2], weight.shape[3])
    source, exponents = _cut_samples(x, g.groups, digits, "convolution")
    left, rows = _cut_weight(weight.reshape(g.groups, weight.shape[0] // g.groups, -1), digits)
    out = torch.empty((n, weight.shape[0], *g.output((h, w), taps)))
    _multiply(source.reshape(n * g.groups, digits, c // g.groups, h, w), exponents, left, rows, bias, g, taps, out)
    return out


def input_gradient(
    grad: torch.Tensor, weight: torch.Tensor, size: Pair, bias: torch.Tensor | None, g: Geometry, digits: int
) -> torch.Tensor:
    """The gradient of `forward`'s input of height and width `size`; with `bias`, a transposed convolution."""
    n, o, h, w = grad.shape
    _, c, *taps = weight.shape
    flipped = weight.detach().flip(2, 3).reshape(g.groups, o // g.groups, c, taps[0] * taps[1])
    left, rows = _cut_weight(flipped.transpose(1, 2).reshape(g.groups, c, -1), digits)
    planes, exponents = _cut_samples(grad, g.groups, digits, "convolution_backward")
    source = planes.reshape(n * g.groups, digits, o // g.groups, h, w)
    if g.stride != (1, 1):
        spread = ((h - 1) * g.stride[0] + 1, (w - 1) * g.stride[1] + 1) if h and w else (h, w)
        spaced = np.zeros((*source.shape[:3], *spread), np.int8)
        spaced[..., :: g.stride[0], :: g.stride[1]] = source
        source = spaced
    around = tuple(d * (k - 1) - p for d, k, p in zip(g.dilation, taps, g.padding, strict=True))
    turned = replace(g, stride=(1, 1), padding=(around[0], around[1]))
    out = torch.empty((n, c * g.groups, *size))
    _multiply(source, exponents, left, rows, bias, turned, (taps[0], taps[1]), out)
    return out


def weight_gradient(
    grad: torch.Tensor, x: torch.Tensor, shape: Sequence[int], g: Geometry, digits: int
) -> torch.Tensor:
    """The gradient of `forward`'s weight of this shape: one product over all samples and positions."""
    n, c = x.shape[:2]
    o, length = grad.shape[1], grad.shape[2] * grad.shape[3]
    per_o, per_c, taps = o // g.groups, c // g.groups, (shape[2], shape[3])
    left, ea = _cut_channels(grad, digits, reverse=False)
    right, eb = _cut_channels(x, digits, reverse=True)
    k = per_c * taps[0] * taps[1]
    out = torch.empty(tuple(shape))
    flat = out.numpy().reshape(g.groups, per_o, k)
    for group in range(g.groups):
        total = np.zeros((digits, per_o, k))
        rows = np.ascontiguousarray(left[:, :, group * per_o : (group + 1) * per_o])
        columns = np.ascontiguousarray(right[:, :, group * per_c : (group + 1) * per_c])
        for first, count in _blocks(n, digits * length * (k + per_o)):
            a = scratch.take("planes left", (per_o, digits, count * length), np.int8)
            b = scratch.take("planes right", (k, digits, count * length), np.int8)
            places = np.array([count * length, digits * count * length, length])
            for source, window, laid in ((rows, _ONE, a), (columns, g.window(taps), b)):
                size = (grad.shape[2], grad.shape[3])
                convolution.patches(source, first, count, 1, window, *size, places, laid.reshape(-1))
            pair = torch.from_numpy(a.reshape(per_o, -1)), torch.from_numpy(b.reshape(k, -1)).t()
            total += level_products(*pair, digits)
        exponents = np.repeat(eb[group * per_c : (group + 1) * per_c], taps[0] * taps[1])
        ours = ea[group * per_o : (group + 1) * per_o]
        kernels_digits.combine(total, ours, exponents, digits, _none, False, flat[group])
    return out


_ONE = np.array([1, 1, 1, 1, 0, 0, 1, 1], np.int64)


def geometry(
    x: torch.Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Geometry:
    """The geometry that ATen's arguments describe; one number may stand for all dimensions.

    Raises:
        UnsupportedError: `x` is not (n, c, l) or (n, c, h, w).
    """
    if x.ndim not in (3, 4):
        raise UnsupportedError(f"convolution: expected one or two dimensions in space, got {x.ndim - 2}")

    def pair(values: Sequence[int], missing: int) -> Pair:
        if x.ndim == 3:
            return missing, int(values[0])
        return int(values[0]), int(values[-1])

    return Geometry(pair(stride, 1), pair(padding, 0), pair(dilation, 1), groups)


def _multiply(
    source: Array,
    exponents: Array,
    left: Array,
    rows: Array,
    bias: torch.Tensor | None,
    g: Geometry,
    taps: Pair,
    out: torch.Tensor,
) -> None:
    """Products of weights (groups, o, digits * k) with the patches of cut samples, into `out` (n, o, h, w)."""
    n, channels, height, width = out.shape
    groups, per, length = g.groups, channels // g.groups, height * width
    k = source.shape[2] * taps[0] * taps[1]
    digits = source.shape[1]
    target = out.numpy().reshape(n, channels, length)
    added = _none if bias is None else bias.detach().contiguous().numpy()
    window = g.window(taps)
    for group in range(groups):
        ours = added[group * per : (group + 1) * per]
        weights = torch.from_numpy(left[group])
        firsts = [weights[:, : (level + 1) * k] for level in range(digits)]
        for first, count in _blocks(n, length * (digits * k + 4 * digits * per)):
            block = scratch.view(
                ("block", digits, k, count, length, per), partial(_Block, digits, k, count, length, per)
            )
            start = first * groups + group
            convolution.patches(source, start, count, groups, window, height, width, block.places, block.columns)
            samples = exponents[first : first + count, group].copy()
            given = (rows[group], samples, digits, ours, target, first, group * per)
            levels = block.multiply(firsts) if narrow(digits, k) else None
            if levels is None or not convolution.combine_narrow(levels, *given):
                convolution.combine_samples(level_products(weights, block.right, digits), *given)


class _Block:
    """Scratch memory for the patches of some samples and for their products.

    Args:
        k: how many values a patch has; count, length: samples, and positions of each; per: rows of the products.
    """

    def __init__(self, digits: int, k: int, count: int, length: int, per: int) -> None:
        self.columns: Array = scratch.take("planes right", (digits * k * count * length,), np.int8)
        self.places = np.array([k * count * length, count * length, length], np.int64)
        self.right = torch.from_numpy(self.columns).reshape(digits * k, count * length)
        self._lasts = [self.right[(digits - 1 - level) * k :] for level in range(digits)]
        self._levels: Array = scratch.take("levels", (digits, per, count * length), np.int32)
        self._parts = list(torch.from_numpy(self._levels))

    def multiply(self, firsts: Sequence[torch.Tensor]) -> Array:
        """As `products.level_products`, for int8 and operands short enough."""
        for a, b, part in zip(firsts, self._lasts, self._parts, strict=True):
            torch._int_mm(a, b, out=part)
        return self._levels


def _blocks(n: int, bytes_each: int) -> Iterator[Pair]:
    """Cut `n` samples into (first, count) such that a block fits the cache; at least one sample each."""
    step = max(1, _BLOCK_BYTES // max(bytes_each, 1))
    for first in range(0, n, step):
        yield first, min(step, n - first)


def _cut_samples(x: torch.Tensor, groups: int, digits: int, operation: str) -> tuple[Array, Array]:
    """Planes int8 (n * groups, digits * rest), last digit first, and exponents (n, groups)."""
    n = x.shape[0]
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, -1)
    planes = scratch.take("cut right", (values.shape[0], digits * values.shape[1]), np.int8)
    exponents = np.empty(n * groups, np.int64)
    if not kernels_digits.cut_rows(values, values.view(np.uint32), planes, exponents, digits, True):
        raise NonFiniteError(operation)
    return planes, exponents.reshape(n, groups)


def _cut_weight(rows: torch.Tensor, digits: int) -> tuple[Array, Array]:
    """Planes int8 (groups, o, digits * k), most significant first, and exponents (groups, o)."""
    groups, o, k = rows.shape
    values: Array = rows.detach().contiguous().numpy().reshape(groups * o, k)
    planes = np.empty((groups * o, digits * k), np.int8)
    exponents = np.empty(groups * o, np.int64)
    if not kernels_digits.cut_rows(values, values.view(np.uint32), planes, exponents, digits, False):
        raise NonFiniteError("convolution")
    return planes.reshape(groups, o, -1), exponents.reshape(groups, o)


def _cut_channels(x: torch.Tensor, digits: int, reverse: bool) -> tuple[Array, Array]:
    """Planes int8 (n, digits, c, h, w) and exponents (c,)."""
    n, c, h, w = x.shape
    values: Array = x.detach().contiguous().numpy().reshape(n, c, h * w)
    planes = scratch.take("cut right" if reverse else "cut left", (n, digits, c, h * w), np.int8)
    exponents = np.empty(c, np.int64)
    if not convolution.cut_channels(values, planes, exponents, digits, reverse):
        raise NonFiniteError("convolution_backward")
    return planes.reshape(n, digits, c, h, w), exponents
