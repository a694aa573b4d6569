"""The aggregate: sums of updates, fingerprints that add up to theirs, and what a forged one comes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import SigningKey, blob_digest, digest
from podlt.errors import InvalidProofError
from podlt.execution import aggregate as ag
from podlt.program.clip import Scale
from podlt.program.ir import TensorType
from podlt.program.operations import EXACT_ARITHMETIC
from podlt.program.places import Places
from podlt.program.update import average
from podlt.protocol import fingerprint as fp

RUN = digest("a run")
EXACT = sorted(EXACT_ARITHMETIC)[0]


def layout(*, divisor: bool, buffers: bool = True, rest: bool = True) -> Places:
    fields = [("loss", TensorType("f32", ()))]
    fields += [("divisor", TensorType("f32", ()))] if divisor else []
    fields += [("grad:a", TensorType("f32", (33, 7))), ("grad:b", TensorType("f32", (5,)))]
    fields += [("buffer:c", TensorType("f32", (40,)))] if buffers else []
    fields += [("buffer:n", TensorType("i64", (2,)))] if rest else []
    return Places(fields)


def updates(places: Places, count: int, seed: int) -> list[np.ndarray]:
    """Updates of values over many decades, with whole numbers at the end."""
    dice, found = np.random.default_rng(seed), []
    for _ in range(count):
        update = np.zeros(places.nbytes, np.uint8)
        values = update[: places.float_bytes].view(np.float32)
        spread = 2.0 ** dice.integers(-60, 20, len(values)).astype(np.float64)
        values[:] = (dice.standard_normal(len(values)) * spread).astype(np.float32)
        values[dice.random(len(values)) < 0.1] = 0
        if (place := dict(places.items()).get("divisor")) is not None:
            values[place.offset // 4] = dice.integers(0, 9)
        update[places.float_bytes :] = dice.integers(0, 255, places.nbytes - places.float_bytes)
        for gap in places.gaps:
            update[gap] = 0
        found.append(update)
    return found


@given(st.integers(1, 9), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_average_follows_from_the_sums_bit_for_bit(count: int, seed: int, divisor: bool, buffers: bool) -> None:
    places = layout(divisor=divisor, buffers=buffers)
    values = ag.scaled_values(updates(places, count, seed), places, [Scale(0, 0, 3)])
    out = torch.zeros(places.float_bytes // 4)
    assert average([torch.from_numpy(each) for each in values], 17, places, EXACT, out)
    assert ag.average_of(ag.exact_sums(values, places), 17, places).tobytes() == out.numpy().tobytes()


@given(st.integers(1, 9), st.integers(0, 10**6), st.booleans())
def test_fingerprints_add_up_to_that_of_the_sum(count: int, seed: int, divisor: bool) -> None:
    places, given = layout(divisor=divisor), updates(layout(divisor=divisor), count, seed)
    scales = [Scale(0, 0, 9), Scale(count - 1, 1, 130)]
    scaling = [[0, 0] for _ in given]
    for scale in scales:
        scaling[scale.shard][scale.part] = scale.exponent
    sums = ag.exact_sums(ag.scaled_values(given, places, scales), places)
    points = fp.SumTerms(3, sums.exponents, sums.digest()).points(RUN)
    found = [
        ag.fingerprint(update, places, (own[0], own[1]), sums.exponents, points)
        for update, own in zip(given, scaling, strict=True)
    ]
    assert fp.total(found) == (sums.exponents, ag.evaluate(sums.values, points))
    assert found[0].rest == blob_digest(given[0][places.float_bytes :].tobytes())
    assert all(0 <= value < fp.PRIME for one in found for value in one.values)


def test_a_sum_that_is_off_by_one_unit_anywhere_is_found() -> None:
    places = layout(divisor=False)
    given = updates(places, 4, 7)
    sums = ag.exact_sums(ag.scaled_values(given, places, []), places)
    for place in range(0, len(sums.values), 13):
        forged = ag.UpdateSums(sums.exponents, sums.values.copy())
        forged.values[place] += 1 if place % 2 else -1
        points = fp.SumTerms(0, forged.exponents, forged.digest()).points(RUN)
        found = [ag.fingerprint(update, places, (0, 0), forged.exponents, points) for update in given]
        assert fp.total(found)[1] != ag.evaluate(forged.values, points)


def test_the_polynomial_is_that_of_whole_numbers() -> None:
    dice = np.random.default_rng(3)
    values = dice.integers(-(2**59), 2**59, 4096 + 16)
    values[:4] = [2**60 - 1, 1 - 2**60, 0, -1]
    points = [0, 1, fp.PRIME - 1, int(dice.integers(0, fp.PRIME))]
    expected = [sum(int(v) * pow(x, i, fp.PRIME) for i, v in enumerate(values)) % fp.PRIME for x in points]
    assert ag.evaluate(values, points) == expected


@given(st.integers(0, 61), st.integers(1, 50), st.integers(0, 10**6))
def test_sums_are_packed_in_as_few_bytes_as_the_largest_needs(bits: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-(2**bits), 2**bits, count)
    width, raw = ag.packed(values)
    assert ag.unpacked(raw, count, width).tolist() == values.tolist()
    assert width == 1 or (np.abs(values + (values < 0)) >= 2 ** (8 * (width - 1) - 1)).any()
    with pytest.raises(InvalidProofError):
        ag.unpacked(raw, count + 1, width)


def test_an_update_that_is_larger_than_the_rounds_largest_value_has_no_fingerprint() -> None:
    places = layout(divisor=True)
    (update,) = updates(places, 1, 1)
    sums = ag.exact_sums(ag.scaled_values([update], places, []), places)
    for exponents in ([sums.exponents[0] - 1, *sums.exponents[1:]], sums.exponents[:2], [*sums.exponents, 0]):
        with pytest.raises(InvalidProofError):
            ag.fingerprint(update, places, (0, 0), exponents, [1, 2])
    update[:4].view(np.float32)[0] = np.inf
    with pytest.raises(InvalidProofError):
        ag.fingerprint(update, places, (0, 0), sums.exponents, [1, 2])


def test_a_worker_signs_its_update_its_scaling_and_the_sum_that_was_claimed() -> None:
    key, terms = SigningKey(b"w" * 32), fp.SumTerms(4, [3], digest("sums"))
    found = fp.Fingerprint([2], [5, 6], digest("rest"))
    signed = fp.sign(key, RUN, terms, (7, 8), digest("update"), (0, 2), found)
    good = (key.public, RUN, terms, signed, digest("update"), (0, 2))
    assert fp.holds(*good)
    for place, other in (
        (0, SigningKey(bytes(32)).public),
        (1, bytes(32)),
        (2, fp.SumTerms(4, [4], digest("sums"))),
        (3, fp.SignedFingerprint(9, 8, found, signed.signature)),
        (3, fp.SignedFingerprint(7, 8, fp.Fingerprint([2], [5, 7], digest("rest")), signed.signature)),
        (4, digest("another")),
        (5, (0, 0)),
    ):
        assert not fp.holds(*good[:place], other, *good[place + 1 :])  # type: ignore[arg-type]
