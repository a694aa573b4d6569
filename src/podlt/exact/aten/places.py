"""Operations that read or write at given places; where several values meet, they are summed exactly or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from podlt.errors import UnsupportedError, UsageError
from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.tensors import named

Indices = Sequence[Tensor | None]
_AT_PLACES = named(["gather.default", "scatter.value", "index_select.default"])


def _at(name: str, b: Backend, x: Tensor, dim: int, index: Tensor, *rest: Any) -> Tensor:
    """An ATen operation of (x, dim, index, ...)."""
    _check(b, x, dim, index, name.partition(".")[0])
    return _AT_PLACES[name](x, dim, index, *rest)  # type: ignore[no-any-return]


def _check(b: Backend, x: Tensor, dim: int, index: Tensor, operation: str) -> None:
    b.selection.check_places(index, x.shape[dim] if x.ndim else 1, operation)


def _check_indices(b: Backend, x: Tensor, indices: Indices, operation: str) -> None:
    """Hold the indices of aten::index and aten::index_put to the sizes of `x`; negative ones count from the end."""
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
        elif index.dtype == torch.bool:
            dim += index.ndim
        else:
            b.selection.check_places(index, x.shape[dim], operation, -x.shape[dim])
            dim += 1


def _index(b: Backend, x: Tensor, indices: Indices) -> Tensor:
    _check_indices(b, x, indices, "index")
    return torch.ops.aten.index(x, list(indices))  # type: ignore[no-any-return]


def _embedding(b: Backend, weight: Tensor, index: Tensor, *options: Any) -> Tensor:
    b.selection.check_places(index, weight.shape[0], "embedding")
    return weight[index]


def _every_place(x: Tensor) -> Tensor:
    return torch.arange(x.numel(), device=x.device).reshape(x.shape)


def _twice(places: Tensor) -> bool:
    return len(torch.unique(places)) != places.numel()


def _scatter(b: Backend, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """As aten::scatter.src.

    Raises:
        UsageError: a place is named twice: the result would depend on order.
        IndexError: a place lies outside.
    """
    _check(b, x, dim, index, "scatter")
    if _twice(_every_place(x).gather(dim, index)):
        raise UsageError("scatter: expected different places, got one twice: the result would depend on order")
    return torch.scatter(x, dim, index, source)


def _index_put(b: Backend, x: Tensor, indices: Indices, values: Tensor, accumulate: bool = False) -> Tensor:
    """As aten::index_put.

    Raises:
        UnsupportedError: a place is named twice, and values are not added: the result would depend on order.
        IndexError: a place lies outside.
    """
    _check_indices(b, x, indices, "index_put")
    places = _every_place(x)[tuple(slice(None) if i is None else i for i in indices)]
    values = values.expand(places.shape)
    if accumulate and x.is_floating_point():
        return _added(b, x, places, values, "index_put")
    if not accumulate and _twice(places):
        raise UnsupportedError("index_put: expected different places, got one twice: the result would depend on order")
    write = torch.index_add if accumulate else torch.index_copy  # integers add alike in any order
    return write(x.reshape(-1), 0, places.reshape(-1), values.reshape(-1)).reshape(x.shape)


def _scatter_add(b: Backend, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    _check(b, x, dim, index, "scatter_add")
    if not x.is_floating_point():
        return torch.scatter_add(x, dim, index, source)  # integers add alike in any order
    places = _every_place(x).gather(dim, index)
    return _added(b, x, places, source[tuple(slice(0, n) for n in index.shape)], "scatter_add")


def _index_add(b: Backend, x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    _check(b, x, dim, index, "index_add")
    if not x.is_floating_point():
        return torch.index_add(x, dim, index, source, alpha=alpha)
    places = _every_place(x).index_select(dim, index)
    return _added(b, x, places, source if alpha == 1 else source * alpha, "index_add")


def _added(b: Backend, x: Tensor, places: Tensor, values: Tensor, operation: str) -> Tensor:
    """`x` with the exact sums of `values` at flat `places`."""
    rows = b.sums.scatter_rows(x.reshape(-1, 1), places.reshape(-1), values.reshape(-1, 1), x.numel(), operation)
    return rows.reshape(x.shape)


def _embedding_backward(b: Backend, grad: Tensor, index: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    if by_frequency:
        raise UnsupportedError("embedding_dense_backward: expected scale_grad_by_freq false, got true")
    places = index.reshape(-1)
    places = torch.where(places == padding, -1, places)
    flat = grad.reshape(places.numel(), grad.shape[-1])
    return b.sums.scatter_rows(None, places, flat, rows, "embedding_dense_backward")


BY_BACKEND: Mapping[str, Operation] = {
    **{name: partial(_at, name) for name in _AT_PLACES},
    "index.Tensor": _index,
    "embedding.default": _embedding,
    "scatter.src": _scatter,
    "index_put.default": _index_put,
    "scatter_add.default": _scatter_add,
    "index_add.default": _index_add,
    "embedding_dense_backward.default": _embedding_backward,
}
