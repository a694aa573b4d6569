"""Convolutions by AVX-512 VNNI give what matrices of digits give, bit for bit, at the edges of what they lay out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from podlt.exact.constants import ADAPTIVE, NonFiniteError
from podlt.exact.cpu import quad_gradient, quads
from podlt.exact.cpu.backend import table
from podlt.exact.cpu.kernels import dot

pytestmark = pytest.mark.skipif(not dot.available(), reason="needs AVX-512 VNNI")

SHAPES = [
    # samples, channels, outputs, height, width, taps, stride, padding, dilation, groups
    (2, 8, 8, 7, 9, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 5, 33, 6, 5, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (1, 6, 40, 8, 70, (1, 3), (1, 2), (0, 1), (1, 1), 1),
    (17, 4, 9, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 12, 18, 9, 9, (3, 2), (3, 1), (2, 4), (2, 3), 3),
    (2, 20, 8, 5, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 20, 10, 6, 6, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    (1, 3, 8, 12, 11, (5, 5), (4, 3), (4, 4), (1, 2), 1),
    (2, 7, 8, 3, 3, (3, 3), (1, 1), (5, 5), (1, 1), 1),
]


def _runs(shape: tuple, digits: int, spoil: str) -> list[torch.Tensor]:
    n, c, o, h, w, taps, stride, padding, dilation, groups = shape
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, c, h, w, generator=generator)
    weight = torch.randn(o, c // groups, *taps, generator=generator)
    bias = torch.randn(o, generator=generator)
    if spoil == "wide":  # a sample, a channel and a row of the weight whose small values are their mass
        x[0] *= 1e-4
        x[0, 0, 0, 0] = 900.0
        weight[1] *= 1e-4
        weight[1, 0, 0, 0] = 900.0
    if spoil == "tiny":
        x[0], weight[0] = x[0] * 1e-25, weight[0] * 1e-20
    operations, window = table(digits), (list(stride), list(padding), list(dilation), False, [0, 0], groups)
    y = operations["convolution.default"](x, weight, bias, *window)
    grad = torch.randn(y.shape, generator=generator)
    if spoil == "wide":
        grad[:, 2] *= 1e-4
        grad[0, 2, 0, 0] = 900.0
    d_x, d_weight, _ = operations["convolution_backward.default"](grad, x, weight, [o], *window, [True, True, False])
    return [y, d_x, d_weight]


@pytest.mark.parametrize(
    ("shape", "spoil"), [*itertools.product(SHAPES, ["", "wide"]), (SHAPES[0], "tiny"), (SHAPES[4], "tiny")]
)
def test_vectors_of_bytes_give_the_bits_of_matrices(shape: tuple, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = (ADAPTIVE, 1, 2)[SHAPES.index(shape) % 3] if not spoil else ADAPTIVE
    found = _runs(shape, digits, spoil)
    for module in (quads, quad_gradient):
        monkeypatch.setattr(module, "available", lambda: False)
    for ours, theirs in zip(found, _runs(shape, digits, spoil), strict=True):
        assert ours.shape == theirs.shape
        assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))


def test_long_sums_are_added_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _runs(SHAPES[3], ADAPTIVE, "")
    monkeypatch.setattr(quad_gradient.quad_gradient, "TERMS", 3 * 16)
    quad_gradient.plan.cache_clear()
    parts = _runs(SHAPES[3], ADAPTIVE, "")
    quad_gradient.plan.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("number", [3, 4])
def test_samples_one_at_a_time_give_the_same(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _runs(SHAPES[number], ADAPTIVE, "wide")
    monkeypatch.setattr(quads, "BLOCK", 1)
    single = _runs(SHAPES[number], ADAPTIVE, "wide")
    assert all(torch.equal(a, b) for a, b in zip(whole, single, strict=True))


def test_what_is_not_finite_is_named() -> None:
    x, weight = torch.ones(1, 8, 4, 4), torch.ones(8, 8, 3, 3)
    x[0, 3, 2, 1] = np.inf
    with pytest.raises(NonFiniteError, match="convolution"):
        table(ADAPTIVE)["convolution.default"](x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
