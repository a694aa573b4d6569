"""Philox 4x32-10 against the vectors that its authors publish with Random123 (kat_vectors)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.program.philox import philox, uniform

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([FULL] * 4, (FULL, FULL), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox(np.array([counter], np.uint32), key)[0].tolist() == expected


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40))
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(seed: int, draw: int, short: int, more: int) -> None:
    longer = uniform(seed, draw, short + more)
    assert np.array_equal(uniform(seed, draw, short), longer[:short])
    assert longer.dtype == np.float32 and ((longer >= 0) & (longer < 1)).all()


def test_draws_of_other_seeds_and_numbers_differ() -> None:
    drawn = [uniform(seed, draw, 8).tobytes() for seed in (0, 1, 2**32, 2**63) for draw in (0, 1, 2**31)]
    assert len(set(drawn)) == len(drawn)


def test_draws_are_uniform() -> None:
    drawn = uniform(7, 3, 100_000)
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    chi_squared = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi_squared < 43.8  # 19 degrees of freedom: exceeded once in a thousand seeds, and this seed is fixed
