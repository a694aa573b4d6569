"""Adaptive digits: what an operand may lose, who decides it, and that both backends decide alike."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from podlt.exact.constants import ADAPTIVE, NonFiniteError
from podlt.exact.cpu import backend as cpu
from podlt.exact.cpu import products
from podlt.exact.cpu.digits import cut_left, cut_right
from podlt.exact.definition import products as definition
from podlt.exact.operations import definitions
from podlt.exact.portable import backend as portable
from podlt.exact.portable import products as portable_products

SHAPES = ["normal", "outliers", "exponential", "tiny", "subnormal", "sparse", "one-hot"]


def rows(kind, m, k, seed=0):
    """Float32 (m, k) of a distribution."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(m, k))
    if kind == "outliers":
        x[::2, 0] *= 3e5
    if kind == "exponential":
        x = np.exp(6 * np.abs(x)) * np.sign(x)
    if kind == "tiny":
        x = x * 1e-33
    if kind == "subnormal":
        x = x * 1e-41
        x[0] *= 1e35
    if kind == "sparse":
        x[dice.random((m, k)) < 0.7] = 0
        x[-1] = 0
    if kind == "one-hot":
        x = np.abs(x) * 2e-5
        x[:, 1] = -1
    return x.astype(np.float32)


def left_out(row):
    """What the digits of a row leave out of its sum of magnitudes, and that sum, exactly."""
    cut = definition.cut_of(row, ADAPTIVE)
    unit = Fraction(2) ** (cut.exponent + 1 - 7 * cut.digits)
    lost = sum(abs(Fraction(float(x)) - definition.whole(x, cut.exponent, cut.digits) * unit) for x in row)
    return lost, sum(abs(Fraction(float(x))) for x in row)


def loses_too_much(row):
    lost, whole = left_out(row)
    return lost * 2**8 > whole


@examples(300)
@given(row=arrays(np.float32, st.integers(1, 12), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_no_row_loses_more_than_bfloat16_may_whatever_its_values(row):
    assert not loses_too_much(row)


@examples(100)
@given(largest=st.integers(-149, 127), gap=st.integers(0, 40), count=st.integers(1, 3000), odd=st.booleans())
def test_no_row_loses_more_than_bfloat16_may_where_one_value_hides_many_equal_ones(largest, gap, count, odd):
    row = np.full(count + 1, np.ldexp(np.float32(1.5 if odd else 1), max(largest - gap, -149)), np.float32)
    row[0] = np.ldexp(np.float32(1), largest)
    assert not loses_too_much(row)


@pytest.mark.parametrize("kind", SHAPES)
def test_no_row_of_these_distributions_loses_more_than_bfloat16_may(kind):
    assert not any(loses_too_much(row) for row in rows(kind, 4, 2000))


def test_two_digits_are_enough_for_ordinary_rows_and_four_are_taken_where_they_are_not():
    def needed(kind):
        return {definition.cut_of(row, ADAPTIVE).digits for row in rows(kind, 5, 3000)}

    assert needed("normal") == needed("sparse") == {2}
    assert needed("tiny") == needed("one-hot") == {4}
    assert needed("outliers") == {2, 4}


@pytest.mark.parametrize("kind", SHAPES)
def test_both_sides_of_a_product_decide_as_the_definition_does(kind):
    x = rows(kind, 6, 90, seed=1)
    want = [definition.cut_of(row, ADAPTIVE).digits == 4 for row in x]
    for values in (x, np.asfortranarray(x)):
        assert cut_left(torch.from_numpy(values), ADAPTIVE, "mm").wide[0].astype(bool).tolist() == want
        assert cut_right(torch.from_numpy(values).t(), ADAPTIVE, "mm").wide[0].astype(bool).tolist() == want
    found = portable_products.cut(torch.from_numpy(x), [1], ADAPTIVE, "mm").wide
    assert (np.zeros(6, bool) if found is None else found.flatten().numpy()).tolist() == want


@pytest.mark.parametrize("of_a", SHAPES)
@pytest.mark.parametrize("of_b", SHAPES)
def test_adaptive_products_equal_their_definition_in_every_way_and_backend(of_a, of_b):
    a, b = torch.from_numpy(rows(of_a, 5, 9)), torch.from_numpy(rows(of_b, 4, 9, seed=2)).t()
    want = torch.from_numpy(definition.mm(a.numpy(), b.numpy(), ADAPTIVE)).view(torch.int32)
    bias = torch.arange(4.0)
    for backend, ways in ((products, products.WAYS), (portable_products, ("int8", "float64"))):
        for way in ways:
            with backend.using(way):
                assert torch.equal(backend.mm(a, b, ADAPTIVE).view(torch.int32), want)
                assert torch.equal(backend.mm(a, b.contiguous(), ADAPTIVE, bias), want.view(torch.float32) + bias)
                pair = torch.stack([a, a * 2]), torch.stack([b, b])
                assert torch.equal(backend.bmm(*pair, ADAPTIVE)[0].view(torch.int32), want)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_row_is_cut_by_its_own_values_whatever_stands_beside_it(kind):
    a, b = torch.from_numpy(rows(kind, 6, 70)), torch.from_numpy(rows("outliers", 5, 70)).t()
    whole = products.mm(a, b, ADAPTIVE)
    for i in range(6):
        for j in range(5):
            assert torch.equal(products.mm(a[i : i + 1], b[:, j : j + 1], ADAPTIVE)[0, 0], whole[i, j])


GEOMETRIES = [
    ((2, 3, 5, 5), (4, 3, 3, 3), 1, 1, 1),
    ((2, 4, 6, 5), (4, 2, 3, 3), 2, 1, 2),
    ((2, 4, 4, 4), (4, 1, 3, 3), 1, 1, 4),
]


ROWS_OF = [("outliers", "normal"), ("normal", "outliers"), ("tiny", "exponential")]


@pytest.mark.parametrize(
    ("shape", "taps", "stride", "padding", "groups", "of_x", "of_w"),
    [
        pytest.param(*geometry, *of, marks=[] if i == j else pytest.mark.slow)  # each of both once where it is fast
        for i, geometry in enumerate(GEOMETRIES)
        for j, of in enumerate(ROWS_OF)
    ],
)
def test_adaptive_convolutions_equal_their_definition_in_both_backends(
    shape, taps, stride, padding, groups, of_x, of_w
):
    def tensor(kind, shape, seed):
        return rows(kind, shape[0] * shape[1], int(np.prod(shape[2:])), seed).reshape(shape)

    x, w, numbers = (
        tensor(of_x, shape, 1),
        tensor(of_w, taps, 2),
        ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups),
    )
    wanted = definitions(ADAPTIVE)
    y = wanted["convolution.default"](x, w, np.ones(taps[0], np.float32), *numbers)
    grad = tensor(of_w, y.shape, 3)
    gradients = wanted["convolution_backward.default"](grad, x, w, [taps[0]], *numbers, [True] * 3)
    x, w, grad = (torch.from_numpy(t) for t in (x, w, grad))
    for table in (cpu.table(ADAPTIVE), portable.table(ADAPTIVE)):
        got = table["convolution.default"](x, w, torch.ones(taps[0]), *numbers)
        assert np.array_equal(got.numpy().view(np.uint32), y.view(np.uint32))
        found = table["convolution_backward.default"](grad, x, w, [taps[0]], *numbers, [True] * 3)
        for one, other in zip(found, gradients, strict=True):
            assert np.array_equal(one.contiguous().numpy().view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_adaptive_products_refuse_what_is_not_finite(bad):
    a = torch.ones(3, 4)
    a[1, 2] = bad
    for multiply in (products.mm, portable_products.mm):
        with pytest.raises(NonFiniteError):
            multiply(a, torch.ones(4, 2), ADAPTIVE)
        with pytest.raises(NonFiniteError):
            multiply(torch.ones(2, 3), a, ADAPTIVE)


def relative(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def hidden_by_one(words=20_000):
    """Gradients of logits of a vocabulary: one entry near -1, and the rest shares as much; columns with a mean."""
    g = torch.Generator().manual_seed(1)
    gradient = torch.full((8, words), 1 / words) * torch.rand(8, words, generator=g) * 2
    gradient[torch.arange(8), torch.randint(0, words, (8,), generator=g)] -= 1
    return gradient, torch.randn(words, 6, generator=g) * 0.02 + torch.randn(1, 6, generator=g) * 0.06


def hidden_key(keys=16_384):
    """Attention in which one key takes half, and the others the rest."""
    shares = torch.full((4, keys), 0.5 / (keys - 1))
    shares[:, 5] = 0.5
    return shares, torch.randn(keys, 64, generator=torch.Generator().manual_seed(2)) + 0.5


def hidden_by_a_line(lines=20_000):
    """A weight's gradient where one line's is 1e5 times the others'."""
    g = torch.Generator().manual_seed(3)
    gradient = torch.randn(lines, 4, generator=g) + 1
    gradient[7] *= 1e5
    return gradient.t(), torch.randn(lines, 6, generator=g) + 1


def loss_scaled():
    g = torch.Generator().manual_seed(4)
    return torch.randn(8, 64, generator=g) * 1e-33, torch.randn(64, 8, generator=g)


@pytest.mark.parametrize("operands", [hidden_by_one, hidden_key, hidden_by_a_line, loss_scaled])
def test_adaptive_products_are_no_worse_than_those_of_bfloat16_operands_where_two_digits_are(operands):
    a, b = operands()
    exact = a.double() @ b.double()
    allowed = relative(a.bfloat16().float() @ b.bfloat16().float(), exact)
    assert relative(products.mm(a, b, 2), exact) > allowed
    assert relative(products.mm(a, b, ADAPTIVE), exact) <= allowed
