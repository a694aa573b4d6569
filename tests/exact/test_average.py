"""The average of updates: neither the order of arrival nor the shape of the tree changes a bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from podlt.errors import UsageError
from podlt.exact.constants import NonFiniteError
from podlt.exact.cpu.average import MOST_UPDATES, ExactSum, average
from podlt.exact.cpu.kernels.average import STRETCH

updates = st.lists(st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=3, max_size=3), min_size=1, max_size=12)


def same(a, b):
    return np.array_equal(a.numpy().view(np.uint32), b.numpy().view(np.uint32))


def leaf(row, exponent=41):
    total = ExactSum((3,), exponent)
    total.add(torch.tensor(row))
    return total


@settings(max_examples=100, deadline=None)
@given(updates, st.randoms())
def test_neither_order_nor_tree_changes_an_average(rows, random):
    want = average([torch.tensor(r) for r in rows])
    leaves = [leaf(row) for row in rows]
    in_order = ExactSum((3,), 41)
    for one in leaves:
        in_order.merge(one)
    random.shuffle(rows)
    assert same(average([torch.tensor(r) for r in rows]), want)
    while len(leaves) > 1:
        random.shuffle(leaves)
        first = leaves.pop()
        leaves[0].merge(first)
    assert same(leaves[0].mean(), in_order.mean())


def test_weights_count_as_so_many_equal_updates():
    rows = [torch.tensor([1.5, -2.0, 1e-3]), torch.tensor([3.0, 0.25, 7.0])]
    assert same(average(rows, [2, 1]), average([rows[0], rows[1], rows[0]]))
    assert torch.allclose(average(rows, [2, 1]), torch.tensor([2.0, -1.25, 7.002 / 3]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        average([])
    with pytest.raises(NonFiniteError, match=r"^average"):
        average([torch.tensor([1.0, float("nan")])])
    with pytest.raises(UsageError, match="below 2"):
        leaf([2.0, 0.0, 0.0], exponent=1)
    with pytest.raises(UsageError, match="shape"):
        leaf([1.0, 0.0, 0.0]).add(torch.ones(4))
    full = ExactSum((3,), 1)
    full.add(torch.ones(3), MOST_UPDATES)
    with pytest.raises(UsageError, match="total weights"):
        full.merge(leaf([1.0, 0.0, 0.0], exponent=1))
    assert full.mean().tolist() == [1.0, 1.0, 1.0]


def test_an_average_of_long_updates_is_the_rounded_sum_in_either_path_and_wherever_the_largest_value_lies():
    n = 2 * STRETCH + 5
    rows = [torch.randn(n, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    for place in (0, STRETCH + 1, n - 1):
        rows[3] = rows[3].clone()
        rows[3][place] = 3.0e7 * (place + 1)
        top = max(float(r.abs().max()) for r in rows)
        tree = ExactSum((n,), int(np.frexp(np.float32(top))[1]))
        for row, weight in zip(rows, (1, 2, 1, 1, 7), strict=True):
            tree.add(row, weight)
        assert same(average(rows, [1, 2, 1, 1, 7]), tree.mean())
        assert same(average(rows, [1, 2, 1, 1, 7], divisor=640), tree.mean(640))


def test_updates_of_another_type_or_shape_and_weights_of_another_number_are_refused():
    with pytest.raises(UsageError, match="float32"):
        average([torch.ones(3), torch.ones(3, dtype=torch.float64)])
    with pytest.raises(UsageError, match=r"\(3,\)"):
        average([torch.ones(3), torch.ones(4)])
    with pytest.raises(UsageError, match="2 weights"):
        average([torch.ones(3), torch.ones(3)], [1])
