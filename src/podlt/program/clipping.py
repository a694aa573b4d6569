"""Clipping gradients by their global norm, with the same bits on any machine.

Squares of binary32 values are exact in binary64. Value `i` is added to lane `i mod 4096` in the order of the values,
and the lanes are added exactly and rounded once: no processor's vectors, no library and no chunking decides the sum.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

LANES = 4096
EPS = 1e-6
"""What `torch.nn.utils.clip_grad_norm_` adds to the norm."""


def global_norm(gradient: torch.Tensor) -> float:
    """The Euclidean norm of a float32 vector.

    Args:
        gradient: shape (n,), finite.
    """
    values = gradient.numpy()
    lanes, rows = np.zeros(LANES, np.float64), len(values) // LANES
    for row in values[: rows * LANES].reshape(rows, LANES):
        _add(lanes, row)
    rest = values[rows * LANES :]
    _add(lanes[: len(rest)], rest)
    return math.sqrt(math.fsum(lanes.tolist()))


def clip_coefficient(gradient: torch.Tensor, most: float) -> float:
    """What a gradient is multiplied by so that its norm is at most `most`; 1.0 where it is already."""
    return min(1.0, most / (global_norm(gradient) + EPS))


def _add(lanes: npt.NDArray[np.float64], row: npt.NDArray[np.float32]) -> None:
    wide = row.astype(np.float64)
    wide *= wide
    lanes += wide
