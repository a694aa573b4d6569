"""The average of updates: no order of arrival changes a bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import UsageError
from podlt.exact.constants import NonFiniteError
from podlt.exact.cpu.average import MOST_UPDATES, average
from podlt.exact.cpu.kernels.average import STRETCH
from podlt.exact.definition.products import nearest_float32

updates = st.lists(st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=3, max_size=3), min_size=1, max_size=12)


def same(a, b):
    return np.array_equal(a.numpy().view(np.uint32), b.numpy().view(np.uint32))


def by_definition(rows, weights, divisor, at):
    """The weighted sums of the values, rounded to units of the largest, as fractions; rounded and divided once."""
    top = max(float(row.abs().max()) for row in rows)
    unit = Fraction(2) ** (math.frexp(top)[1] - 42)
    units = np.array([[round(Fraction(v) / unit) for v in row[at].tolist()] for row in rows], object)
    sums = np.array([nearest_float32(total * unit) for total in np.array(weights, object) @ units], np.float32)
    return torch.from_numpy(sums / np.float32(divisor))


@examples(100)
@given(updates, st.randoms())
def test_no_order_changes_an_average(rows, random):
    want = average([torch.tensor(r) for r in rows])
    random.shuffle(rows)
    assert same(average([torch.tensor(r) for r in rows]), want)


def test_weights_count_as_so_many_equal_updates():
    rows = [torch.tensor([1.5, -2.0, 1e-3]), torch.tensor([3.0, 0.25, 7.0])]
    assert same(average(rows, [2, 1]), average([rows[0], rows[1], rows[0]]))
    assert torch.allclose(average(rows, [2, 1]), torch.tensor([2.0, -1.25, 7.002 / 3]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        average([])
    with pytest.raises(NonFiniteError, match=r"^average"):
        average([torch.tensor([1.0, float("nan")])])
    assert average([torch.ones(3)], [MOST_UPDATES]).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(UsageError, match="weights from 1"):
        average([torch.ones(3), torch.ones(3)], [MOST_UPDATES, 1])


def test_an_average_of_long_updates_is_the_rounded_sum_in_either_path_and_wherever_the_largest_value_lies():
    n = 2 * STRETCH + 5
    rows = [torch.randn(n, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    for place in (0, STRETCH + 1, n - 1):
        rows[3] = rows[3].clone()
        rows[3][place] = 3.0e7 * (place + 1)
        weights = [1, 2, 1, 1, 7]
        borders = torch.tensor([0, place, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH - 1, 2 * STRETCH, n - 1])
        at = torch.cat([borders, torch.arange(0, n, 17)])
        assert same(average(rows, weights)[at], by_definition(rows, weights, 12, at))
        assert same(average(rows, weights, divisor=640)[at], by_definition(rows, weights, 640, at))


def test_updates_of_another_type_or_shape_and_weights_of_another_number_are_refused():
    with pytest.raises(UsageError, match="float32"):
        average([torch.ones(3), torch.ones(3, dtype=torch.float64)])
    with pytest.raises(UsageError, match=r"\(3,\)"):
        average([torch.ones(3), torch.ones(4)])
    with pytest.raises(UsageError, match="2 weights"):
        average([torch.ones(3), torch.ones(3)], [1])
