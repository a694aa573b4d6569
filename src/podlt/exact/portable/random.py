"""Philox 4x32-10 in int64 arithmetic: the draws of `program.philox`, made where they are needed.

Products wrap modulo 2**64 like unsigned ones, and shifted words are masked, so signs are of no matter.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from podlt.exact.portable.bits import Tensor

_MULTIPLY = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
ROUNDS = 10


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Four random words for each counter: int64 tensors (n,) of 32-bit words, four in, four out."""
    words = list(counter)
    first, second = key
    for _ in range(ROUNDS):
        a, b = words[0] * _MULTIPLY[0], words[2] * _MULTIPLY[1]
        words = [
            ((b >> 32) & _LOW) ^ words[1] ^ first,
            b & _LOW,
            ((a >> 32) & _LOW) ^ words[3] ^ second,
            a & _LOW,
        ]
        first, second = (first + _WEYL[0]) % 2**32, (second + _WEYL[1]) % 2**32
    return words


def uniform(seed: int, draw: int, shape: Sequence[int], device: torch.device | str) -> Tensor:
    """Uniform float32 in [0, 1), multiples of 2**-24.

    Args:
        seed: 64 bits, of the task.
        draw: the number of the draw within the program.
    """
    count = math.prod(shape)
    index = torch.arange(-(-count // 4), device=device)
    zeros = torch.zeros_like(index)
    words = philox([index & _LOW, index >> 32, zeros + draw, zeros], (seed % 2**32, seed // 2**32 % 2**32))
    flat = torch.stack(words, 1).reshape(-1)[:count]
    return ((flat >> 8).float() * 2.0**-24).reshape(tuple(shape))
