"""Lines -> rounds -> fragments: no line is dropped or repeated, and no size tells how many fragments are checked."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from podlt.protocol.options import CLASSIC, GUARDED, MILLION, RuleOptions
from podlt.protocol.plan import RoundCut, fragment_bounds


def guarded(checked: int) -> RuleOptions:
    return msgspec.structs.replace(GUARDED, checked=checked)


RULES = st.one_of(st.just(CLASSIC), st.integers(0, MILLION).map(guarded))
HIDDEN = st.integers(0, MILLION).map(guarded)


@given(st.integers(1, 5000), st.integers(1, 60))
def test_fragments_cover_the_round_and_differ_by_one_line_at_most(lines: int, fragments: int) -> None:
    fragments = min(lines, fragments)
    bounds = fragment_bounds(lines, fragments)
    assert bounds[0][0] == 0 and bounds[-1][1] == lines
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert 0 < max(sizes) - min(sizes) + 1 <= 2 and sizes == sorted(sizes, reverse=True)


@given(RULES, st.integers(1, 500), st.integers(1, 60), st.integers(0, 9), st.data())
def test_every_line_is_dealt_once_an_epoch_for_any_number_of_workers_and_spares(
    options: RuleOptions, lines: int, block: int, fragment: int, data: st.DataObject
) -> None:
    cut = RoundCut(lines, block, min(fragment, block))
    casts = data.draw(st.lists(st.integers(options.min_workers, 80), min_size=1, max_size=5))
    offset = rounds = 0
    while offset < lines:
        active = casts[rounds % len(casts)]
        spares = data.draw(st.sampled_from(range(options.least_spares(active), options.most_spares(active) + 1)))
        plan = cut.upcoming(options, 3, offset, active, spares)
        assert (plan.epoch, plan.offset) == (3, offset) and 0 < plan.lines <= block
        assert 0 < plan.fragments <= min(plan.lines, active - spares)
        offset, rounds = offset + plan.lines, rounds + 1
    assert offset == lines
    assert rounds <= cut.most_rounds(options, 1)


@given(HIDDEN, st.integers(1, 3000), st.integers(1, 600), st.integers(0, 60), st.integers(1, 80))
def test_no_fragments_size_tells_how_many_are_checked_but_in_the_last_round_of_an_epoch(
    options: RuleOptions, lines: int, block: int, fragment: int, active: int
) -> None:
    cut, sizes = RoundCut(lines, block, min(fragment, block)), set[int]()
    for spares in range(options.least_spares(active), options.most_spares(active) + 1):
        plan = cut.upcoming(options, 0, 0, active, spares)
        if plan.lines < lines:
            sizes |= {stop - start for start, stop in fragment_bounds(plan.lines, plan.fragments)}
    assert len(sizes) <= 1


def test_a_block_is_dealt_whole_in_classic_and_in_equal_parts_in_guarded() -> None:
    whole, small = RoundCut(1000, 100, 0), RoundCut(100_000, 1000, 20)
    assert whole.next_lines(CLASSIC, 0, 50, 2) == 100
    assert whole.next_lines(CLASSIC, 950, 50, 2) == 50
    assert small.next_lines(CLASSIC, 0, 50, 2) == 960
    assert [whole.next_lines(GUARDED, 0, 50, k) for k in (1, 2)] == [98, 96]
    assert whole.next_lines(GUARDED, 950, 50, 2) == 50
    assert [small.next_lines(GUARDED, 0, 50, k) for k in (1, 2)] == [980, 960]
    assert [RoundCut(100_000, 1000, 50).next_lines(GUARDED, 0, 20, k) for k in (0, 1)] == [1000, 950]


def test_more_workers_than_a_block_has_lines_get_a_line_each_until_there_are_none() -> None:
    assert [RoundCut(1000, 10, 0).upcoming(GUARDED, 0, 0, 100, k) for k in (2, 3)] == [
        RoundCut(1000, 10, 5).upcoming(GUARDED, 0, 0, 100, 2)
    ] * 2
    assert RoundCut(1000, 10, 0).next_lines(GUARDED, 0, 100, 3) == 10


@pytest.mark.parametrize(("block", "fragment", "active"), [(100, 100, 2), (8, 0, 3), (64, 0, 5), (7, 7, 9)])
def test_the_chain_is_long_enough_where_each_round_has_the_most_spares(block: int, fragment: int, active: int) -> None:
    options, offset, rounds, cut = guarded(MILLION // 2), 0, 0, RoundCut(1000, block, fragment)
    while offset < 1000:
        offset += cut.next_lines(options, offset, active, options.most_spares(active))
        rounds += 1
    assert rounds <= cut.most_rounds(options, 1)
    assert cut.most_rounds(options, 3) == 3 * cut.most_rounds(options, 1)
