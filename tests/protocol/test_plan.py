"""Lines -> rounds -> fragments: no line is dropped or repeated."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from podlt.protocol.plan import fragment_bounds, most_rounds, next_lines


@given(st.integers(1, 5000), st.integers(1, 60))
def test_fragments_cover_the_round_and_differ_by_one_line_at_most(lines: int, fragments: int) -> None:
    bounds = fragment_bounds(lines, fragments)
    assert bounds[0][0] == 0 and bounds[-1][1] == lines
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 9), st.lists(st.integers(1, 60), min_size=1), st.data())
def test_every_line_is_dealt_once_an_epoch_for_any_number_of_workers(
    lines: int, block: int, fragment: int, useful: list[int], data: st.DataObject
) -> None:
    fragment = min(fragment, block)
    offset = rounds = 0
    while offset < lines:
        taken = next_lines(lines, offset, block, fragment, useful[rounds % len(useful)])
        assert 0 < taken <= block
        offset, rounds = offset + taken, rounds + 1
    assert offset == lines
    assert rounds <= most_rounds(lines, 1, block, fragment)


def test_a_block_is_dealt_whole_when_no_fragment_size_is_given() -> None:
    assert next_lines(1000, 0, 100, 0, 48) == 100
    assert next_lines(1000, 950, 100, 0, 48) == 50
    assert next_lines(100_000, 0, 1000, 20, 48) == 960
