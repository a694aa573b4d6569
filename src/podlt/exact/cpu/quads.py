"""Exact convolutions by AVX-512 VNNI where the processor has it, by the loops of `kernels.quads`."""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
import torch

from podlt.exact.constants import NARROW_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import dot, quad_gradient, quads
from podlt.exact.cpu.kernels.digits import NOT_FINITE
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.exact.cpu.products import narrow
from podlt.exact.geometry import Pair

Tensor = torch.Tensor

MOST_STEP = 4
"""Strides up to here are laid out by vectors."""

LEAST_OUTPUTS = 8
"""Of fewer output channels a group, lanes of a gradient's tile would mostly be empty."""

GRADIENT_LANES = 32
"""Output channels in a tile of the weight's gradient."""

available = cache(dot.available)


def suits(digits: int, c: int, window: Array, apart: int) -> bool:
    """Whether a convolution of `c` channels of a group is computed so: its sums must fit an int32.

    Args:
        window: as `kernels.convolution.patches` takes it.
        apart: how far samples lie apart at most.
    """
    most = max(window[2:4].max(), window[6:].max() if apart > 1 else 1)
    return available() and narrow(digits, c * int(window[0] * window[1])) and most <= MOST_STEP


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> tuple[Array, Array, Array]:
    """Words of float32 (n, c, h, w), as `kernels.quads.cut_quads` lays them; exponents (n, groups), and the wide ones.

    Raises:
        NonFiniteError: naming `operation`.
    """
    n, c = x.shape[:2]
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, c // groups, -1)
    count = (digits or NARROW_DIGITS) * len(values) * -(-values.shape[1] // 4) * values.shape[2]
    words = scratch.take("quads", (count + 2 * quads.MARGIN,), np.int32)
    exponents, wide = np.empty(len(values), np.int64), np.empty(len(values), np.uint8)
    found = quads.cut_quads(values, words, exponents, wide, digits)
    if found == NOT_FINITE:
        raise NonFiniteError(operation)
    return words, exponents.reshape(n, groups), np.flatnonzero(wide) if found else np.empty(0, np.int64)


def convolve(
    words: Array, shared: Array, left: Array, rows: Array, bias: Array, image: Pair, c: int, window: Array, size: Pair
) -> Tensor:
    """As `convolution.convolve`.

    Args:
        words: of `cut_samples`.
        shared: int64 (n, groups), of it.
        left: int8 (groups, o, digits * k), first digit first: the weight.
        rows: int64 (groups, o).
        bias: float32 (groups * o,) or (0,).
        image: height and width of the input.
        c: its channels of a group.
        window: as `kernels.convolution.patches` takes it.
        size: of the result.
    """
    groups, per, _ = left.shape
    taps, lines = int(window[0] * window[1]), -(-c // 4)
    digits = left.shape[2] // (c * taps)
    weight = scratch.take("quads weight", (groups * per * digits * lines * taps + LANES,), np.int32)
    off = np.empty((groups, per), np.int32)
    cut = _padded("quads cut", (groups * per, left.shape[2]), np.int8, LANES)
    cut[:] = left.reshape(cut.shape)
    quads.pack_weight(cut, c, taps, weight, off.reshape(-1))
    laid = scratch.take("quads laid", ((digits * lines * taps + 1) * quads.PITCH,), np.int32)
    out = torch.empty((len(shared), groups * per, *size))
    flat = out.numpy().reshape(len(out), groups * per, -1)
    height = np.array(image, np.int64)
    quads.convolve(words, shared, weight, off, rows, window, bias, height, size[1], digits, lines, laid, flat)
    return out


def gradient_suits(digits: int, per: int) -> bool:
    """Whether the gradient of a weight of `per` output channels a group is computed so."""
    return available() and narrow(digits, 1) and per >= LEAST_OUTPUTS


def weight_gradient(left: Array, ea: Array, right: Array, eb: Array, window: Array, shape: tuple[int, ...]) -> Tensor:
    """As `convolution.weight_gradient`.

    Args:
        left: int8 (n, digits, o, height, width), first digit first.
        ea: int64 (o,): their exponents.
        right: int8 (n, digits, c, h, w), last digit first, readable `quad_gradient.MARGIN` bytes beyond its end.
        eb: int64 (c,): their exponents.
        window: as `kernels.convolution.patches` takes it.
        shape: of the weight.
    """
    (n, digits, c, h, w), (height, width) = right.shape, left.shape[3:]
    kh, kw, sh, sw, _, _, dh, dw = (int(v) for v in window)
    o, per_c = shape[:2]
    per_o, words, taps = o * per_c // c, -(-width // 4), kh * kw
    tall, wide = height + (kh - 1) * dh // sh, 4 * words + (kw - 1) * dw // sw
    some = max(1, min(n, quad_gradient.TERMS // (height * 4 * words)))
    ours, theirs = left.reshape(n, digits, o, -1), right.reshape(n, digits, c, -1)
    rows = np.zeros((LANES + 1, height * words * 4 + quad_gradient.MARGIN), np.int8)
    out, image, lanes = torch.empty((o, per_c * taps)), np.array((h, w), np.int64), GRADIENT_LANES
    for group in range(o // per_o):
        total = np.zeros((-(-per_o // lanes), digits, per_c * taps, lanes), np.float64)
        for start in range(0, n, some):
            stop = min(n, start + some)
            room = (digits, per_c, sh * sw, stop - start, tall, wide)
            laid = _padded("quads right", room, np.int8, wide + quad_gradient.MARGIN)
            places = (digits, stop - start, height, words, lanes)
            gradient = _padded("quads left", places, np.int32, LANES * lanes)
            quad_gradient.lay_input(theirs[start:stop], image, window, group * per_c, laid)
            offsets = _offsets(tuple(window.tolist()), per_c, stop - start, tall, wide)
            seen, sums = np.empty((digits, len(offsets)), np.int64), np.empty((len(offsets), lanes), np.int32)
            levels = np.empty(total.shape[1:], np.float64)
            quad_gradient.sum_seen(laid, offsets, height, 4 * words, seen)
            for part, first in enumerate(range(0, per_o, lanes)):
                count = min(lanes, per_o - first)
                quad_gradient.lay_gradient(ours[start:stop], group * per_o + first, count, width, rows, gradient)
                quad_gradient.add_levels(gradient, laid, offsets, seen, sums, levels)
                total[part] += levels
        for part, first in enumerate(range(group * per_o, (group + 1) * per_o, lanes)):
            last = min(first + lanes, (group + 1) * per_o)
            rounded, own = np.empty((per_c * taps, lanes), np.float32), np.zeros(lanes, np.int64)
            own[: last - first] = ea[first:last]
            quad_gradient.finish(total[part], own, eb[group * per_c : (group + 1) * per_c], taps, rounded)
            out[first:last] = torch.from_numpy(rounded).t()[: last - first]
    return out.reshape(shape)


def _padded(name: str, shape: tuple[int, ...], dtype: type[np.generic], more: int) -> Array:
    """Scratch memory with room behind it."""
    size = math.prod(shape)
    return scratch.take(name, (size + more,), dtype)[:size].reshape(shape)


@lru_cache(maxsize=256)
def _offsets(window: tuple[int, ...], channels: int, n: int, tall: int, wide: int) -> Array:
    """Where each channel's taps begin to read, as `kernels.quad_gradient.add_levels` takes it."""
    kh, kw, sh, sw, _, _, dh, dw = window
    y, x = np.arange(kh)[:, None] * dh, np.arange(kw) * dw
    taps = ((y % sh * sw + x % sw) * n * tall + y // sh) * wide + x // sw
    return (np.arange(channels)[:, None] * (sh * sw * n * tall * wide) + taps.reshape(-1)).reshape(-1)
