"""Convolutions as matrix products of digits, by blocks of samples that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from podlt.exact.constants import Array
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.products import level_products
from podlt.exact.geometry import Pair

BLOCK_BYTES = 2**20
"""What a block of samples may take: its patches and its integer products stay in the cache."""

Tensor = torch.Tensor
_ONE = np.array([1, 1, 1, 1, 0, 0, 1, 1], np.int64)


class SampleBlock:
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


def blocks(n: int, bytes_each: int) -> Iterator[Pair]:
    """Cut `n` samples into (first, count) such that a block fits the cache; at least one sample each."""
    step = max(1, BLOCK_BYTES // max(bytes_each, 1))
    for first in range(0, n, step):
        yield first, min(step, n - first)


def phases(planes: Array, window: Array) -> Array:
    """Planes int8 (b, s, c, h, w) by the phases of the strides, (b, s, c * sh * sw, h / sh, w / sw), for `patches`."""
    sh, sw = int(window[2]), int(window[3])
    if sh == 1 and sw == 1:
        return planes
    *outer, c, h, w = planes.shape
    shape = (*outer, c, sh * sw, -(-h // sh), -(-w // sw))
    out = np.zeros(shape, np.int8) if h % sh or w % sw else np.empty(shape, np.int8)
    for a in range(sh):
        for b in range(sw):
            part = planes[..., a::sh, b::sw]
            out[..., a * sw + b, : part.shape[-2], : part.shape[-1]] = part
    return out.reshape(*outer, c * sh * sw, *shape[-2:])


def gradient_levels(left: Array, right: Array, window: Array, size: Pair, count: int) -> Array:
    """The first `count` levels of the products of a gradient's channels with what each tap saw, over all positions.

    The side with more rows is multiplied from the left: the other is laid out anew within the product.

    Args:
        left: int8 (n, digits, o, oh, ow), most significant first; left and right may differ in their digits.
        right: int8 (n, digits, c, h, w), last first.
        window: as `kernels.convolution.patches` takes it.
        size: oh and ow.

    Returns:
        Whole float64 (count, o, c * taps).
    """
    n, ours, o = left.shape[:3]
    theirs, k, length = right.shape[1], right.shape[2] * int(window[0] * window[1]), size[0] * size[1]
    turned = o < k
    order = slice(None, None, -1 if turned else 1)  # of the digits: those of the left operand begin with the first
    total = np.zeros((count, k, o) if turned else (count, o, k))
    rows = np.ascontiguousarray(left[:, order])
    columns = np.ascontiguousarray(phases(right[:, order], window))
    for first, several in blocks(n, length * (theirs * k + ours * o)):
        a = scratch.take("planes left", (o, ours, several * length), np.int8)
        b = scratch.take("planes right", (k, theirs, several * length), np.int8)
        for source, seen, laid, digits in ((rows, _ONE, a, ours), (columns, window, b, theirs)):
            places = np.array([several * length, digits * several * length, length])
            convolution.patches(source, first, several, 1, seen, *size, places, laid.reshape(-1))
        one, other = torch.from_numpy(a.reshape(o, -1)), torch.from_numpy(b.reshape(k, -1))
        pair = (other, one.t()) if turned else (one, other.t())
        total += level_products(*pair, several * length, count)
    return np.ascontiguousarray(total.transpose(0, 2, 1)) if turned else total
