"""Parameters that stay float32 in memory, and are float64 to whoever computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map

_OF_BYTES = (torch.ops.aten.view.dtype, torch.ops.aten.view_as_real.default, torch.ops.aten.view_as_complex.default)
"""Views that see other numbers in the same memory."""


class WidenedTensor(torch.Tensor):
    """A float64 tensor whose float32 values are made wide by each operation that uses them, for as long as it lasts.

    So a module's step in float64 takes no memory for its parameters: what autograd keeps for the backward pass is the
    float32 tensor too. A view of one is one.

    Args:
        narrow: the float32 values, which nothing may write to.
    """

    narrow: torch.Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, narrow: torch.Tensor) -> WidenedTensor:
        """The tensor, without memory of its own."""
        made: WidenedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            narrow.shape,
            strides=narrow.stride(),
            storage_offset=narrow.storage_offset(),
            dtype=torch.float64,
            device=narrow.device,
        )
        made.narrow = narrow
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Computes with wide values; what only looks at them otherwise stays narrow.

        Raises:
            RuntimeError: the operation writes to them.
        """
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if isinstance(value, cls) and argument.alias_info is not None and argument.alias_info.is_write:
                raise RuntimeError(f"{func} writes to a parameter")
        if func.is_view and func not in _OF_BYTES and isinstance(args[0], cls):
            return tree_map(_wrapped, func(args[0].narrow, *args[1:], **(kwargs or {})))
        return func(*tree_map(_wide, args), **tree_map(_wide, dict(kwargs or {})))


def _wrapped(item: Any) -> Any:
    return WidenedTensor(item) if isinstance(item, torch.Tensor) else item


def _wide(item: Any) -> Any:
    return item.narrow.double() if isinstance(item, WidenedTensor) else item
