"""The softmax of attention in one pass, in the memory of its scores. Definition: `definition.attention`."""

from __future__ import annotations

import torch

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import attention as loops
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor


def softmax(scores: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax`."""
    heads, t, s = scores.shape
    if not loops.softmax_at(address(scores), heads, t, s, sum_bits(s), causal):
        raise NonFiniteError(operation)
    return scores


def softmax_backward(grad: Tensor, y: Tensor, causal: bool, operation: str) -> Tensor:
    """`Attention.softmax_backward`."""
    heads, t, s = grad.shape
    if not loops.softmax_backward_at(address(grad), address(y), heads, t, s, sum_bits(s), causal):
        raise NonFiniteError(operation)
    return grad
