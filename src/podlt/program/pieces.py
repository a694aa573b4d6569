"""A task of many lines executed in pieces of at most `micro_lines`, so that its memory is that of a piece.

The definition, which holds in every arithmetic:

- A task of n lines has ceil(n / micro_lines) pieces; piece i of k holds the lines from n*i//k up to n*(i+1)//k.
- Piece i is executed as a task of its own, with the seed (seed + i * 2**32) mod 2**64. What a batch normalisation takes
  its means and variances over is a piece.
- Loss, divisor, gradients and float buffers (which an execution gives times its lines) are added up element by
  element: the first piece's float32 value is made a float64, each further one is added to it by one IEEE addition of
  float64 in the pieces' order, and the sum is rounded to float32 once. So no order, device or number of threads changes
  a bit; and the sum is exact wherever the pieces' values are within 29 - log2(k) powers of two of each other, and in
  any case within k * 2**-53 of the sum of their magnitudes.
- Buffers of whole numbers are those of the first piece.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

PART = 2**20
"""How many elements are added at once: what PyTorch widens for an addition of two types takes memory of its own."""

SUM_BYTES = 8
"""Of an element while pieces are added up."""


def piece_bounds(lines: int, micro_lines: int) -> list[tuple[int, int]]:
    """Where each piece of a task begins and ends.

    Args:
        lines: of the task.
        micro_lines: the most that a piece may have; 0 for the whole task as one.
    """
    count = max(1, -(-lines // micro_lines)) if micro_lines else 1
    return [(lines * i // count, lines * (i + 1) // count) for i in range(count)]


def piece_sizes(lines: int, micro_lines: int) -> tuple[int, int]:
    """The lines of the smallest and of the largest piece of a task."""
    sizes = [stop - start for start, stop in piece_bounds(lines, micro_lines)]
    return min(sizes), max(sizes)


def piece_seed(seed: int, piece: int) -> int:
    """The seed of a piece's random draws: steps within a task count by one, pieces by 2**32."""
    return (seed + (piece << 32)) % 2**64


class PieceSums:
    """The sums of the pieces' updates, in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._whole: dict[str, torch.Tensor] = {}

    def add(self, out: Mapping[str, torch.Tensor]) -> None:
        """Adds a piece's update: loss, divisor, gradients and buffers by name, which may be overwritten afterwards."""
        for name, value in out.items():
            flat = value.reshape(-1)
            if not value.is_floating_point():
                self._whole.setdefault(name, value.clone())
            elif name not in self._sums:
                self._sums[name] = flat.to(torch.float64)
            else:
                total = self._sums[name]
                for start in range(0, flat.numel(), PART):
                    total[start : start + PART].add_(flat[start : start + PART])

    def write(self, out: Mapping[str, torch.Tensor]) -> None:
        """Writes the sums over the last piece's update."""
        for name, value in out.items():
            value.copy_(self._whole[name] if name in self._whole else self._sums[name].view(value.shape))
