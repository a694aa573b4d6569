"""The tensors that sample calls are made of: small, since definitions are slow, but with what goes wrong.

Zeros of both signs, subnormals, infinities where they are values, ties, sizes of one and of nothing, values that are
not contiguous. Which calls there are of an operation stands in its row (`exact/operations`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

Tensor = torch.Tensor
Made = Callable[[], Tensor]
"""Stands for a tensor in a row, and makes it when a sample is called: importing rows computes nothing."""

EDGES = [0.0, -0.0, 1e-45, -1e-45, 1e-40, 2.0**-126, -(2.0**-126), 1.0, -1.0, 0.625, 0.92773438, 20.0, -20.0, 88.7]
INF = float("inf")
NAN = float("nan")


def values(key: int, *shape: int) -> Tensor:
    """Float32 of both signs with magnitudes from 2**-6 to 2**2, evenly over exponents: no rounding in their making."""
    words: np.ndarray[tuple[int], np.dtype[np.uint64]] = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    exponent = 121 + (words >> np.uint64(33)) % np.uint64(8)
    bits = ((words & np.uint64(1)) << np.uint64(31)) | (exponent << np.uint64(23)) | (words >> np.uint64(41))
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32)).reshape(shape)


def whole(key: int, low: int, high: int, *shape: int) -> Tensor:
    """Int64 in [low, high)."""
    words = np.random.Philox(key=key).random_raw(int(np.prod(shape))) >> np.uint64(20)
    return torch.from_numpy((low + (words % np.uint64(high - low)).astype(np.int64)).reshape(shape))


def ties(key: int, *shape: int) -> Tensor:
    """Float32 with many equal values, zeros of both signs and infinities."""
    few = torch.tensor([0.0, -0.0, 1.5, -1.5, 2.0, -INF, 1e-45, INF])
    return few[whole(key, 0, 8, *shape)]


def _later(make: Callable[..., Tensor]) -> Callable[..., Made]:
    """Stands for the tensor that a function makes of its arguments."""
    return lambda *arguments: lambda: make(*arguments)


floats, ints, tied = _later(values), _later(whole), _later(ties)
const, empty = _later(torch.tensor), _later(torch.empty)


def bools(key: int) -> Made:
    """Stands for bools (5, 3)."""
    return lambda: whole(key, 0, 2, 5, 3) > 0


def of(make: Made, change: Callable[[Tensor], Tensor]) -> Made:
    """Stands for a tensor that is made of another."""
    return lambda: change(make())


@cache
def edges(key: int = 100) -> Tensor:
    """Float32 (274,): zeros, subnormals, borders of the elementary functions, and ordinary values of both signs."""
    return torch.cat([torch.tensor(EDGES), values(key, 200), values(key + 1, 60) * 16])


@cache
def others() -> Tensor:
    """Float32 (274,): more of them, in the opposite order."""
    return edges(110).flip(0)


def wild() -> Tensor:
    """Float32 (35,): infinities, NaNs and the largest, so many that vectors and their rest see each."""
    return torch.tensor([INF, -INF, NAN, 3.4e38, -3.4e38]).repeat(7)


def zeros() -> Tensor:
    """Float32 (18,): zeros of both signs in turn."""
    return torch.tensor([0.0, -0.0] * 9)


ORDERED: list[tuple[Made, int]] = [
    (tied(200, 3, 40, 2), 1),
    (of(tied(200, 3, 40, 2), lambda x: x.permute(2, 0, 1)), -1),
    (ints(201, -3, 4, 5, 9), 0),
    (floats(202, 1, 7), 0),
    (const(-0.0), 0),
]
"""Tensors to be put in order, and along which dimension."""
