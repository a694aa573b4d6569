"""Scores of attention and their softmax, a row in one program. Definition: `definition.attention`."""

from __future__ import annotations

import torch

from podlt.exact.portable import attention as portable
from podlt.exact.triton import products
from podlt.exact.triton.normalise import LONGEST_ROW, Sight, softmax_backward_rows, softmax_rows

Tensor = torch.Tensor


def scores(x: Tensor, y: Tensor, causal: bool, digits: int, operation: str) -> Tensor:
    """`Attention.scores`."""
    return products.bmm(x, y.mT, digits, operation)


def softmax(scores: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax`."""
    if not scores.numel() or scores.shape[-1] > LONGEST_ROW:
        return portable.softmax(scores, causal, operation)
    return softmax_rows(scores, -1, operation, Sight.CAUSAL if causal else Sight.PERHAPS_NOTHING)


def softmax_backward(grad: Tensor, y: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax_backward`."""
    if not y.numel() or y.shape[-1] > LONGEST_ROW:
        return portable.softmax_backward(grad, y, causal, operation)
    return softmax_backward_rows(grad, y, -1, operation, Sight.CAUSAL if causal else Sight.ALL)
