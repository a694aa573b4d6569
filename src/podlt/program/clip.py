"""Scales down updates that are far larger than the others of their round, by powers of two. docs/SPEC.md, 4.5.

One fake of a worker that nobody has caught yet can ruin a model at once; clipped, it is worth a few honest updates.
Everything here is defined to the bit: the audit works it out again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from podlt.program.places import Places

PARTS = ("gradients", "buffers")
"""What is clipped apart from each other, by the number that the log gives it."""


class Scale(msgspec.Struct, frozen=True):
    """A part of a shard's update is multiplied by 2^-exponent."""

    shard: int
    part: int
    exponent: int


def parts_of(layout: Places) -> list[slice]:
    """Where the parts of an update lie among its float32 values: its gradients, its float buffers; either may be
    empty."""
    start, end = (edge // 4 for edge in layout.section("grad:"))
    floats = layout.float_bytes // 4
    return [slice(start, end), slice(end or floats, floats)]


def mean_square(values: np.ndarray, examples: int) -> float:
    """The sum of the squares of a part's values, over the square of its examples; infinite or NaN if a value is.

    Args:
        values: float32, (n,).
        examples: of the shard, above 0.
    """
    from podlt.exact.cpu.kernels.squares import LANES, add_squares

    sums = np.zeros(LANES)
    add_squares(values, sums)
    try:
        return math.fsum(sums) / examples / examples
    except (OverflowError, ValueError):  # infinities of both signs, or a sum beyond binary64
        return math.nan


def exponents(squares: Sequence[float], clip: int) -> list[int]:
    """By which power of two each shard's part is scaled down; 0 where it is not.

    Args:
        squares: `mean_square` of each shard, all finite.
        clip: how many times the round's median norm a norm may be, above 0.
    """
    positive = sorted(square for square in squares if square > 0)
    if not positive:
        return [0] * len(squares)
    limit = float(clip * clip) * positive[(len(positive) - 1) // 2]
    return [_exponent(square, limit) for square in squares]


def _exponent(square: float, limit: float) -> int:
    exponent = 0
    while square > limit:
        square, exponent = square / 4, exponent + 1
    return exponent


def scales(updates: Sequence[np.ndarray], examples: Sequence[int], layout: Places, clip: int) -> list[Scale]:
    """What a round scales down, ascending by shard and part; nothing if an update is not finite.

    Args:
        updates: the float32 values of each shard's update.
        examples: of each shard.
        layout: of an update.
        clip: 0: nothing is scaled.
    """
    return scales_of(part_squares(updates, examples, layout), clip)


def part_squares(updates: Sequence[np.ndarray], examples: Sequence[int], layout: Places) -> list[list[float]]:
    """For each part `mean_square` of each shard; nothing for a part that has no values. Arguments as `scales`."""
    return [
        [mean_square(update[place], count) for update, count in zip(updates, examples, strict=True)]
        if place.start < place.stop
        else []
        for place in parts_of(layout)
    ]


def scales_of(squares: Sequence[Sequence[float]], clip: int) -> list[Scale]:
    """What a round scales down, given `part_squares`. As `scales`."""
    found = []
    for part, each in enumerate(squares):
        if clip and all(map(math.isfinite, each)):
            found += [Scale(j, part, e) for j, e in enumerate(exponents(each, clip)) if e]
    return sorted(found, key=lambda scale: (scale.shard, scale.part))


def scaled(update: np.ndarray, layout: Places, scales: Sequence[Scale]) -> np.ndarray:
    """An update after its parts were scaled: a copy, rounded to nearest even where a value becomes subnormal."""
    result, places = update.copy(), parts_of(layout)
    for scale in scales:
        part = result[places[scale.part]]
        np.ldexp(part, -scale.exponent, out=part)
    return result
