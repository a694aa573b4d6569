"""The gradient of a convolution's weight by AVX-512 VNNI where the processor has it, by `kernels.quad_gradient`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from podlt.exact.constants import NARROW_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import gradient_cuts, quad_gradient
from podlt.exact.cpu.kernels.digits import NOT_FINITE
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.exact.cpu.products import narrow
from podlt.exact.cpu.quads import available, axis, filled
from podlt.exact.geometry import Geometry, Pair

Tensor = torch.Tensor

LEAST_OUTPUTS = 8
"""Of fewer output channels a group, lanes of a tile would mostly be empty: their planes are lines."""


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """How both operands are laid out, and what is multiplied with what.

    Args:
        input: the layout of the input, as `kernels.gradient_cuts.cut_planes` takes it.
        parts: the same.
        gradient: the layout of the gradient, as `cut_gradient` takes it, or `cut_planes` if there are few channels.
        offsets: as `gradient` takes it, and so `loops`; or as `gradient_of_few` takes it, and its `blocks`.
        bytes: of the input, with its margins.
        words: of the gradient; bytes if there are few channels.
        row: bytes of one of its channels' planes, with a margin.
        some: how many samples' products fit an int32.
    """

    input: Array
    parts: Array
    gradient: Array
    offsets: Array
    loops: Array
    bytes: int
    words: int
    row: int
    some: int


def suits(digits: int) -> bool:
    """Whether the gradient of a weight is computed so."""
    return available() and narrow(digits, 1)


@lru_cache(maxsize=512)
def plan(n: int, image: Pair, shape: tuple[int, ...], g: Geometry, size: Pair, digits: int) -> GradientPlan:
    """How to work out a gradient.

    Args:
        n: samples.
        image: height and width of the input.
        shape: of the weight.
        g: the geometry.
        size: height and width of the gradient.
        digits: one or two.
    """
    o, c, *taps = shape
    rows, columns = (axis(image[i], taps[i], g, size[i], 1, i) for i in (0, 1))
    if rows.is_as_is and columns.is_as_is and image[0] > 1:  # one long row
        flat = (1, image[0] * image[1])
        return plan(n, flat, shape, g, flat, digits)
    (height, width), tall, wide, (y,), (x,) = size, rows.length, columns.length, rows.seen, columns.seen
    phases, plane = len(rows.phases) * len(columns.phases), tall * wide
    block = n * plane + wide + gradient_cuts.MARGIN
    phase = y.phase[:, None] * len(columns.phases) + x.phase
    seen = (phase * block + y.places[:, None] * wide + x.places).reshape(-1)
    offsets = (np.arange(c)[:, None] * (phases * block) + seen).reshape(-1)
    theirs = c * g.groups * phases * block
    laid = np.array((*image, tall, wide, *g.stride, block), np.int64), filled(rows, columns, image[1])
    if o // g.groups < LEAST_OUTPUTS:
        gradient = np.array((height, width, tall, wide, 1, 1, block), np.int64)
        blocks = np.array((block, o * block, phases * block, theirs), np.int64)
        return GradientPlan(*laid, gradient, offsets, blocks, digits * theirs + plane + 64, digits * o * block, 0, n)
    run, fours = -(-((height - 1) * wide + width) // 4), -(-width // 4)
    lines, words, pitch = (1, run, wide) if run <= height * fours else (height, fours, 4 * fours)
    lanes, per = (LANES if o // g.groups <= LANES else 2 * LANES), o // g.groups
    ours = (n * lines * words + LANES) * lanes
    line_gap = wide - 4 * words if lines > 1 else 0
    block_gap = plane - lines * (4 * words + line_gap)
    return GradientPlan(
        *laid,
        np.array((width, pitch, lines * words, lanes, ours), np.int64),
        offsets,
        np.array((lines, words, line_gap, block_gap, plane, 4 * ours, theirs), np.int64),
        digits * theirs,
        digits * g.groups * -(-per // lanes) * ours,
        height * pitch + 2 * gradient_cuts.MARGIN,
        max(1, min(n, quad_gradient.TERMS // (lines * 4 * words))),
    )


def weight_gradient(
    grad: Tensor, x: Tensor, shape: tuple[int, ...], g: Geometry, digits: int
) -> tuple[Tensor, tuple[Array, Array]]:
    """As `convolution.weight_gradient`, of two digits at most; and which output and input channels are wide.

    Raises:
        NonFiniteError: an operand holds an infinity or a NaN.
    """
    (n, c, *image), (_, o, *size), count = x.shape, grad.shape, digits or NARROW_DIGITS
    how = plan(n, (image[0], image[1]), shape, g, (size[0], size[1]), count)
    values: Array = x.detach().contiguous().numpy().reshape(n, c, -1)
    given: Array = grad.detach().contiguous().numpy().reshape(n, o, -1)
    ea, eb, wide_o, wide_c = np.empty(o, np.int64), np.empty(c, np.int64), np.zeros(o, np.uint8), np.zeros(c, np.uint8)
    right = scratch.take("quads right", (how.bytes,), np.int8)
    room = scratch.take("quads line", (count, n * max(values.shape[2], given.shape[2]) + gradient_cuts.MARGIN), np.int8)
    few = o // g.groups < LEAST_OUTPUTS
    if few:
        left = scratch.take("quads left", (how.words,), np.int8)
        parts = np.array([(0, how.gradient[0], 0, how.gradient[1], 0)], np.int64)
        first = gradient_cuts.cut_planes(given, how.gradient, parts, 0, left, room, ea, wide_o, digits)
    else:
        left = scratch.take("quads left", (how.words,), np.int32)
        rows = scratch.take("quads rows", (count + 1, LANES, how.row), np.int8)
        first = gradient_cuts.cut_gradient(given, g.groups, how.gradient, left, rows, ea, wide_o, digits)
    second = gradient_cuts.cut_planes(values, how.input, how.parts, 64, right, room, eb, wide_c, digits)
    if NOT_FINITE in (first, second):
        raise NonFiniteError("convolution_backward")
    out = torch.empty(shape)
    exponents, target = (ea.reshape(g.groups, -1), eb.reshape(g.groups, -1)), out.numpy().reshape(o, -1)
    if few:
        together = n * int(how.input[2] * how.input[3])
        quad_gradient.gradient_of_few(left, right, how.offsets, together, how.loops, *exponents, count, target)
    else:
        loops = how.offsets, how.loops, int(how.gradient[3]), how.some, n
        quad_gradient.gradient(left, right, *loops, *exponents, count, target)
    return out, (wide_o, wide_c)
