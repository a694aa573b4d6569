"""The average of the workers' updates: an exact sum in units of the largest value, so no order changes a bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from podlt.errors import UsageError
from podlt.exact.constants import ACCUMULATOR_BITS, NonFiniteError
from podlt.exact.cpu.kernels import average as kernels

MOST_UPDATES = 2**20
"""So many updates, of weight 1 each, an average can hold; heavier weights count as that many updates."""

_BITS = 42  # ACCUMULATOR_BITS less log2(MOST_UPDATES)
assert 2 ** (ACCUMULATOR_BITS - _BITS) == MOST_UPDATES


def average(
    updates: Iterable[torch.Tensor], weights: Iterable[int] | None = None, divisor: float | None = None
) -> torch.Tensor:
    """The weighted mean of float32 tensors of one shape: exponent of their largest value, exact sum, one division.

    Args:
        divisor: what the sum is divided by instead of the total weight.

    Raises:
        UsageError: there is no update, or their shapes differ.
        NonFiniteError: an update holds an infinity or a NaN.
    """
    tensors = [t.detach().contiguous() for t in updates]
    if not tensors:
        raise UsageError("average: expected at least one update, got none")
    shape = tensors[0].shape
    for tensor in tensors:
        if tensor.shape != shape or tensor.dtype != torch.float32:
            raise UsageError(f"average: expected float32 {tuple(shape)}, got {tensor.dtype} {tuple(tensor.shape)}")
    shares = np.array([1] * len(tensors) if weights is None else list(weights), np.int64)
    if len(shares) != len(tensors):
        raise UsageError(f"average: expected {len(tensors)} weights, got {len(shares)}")
    weight = int(shares.sum())
    if int(shares.min()) < 1 or weight > MOST_UPDATES:
        raise UsageError(f"average: expected weights from 1 and up to {MOST_UPDATES} in all, got {weight}")
    out = torch.empty(shape)
    addresses = np.array([t.data_ptr() for t in tensors], np.int64)
    over = np.float32(weight if divisor is None else divisor)
    if not kernels.mean(addresses, shares, _BITS, over, out.numpy().reshape(-1)):
        raise NonFiniteError("average")
    return out
