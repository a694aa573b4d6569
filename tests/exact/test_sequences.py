"""Recurrent layers and attention: both backends give the same bits, and those of the operations they are made of."""

import math

import pytest
import torch

from podlt.errors import DivergedError
from podlt.exact.conformance import values
from podlt.exact.cpu import attention as cpu_attention
from podlt.exact.cpu.backend import table
from podlt.exact.operations.recurrences import GATES
from podlt.exact.portable.backend import table as portable_table

CPU, PORTABLE = table(2), portable_table(2)


def equal(found, wanted):
    """Whether results, or lists of them, have equal bits."""
    if isinstance(found, tuple):
        return all(equal(a, b) for a, b in zip(found, wanted, strict=True))
    if found is None or wanted is None:
        return found is wanted
    return found.shape == wanted.shape and torch.equal(found.view(torch.int32), wanted.view(torch.int32))


@pytest.mark.parametrize("kind", GATES)
def test_a_layer_has_the_same_bits_from_both_backends(kind):
    steps, lines, width, hidden = 4, 5, 7, 33
    gates = GATES[kind] * hidden
    x, h = values(1, lines, steps, width).transpose(0, 1), values(2, lines, hidden)
    c = values(3, lines, hidden) if kind == "lstm" else None
    weights = values(4, gates, width), values(5, gates, hidden) / 8
    call = (kind, x, h, c, *weights, values(6, gates), values(7, gates))
    y, last, cell, saved = CPU["recurrence"](*call)
    assert equal((y, last, cell, saved), PORTABLE["recurrence"](*call))
    back = (kind, values(8, lines, steps, hidden).transpose(0, 1), values(9, lines, hidden), None)
    back += (x, h, c, *weights, y, saved, [True, True, c is not None, True, True, True, True])
    assert equal(CPU["recurrence_backward"](*back), PORTABLE["recurrence_backward"](*back))


def test_a_gradient_that_is_not_given_counts_as_zeros():
    x, h = values(1, 3, 2, 4), values(2, 2, 5)
    weights = values(3, 15, 4), values(4, 15, 5)
    y, _, _, saved = CPU["recurrence"]("gru", x, h, None, *weights, None, None)
    rest = (x, h, None, *weights, y, saved, [True, True, False, True, True, False, False])
    d_h = values(5, 2, 5)
    nothing, zeros = (CPU["recurrence_backward"]("gru", d_y, d_h, None, *rest) for d_y in (None, torch.zeros_like(y)))
    assert equal(nothing, zeros)


def composed(q, k, v, grad, factor, visible, added):
    """The result and the gradients by the table's other operations."""
    t = CPU
    queries, keys = q * factor, k * factor
    scores = torch.where(visible, t["bmm.default"](queries, keys.mT), -math.inf) + added
    p = t["_softmax.default"](scores, -1, False)
    d_p = torch.where(visible, t["bmm.default"](grad, v.mT), 0.0)
    d_s = t["_softmax_backward_data.default"](d_p, p, -1, torch.float32)
    d_q, d_k = t["bmm.default"](d_s, keys) * factor, t["bmm.default"](d_s.mT, queries) * factor
    return t["bmm.default"](p, v), (d_q, d_k, t["bmm.default"](p.mT, grad))


@pytest.mark.parametrize("length", [40, cpu_attention.LONG + 3])
def test_attention_has_the_bits_of_products_and_softmax(length):
    q, k, v, grad = (values(key, 2, length, 6) for key in range(4))
    added = values(5, 1, 1, length)
    for mask, rest in ((None, 0.0), (added, added)):
        call = (q, k, v, mask, None, 0.6, 1.0, True)
        visible = torch.ones(length, length, dtype=torch.bool).tril()
        out, gradients = composed(q, k, v, grad, 0.6, visible, rest)
        assert equal(CPU["attention"](*call), out)
        assert equal(CPU["attention_backward"](grad, *call, [True] * 3), gradients)
        assert equal(PORTABLE["attention"](*call), out)
        assert equal(PORTABLE["attention_backward"](grad, *call, [True] * 3), gradients)


def test_masks_of_some_heads_are_broadcast():
    q, k, v = values(1, 2, 3, 5, 4), values(2, 2, 3, 6, 4), values(3, 2, 3, 6, 4)
    whole = values(4, 2, 3, 5, 6) > 0.5
    for mask in (whole, whole[:1], whole[:, :1], whole[:, :, :1], whole[:, :1, :, :1]):
        found = CPU["attention"](q, k, v, mask, None, 0.7, 1.0, False)
        wide = CPU["attention"](q, k, v, mask.expand(2, 3, 5, 6), None, 0.7, 1.0, False)
        assert equal(found, wide) and equal(PORTABLE["attention"](q, k, v, mask, None, 0.7, 1.0, False), wide)


@pytest.mark.parametrize("t", [CPU, PORTABLE])
def test_a_query_that_sees_nothing_gives_zeros_and_a_nan_is_refused(t):
    q, k, v = values(1, 1, 3, 2), values(2, 1, 4, 2), values(3, 1, 4, 2)
    blind = torch.tensor([[[True], [False], [True]]])
    assert not t["attention"](q, k, v, blind, None, 1.0, 1.0, False)[0, 1].any()
    with pytest.raises(DivergedError, match="attention"):
        t["attention"](q, k, v * math.nan, None, None, 1.0, 1.0, False)
    with pytest.raises(DivergedError, match="attention"):
        t["attention"](q, k, v, torch.full((1, 1, 1), math.inf), None, 1.0, 1.0, False)
