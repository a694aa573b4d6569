"""Convolutions in three dimensions: both backends return the bits of the definition, and mean what PyTorch means."""

import numpy as np
import pytest
import torch

from podlt.exact.cpu.backend import table
from podlt.exact.operations import definitions
from podlt.exact.portable.backend import table as portable_table
from podlt.exact.samples import values

ATEN = torch.ops.aten

CALLS = [
    # image, weight, bias; stride, padding, dilation, transposed, beyond, groups
    ((1, 2, 3, 5, 4), (4, 1, 2, 3, 2), 4, ([2, 1, 2], [1, 0, 1], [2, 1, 1], False, [0, 0, 0], 2)),
    ((2, 2, 3, 2, 3), (2, 2, 3, 1, 2), 0, ([1, 1, 1], [1, 0, 0], [1, 1, 1], False, [0, 0, 0], 1)),
    ((1, 2, 2, 2, 3), (2, 1, 2, 1, 2), 2, ([2, 2, 1], [0, 0, 0], [1, 1, 1], True, [1, 1, 0], 2)),
    ((2, 3, 2, 3, 2), (3, 2, 3, 2, 2), 0, ([2, 1, 2], [1, 0, 1], [1, 1, 1], True, [0, 0, 1], 1)),
]


def bits(found):
    return [None if t is None else (tuple(t.shape), np.asarray(t).tobytes()) for t in found]


@pytest.mark.parametrize("call", CALLS, ids=["strided", "padded", "transposed in groups", "transposed"])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_both_backends_return_the_bits_of_the_definition(call, digits):
    image, kernel, outputs, shape = call
    x, weight = values(1, *image), values(2, *kernel)
    bias = values(3, outputs) if outputs else None
    wanted = definitions(digits)
    given = x.numpy(), weight.numpy(), None if bias is None else bias.numpy()
    out = wanted["convolution.default"](*given, *shape)
    grad = values(4, *out.shape)
    sizes = [grad.shape[1]]
    back = wanted["convolution_backward.default"](grad.numpy(), *given[:2], sizes, *shape, [True] * 3)
    for found in (table(digits), portable_table(digits, "cpu")):
        assert bits([found["convolution.default"](x, weight, bias, *shape)]) == bits([out])
        gradients = found["convolution_backward.default"](grad, x, weight, sizes, *shape, [True] * 3)
        assert bits(gradients) == bits(back)
        only = found["convolution_backward.default"](grad, x, weight, sizes, *shape, [False, True, False])
        assert only[0] is None and only[2] is None and bits(only[1:2]) == bits(back[1:2])


@pytest.mark.parametrize("call", CALLS, ids=["strided", "padded", "transposed in groups", "transposed"])
def test_they_mean_what_torch_means(call):
    image, kernel, outputs, shape = call
    x, weight = values(1, *image), values(2, *kernel)
    bias = values(3, outputs) if outputs else None
    want = ATEN.convolution(x, weight, bias, *shape)
    got = table(3)["convolution.default"](x, weight, bias, *shape)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    grad = values(4, *want.shape)
    want = ATEN.convolution_backward(grad, x, weight, [grad.shape[1]], *shape, [True] * 3)
    got = table(3)["convolution_backward.default"](grad, x, weight, [grad.shape[1]], *shape, [True] * 3)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-3)
