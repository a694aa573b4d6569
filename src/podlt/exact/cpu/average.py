"""The average of the workers' updates: exact, so neither the order of arrival nor an aggregation tree changes a bit.

All terms of a sum are rounded to one unit, so all who add must agree on its exponent: `average` takes it from the
largest value of all updates; who adds in a tree fixes it beforehand. Partial sums are integers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from podlt.errors import UsageError
from podlt.exact.constants import ACCUMULATOR_BITS, Array, NonFiniteError
from podlt.exact.cpu.kernels import average as kernels_average
from podlt.exact.cpu.kernels import sums

MOST_UPDATES = 2**20
"""So many updates, of weight 1 each, an `ExactSum` can hold; heavier weights count as that many updates."""

_BITS = 42  # ACCUMULATOR_BITS less log2(MOST_UPDATES)
assert 2 ** (ACCUMULATOR_BITS - _BITS) == MOST_UPDATES


class ExactSum:
    """A sum of float32 tensors of one shape, in integers: add, merge in any order and tree, and round once.

    Values are rounded to multiples of 2**(exponent - 42) as they come in, and must lie below 2**exponent.

    Args:
        shape: of the tensors.
        exponent: the same for all sums that are merged.
    """

    def __init__(self, shape: Iterable[int], exponent: int) -> None:
        self.shape = tuple(shape)
        self.exponent = exponent
        self.weight = 0
        self._total: Array = np.zeros(int(np.prod(self.shape, dtype=np.int64)), np.int64)

    def add(self, x: torch.Tensor, weight: int = 1) -> None:
        """Add `weight` times float32 `x`.

        Raises:
            NonFiniteError: `x` holds an infinity or a NaN.
            UsageError: a value of `x` is not below 2**exponent, or the sum is full.
        """
        values: Array = x.detach().contiguous().numpy().reshape(-1)
        if tuple(x.shape) != self.shape:
            raise UsageError(f"average: expected shape {self.shape}, got {tuple(x.shape)}")
        top = int(sums.largest(values))
        if top >= 0x7F800000:
            raise NonFiniteError("average")
        if (top >> 23) - 126 > self.exponent:
            raise UsageError(f"average: expected values below 2**{self.exponent}, got 2**{(top >> 23) - 127} or more")
        self._reserve(weight)
        sums.add_weighted(values, weight, self.exponent, _BITS, self._total)

    def merge(self, other: ExactSum) -> None:
        """Add what `other` holds."""
        if other.shape != self.shape or other.exponent != self.exponent:
            raise UsageError("average: expected sums of one shape and one exponent, got others")
        self._reserve(other.weight)
        self._total += other._total

    def mean(self, divisor: int | None = None) -> torch.Tensor:
        """The sum, rounded to float32 once, divided by `divisor` (the total weight if None) as a float32."""
        total = torch.empty(self.shape)
        sums.round_units(self._total, self.exponent - _BITS, total.numpy().reshape(-1))
        return total / torch.tensor(float(self.weight if divisor is None else divisor))

    def _reserve(self, weight: int) -> None:
        if weight < 1 or self.weight + weight > MOST_UPDATES:
            raise UsageError(f"average: expected total weights from 1 to {MOST_UPDATES}, got {self.weight} + {weight}")
        self.weight += weight


def average(
    updates: Iterable[torch.Tensor], weights: Iterable[int] | None = None, divisor: int | None = None
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
    if not kernels_average.mean(addresses, shares, _BITS, over, out.numpy().reshape(-1)):
        raise NonFiniteError("average")
    return out
