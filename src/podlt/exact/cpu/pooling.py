"""Maximum pooling by the loops of `kernels.pooling`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from podlt.exact.constants import Array, NonFiniteError
from podlt.exact.cpu.kernels import pooling
from podlt.exact.geometry import Pair


def max_pool(
    x: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, size: Pair
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Pooling.max_pool`."""
    values: Array = x.detach().contiguous().numpy().reshape(-1, x.shape[-2], x.shape[-1])
    out = torch.empty((*x.shape[:-2], *size))
    index = torch.empty(out.shape, dtype=torch.int64)
    shape = (values.shape[0], *size)
    window = np.array([*kernel, *stride, *padding, *dilation], np.int64)
    pooling.max_pool(values, window, out.numpy().reshape(shape), index.numpy().reshape(shape))
    return out, index


def max_pool_backward(
    grad: torch.Tensor, index: torch.Tensor, shape: Sequence[int], bits: int, operation: str
) -> torch.Tensor:
    """`Pooling.max_pool_backward`."""
    out = torch.empty(tuple(shape))
    sums = out.numpy().reshape(-1, shape[-2] * shape[-1])
    values: Array = grad.detach().contiguous().numpy().reshape(len(sums), -1)
    if not pooling.max_pool_backward(values, index.contiguous().numpy().reshape(len(sums), -1), bits, sums):
        raise NonFiniteError(operation)
    return out
