"""What ATen's arguments say about windows and convolutions in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podlt.errors import UnsupportedError

Sizes = Sequence[int]
Pair = tuple[int, int]


def pair(values: Sizes) -> Pair:
    """Both dimensions' values; one may stand for both."""
    return int(values[0]), int(values[-1])


def pooled_length(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """How many windows there are over a line of `n` cells."""
    span = n + 2 * p - d * (k - 1) - 1
    length = (span + (s - 1 if ceil else 0)) // s + 1
    return length - 1 if ceil and (length - 1) * s >= n + p else length


def spanned(n: int, k: int, s: int, p: int, d: int) -> int:
    """How many cells a line has over which there are `n` windows, none of them left over."""
    return (n - 1) * s - 2 * p + d * (k - 1) + 1


def spread(size: Pair, stride: Pair) -> Pair:
    """Height and width of a plane of this `size` once its values lie `stride` apart; nothing stays nothing."""
    h, w = size
    return ((h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1) if h and w else size


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

    def input(self, size: Pair, taps: Pair, extra: Pair) -> Pair:
        """Height and width of the input whose output has this `size`, and `extra` cells that no window reaches."""
        s, p, d = self.stride, self.padding, self.dilation
        h, w = (spanned(size[i], taps[i], s[i], p[i], d[i]) + extra[i] for i in (0, 1))
        return h, w


def geometry(ndim: int, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Geometry:
    """The geometry that ATen's arguments describe, one dimension as the second of two.

    Raises:
        UnsupportedError: the tensor's `ndim` dimensions are not (n, c, l) or (n, c, h, w).
    """
    if ndim not in (3, 4):
        raise UnsupportedError(f"convolution: expected one, two or three dimensions in space, got {ndim - 2}")
    if ndim == 3:
        return Geometry((1, int(stride[0])), (0, int(padding[0])), (1, int(dilation[0])), groups)
    return Geometry(pair(stride), pair(padding), pair(dilation), groups)
