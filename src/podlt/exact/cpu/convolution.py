"""Exact convolutions by blocks of samples: digits are laid out by loops, and multiplied as int8 matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError
from podlt.exact.cpu import depthwise, scratch
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.kernels import digits as kernels_digits
from podlt.exact.cpu.products import level_products, narrow
from podlt.exact.geometry import Geometry, Pair, apart

BLOCK_BYTES = 2**20
"""What a block of samples may take: its patches and its integer products stay in the cache."""

Tensor = torch.Tensor
_none = np.empty(0, np.float32)
_ONE = np.array([1, 1, 1, 1, 0, 0, 1, 1], np.int64)


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> tuple[Tensor, Tensor]:
    """`Convolutions.cut_samples`: last digit first, in scratch memory."""
    n, c, h, w = x.shape
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, -1)
    planes = scratch.take("cut right", (values.shape[0], digits * values.shape[1]), np.int8)
    exponents = _cut(values, planes, digits, True, operation)
    shape = (n, groups, digits, c // groups, h, w)
    return torch.from_numpy(planes.reshape(shape)), torch.from_numpy(exponents.reshape(n, groups))


def spaced(planes: Tensor, stride: Pair) -> Tensor:
    """`Convolutions.spaced`, in NumPy, which copies bytes with steps in half of torch's time."""
    out = np.zeros((*planes.shape[:-2], *apart((planes.shape[-2], planes.shape[-1]), stride)), np.int8)
    out[..., :: stride[0], :: stride[1]] = planes.numpy()
    return torch.from_numpy(out)


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
    values: Array = weight.detach().contiguous().numpy().reshape(groups * per, k)
    cut = np.empty((groups * per, digits * k), np.int8)
    rows = _cut(values, cut, digits, False, operation).reshape(groups, per)
    left = cut.reshape(groups, per, -1)
    added = _none if bias is None else bias.detach().contiguous().numpy()
    window = _window(g, taps)
    if depthwise.suits(per, planes.shape[3]):
        return depthwise.convolve(planes.numpy(), exponents.numpy(), left, rows, window, added, size)
    out = torch.empty((n, groups * per, *size))
    target = out.numpy().reshape(n, groups * per, length)
    source, shared = planes.numpy().reshape(n * groups, *planes.shape[2:]), exponents.numpy()
    for group in range(groups):
        ours = added[group * per : (group + 1) * per]
        weights = torch.from_numpy(left[group])
        firsts = [weights[:, : (level + 1) * k] for level in range(digits)]
        for first, count in _blocks(n, length * (digits * k + 4 * digits * per)):
            block = scratch.view(
                ("block", digits, k, count, length, per), partial(_Block, digits, k, count, length, per)
            )
            start = first * groups + group
            convolution.patches(source, start, count, groups, window, *size, block.places, block.columns)
            samples = shared[first : first + count, group].copy()
            fits = narrow(digits, k)
            levels = block.multiply(firsts) if fits else level_products(weights, block.right, digits)
            convolution.combine_samples(levels, rows[group], samples, digits, fits, ours, target, first, group * per)
    return out


def weight_gradient(grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
    """`Convolutions.weight_gradient`."""
    n, c = x.shape[:2]
    o, size, taps = grad.shape[1], (grad.shape[2], grad.shape[3]), (shape[2], shape[3])
    per_o, per_c, length = o // g.groups, c // g.groups, size[0] * size[1]
    left, ea = _cut_channels(grad, digits, reverse=False)
    right, eb = _cut_channels(x, digits, reverse=True)
    k = per_c * taps[0] * taps[1]
    if depthwise.suits(per_o, per_c):
        return depthwise.weight_gradient(left, ea, right, eb, _window(g, taps), tuple(shape))
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
            for source, window, laid in ((rows, _ONE, a), (columns, _window(g, taps), b)):
                convolution.patches(source, first, count, 1, window, *size, places, laid.reshape(-1))
            pair = torch.from_numpy(a.reshape(per_o, -1)), torch.from_numpy(b.reshape(k, -1)).t()
            total += level_products(*pair, digits)
        exponents = np.repeat(eb[group * per_c : (group + 1) * per_c], taps[0] * taps[1])
        ours = ea[group * per_o : (group + 1) * per_o]
        kernels_digits.combine(total, ours, exponents, digits, _none, flat[group])
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


def _blocks(n: int, bytes_each: int) -> Iterator[Pair]:
    """Cut `n` samples into (first, count) such that a block fits the cache; at least one sample each."""
    step = max(1, BLOCK_BYTES // max(bytes_each, 1))
    for first in range(0, n, step):
        yield first, min(step, n - first)


def _cut(values: Array, planes: Array, digits: int, last_first: bool, operation: str) -> Array:
    """Cut float32 (rows, k) into `planes`, int8 (rows, digits * k); the exponents, int64 (rows,)."""
    exponents = np.empty(len(values), np.int64)
    if not kernels_digits.cut_rows(values, planes, exponents, digits, last_first):
        raise NonFiniteError(operation)
    return exponents


def _cut_channels(x: Tensor, digits: int, reverse: bool) -> tuple[Array, Array]:
    """Planes int8 (n, digits, c, h, w) and exponents (c,)."""
    n, c, h, w = x.shape
    values: Array = x.detach().contiguous().numpy().reshape(n, c, h * w)
    planes = scratch.take("cut right" if reverse else "cut left", (n, digits, c, h * w), np.int8)
    exponents = np.empty(c, np.int64)
    if not convolution.cut_channels(values, planes, exponents, digits, reverse):
        raise NonFiniteError("convolution_backward")
    return planes.reshape(n, digits, c, h, w), exponents
