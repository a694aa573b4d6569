"""Scores of attention by blocks of queries that stay in the cache, and their softmax in one pass, in their memory.

Definition: `definition.attention`.
"""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import attention as loops
from podlt.exact.cpu.products import bmm, mm
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor

_QUERIES = 128
"""How many queries make a block; their products with all keys are the integers that should stay in the cache."""

LONG = 512
"""From so many queries on, blocks are worth their calls."""


def scores(x: Tensor, y: Tensor, causal: bool, digits: int, operation: str) -> Tensor:
    """`Attention.scores`: an element is made of its own row and column alone, so that what is not seen is left out."""
    (heads, t, _), s = x.shape, y.shape[1]
    if not causal or t < max(s, LONG):  # each key must be seen by someone: a NaN in it is refused
        return bmm(x, y.mT, digits, operation)
    out = torch.empty((heads, t, s))
    for rows, keys, target in zip(x, y, out, strict=True):
        for start in range(0, t, _QUERIES):
            stop = min(start + _QUERIES, t)
            seen = min(stop, s)
            block = torch.from_numpy(scratch.take("scores", (stop - start, seen), np.float32))
            target[start:stop, :seen] = mm(rows[start:stop], keys[:seen].t(), digits, None, operation, out=block)
    return out


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
