"""What of a convolution needs four digits, computed anew: wide samples, rows of the weight, channels of a gradient."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.aten.backend import SampleDigits
from podlt.exact.constants import WIDE_DIGITS, Array
from podlt.exact.cpu import scratch
from podlt.exact.cpu.blocks import blocks, gradient_levels, phases
from podlt.exact.cpu.digits import cut_wide
from podlt.exact.cpu.kernels import convolution
from podlt.exact.cpu.kernels.digits import combine_wide
from podlt.exact.cpu.products import level_products
from podlt.exact.geometry import Pair

Tensor = torch.Tensor
Planes = tuple[Array, Array]
"""Digits of channels, int8 (n, 2, c, h, w), and their exponents (c,)."""
_none = np.empty(0, np.float32)


def widen_samples(
    samples: SampleDigits,
    weight: Tensor,
    left: Array,
    rows: Array,
    marked: Array,
    bias: Array,
    window: Array,
    size: Pair,
    out: Array,
) -> None:
    """Compute anew what wide samples give, and what wide rows of the weight give of the others.

    Args:
        samples: cut into two digits, and the wide ones into four.
        weight: float32 (groups, o, k).
        left: its two digits, int8 (groups, o, 2 * k).
        rows: its exponents (groups, o).
        marked: which of its groups * o rows are wide.
        bias: float32 (groups * o,), or (0,).
        window: as `kernels.convolution.patches` takes it.
        size: height and width of the result.
        out: float32 (n, groups * o, length), written in part.
    """
    _, per, k = weight.shape
    wide, places = samples.wide, np.empty((0, 2), np.int64) if samples.places is None else samples.places.numpy()
    for group in sorted({*places[:, 1].tolist(), *(marked // per).tolist()}):
        ours, exponents = left[group], rows[group].copy()
        own = marked[marked // per == group] % per
        if len(own):
            cut, exponents[own] = cut_wide(weight[group][torch.from_numpy(own)], "left")
            ours = np.concatenate([ours, np.zeros_like(ours)], 1)
            ours[own] = cut.numpy()
        numbers = np.flatnonzero(places[:, 1] == group)
        channels = np.arange(group * per, (group + 1) * per)
        if len(numbers) and wide is not None:
            source = wide.planes.numpy()[numbers, 0]
            theirs = wide.exponents.numpy()[numbers, 0]
            _put(source, theirs, ours, exponents, k, bias, window, size, out, places[numbers, 0], channels)
        rest = np.setdiff1d(np.arange(len(samples.planes)), places[numbers, 0])
        if len(own) and len(rest):
            source, theirs = samples.planes.numpy()[rest, group], samples.exponents.numpy()[rest, group]
            _put(source, theirs, ours[own], exponents[own], k, bias, window, size, out, rest, channels[own])


def _put(
    source: Array,
    theirs: Array,
    left: Array,
    ours: Array,
    k: int,
    bias: Array,
    window: Array,
    size: Pair,
    out: Array,
    numbers: Array,
    channels: Array,
) -> None:
    """Write the products of samples, int8 (r, digits, c, h, w), with rows, int8 (o, digits * k), to their places."""
    digits, length, per = source.shape[1], size[0] * size[1], len(left)
    source, weights = np.ascontiguousarray(phases(source, window)), torch.from_numpy(left)
    for first, count in blocks(len(source), length * (digits * k + 16 * per)):
        laid = scratch.take("planes right", (digits * k, count * length), np.int8)
        places = np.array([k * count * length, count * length, length], np.int64)
        convolution.patches(source, first, count, 1, window, *size, places, laid.reshape(-1))
        levels = level_products(weights, torch.from_numpy(laid), k, WIDE_DIGITS)
        found = np.empty((per, count * length), np.float32)
        combine_wide(levels, ours, np.repeat(theirs[first : first + count], length), _none, found)
        if len(bias):
            found += bias[channels, None]
        block = found.reshape(per, count, length).transpose(1, 0, 2)
        out[numbers[first : first + count, None], channels] = block


def widen_gradient(
    grad: Tensor,
    x: Tensor,
    cut: tuple[Planes, Planes],
    wide: tuple[Array, Array],
    window: Array,
    size: Pair,
    out: Array,
) -> None:
    """Compute anew the gradient of one group's weight where a channel of `grad` or of `x` is wide.

    Args:
        grad: float32 (n, o, oh, ow).
        x: float32 (n, c, h, w).
        cut: both in two digits, of `x` the last first.
        wide: uint8 (o,) and (c,).
        window: as `kernels.convolution.patches` takes it.
        size: oh and ow.
        out: float32 (o, c * taps), written in part.
    """
    (left, ea), (right, eb) = cut
    rows, columns = np.flatnonzero(wide[0]), np.flatnonzero(wide[1])
    taps = int(window[0] * window[1])
    if len(columns):
        planes, own = _wide_channels(x, columns, "right")
        right, eb = np.concatenate([np.zeros_like(right), right], 1), eb.copy()  # the last digit comes first
        right[:, :, columns], eb[columns] = planes, own
    if len(rows):
        planes, own = _wide_channels(grad, rows, "left")
        found = np.empty((len(rows), out.shape[1]), np.float32)
        total = gradient_levels(planes, right, window, size, WIDE_DIGITS)
        combine_wide(total, own, np.repeat(eb, taps), _none, found)
        out[rows] = found
    rest = np.flatnonzero(wide[0] == 0)
    if len(columns) and len(rest):
        total = gradient_levels(left[:, :, rest], right[:, :, columns], window, size, WIDE_DIGITS)
        found = np.empty((len(rest), len(columns) * taps), np.float32)
        combine_wide(total, ea[rest], np.repeat(eb[columns], taps), _none, found)
        out[rest[:, None], (columns[:, None] * taps + np.arange(taps)).reshape(-1)] = found


def _wide_channels(x: Tensor, channels: Array, side: str) -> Planes:
    """Four digits of some channels of float32 (n, c, h, w): int8 (n, 4, r, h, w), and their exponents."""
    chosen = x.detach()[:, torch.from_numpy(channels)].transpose(0, 1)
    r, n, h, w = chosen.shape
    cut, exponents = cut_wide(chosen.reshape(r, n * h * w), side)
    planes: Array = (cut if side == "left" else cut.t()).numpy().reshape(r, WIDE_DIGITS, n, h, w)
    return np.ascontiguousarray(planes.transpose(2, 1, 0, 3, 4)), exponents
