"""Exact convolutions with few channels a group, by the loops of `kernels.depthwise` over cut digits."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.constants import Array
from podlt.exact.cpu.kernels import depthwise
from podlt.exact.geometry import Pair

MOST_PAIRS = 16
"""Groups of so many pairs of an input and an output channel are convolved by loops: a matrix would be too small."""

LINE = 2048
"""Samples are laid out together until a line has so many values: a loop that is short costs more than its terms."""

_FLOAT32, _INT32 = 2**24, 2**31


def suits(per_o: int, per_c: int) -> bool:
    """Whether a convolution with so many output and input channels a group is faster by loops."""
    return per_o * per_c <= MOST_PAIRS


def convolve(
    planes: Array, exponents: Array, cut: Array, rows: Array, window: Array, bias: Array, size: Pair
) -> torch.Tensor:
    """As `convolution.convolve`.

    Args:
        planes: int8 (n, groups, digits, c, h, w), last digit first.
        exponents: int64 (n, groups).
        cut: int8 (groups, o, digits * c * taps), first digit first: the weight.
        rows: int64 (groups, o).
        window: as in `kernels.convolution.patches`.
        bias: float32 (groups * o,) or (0,).
        size: of the result.
    """
    n, groups, digits, c = planes.shape[:4]
    out = torch.empty((n, groups * cut.shape[1], *size))
    if out.numel():
        kind, lines = _sums(digits, cut.shape[2] // digits), _lines(n, window, size)
        phases = int(digits * c * window[2] * window[3] * lines.prod())
        laid, total = np.zeros(phases + depthwise.LANES, kind), np.empty(lines.prod(), kind)
        fits = kind is not np.float64
        depthwise.convolve(planes, exponents, cut, rows, window, bias, lines, laid, total, fits, out.numpy())
    return out


def weight_gradient(
    left: Array, ea: Array, right: Array, eb: Array, window: Array, shape: tuple[int, ...]
) -> torch.Tensor:
    """As `convolution.weight_gradient`.

    Args:
        left: int8 (n, digits, o, height, width), first digit first.
        ea: int64 (o,): their exponents.
        right: int8 (n, digits, c, h, w), last digit first.
        eb: int64 (c,): their exponents.
        window: as in `kernels.convolution.patches`.
        shape: of the weight.
    """
    out = torch.zeros(shape)
    if left.size and right.size and out.numel():
        lines = _lines(len(left), window, (left.shape[3], left.shape[4]))
        depthwise.weight_gradient(left, ea, right, eb, window, lines, out.numpy().reshape(shape[0], shape[1], -1))
    return out


def _lines(n: int, window: Array, size: Pair) -> Array:
    """How many samples are laid out together, and height and width of a phase, for outputs of this size."""
    kh, kw, sh, sw, _, _, dh, dw = (int(v) for v in window)
    tall, wide = size[0] + (kh - 1) * dh // sh, size[1] + (kw - 1) * dw // sw
    return np.array([max(1, min(n, LINE // (tall * wide))), tall, wide], np.int64)


def _sums(digits: int, terms: int) -> type[np.generic]:
    """The fastest type in which so many products of values of so many digits are summed exactly."""
    most = terms * sum(64 * 64 * 2 ** (7 * (digits - 1 - i - j)) for i in range(digits) for j in range(digits - i))
    return np.float32 if most <= _FLOAT32 else np.int32 if most < _INT32 else np.float64
