"""The clip against docs/SPEC.md, 4.5, read again in plain NumPy and exact fractions: the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.program.clip import Scale, scaled, scales
from podlt.program.ir import TensorType
from podlt.program.places import Places

LANES, PADDING = 64, 16
SIZES = [(1,), (16,), (17, 3), (70, 64, 5), (200,)]


def layout(gradients: Sequence[int], buffers: Sequence[int]) -> Places:
    """An update's: a loss, gradients, float buffers, and a buffer of whole numbers."""
    names = ["loss", *(f"grad:{i}" for i in range(len(gradients))), *(f"buffer:{i}" for i in range(len(buffers)))]
    fields = [(name, TensorType("f32", (size,))) for name, size in zip(names, [1, *gradients, *buffers], strict=True)]
    return Places([*fields, ("buffer:calls", TensorType("i64", ()))])


def spread(parts: Sequence[Sequence[np.ndarray]], places: Places) -> np.ndarray:
    """The float32 values of an update, its loss 0.5; the padding is zero."""
    flat = np.zeros(places.float_bytes // 4, np.float32)
    flat[0], tensors = 0.5, iter([tensor for part in parts for tensor in part])
    for name, place in places.items():
        if name != "loss" and place.dtype == "f32":
            flat[place.offset // 4 : place.offset // 4 + place.count] = next(tensors)
    return flat


# -- the specification, read naively ---------------------------------------------------------------------------------


def sum_of_squares(tensors: Sequence[np.ndarray]) -> float:
    lanes, place = [0.0] * LANES, 0
    for tensor in tensors:
        for value in [*tensor.tolist(), *[0.0] * (-len(tensor) % PADDING)]:
            lanes[place % LANES] += value * value
            place += 1
    return float(sum(map(Fraction, lanes)))


def exponents(part: Sequence[Sequence[np.ndarray]], examples: Sequence[int], clip: int) -> list[int]:
    if not all(np.isfinite(tensor).all() for tensors in part for tensor in tensors):
        return [0] * len(part)
    squares = [sum_of_squares(tensors) / count / count for tensors, count in zip(part, examples, strict=True)]
    positive = sorted(q for q in squares if q > 0)
    if not positive:
        return [0] * len(part)
    bound = float(clip) * float(clip) * positive[(len(positive) - 1) // 2]
    found = []
    for q in squares:
        exponent = 0
        while q > bound:
            q, exponent = q / 4, exponent + 1
        found.append(exponent)
    return found


def times_power(tensor: np.ndarray, exponent: int) -> np.ndarray:
    """In binary64 each product is exact, or far below half of what binary32 can say: it is rounded once."""
    return (tensor.astype(np.float64) * 2.0**-exponent).astype(np.float32)


# -- random updates --------------------------------------------------------------------------------------------------


def tensor(dice: np.random.Generator, size: int, power: int) -> np.ndarray:
    """Values about 2^power in size: subnormal ones, huge ones, and some zeros of both signs."""
    mantissas = dice.uniform(-1, 1, size) * dice.choice([0.0, -0.0, 1.0, 1.0, 1.0, 1.0, 2.0**-30], size)
    with np.errstate(over="ignore"):
        values = np.ldexp(mantissas, power).astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(3e38))


@given(
    seed=st.integers(0, 2**32 - 1),
    gradients=st.sampled_from(SIZES),
    buffers=st.sampled_from([(), *SIZES]),
    powers=st.lists(st.integers(-149, 128), min_size=1, max_size=7),
    ordinary=st.booleans(),
    silent=st.sets(st.integers(0, 6)),
    examples=st.lists(st.integers(1, 10**6), min_size=7, max_size=7),
    clip=st.sampled_from([1, 2, 4, 1000, 2**20]),
)
def test_what_is_clipped_and_what_comes_of_it_are_the_specifications_to_the_bit(
    seed: int,
    gradients: tuple[int, ...],
    buffers: tuple[int, ...],
    powers: list[int],
    ordinary: bool,
    silent: set[int],
    examples: list[int],
    clip: int,
) -> None:
    dice, places, count = np.random.default_rng(seed), layout(gradients, buffers), len(powers)
    if ordinary:  # near each other, so that the bound itself decides
        powers = [power % 6 for power in powers]
    powers = [-1000 if i in silent else power for i, power in enumerate(powers)]
    updates = [[[tensor(dice, size, power) for size in part] for part in (gradients, buffers)] for power in powers]
    flat = [spread(parts, places) for parts in updates]
    found = scales(flat, examples[:count], places, clip)
    expected = [
        Scale(j, p, exponent)
        for j in range(count)
        for p in (0, 1)
        if (exponent := exponents([parts[p] for parts in updates], examples[:count], clip)[j])
    ]
    assert found == expected
    for j, parts in enumerate(updates):
        own = [scale for scale in found if scale.shard == j]
        power = {scale.part: scale.exponent for scale in own}
        by_hand = [[times_power(each, power.get(p, 0)) for each in part] for p, part in enumerate(parts)]
        before = flat[j].copy()
        assert scaled(flat[j], places, own).tobytes() == spread(by_hand, places).tobytes()
        assert flat[j].tobytes() == before.tobytes()  # what was uploaded stays as it is


def test_one_shard_is_never_clipped_and_nothing_is_where_the_clip_is_0() -> None:
    places = layout((40,), ())
    small, huge = (spread([[np.full(40, value, np.float32)], []], places) for value in (1.0, 1e30))
    assert scales([huge], [3], places, 4) == [] and scales([small, huge], [3, 3], places, 0) == []
    assert [s.shard for s in scales([small, huge], [3, 3], places, 4)] == [1]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_leaves_its_part_as_it_is_and_the_other_part_is_clipped(value: float) -> None:
    places = layout((40,), (5,))
    updates = [
        spread([[np.full(40, g, np.float32)], [np.full(5, b, np.float32)]], places)
        for g, b in ((1.0, 1.0), (1.0, 1.0), (1e30, 1e30))
    ]
    updates[0][20] = value
    assert {scale.part for scale in scales(updates, [3, 3, 3], places, 4)} == {1}


def test_the_bound_itself_is_not_beyond_it_and_an_example_counts_the_same_in_every_shard() -> None:
    places = layout((16,), ())
    ones = [
        spread([[np.full(16, value, np.float32)], []], places)
        for value in (1.0, 1.0, 4.0, np.nextafter(np.float32(4), np.float32(5)))
    ]
    assert scales(ones, [1, 1, 1, 1], places, 4) == [Scale(3, 0, 1)]
    assert scales(ones[:3], [1, 1, 1], places, 4) == [] and scales(ones[:3], [5, 5, 1], places, 4) == [Scale(2, 0, 3)]
