"""Operations that move values or make them from numbers.

What reads at given places checks them first: on CUDA an index beyond its tensor is an assertion that ends the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from podlt.exact.portable.bits import Tensor
from podlt.exact.portable.elementwise import Operation, named

_STRUCTURE = """
permute.default t.default transpose.int expand.default
unsqueeze.default squeeze.default squeeze.dim squeeze.dims select.int slice.Tensor cat.default stack.default
split.Tensor split_with_sizes.default unbind.int constant_pad_nd.default flip.default select_backward.default
slice_backward.default slice_scatter.default select_scatter.default repeat.default roll.default full_like.default
zeros_like.default ones_like.default new_zeros.default new_full.default new_ones.default tril.default triu.default
any.default any.dim all.default
"""
_FACTORIES = "full.default zeros.default ones.default scalar_tensor.default"


def check_places(index: Tensor, size: int, operation: str, least: int = 0) -> None:
    """Hold every index to [least, size).

    Raises:
        IndexError: one lies outside.
    """
    if index.numel() and (int(index.min()) < least or int(index.max()) >= size):
        raise IndexError(f"{operation}: expected indices from {least} to {size - 1}, got others")


def _at(name: str) -> Operation:
    """An ATen operation of (x, dim, index, ...)."""
    run = named(name)[name]

    def checked(x: Tensor, dim: int, index: Tensor, *rest: Any, **options: Any) -> Tensor:
        check_places(index, x.shape[dim] if x.ndim else 1, name.partition(".")[0])
        return run(x, dim, index, *rest, **options)  # type: ignore[no-any-return]

    return checked


def check_indices(x: Tensor, indices: Sequence[Tensor | None], operation: str) -> None:
    """Hold the indices of aten::index and aten::index_put to the sizes of `x`; negative ones count from the end.

    Raises:
        IndexError: one lies outside.
    """
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
        elif index.dtype == torch.bool:
            dim += index.ndim
        else:
            check_places(index, x.shape[dim], operation, -x.shape[dim])
            dim += 1


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    check_indices(x, indices, "index")
    return torch.ops.aten.index(x, list(indices))  # type: ignore[no-any-return]


def _embedding(weight: Tensor, index: Tensor, *options: Any) -> Tensor:
    check_places(index, weight.shape[0], "embedding")
    return weight[index]


def _on(device: torch.device, run: Operation) -> Operation:
    """A factory whose tensors are made on `device`, unless the call says another."""
    return lambda *arguments, **options: run(*arguments, **{"device": device, **options})


def structure(device: torch.device) -> dict[str, Operation]:
    """Every structural operation of the exact table, by its ATen name; tensors from numbers are made on `device`."""

    def reshape(x: Tensor, shape: list[int]) -> Tensor:
        return x.reshape(shape)

    return {
        **named(_STRUCTURE),
        **{name: _on(device, run) for name, run in named(_FACTORIES).items()},
        **dict.fromkeys(("view.default", "_unsafe_view.default", "reshape.default"), reshape),
        "gather.default": _at("gather.default"),
        "scatter.value": _at("scatter.value"),
        "index_select.default": _at("index_select.default"),
        "index.Tensor": _index,
        "embedding.default": _embedding,
    }
