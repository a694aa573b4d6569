"""Sums at given places by whole rows, where ATen's operations name rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from podlt.errors import UnsupportedError
from podlt.exact.aten.backend import Operation
from podlt.exact.cpu import reduce

Tensor = torch.Tensor


def embedding_backward(
    grad: Tensor, index: Tensor, rows: int, padding: int, by_frequency: bool, out: Tensor | None = None
) -> Tensor:
    """As aten::embedding_dense_backward.

    Args:
        out: float32 (rows, width), contiguous: takes the result, and is returned.

    Raises:
        UnsupportedError: gradients are to be scaled by how often a row occurs.
        ValueError: `out` has another shape.
    """
    if by_frequency:
        raise UnsupportedError("embedding_dense_backward: expected scale_grad_by_freq false, got true")
    if out is not None and out.shape != (rows, grad.shape[-1]):
        raise ValueError(f"embedding_dense_backward: expected memory for {rows} rows, got {tuple(out.shape)}")
    places = index.reshape(-1)
    if padding >= 0:
        places = torch.where(places == padding, -1, places)
    flat = grad.reshape(places.numel(), grad.shape[-1])
    return reduce.scatter_rows(None, places, flat, rows, "embedding_dense_backward", out=out)


def _index_add(otherwise: Operation, x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """As aten::index_add."""
    if x.ndim < 2 or dim % x.ndim or alpha != 1 or _apart(x, index, source) or int(index.min()) < 0:
        return otherwise(x, dim, index, source, alpha=alpha)  # type: ignore[no-any-return]
    return _added(x, index, source, "index_add")


def _index_put(
    otherwise: Operation, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """As aten::index_put."""
    index = indices[0]
    if len(indices) != 1 or index is None or index.dtype is not torch.int64 or not accumulate or x.ndim < 2:
        return otherwise(x, indices, values, accumulate)  # type: ignore[no-any-return]
    if values.shape != (*index.shape, *x.shape[1:]) or _apart(x, index, values):
        return otherwise(x, indices, values, accumulate)  # type: ignore[no-any-return]
    if int(index.min()) < -len(x):
        raise IndexError(f"index_put: expected indices from {-len(x)} on, got {int(index.min())}")
    return _added(x, torch.where(index < 0, index + len(x), index), values, "index_put")


def _apart(x: Tensor, index: Tensor, source: Tensor) -> bool:
    """Whether something is left to compositions."""
    float32 = x.dtype is torch.float32 and source.dtype is torch.float32
    return not float32 or index.dtype is not torch.int64 or not index.numel() or not x.numel()


def _added(x: Tensor, index: Tensor, source: Tensor, operation: str) -> Tensor:
    """`x` with the exact sums of rows; as many terms as values, as where each has a place of its own."""
    flat, rows = x.reshape(len(x), -1), source.reshape(index.numel(), -1)
    return reduce.scatter_rows(flat, index.reshape(-1), rows, len(x), operation, source.numel()).reshape(x.shape)


NATIVE: Mapping[str, Operation] = {"embedding_dense_backward.default": embedding_backward}


def faster(base: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """Sums of rows, in place of those of a table; what are no rows stays with it."""
    return {
        "index_add.default": partial(_index_add, base["index_add.default"]),
        "index_put.default": partial(_index_put, base["index_put.default"]),
    }
