"""Scores of attention and their softmax, one kernel a step. Definition: `definition.attention`."""

from __future__ import annotations

from podlt.exact.aten.attention import hidden
from podlt.exact.portable import normalise, products
from podlt.exact.portable.bits import Tensor

_INFINITY = float("inf")


def scores(x: Tensor, y: Tensor, causal: bool, digits: int, operation: str) -> Tensor:
    """`Attention.scores`."""
    return products.bmm(x, y.mT, digits, operation)


def softmax(scores: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax`."""
    scores = scores.masked_fill(hidden(scores), -_INFINITY) if causal else scores
    blind = (scores == -_INFINITY).all(-1, keepdim=True)
    return normalise.softmax(scores.masked_fill(blind, 0.0), -1, False, operation).masked_fill(blind, 0.0)


def softmax_backward(grad: Tensor, y: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax_backward`."""
    grad = grad.masked_fill(hidden(grad), 0.0) if causal else grad
    return normalise.softmax_backward(grad, y, -1, False, operation)
