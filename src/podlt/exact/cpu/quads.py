"""Exact convolutions by AVX-512 VNNI where the processor has it, by the loops of `kernels.quads`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import torch

from podlt.exact.constants import NARROW_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import dot, quads
from podlt.exact.cpu.kernels.digits import NOT_FINITE
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.exact.cpu.products import narrow
from podlt.exact.geometry import Geometry, Pair

Tensor = torch.Tensor

available = cache(dot.available)


@dataclass(frozen=True, slots=True)
class Phase:
    """Results that see the same taps: all, or of samples whose values lie apart those of one phase.

    Args:
        met: which taps they see.
        offsets: as `kernels.quads.convolve` takes it.
        seen: the same.
        place: height and width of the results, and which are the first row and column of all results.
    """

    met: Array
    offsets: Array
    seen: Array
    place: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a convolution's samples are laid out, and who sees what of them.

    Args:
        layout: as `kernels.quads.cut_quads` takes it, and so `parts`.
        digits: one or two.
        size: words of a sample's group.
        beyond: words behind the last plane that are written.
        joined: how many taps share a word.
        phases: those that see anything.
        whole: whether they are all.
        together: whether they are one.
        apart: how far the results of a phase lie apart.
    """

    layout: Array
    parts: Array
    digits: int
    size: int
    beyond: int
    joined: int
    phases: tuple[Phase, ...]
    whole: bool
    together: bool
    apart: Pair


def suits(digits: int, terms: int) -> bool:
    """Whether a convolution whose results are sums of so many products is computed so: they must fit an int32."""
    return available() and narrow(digits, terms)


@lru_cache(maxsize=512)
def plan(image: Pair, taps: Pair, c: int, digits: int, g: Geometry, size: Pair, apart: Pair) -> Plan:
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
    found = []
    for y, x in phases:
        places = (y.phase[:, None] * len(columns.phases) + x.phase) * plane + y.places[:, None] * wide + x.places
        seen = places.reshape(-1)
        groups = np.append(seen, np.repeat(seen[-1:], -len(seen) % joined)).reshape(-1, joined)
        offsets = (lines[..., None] * (planes * plane) + groups).reshape(-1, joined) * 4
        met = (y.taps[:, None] * taps[1] + x.taps).reshape(-1)
        about, place = (y.count, x.count, wide), (y.count, x.count, y.start, x.start)
        found.append(Phase(met, np.ascontiguousarray(offsets), np.array(about, np.int64), place))
    layout = np.array((*image, tall, wide, *g.stride), np.int64)
    parts = filled(rows, columns, image[1])[: 0 if as_is else None]
    whole = sum(p.place[0] * p.place[1] for p in found) == size[0] * size[1]
    together = whole and len(found) == 1
    numbers = digits, quads_ * digits * planes * plane, wide + quads.MARGIN, joined
    return Plan(layout, parts, *numbers, tuple(found), whole, together, apart)


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
    seen = tuple(Seen(phase, count, taps, np.zeros_like(taps), at + before) for phase, count, taps, at in met)
    return Axis(np.zeros(1, np.int64), (_filled(n, length, 1, before),), length, seen, False)


def filled(rows: Axis, columns: Axis, width: int) -> Array:
    """The phases' parts that have values, of images of this width, as `kernels.quads.cut_quads` takes them."""
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


def cut_samples(x: Tensor, groups: int, digits: int, how: Plan, operation: str) -> tuple[Array, Array, Array]:
    """Words of float32 (n, c, h, w), as `kernels.quads.cut_quads` lays them; exponents (n, groups), and the wide ones.

    Raises:
        NonFiniteError: naming `operation`.
    """
    n, c = x.shape[:2]
    values: Array = x.detach().contiguous().numpy().reshape(n * groups, c // groups, -1)
    words = scratch.take("quads", (len(values) * how.size + how.beyond,), np.int32)
    room = scratch.take("quads room", (digits or NARROW_DIGITS, values.shape[2] + quads.MARGIN), np.int32)
    exponents, wide = np.empty(len(values), np.int64), np.empty(len(values), np.uint8)
    found = quads.cut_quads(values, how.layout, how.parts, words, room, exponents, wide, digits)
    if found == NOT_FINITE:
        raise NonFiniteError(operation)
    return words, exponents.reshape(n, groups), np.flatnonzero(wide) if found else np.empty(0, np.int64)


def convolve(
    words: Array, shared: Array, left: Array, rows: Array, bias: Array, c: int, how: Plan, size: Pair
) -> Tensor:
    """As `convolution.convolve`.

    Args:
        words: of `cut_samples`.
        shared: int64 (n, groups), of it.
        left: int8 (groups, o, digits * k), first digit first: the weight.
        rows: int64 (groups, o).
        bias: float32 (groups * o,) or (0,).
        c: channels of a group.
        how: the plan by which samples were cut.
        size: of the result.
    """
    groups, per, length = left.shape
    out = torch.empty((len(shared), groups * per, *size))
    results: Array = out.numpy()
    if not how.whole:
        results[:] = bias[:, None, None] if len(bias) else 0
    cut, room = left.reshape(groups * per, length), results.reshape(-1)
    if not how.together:
        room = scratch.take("quads results", (out.numel() + LANES,), np.float32)
    for phase in how.phases:
        lines = len(phase.offsets)
        weight = scratch.take("quads weight", (groups * per * lines,), np.int32)
        off = np.empty((groups, per), np.int32)
        taps = length // (how.digits * c)
        quads.pack_weight(cut, c, taps, phase.met, how.joined, weight, off.reshape(-1))
        laid = scratch.take("quads laid", ((lines + 1) * quads.PITCH,), np.int32)
        given = phase.offsets, phase.seen, weight, off, rows, bias, how.digits, laid, room
        quads.convolve(words, how.size, shared, *given)
        if not how.together:
            quads.weave(room, 0, *phase.place, *how.apart, results.reshape(-1, *size))
    return out
