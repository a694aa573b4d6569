"""Philox 4x32-10 against the vectors that its authors publish with Random123 (kat_vectors)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from podlt.program.philox import philox, uniform, uniform_by_loops

FULL = 0xFFFFFFFF


def in_integers(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Philox 4x32-10 of one counter."""
    words, (first, second) = counter, key
    for _ in range(10):
        a, b = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
        words = [b >> 32 ^ words[1] ^ first, b & FULL, a >> 32 ^ words[3] ^ second, a & FULL]
        first, second = first + 0x9E3779B9 & FULL, second + 0xBB67AE85 & FULL
    return words


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
    assert [int(word[0]) for word in philox([np.array([word]) for word in counter], key)] == expected


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_a_draw_is_one_of_counters_in_python_s_integers(seed: int, draw: int, count: int) -> None:
    words = [word for i in range(-(-count // 4)) for word in in_integers([i, 0, draw, 0], (seed % 2**32, seed >> 32))]
    assert uniform(seed, draw, [count]).tolist() == [(word >> 8) * 2.0**-24 for word in words[:count]]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40))
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(seed: int, draw: int, short: int, more: int) -> None:
    longer = uniform(seed, draw, [short + more])
    assert torch.equal(uniform(seed, draw, [short]), longer[:short])
    assert longer.dtype == torch.float32 and ((longer >= 0) & (longer < 1)).all()


def test_draws_of_other_seeds_and_numbers_differ() -> None:
    drawn = [tuple(uniform(seed, draw, [8]).tolist()) for seed in (0, 1, 2**32, 2**63) for draw in (0, 1, 2**31)]
    assert len(set(drawn)) == len(drawn)


def test_draws_are_uniform() -> None:
    drawn = uniform(7, 3, [100_000])
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    chi_squared = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi_squared < 43.8  # 19 degrees of freedom: exceeded once in a thousand seeds, and this seed is fixed


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 1021, 1022, 1023, 1024, 1025, 1027, 2048, 4099])
@pytest.mark.parametrize(("seed", "draw"), [(0, 0), (7, 3), (2**64 - 1, 2**31), (2**40 + 5, 1)])
def test_loops_draw_the_same_numbers(seed: int, draw: int, count: int) -> None:
    assert torch.equal(uniform_by_loops(seed, draw, [count]), uniform(seed, draw, [count]))
