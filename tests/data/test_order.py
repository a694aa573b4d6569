"""The order of an epoch: issue 2, item 3 (every example of every batch is used exactly once an epoch)."""

import hashlib
import math

import numpy as np
import pytest
from blake3 import blake3
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.data import order as order_module
from podlt.data.order import EpochOrder


@pytest.fixture(autouse=True, scope="module")
def small_windows():
    """Runs of 8 examples and windows of 4 runs, so that a few hundred examples have several windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "RUN_EXAMPLES", 8)
        patch.setattr(order_module, "WINDOW_RUNS", 4)
        yield


@st.composite
def epochs(draw):
    return EpochOrder(draw(st.integers(1, 400)), draw(st.binary(max_size=40)), draw(st.integers(0, 2**40)))


@given(epochs(), st.data())
@examples(200)
def test_every_example_is_used_exactly_once_whatever_the_rounds_take(order, data):
    used, offset = [], 0
    while offset < order.examples:
        count = data.draw(st.integers(1, max(1, order.examples // 3)))
        count = min(count, order.examples - offset)
        used += order.ids(offset, count).tolist()
        offset += count
    assert sorted(used) == list(range(order.examples))


@given(st.integers(1, 50), st.binary(max_size=8))
def test_the_examples_of_a_window_are_those_of_whole_runs(runs, seed):
    ids = EpochOrder(8 * runs, seed, 0).ids(0, 8 * runs)
    for start in range(0, 8 * runs, 32):
        window = ids[start : start + 32]
        assert len(set((window // 8).tolist())) == len(window) / 8


@given(epochs(), st.integers(0, 400), st.integers(0, 400))
def test_a_range_is_the_same_whether_read_alone_or_with_others(order, first, second):
    low, high = sorted((first % (order.examples + 1), second % (order.examples + 1)))
    assert (order.ids(low, high - low) == order.ids(0, order.examples)[low:high]).all()


def naive_words(seed, epoch, number, count):
    """The words of SPEC 2.4, from hashlib and BLAKE3 alone."""

    def part(data):
        return len(data).to_bytes(8, "big") + data

    name = b"podlt/order/2"
    message = bytes([len(name)]) + name + part(seed) + part(epoch.to_bytes(8, "big")) + part(number.to_bytes(8, "big"))
    stream = blake3(hashlib.sha256(message).digest()).digest(8 * count)
    return [int.from_bytes(stream[at : at + 8], "little") for at in range(0, 8 * count, 8)]


def naive_permutation(items, words):
    return [item for _, item in sorted(zip(words, items, strict=True), key=lambda pair: pair[0])]


def naive_order(examples, seed, epoch):
    """The definition of SPEC 2.4, with runs of 8 examples and windows of 4 runs."""
    runs = [list(range(start, min(examples, start + 8))) for start in range(0, examples, 8)]
    runs, found = naive_permutation(runs, naive_words(seed, epoch, 0, len(runs))), []
    for number, start in enumerate(range(0, len(runs), 4), 1):
        window = [line for run in runs[start : start + 4] for line in run]
        found += naive_permutation(window, naive_words(seed, epoch, number, len(window)))
    return found


@given(st.integers(1, 300), st.binary(max_size=32), st.integers(0, 1000))
def test_the_order_can_be_derived_again_from_the_definition_alone(examples, seed, epoch):
    assert EpochOrder(examples, seed, epoch).ids(0, examples).tolist() == naive_order(examples, seed, epoch)


GOLDEN = [6, 30, 34, 1, 29, 33, 7, 13, 12, 35, 24, 3, 38, 25, 36, 10, 37, 28, 39, 0]
GOLDEN += [8, 26, 5, 14, 31, 32, 11, 15, 4, 2, 27, 9, 21, 23, 18, 22, 20, 16, 19, 17]


def test_the_order_of_a_known_seed_never_changes():
    assert EpochOrder(40, b"seed", 1).ids(0, 40).tolist() == GOLDEN


def test_a_file_sorted_by_label_is_dealt_as_if_it_were_shuffled(monkeypatch):
    monkeypatch.setattr(order_module, "RUN_EXAMPLES", 2**12)
    monkeypatch.setattr(order_module, "WINDOW_RUNS", 2**5)
    labels = EpochOrder(100_000, b"seed", 0).ids(0, 100_000) // 10_000
    shares = np.array([np.bincount(batch, minlength=10) for batch in np.split(labels, 100)]) / 1000
    assert np.abs(shares - 0.1).max() < 0.05  # five standard deviations of a batch of 1,000 drawn examples


def test_all_orders_of_four_examples_are_equally_likely():
    # 24 orders, 4800 seeds: chi-squared with 23 degrees of freedom stays below 60 but for one seed set in 30,000.
    counts: dict[tuple[int, ...], int] = {}
    for number in range(4800):
        order = tuple(EpochOrder(4, number.to_bytes(4, "big"), 0).ids(0, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == math.factorial(4)
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 60
