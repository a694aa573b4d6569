"""Strided convolutions and their gradients: phases on the CPU have the bits of zeros in between elsewhere."""

import pytest
import torch

from podlt.exact.constants import ADAPTIVE
from podlt.exact.cpu import depthwise, quad_gradient, quads
from podlt.exact.cpu.backend import table
from podlt.exact.portable.backend import table as portable_table

SHAPES = [
    ((2, 6, 9, 8), (4, 6, 3, 3), [2, 2], [1, 1], [1, 1], 1),
    ((1, 4, 11, 7), (6, 2, 3, 2), [3, 2], [2, 0], [1, 1], 2),
    ((2, 3, 12, 13), (5, 3, 3, 3), [2, 3], [2, 3], [2, 3], 1),
    ((2, 4, 8, 9), (4, 4, 1, 1), [2, 2], [0, 0], [1, 1], 1),
    ((1, 3, 17, 14), (2, 3, 5, 4), [4, 6], [1, 2], [3, 2], 1),
    ((2, 3, 9, 9), (3, 1, 3, 3), [2, 2], [1, 1], [1, 1], 3),
]


def results(t, x, weight, grad, shape, groups):
    bias = torch.linspace(-1, 1, weight.shape[0])
    back = t["convolution_backward.default"](grad, x, weight, [len(bias)], *shape, False, [0, 0], groups, [True] * 3)
    turned = t["convolution.default"](grad, weight, None, *shape, True, [0, 0], groups)
    return [t["convolution.default"](x, weight, bias, *shape, False, [0, 0], groups), *back, turned]


@pytest.mark.parametrize("digits", [1, 2, 3, ADAPTIVE])
@pytest.mark.parametrize(("size", "taps", "stride", "padding", "dilation", "groups"), SHAPES)
def test_phases_have_the_bits_of_spaced_values(monkeypatch, size, taps, stride, padding, dilation, groups, digits):
    generator = torch.Generator().manual_seed(8)
    x, weight = torch.randn(size, generator=generator), torch.randn(taps, generator=generator)
    grad = torch.randn(torch.conv2d(x, weight, None, stride, padding, dilation, groups).shape, generator=generator)
    calls = [(x, weight, grad)]
    if digits == ADAPTIVE:  # a sample, a filter and a channel that need four digits
        wide = [t.clone() for t in (x, weight, grad)]
        for t in wide:
            t[0, 0] *= 2.0**-12
            t.view(-1)[0] = 1.0
        calls += [(wide[0], weight, grad), (x, wide[1], grad), (x, weight, wide[2]), tuple(wide)]
    shape = stride, padding, dilation
    for limit, vectors in ((0, quads.available()), (depthwise.MOST_PAIRS, False), (0, False)):
        monkeypatch.setattr(depthwise, "MOST_PAIRS", limit)
        for module in (quads, quad_gradient):
            monkeypatch.setattr(module, "available", lambda there=vectors: there)
        for given in calls:
            ours = results(table(digits), *given, shape, groups)
            theirs = results(portable_table(digits, "cpu"), *given, shape, groups)
            assert all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in zip(ours, theirs, strict=True))
