"""Products and sums against their definition in Python integers, bit for bit, at the edges of float32 too."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from podlt.exact.constants import FLOAT32_TERMS, INT32_TERMS, NonFiniteError, sum_bits
from podlt.exact.cpu import digits, products, reduce
from podlt.exact.cpu.digits import DigitCache
from podlt.exact.definition import products as definition

WAYS = products.WAYS
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def same(a, b):
    """Equal bits, element by element: -0 is not 0."""
    return np.array_equal(np.asarray(a, np.float32).view(np.uint32), np.asarray(b, np.float32).view(np.uint32))


def matrices(m, k, n):
    return st.tuples(arrays(np.float32, (m, k), elements=finite), arrays(np.float32, (k, n), elements=finite))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 3, 0])
@settings(max_examples=15, deadline=None)
@given(data=st.data(), m=st.integers(1, 4), k=st.integers(1, 5), n=st.integers(1, 4))
def test_products_equal_their_definition_for_any_floats_and_layouts(way, count, data, m, k, n):
    a, b = data.draw(matrices(m, k, n))
    want = definition.mm(a, b, count)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    with products.using(way):
        for left in (x, x.t().contiguous().t()):
            for right in (y, y.t().contiguous().t()):
                assert same(products.mm(left, right, count), want)


@pytest.mark.parametrize("count", [1, 2, 3, 0])
@settings(max_examples=40, deadline=None)
@given(
    x=arrays(np.float32, (3, 5), elements=st.floats(-8, 8, width=32)),
    y=arrays(np.float32, (5, 4), elements=st.floats(-8, 8, width=32)),
    powers=st.tuples(st.integers(-70, 60), st.integers(-70, 60)),
    bias=arrays(np.float32, 4, elements=st.floats(-8, 8, width=32)),
)
def test_products_near_the_least_and_largest_normal_values_equal_their_definition(count, x, y, powers, bias):
    a, b = np.ldexp(x, powers[0]), np.ldexp(y, powers[1])
    want = definition.mm(a, b, count)
    out = torch.empty(3, 4)
    assert products.mm(torch.from_numpy(a), torch.from_numpy(b), count, out=out) is out
    assert same(out, want)
    got = products.mm(torch.from_numpy(a), torch.from_numpy(b), count, torch.from_numpy(bias))
    with np.errstate(over="ignore"):
        assert same(got, want + bias)


def test_operands_and_results_of_other_types_and_shapes_are_refused_before_memory_is_touched():
    a, b = torch.ones(2, 3), torch.ones(3, 2)
    for x, y in ((a.double(), b), (a, b.long())):
        with pytest.raises(TypeError, match="float32"):
            products.mm(x, y, 2)
    with pytest.raises(TypeError, match="float32"):
        products.mm(a, b, 2, out=torch.empty(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        products.mm(a, b, 2, out=torch.empty(2, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 0])
def test_batched_products_are_the_products_of_each_batch_in_every_layout(count):
    a, b = torch.randn(3, 4, 6), torch.randn(3, 5, 6)
    want = torch.stack([products.mm(x, y.t(), count) for x, y in zip(a, b, strict=True)])
    assert same(products.bmm(a, b.mT, count), want)
    assert same(products.bmm(a.mT.contiguous().mT, b.mT.contiguous(), count), want)
    assert same(products.bmm(torch.randn(6, 4, 12)[::2, :, ::2].copy_(a), b.mT, count), want)


@pytest.mark.parametrize("way", WAYS)
def test_ways_agree_beyond_their_splitting_limits(way):
    k = INT32_TERMS // 2 + 3
    assert k > FLOAT32_TERMS
    a = torch.full((1, k), 1.0)
    a[0, ::7] = -0.37
    a[0, 5] = 1.99
    ones = torch.full((k, 1), 1.5)
    with products.using(way):
        got = products.mm(a, ones, 2)
    high, low = (np.array([definition.digits_of(v, 1, 2) for v in np.unique(a)]).T).tolist()
    counts = [int((a == v).sum()) for v in np.unique(a)]
    h, l = definition.digits_of(np.float32(1.5), 1, 2)
    total = sum(c * ((p * h << 14) + ((p * l + q * h) << 7)) for c, p, q in zip(counts, high, low, strict=True))
    assert same(got.reshape(()), definition.nearest_float32(total * Fraction(2) ** (2 - 26)))


def test_the_largest_digits_do_not_overflow_an_int32_accumulator():
    k = INT32_TERMS // 2
    x = torch.full((1, k), 2.0 - 2.0**-20)
    assert math.isclose(float(products.mm(x, x.t().contiguous(), 2)), 4.0 * k, rel_tol=1e-4)


def test_empty_products_are_zeros_and_size_one_dimensions_work():
    assert same(products.mm(torch.empty(2, 0), torch.empty(0, 3), 2), torch.zeros(2, 3))
    assert products.mm(torch.empty(0, 4), torch.ones(4, 3), 2).shape == (0, 3)
    assert products.bmm(torch.empty(0, 2, 3), torch.empty(0, 3, 1), 2).shape == (0, 2, 1)
    assert float(products.mm(torch.tensor([[3.0]]), torch.tensor([[-0.5]]), 2)) == -1.5


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", ["left", "right"])
def test_non_finite_operands_are_an_error_that_names_the_operation(bad, place):
    a, b = torch.ones(3, 4), torch.ones(4, 2)
    (a if place == "left" else b)[1, 1] = bad
    with pytest.raises(NonFiniteError, match=r"^addmm: expected finite"):
        products.mm(a, b, 2, operation="addmm")
    with pytest.raises(NonFiniteError, match=r"^addmm: expected finite"):
        products.mm(a, b.t().contiguous().t(), 2, operation="addmm")


@pytest.mark.parametrize("threads", [1, 2])
def test_thread_counts_do_not_change_a_product(threads):
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(64, 300, generator=generator), torch.randn(300, 40, generator=generator)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = products.mm(a, b, 2)
    finally:
        torch.set_num_threads(before)
    with products.using("float64"):
        assert same(got, products.mm(a, b, 2))


def test_kept_digits_are_used_until_the_tensor_changes():
    w, x = torch.randn(5, 7), torch.randn(3, 7)
    want = products.mm(x, w.t(), 2)
    with DigitCache([w]) as cache:
        assert same(products.mm(x, w.t(), 2), want)
        first = digits.cut_right(w.t().unsqueeze(0), 2, "mm")
        assert digits.cut_right(w.t().unsqueeze(0), 2, "mm") is first
        assert not cache.holds(x)
        w.mul_(3.0)
        assert digits.cut_right(w.t().unsqueeze(0), 2, "mm") is not first
        assert same(products.mm(x, w.t(), 2), products.mm(x, w.t().clone(), 2))
        kept = digits.cut_right(w.t().unsqueeze(0), 2, "mm")
    assert digits.cut_right(w.t().unsqueeze(0), 2, "mm") is not kept


@examples(60)
@given(x=arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3)), elements=finite))
def test_sums_over_any_dimensions_equal_their_definition(x):
    t = torch.from_numpy(x)
    for dims in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        kept = [d for d in range(3) if d not in dims]
        lines = x.transpose(*kept, *dims).reshape(*[x.shape[d] for d in kept], -1)
        want = np.apply_along_axis(definition.exact_sum, -1, lines)
        assert same(reduce.total(t, dims, False), want)
    want = np.stack(
        [
            [definition.exact_sum(x[:, : i + 1, k][j], *shared(x[j, :, k])) for k in range(x.shape[2])]
            for j in range(x.shape[0])
            for i in range(x.shape[1])
        ]
    )
    assert same(reduce.cumulative(t, 1).reshape(want.shape), want)


def shared(line):
    return definition.exponent_of(line), len(line)


@settings(max_examples=30, deadline=None)
@given(st.lists(finite, min_size=1, max_size=30), st.randoms())
def test_the_order_of_the_terms_cannot_change_a_sum(values, random):
    want = reduce.total(torch.tensor(values), None, False)
    random.shuffle(values)
    assert same(reduce.total(torch.tensor(values), None, False), want)


def test_sums_cancel_exactly_where_float32_would_not():
    x = torch.tensor([1.0e8, 1.0, -1.0e8] * 1000)
    assert float(reduce.total(x, None, False)) == 1000.0


@pytest.mark.parametrize(
    "total", [2**53 + 1, 2**62 - 2**38 + 1, -(2**60) - 2**36 - 1, 2**60 + 2**36, 2**60 + 2**36 + 1]
)
def test_large_totals_are_rounded_once(total):
    from podlt.exact.cpu.kernels import sums

    assert same(sums.rounded(total, -60), definition.nearest_float32(total * Fraction(2) ** -60))


def test_terms_of_a_sum_cannot_overflow_its_accumulator():
    for n in (1, 2, 3, 2**11, 2**12, 2**12 + 1, 2**20, 2**40):
        assert n * 2 ** sum_bits(n) <= 2**62


def test_scattered_rows_add_exactly_and_leave_negative_indices_out():
    x = torch.tensor([[1.0e8, 1.0], [3.0, 2.0], [-1.0e8, 4.0], [7.0, 7.0]])
    got = reduce.scatter_rows(None, torch.tensor([2, 2, 2, -1]), x, 4, "embedding")
    assert same(got, [[0, 0], [0, 0], [3, 7], [0, 0]])
    with pytest.raises(IndexError, match="below 2"):
        reduce.scatter_rows(None, torch.tensor([2]), x[:1], 2, "embedding")


def test_non_finite_terms_and_empty_sums():
    with pytest.raises(NonFiniteError, match=r"^mean"):
        reduce.total(torch.tensor([1.0, math.nan]), None, False, "mean")
    with pytest.raises(NonFiniteError, match=r"^cumsum"):
        reduce.cumulative(torch.tensor([1.0, math.inf]), 0)
    assert same(reduce.total(torch.empty(0, 3), [0], False), torch.zeros(3))
    assert reduce.total(torch.empty(0, 3), [1], False).shape == (0,)
