"""Convolutions with few channels a group: the same bits as their definition, and as the matrix products give them."""

import numpy as np
import pytest
import torch

from podlt.exact.constants import NonFiniteError
from podlt.exact.cpu import depthwise, quad_gradient, quads
from podlt.exact.cpu.backend import table
from podlt.exact.cpu.kernels import quad_gradient as kernels
from podlt.exact.definition import calls

MASK = [True, True, True]


def call(n, c, size, o, taps, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, scale=1.0):
    """Arguments of a convolution and of its gradient."""
    generator = torch.Generator().manual_seed(sum(size) + o)
    x = torch.randn(n, c, *size, generator=generator) * scale
    weight = torch.randn(o, c // groups, *taps, generator=generator) * scale
    bias = torch.randn(o, generator=generator)
    shape = (list(stride), list(padding), list(dilation), False, [0, 0], groups)
    return x, weight, bias, shape


CALLS = {
    "one filter a channel": call(2, 3, (5, 6), 3, (3, 3), groups=3),
    "two filters a channel": call(2, 2, (4, 5), 4, (3, 2), groups=2),
    "two channels a group": call(3, 4, (5, 4), 4, (2, 2), padding=(0, 1), groups=2),
    "strides": call(2, 2, (7, 6), 2, (3, 3), stride=(2, 2), groups=2),
    "unlike strides and paddings": call(1, 2, (7, 9), 2, (3, 2), stride=(3, 2), padding=(2, 0), groups=2),
    "dilations": call(2, 2, (7, 7), 2, (3, 2), stride=(1, 2), padding=(2, 2), dilation=(2, 3), groups=2),
    "a padding wider than the taps": call(2, 2, (3, 3), 2, (1, 2), padding=(2, 3), groups=2),
    "one tap": call(2, 3, (4, 4), 3, (1, 1), padding=(0, 0), groups=3),
    "values near the least": call(2, 2, (4, 4), 2, (3, 3), groups=2, scale=2.0**-70),
    "sums that are subnormal": call(2, 2, (4, 4), 2, (3, 3), groups=2, scale=2.0**-74),
}


def bits(found):
    return [None if t is None else np.asarray(t).view(np.uint32).tolist() for t in found]


def by_loops(monkeypatch):
    """As on a processor that has no instruction for products of bytes."""
    for module in (quads, quad_gradient):
        monkeypatch.setattr(module, "available", lambda: False)


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("name", CALLS)
def test_loops_and_vectors_over_channels_equal_the_definition(monkeypatch, name, digits):
    x, weight, bias, shape = CALLS[name]
    run, arrays = table(digits), (x.numpy(), weight.numpy(), bias.numpy())
    wanted = calls.convolution(*arrays, *shape, digits=digits)
    grad = torch.randn(wanted.shape)
    back = calls.convolution_backward(grad.numpy(), *arrays[:2], [len(bias)], *shape, MASK, digits=digits)
    for _ in range(2):
        assert bits([run["convolution.default"](x, weight, bias, *shape)]) == bits([wanted])
        got = run["convolution_backward.default"](grad, x, weight, [len(bias)], *shape, MASK)
        assert bits(got) == bits(back)
        by_loops(monkeypatch)


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        call(9, 6, (40, 30), 6, (3, 3), groups=6),
        call(70, 2, (4, 4), 2, (3, 3), groups=2),
        call(2, 2, (70, 66), 2, (7, 7), padding=(3, 3), groups=2),
        call(3, 8, (17, 19), 16, (3, 3), stride=(2, 2), groups=4),
        call(2, 4, (21, 40), 4, (5, 5), stride=(3, 1), padding=(2, 2), groups=2),
    ],
)
def test_loops_over_channels_equal_matrix_products_of_large_planes(monkeypatch, arguments, digits):
    x, weight, bias, shape = arguments
    run = table(digits)

    def both():
        y = run["convolution.default"](x, weight, bias, *shape)
        return y, *run["convolution_backward.default"](y * 0.5, x, weight, [len(bias)], *shape, MASK)

    fast = both()
    by_loops(monkeypatch)
    assert bits(fast) == bits(both())
    monkeypatch.setattr(depthwise, "MOST_PAIRS", 0)
    assert bits(fast) == bits(both())


def test_a_line_of_bytes_may_be_longer_than_an_int32_holds_the_products_of(monkeypatch):
    x, weight, _, shape = call(1, 1, (1460, 1460), 1, (3, 3))
    assert x.numel() > 64 * kernels.LINES

    def gradient():
        return table(2)["convolution_backward.default"](x.abs(), x, weight, [1], *shape, [False, True, False])[1]

    fast = gradient()
    by_loops(monkeypatch)
    assert bits([fast]) == bits([gradient()])


def test_a_transposed_convolution_of_single_channels_equals_the_definition():
    x, weight = torch.randn(2, 3, 4, 5), torch.randn(3, 1, 3, 3)
    shape = ([2, 2], [1, 1], [1, 1], True, [1, 1], 3)
    got = table(2)["convolution.default"](x, weight, None, *shape)
    assert bits([got]) == bits([calls.convolution(x.numpy(), weight.numpy(), None, *shape, digits=2)])


def test_sums_are_kept_in_a_type_that_holds_them():
    assert depthwise._sums(2, 31) is np.float32 and depthwise._sums(2, 32) is np.int32
    assert depthwise._sums(1, 4096) is np.float32 and depthwise._sums(3, 32) is np.float64


def test_an_infinity_in_a_channel_is_refused_by_the_name_of_the_operation():
    x, weight, _, shape = CALLS["one filter a channel"]
    bad = x.clone()
    bad[0, 0, 0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="convolution"):
        table(2)["convolution.default"](bad, weight, None, *shape)
