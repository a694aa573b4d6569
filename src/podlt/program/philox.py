"""Randomness without a state: Philox 4x32-10, the same numbers on every machine and device.

Words are 32 bits in int64: products wrap modulo 2**64 like unsigned ones, and shifted words are masked, so signs are of
no matter. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

_MULTIPLY = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
ROUNDS = 10


def philox(counter: Sequence[Any], key: tuple[int, int]) -> list[Any]:
    """Four random words for each counter.

    Args:
        counter: four int64 arrays or tensors (n,) of 32-bit words.
        key: two 32-bit words.

    Returns:
        As `counter`.
    """
    words = list(counter)
    first, second = key
    for _ in range(ROUNDS):
        a, b = words[0] * _MULTIPLY[0], words[2] * _MULTIPLY[1]
        words = [((b >> 32) & _LOW) ^ (words[1] ^ first), b & _LOW, ((a >> 32) & _LOW) ^ (words[3] ^ second), a & _LOW]
        first, second = (first + _WEYL[0]) % 2**32, (second + _WEYL[1]) % 2**32
    return words


def uniform(seed: int, draw: int, shape: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """Uniform float32 in [0, 1), multiples of 2**-24.

    Args:
        seed: of the task, 64 bits.
        draw: the number of the draw within the program, from 0.
        shape: of the result.
        device: where it lies.
    """
    count = math.prod(shape)
    index: Any = torch.arange(-(-count // 4), device=device)
    index = index.numpy() if index.is_cpu else index  # NumPy's calls take half of torch's time
    words = philox([index & _LOW, index >> 32, index * 0 + draw, index * 0], (seed % 2**32, seed // 2**32 % 2**32))
    flat = torch.stack([torch.as_tensor(word) for word in words], 1).reshape(-1)[:count]
    return ((flat >> 8).float() * 2.0**-24).reshape(tuple(shape))


def uniform_by_loops(seed: int, draw: int, shape: Sequence[int]) -> torch.Tensor:
    """`uniform` on the CPU, compiled: a sixth of the time."""
    from podlt.exact.cpu.kernels.random import uniform_at  # brings a compiler along: only who draws waits for it

    out = torch.empty(tuple(shape))
    key = seed % 2**32, seed // 2**32 % 2**32
    uniform_at(key, draw, _MULTIPLY, _WEYL, ROUNDS, out.numel(), out.data_ptr())
    return out
