"""Exact convolutions by AVX-512 VNNI where the processor has it, by the loops of `kernels.quads`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import dot, quad_cuts, quads
from podlt.exact.cpu.kernels.digits import NOT_FINITE
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.exact.cpu.products import narrow
from podlt.exact.geometry import Geometry, Pair

Tensor = torch.Tensor

BLOCK = 2**22
"""Bytes of the words of samples that are cut and multiplied together, or those of one."""

available = cache(dot.available)


@dataclass(frozen=True, slots=True)
class ConvolutionPlan:
    """How a convolution's samples are laid out, and who sees what of them.

    Args:
        number: of the plan; no other has it.
        layout: as `kernels.quad_cuts.cut_quads` takes it, and so `parts`.
        digits: one or two.
        size: words of a sample's group.
        beyond: words behind the last plane that are written.
        joined: how many taps share a word.
        met: as `kernels.quad_cuts.pack_weight` takes it.
        offsets: as `kernels.quads.convolve` takes it, and so `phases` and `apart`.
        whole: whether the phases are all results.
        together: whether there is one phase of all results.
    """

    number: int
    layout: Array
    parts: Array
    digits: int
    size: int
    beyond: int
    joined: int
    met: Array
    offsets: Array
    phases: Array
    apart: Array
    whole: bool
    together: bool


_numbers = itertools.count()


def suits(digits: int, terms: int) -> bool:
    """Whether a convolution whose results are sums of so many products is computed so: they must fit an int32."""
    return available() and narrow(digits, terms)


@lru_cache(maxsize=512)
def plan(image: Pair, taps: Pair, c: int, digits: int, g: Geometry, size: Pair, apart: Pair) -> ConvolutionPlan:
    """How to convolve.

    Args:
        image: height and width of a sample.
        taps: of the weight.
        c: channels of a group.
        digits: one or two.
        g: the geometry.
        size: of the result.
        apart: how far the sample's values lie apart, all else being zeros; where they do, the stride is 1.
    """
    rows, columns = (axis(image[i], taps[i], g, size[i], apart[i], i) for i in (0, 1))
    as_is = rows.is_as_is and columns.is_as_is
    phases = [(y, x) for y in rows.seen for x in columns.seen if len(y.taps) and len(x.taps)]
    tall, wide = rows.length, columns.length
    if as_is:  # one long row
        tall, wide, phases = 1, tall * wide, [(_ONE, replace(phases[0][1], count=tall * wide))]
    planes = len(rows.phases) * len(columns.phases)
    plane, joined, quads_ = tall * wide, {1: 4, 2: 2}.get(c, 1), -(-c // 4)
    lines = np.arange(quads_)[None, :, None] * digits + np.arange(digits)[:, None, None]  # last digit first
    met: list[Array] = []
    offsets: list[Array] = []
    table: list[tuple[int, ...]] = []
    for y, x in phases:
        places = (y.phase[:, None] * len(columns.phases) + x.phase) * plane + y.places[:, None] * wide + x.places
        seen = places.reshape(-1)
        groups = np.append(seen, np.repeat(seen[-1:], -len(seen) % joined)).reshape(-1, joined)
        own = (lines[..., None] * (planes * plane) + groups).reshape(-1, joined) * 4
        begins = sum(len(one) for one in offsets), len(own), sum(len(one) for one in met), len(seen)
        table.append((*begins, y.count, x.count, wide, y.start, x.start))
        met.append((y.taps[:, None] * taps[1] + x.taps).reshape(-1))
        offsets.append(own)
    parts = filled(rows, columns, image[1])[: 0 if as_is else None]
    covered = sum(one[4] * one[5] for one in table)
    return ConvolutionPlan(
        next(_numbers),
        np.array((*image, tall, wide, *g.stride), np.int64),
        parts,
        digits,
        quads_ * digits * planes * plane,
        wide + quad_cuts.MARGIN,
        joined,
        np.concatenate(met) if met else np.empty(0, np.int64),
        np.ascontiguousarray(np.concatenate(offsets)) if offsets else np.empty((0, joined), np.int64),
        np.array(table, np.int64).reshape(-1, 9),
        np.array(apart, np.int64),
        covered == size[0] * size[1],
        covered == size[0] * size[1] and len(table) == 1,
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the results of one phase see along one dimension.

    Args:
        start: the first of these results; the others follow as far apart as the samples' values lie.
        count: how many there are.
        taps: those that meet values.
        phase: of each tap, which of the laid out phases it sees.
        places: where each tap's first value is in it.
    """

    start: int
    count: int
    taps: Array
    phase: Array
    places: Array


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of planes and results.

    Args:
        phases: of the stride, that are laid out.
        filled: of each of them the first place that has a value, how many have one, and which value is the first.
        length: of a plane.
        seen: what each phase of the results sees.
        is_as_is: whether a plane is the values as they lie.
    """

    phases: Array
    filled: tuple[tuple[int, int, int], ...]
    length: int
    seen: tuple[Seen, ...]
    is_as_is: bool


_ONE = Seen(0, 1, *(np.zeros(1, np.int64) for _ in range(3)))


def axis(n: int, k: int, g: Geometry, out: int, apart: int, i: int) -> Axis:
    """What `out` results see of `n` values by `k` taps along dimension `i`."""
    s, p, d = g.stride[i], g.padding[i], g.dilation[i]
    if apart == 1:
        at, taps = np.arange(k) * d, np.arange(k)
        phases = np.unique(at % s)
        seen = (Seen(0, out, taps, np.searchsorted(phases, at % s), at // s),)
        length = out + int(at.max()) // s
        filled = tuple(_filled(n, length, s, p - int(phase)) for phase in phases)
        return Axis(phases, filled, length, seen, k == 1 and s == 1 and p == 0 and length == n)
    met = []
    for phase in range(min(apart, out)):  # tap t sees the value (phase - p + t d) / apart, where that is whole
        at = phase - p + np.arange(k) * d
        taps = np.flatnonzero(at % apart == 0)
        met.append((phase, -(-(out - phase) // apart), taps, at[taps] // apart))
    before = max(-int(at.min(initial=0)) for *_, at in met)
    length = max(count + before + int(at.max(initial=-before)) for _, count, _, at in met)
    all_seen = tuple(Seen(phase, count, taps, np.zeros_like(taps), at + before) for phase, count, taps, at in met)
    return Axis(np.zeros(1, np.int64), (_filled(n, length, 1, before),), length, all_seen, False)


def filled(rows: Axis, columns: Axis, width: int) -> Array:
    """The phases' parts that have values, of images of this width, as `kernels.quad_cuts.cut_quads` takes them."""
    parts = [(*y[:2], *x[:2], y[2] * width + x[2]) for y in rows.filled for x in columns.filled]
    return np.array([p if p[3] else (0, 0, 0, 0, 0) for p in parts], np.int64)


def _filled(n: int, length: int, step: int, before: int) -> tuple[int, int, int]:
    """Which places of a plane have every `step`-th of `n` values, the first of them `before` values behind the first.

    Returns:
        The first place, how many there are, and the number of the value at the first.
    """
    low = min(length, max(0, -(-before // step)))
    count = max(0, min(length, (n - 1 + before) // step + 1) - low)
    return low, count, low * step - before


def cut_samples(values: Array, digits: int, how: ConvolutionPlan, operation: str) -> tuple[Array, Array, bool]:
    """Words of float32 (n, c, h * w), as `kernels.quad_cuts.cut_quads` lays them; exponents (n,); whether any is wide.

    Raises:
        NonFiniteError: naming `operation`.
    """
    n, _, length = values.shape

    def make() -> tuple[Array, Array]:
        words = scratch.take("quads", (n * how.size + how.beyond,), np.int32)
        return words, scratch.take("quads room", (how.digits, length + quad_cuts.MARGIN), np.int32)

    words, room = scratch.view(("quads", how.number, n), make)
    exponents, wide = np.empty(n, np.int64), np.empty(n, np.uint8)
    found = quad_cuts.cut_quads(values, how.layout, how.parts, words, room, exponents, wide, digits)
    if found == NOT_FINITE:
        raise NonFiniteError(operation)
    return words, exponents, found > 0


def pack(left: Array, c: int, how: ConvolutionPlan) -> tuple[Array, Array]:
    """The digits of a weight, int8 (groups, o, digits * k), as `kernels.quad_cuts.pack_weight` lays them; and `off`.

    Args:
        c: channels of a group.
    """
    groups, per, _ = left.shape
    words = np.empty(groups * per * len(how.offsets), np.int32)
    off = np.empty((len(how.phases), groups, per), np.int32)
    cut = left.reshape(groups * per, -1)
    quad_cuts.pack_weight(
        cut, c, how.met, how.phases, how.joined, how.digits, words, off.reshape(len(off), groups * per)
    )
    return words, off


def convolve(
    x: Tensor,
    packed: tuple[Array, Array],
    rows: Array,
    bias: Array,
    how: ConvolutionPlan,
    size: Pair,
    digits: int,
    operation: str,
) -> tuple[Tensor, bool]:
    """As `convolution.convolve`, by some samples at a time; and whether any sample is wide.

    Args:
        packed: of `pack`: the weight.
        rows: int64 (groups, o): its exponents.
        bias: float32 (groups * o,) or (0,).
        how: the plan by which it was packed.
        size: of the result.

    Raises:
        NonFiniteError: naming `operation`.
    """
    (n, c, h, w), groups, wide = x.shape, len(rows), False
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, c // groups, h * w)
    out = torch.empty((n, rows.size, *size))
    results: Array = out.numpy()
    if not how.whole:
        results[:] = bias[:, None, None] if len(bias) else 0
    several = max(1, BLOCK // (4 * groups * max(1, how.size)))
    for first in range(0, n, several):
        part = results[first : first + several]
        words, exponents, found = cut_samples(
            values[first * groups : (first + several) * groups], digits, how, operation
        )
        wide = wide or found
        laid, room = scratch.view(("quads out", how.number, part.shape), partial(_room, how, part.size))
        seen = how.offsets, how.phases, *packed, rows, bias, how.digits, laid, how.apart
        quads.convolve(words, how.size, exponents.reshape(-1, groups), *seen, room, part)
    return out, wide


def _room(how: ConvolutionPlan, results: int) -> tuple[Array, Array]:
    """Scratch memory for the lines of 64 places, and for so many results where they are not together."""
    most = int(how.phases[:, 1].max(initial=0))
    laid = scratch.take("quads laid", ((most + 1) * quads.PITCH,), np.int32)
    return laid, scratch.take("quads results", (0 if how.together else results + 2 * LANES,), np.float32)
