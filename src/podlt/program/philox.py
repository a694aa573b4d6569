"""Randomness without a state: Philox 4x32-10, the same numbers on every machine.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

import numpy as np

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
ROUNDS = 10


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Four random words for each counter.

    Args:
        counter: uint32 (n, 4).
        key: two 32-bit words.

    Returns:
        uint32 (n, 4).
    """
    words = [counter[:, i].astype(np.uint64) for i in range(4)]
    first, second = key
    for _ in range(ROUNDS):
        a, b = words[0] * _MULTIPLY[0], words[2] * _MULTIPLY[1]
        words = [
            (b >> _HALF) ^ words[1] ^ np.uint64(first),
            b & _LOW,
            (a >> _HALF) ^ words[3] ^ np.uint64(second),
            a & _LOW,
        ]
        first, second = (first + _WEYL[0]) % 2**32, (second + _WEYL[1]) % 2**32
    return np.stack(words, axis=1).astype(np.uint32)


def uniform(seed: int, draw: int, count: int) -> np.ndarray:
    """Uniform float32 in [0, 1), multiples of 2**-24.

    Args:
        seed: of the task, 64 bits.
        draw: the number of the draw within the program, from 0.
        count: how many.
    """
    blocks = -(-count // 4)
    counter = np.zeros((blocks, 4), np.uint32)
    index = np.arange(blocks, dtype=np.uint64)
    counter[:, 0], counter[:, 1] = (index & _LOW).astype(np.uint32), (index >> _HALF).astype(np.uint32)
    counter[:, 2] = draw
    words = philox(counter, (seed % 2**32, seed // 2**32 % 2**32)).reshape(-1)[:count]
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
