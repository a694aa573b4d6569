"""A task of many examples executed in pieces of at most `micro_batch_size`, so that its memory is that of a piece.

The definition, which holds in every arithmetic:

- A task of n examples has ceil(n / micro_batch_size) pieces; piece i of k holds the examples from n*i//k up to
n*(i+1)//k.
- Piece i is executed as a task of its own, with the seed (seed + i * 2**32) mod 2**64. What a batch normalisation takes
  its means and variances over is a piece.
- Loss, divisor, gradients and float buffers (which an execution gives times its examples) are added up element by
  element: the result is the float32 nearest to the real sum of the pieces' float32 values, ties to even. So no order,
  device or number of threads changes a bit.
- Buffers of whole numbers are those of the first piece.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

PART = 2**16
"""How many elements are added at once: in the cache, and rests take memory for the parts that have some."""

SUM_BYTES = 8
"""Of an element while pieces are added up, where no value is 2**29 times another of the same element."""


def piece_bounds(examples: int, micro_batch_size: int) -> list[tuple[int, int]]:
    """Where each piece of a task begins and ends.

    Args:
        examples: of the task.
        micro_batch_size: the most that a piece may have; 0 for the whole task as one.
    """
    count = max(1, -(-examples // micro_batch_size)) if micro_batch_size else 1
    return [(examples * i // count, examples * (i + 1) // count) for i in range(count)]


def piece_sizes(examples: int, micro_batch_size: int) -> tuple[int, int]:
    """The examples of the smallest and of the largest piece of a task."""
    sizes = [stop - start for start, stop in piece_bounds(examples, micro_batch_size)]
    return min(sizes), max(sizes)


def piece_seed(seed: int, piece: int) -> int:
    """The seed of a piece's random draws: steps within a task count by one, pieces by 2**32."""
    return (seed + (piece << 32)) % 2**64


class _ExactSum:
    """The real sum of float32 values, element by element: a float64 sum, and the sum of what its additions rounded off.

    Values within 29 powers of two of each other leave no such rest; others do in few places, and rests of rests in
    fewer. All are multiples of 2**-149 below 2**128, so the levels end.

    Args:
        first: float64 (n,), kept.
    """

    def __init__(self, first: torch.Tensor) -> None:
        self._sum = first
        self._rest: _ExactSum | None = None

    def add(self, value: torch.Tensor) -> None:
        """Adds values (n,), exactly."""
        self._sum, lost = _two_sum(self._sum, value.double())
        if lost.any():
            lost.nan_to_num_(0.0, 0.0, 0.0)  # of sums that are infinite or no number, and stay so
            if self._rest is None:
                self._rest = _ExactSum(lost)
            else:
                self._rest.add(lost)

    def rounded(self) -> torch.Tensor:
        """The float32 nearest to the sum, ties to even."""
        if self._rest is None:
            return self._sum.float()
        levels = self._levels()
        is_settled = False
        while not is_settled:  # until each is at most half of the last place of the one before
            is_settled = True
            for i in range(len(levels) - 1, 0, -1):
                upper, lower = _two_sum(levels[i - 1], levels[i])
                is_settled &= torch.equal(upper.nan_to_num(), levels[i - 1].nan_to_num())
                levels[i - 1], levels[i] = upper, lower.nan_to_num_(0.0, 0.0, 0.0)
        return _to_odd(levels[0], levels[1]).float()

    def _levels(self) -> list[torch.Tensor]:
        return [self._sum, *([] if self._rest is None else self._rest._levels())]


def _two_sum(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rounded sum of two float64 tensors, and what the rounding took (Knuth)."""
    total = one + other
    added = total - one
    return total, (one - (total - added)).add_(other - added)


def _to_odd(value: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """A float64 whose last bit is one where something is left, on the side where it lies.

    Rounded to float32, which has 29 bits less, it is what value and rest are together: no tie arises or is lost.
    """
    bits = value.view(torch.int64)
    is_even = (rest != 0) & value.isfinite() & (bits & 1 == 0)
    step = torch.where((rest > 0) == (value > 0), 1, -1)  # magnitudes are in the order of their bits
    return torch.where(is_even, bits + step, bits).view(torch.float64)


class PieceSums:
    """The sums of the pieces' updates, as if computed with real numbers."""

    def __init__(self) -> None:
        self._sums: dict[str, list[_ExactSum]] = {}
        self._whole: dict[str, torch.Tensor] = {}

    def add(self, out: Mapping[str, torch.Tensor]) -> None:
        """Adds a piece's update: loss, divisor, gradients and buffers by name, which may be overwritten afterwards."""
        for name, value in out.items():
            if not value.is_floating_point():
                self._whole.setdefault(name, value.clone())
                continue
            parts = value.reshape(-1).split(PART)  # type: ignore[no-untyped-call]
            if name not in self._sums:
                self._sums[name] = [_ExactSum(part.double()) for part in parts]
            else:
                for total, part in zip(self._sums[name], parts, strict=True):
                    total.add(part)

    def write(self, out: Mapping[str, torch.Tensor]) -> None:
        """Writes the sums over the last piece's update."""
        for name, value in out.items():
            if name in self._whole:
                value.copy_(self._whole[name])
            else:
                for total, part in zip(self._sums[name], value.view(-1).split(PART), strict=True):  # type: ignore[no-untyped-call]
                    part.copy_(total.rounded())
