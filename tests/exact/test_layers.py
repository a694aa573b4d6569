"""Layers against their definitions bit for bit, and the whole table against torch within rounding."""

import itertools
import math

import numpy as np
import pytest
import torch

from podlt.errors import UsageError
from podlt.exact.aten.convolution import forward, input_gradient
from podlt.exact.constants import NonFiniteError
from podlt.exact.cpu import blocks, convolution, normalise, products
from podlt.exact.cpu.backend import backend, table
from podlt.exact.definition import calls
from podlt.exact.definition import layers as definition
from podlt.exact.geometry import Geometry


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(4)


def same(a, b):
    return np.array_equal(np.asarray(a, np.float32).view(np.uint32), np.asarray(b, np.float32).view(np.uint32))


SMALL = (2, 2, 7, 5, 3, 3, 2, 1, 1)
GEOMETRIES = [
    (2, 3, 5, 6, 4, 3, 1, 1, 1),
    SMALL,
    (1, 2, 6, 6, 2, 1, 2, 0, 1),
    (2, 1, 7, 7, 2, 3, 1, 2, 2),
    (1, 1, 3, 3, 1, 2, 1, 3, 1),
]


@pytest.mark.parametrize(
    ("n", "c", "h", "w", "o", "k", "stride", "padding", "dilation", "digits"),
    [
        pytest.param(*geometry, digits, marks=[] if digits == 2 or geometry == SMALL else pytest.mark.slow)
        for geometry in GEOMETRIES
        for digits in (1, 2, 3, 0)
    ],
)
def test_convolutions_and_their_gradients_equal_their_definitions(n, c, h, w, o, k, stride, padding, dilation, digits):
    x, weight = torch.randn(n, c, h, w), torch.randn(o, c, k, k)
    geometry = Geometry((stride,) * 2, (padding,) * 2, (dilation,) * 2, 1)
    numbers = (stride, padding, dilation, digits)
    y = forward(backend(digits), x, weight, None, geometry)
    assert same(y, definition.convolution(x.numpy(), weight.numpy(), *numbers))
    grad = torch.randn(y.shape)
    got = convolution.weight_gradient(grad, x, weight.shape, geometry, digits)
    assert same(got, definition.convolution_weight_gradient(grad.numpy(), x.numpy(), weight.numpy(), *numbers))
    got = input_gradient(backend(digits), grad, weight, (h, w), None, geometry)
    want = definition.convolution_input_gradient(grad.numpy(), tuple(x.shape), weight.numpy(), *numbers)
    assert same(got, want)


@pytest.mark.parametrize("way", ["float32", "float64"])
def test_convolutions_are_the_same_in_every_way_of_products(way):
    x, weight, g = torch.randn(5, 4, 9, 9), torch.randn(6, 2, 3, 3), Geometry((1, 1), (1, 1), (1, 1), 2)
    y = forward(backend(2), x, weight, torch.ones(6), g)
    d = convolution.weight_gradient(y, x, weight.shape, g, 2)
    with products.using(way):
        assert same(forward(backend(2), x, weight, torch.ones(6), g), y)
        assert same(convolution.weight_gradient(y, x, weight.shape, g, 2), d)


@pytest.mark.parametrize("count", [1, 2, 3, 0])
@pytest.mark.parametrize("power", [-75, -60, 63])
def test_convolutions_at_the_ends_of_the_range_are_the_same_in_every_way(count, power):
    g = Geometry((1, 1), (1, 1), (1, 1), 1)
    x, weight = torch.randn(3, 2, 6, 5) * 2.0**power, torch.randn(4, 2, 3, 3) * 2.0**power
    want = forward(backend(count), x, weight, None, g)
    with products.using("float64"):
        assert same(forward(backend(count), x, weight, None, g), want)
    assert bool((want != 0).any())


def test_blocks_of_samples_do_not_change_a_convolution(monkeypatch):
    x, weight, g = torch.randn(7, 3, 8, 8), torch.randn(4, 3, 3, 3), Geometry((1, 1), (1, 1), (1, 1), 1)
    y = forward(backend(2), x, weight, None, g)
    d = convolution.weight_gradient(y, x, weight.shape, g, 2)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    assert same(forward(backend(2), x, weight, None, g), y)
    assert same(convolution.weight_gradient(y, x, weight.shape, g, 2), d)


def test_softmax_and_its_gradient_equal_their_definitions():
    x = torch.randn(5, 33) * 10
    x[1, 3:9] = -math.inf
    grad = torch.randn(5, 33)
    for logarithm, defined, slope in (
        (False, definition.softmax, definition.softmax_backward),
        (True, definition.log_softmax, definition.log_softmax_backward),
    ):
        y = normalise.softmax(x, 1, logarithm, "softmax")
        assert same(y, defined(x.numpy()))
        assert same(normalise.softmax(x.t(), 0, logarithm, "softmax").t(), y)
        with np.errstate(all="ignore"):
            want = slope(grad.numpy(), y.numpy())
        assert same(normalise.softmax_backward(grad, y, 1, logarithm, "softmax"), want)


@pytest.mark.parametrize("row", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]])
def test_softmax_refuses_lines_without_a_finite_maximum(row):
    with pytest.raises(NonFiniteError, match=r"^_softmax"):
        table(2)["_softmax.default"](torch.tensor([[1.0, 2.0], row]), 1, False)


def test_layer_and_batch_norm_equal_their_definitions():
    x, weight, bias, grad = torch.randn(6, 10), torch.randn(10), torch.randn(10), torch.randn(6, 10)
    run = table(2)
    y, mean, factor = run["native_layer_norm.default"](x, [10], weight, bias, 1e-5)
    for got, want in zip(
        (y, mean.flatten(), factor.flatten()),
        definition.layer_norm(x.numpy(), weight.numpy(), bias.numpy(), 1e-5),
        strict=True,
    ):
        assert same(got, want)
    got_all = run["native_layer_norm_backward.default"](grad, x, [10], mean, factor, weight, bias, [True] * 3)
    want_all = definition.layer_norm_backward(
        grad.numpy(), x.numpy(), mean.flatten().numpy(), factor.flatten().numpy(), weight.numpy()
    )
    assert all(same(a, b) for a, b in zip(got_all, want_all, strict=True))
    image = torch.randn(4, 10, 3, 3)
    arguments = (image, weight, bias, torch.zeros(10), torch.ones(10), True, 0.1, 1e-5)
    got = run["_native_batch_norm_legit_functional.default"](*arguments)
    want = calls.batch_norm(*(a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments))
    assert all(same(a, b) for a, b in zip(got, want, strict=True))


def test_the_first_of_equal_values_is_the_maximum_of_a_window():
    x = torch.zeros(1, 1, 4, 4)
    _, index = table(2)["max_pool2d_with_indices.default"](x, [2, 2], [2, 2])
    assert index.flatten().tolist() == [0, 2, 8, 10]


def test_windows_of_two_by_two_take_the_first_largest_value_or_the_last_nan_in_every_order():
    levels = [0.0, 1.0, float("-inf"), float("nan")]
    x = (
        torch.cartesian_prod(*[torch.tensor(levels)] * 4)
        .reshape(16, 16, 2, 2)
        .permute(0, 2, 1, 3)
        .reshape(1, 1, 32, 32)
    )
    run = table(2)["max_pool2d_with_indices.default"]
    fast, fast_index = run(x, [2, 2], [2, 2])
    for i, j in itertools.product(range(16), repeat=2):
        cells = x[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1).tolist()
        best = 0
        for place, value in enumerate(cells):
            if value > cells[best] or value != value:
                best = place
        assert same(fast[0, 0, i, j], np.float32(cells[best]))
        assert int(fast_index[0, 0, i, j]) == (2 * i + best // 2) * 32 + 2 * j + best % 2


def test_overlapping_windows_add_their_gradients_exactly():
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 5.0
    _, index = table(2)["max_pool2d_with_indices.default"](x, [2, 2], [1, 1])
    grad = torch.tensor([[[[1e8, 1.0], [-1e8, 2.0]]]])
    arguments = ([2, 2], [1, 1], [0, 0], [1, 1], False, index)
    got = table(2)["max_pool2d_with_indices_backward.default"](grad, x, *arguments)
    assert float(got[0, 0, 1, 1]) == 3.0 and int((got != 0).sum()) == 1


def test_index_put_refuses_what_would_depend_on_order():
    run = table(2)["index_put.default"]
    with pytest.raises(UsageError, match="one twice"):
        run(torch.zeros(3), [torch.tensor([1, 1])], torch.tensor([1.0, 2.0]), False)
    assert run(torch.zeros(3), [torch.tensor([1, 1])], torch.tensor([1.0, 2.0]), True).tolist() == [0.0, 3.0, 0.0]


def test_an_operation_without_a_definition_is_absent_and_digits_are_bounded():
    assert "linalg_qr.default" not in table(2)
    with pytest.raises(UsageError, match="digits"):
        table(4)
