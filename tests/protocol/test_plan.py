"""Examples -> rounds -> shards: no example is dropped or repeated, and no size tells how many shards are checked."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from podlt.protocol.options import CLASSIC, GUARDED, MILLION, RuleOptions
from podlt.protocol.plan import RoundCut, shard_bounds


def guarded(checked: int) -> RuleOptions:
    return msgspec.structs.replace(GUARDED, checked=checked)


RULES = st.one_of(st.just(CLASSIC), st.integers(0, MILLION).map(guarded))
HIDDEN = st.integers(0, MILLION).map(guarded)


@given(st.integers(1, 5000), st.integers(1, 60))
def test_shards_cover_the_round_and_differ_by_one_example_at_most(examples: int, shards: int) -> None:
    shards = min(examples, shards)
    bounds = shard_bounds(examples, shards)
    assert bounds[0][0] == 0 and bounds[-1][1] == examples
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert 0 < max(sizes) - min(sizes) + 1 <= 2 and sizes == sorted(sizes, reverse=True)


@given(RULES, st.integers(1, 500), st.integers(1, 60), st.integers(0, 9), st.data())
def test_every_example_is_dealt_once_an_epoch_for_any_number_of_workers_and_spares(
    options: RuleOptions, examples: int, batch: int, shard: int, data: st.DataObject
) -> None:
    cut = RoundCut(examples, batch, min(shard, batch))
    casts = data.draw(st.lists(st.integers(options.min_workers, 80), min_size=1, max_size=5))
    offset = rounds = 0
    while offset < examples:
        active = casts[rounds % len(casts)]
        spares = data.draw(st.sampled_from(range(options.least_spares(active), options.most_spares(active) + 1)))
        plan = cut.upcoming(3, offset, active - spares)
        assert (plan.epoch, plan.offset) == (3, offset) and 0 < plan.examples <= batch
        assert 0 < plan.shards <= min(plan.examples, active - spares)
        offset, rounds = offset + plan.examples, rounds + 1
    assert offset == examples
    assert rounds <= cut.most_rounds(1)


def test_a_block_is_dealt_whole_or_so_many_examples_for_each_useful_worker() -> None:
    whole, small = RoundCut(1000, 100, 0), RoundCut(100_000, 1000, 20)
    assert [whole.next_examples(0, useful) for useful in (48, 1)] == [100, 100]
    assert whole.next_examples(950, 48) == 50
    assert [small.next_examples(0, useful) for useful in (49, 48, 60)] == [980, 960, 1000]


def test_more_workers_than_a_block_has_examples_get_an_example_each_until_there_are_none() -> None:
    plan = RoundCut(1000, 10, 0).upcoming(0, 0, 98)
    assert plan == RoundCut(1000, 10, 5).upcoming(0, 0, 97) and (plan.examples, plan.shards) == (10, 10)


@pytest.mark.parametrize(("batch", "shard", "active"), [(100, 100, 2), (8, 0, 3), (64, 0, 5), (7, 7, 9)])
def test_the_chain_is_long_enough_where_each_round_has_the_most_spares(batch: int, shard: int, active: int) -> None:
    options, offset, rounds, cut = guarded(MILLION // 2), 0, 0, RoundCut(1000, batch, shard)
    while offset < 1000:
        offset += cut.next_examples(offset, active - options.most_spares(active))
        rounds += 1
    assert rounds <= cut.most_rounds(1)
    assert cut.most_rounds(3) == 3 * cut.most_rounds(1)
