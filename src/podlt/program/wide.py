"""Parameters that stay float32 in memory, and are float64 to whoever computes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map

from podlt.program.source_lines import operation_name

aten = torch.ops.aten

MOST_SHARED = 2**25
"""Bytes of the largest value that is made wide in memory that is used again: a larger one has its own, for as long as
one operation lasts."""

IN_PARTS, PART = 2**23, 2**20
"""From so many elements on a matrix is made wide part by part while it is multiplied, and the elements of a part."""

_OF_BYTES = (aten.view.dtype, aten.view_as_real.default, aten.view_as_complex.default)
"""Views that see other numbers in the same memory."""

_PICKING = ("embedding.default", "index_select.default")
"""Operations that take rows as they are: what they took is made wide, and not all that they took it from."""

_MULTIPLYING = ("mm.default", "addmm.default")

NarrowOf = Callable[[Any], torch.Tensor | None]
"""The float32 values of an argument that is to be made wide; None of any other."""


class WideMemory:
    """Memory in which values are made wide for one operation, and then for the next.

    A model's weights made wide take twice its memory in each pass, page by page from the system, if each has its own.
    """

    def __init__(self) -> None:
        self._memory: list[torch.Tensor] = []

    def call(
        self,
        name: str,
        operation: Callable[..., Any],
        given: tuple[Any, ...],
        fixed: Mapping[str, Any],
        narrow_of: NarrowOf,
    ) -> Any:
        """What an operation gives for these arguments, the narrow ones among them made wide.

        Args:
            name: of the operation.
            operation: what computes it.
            given: its arguments.
            fixed: its keywords.
            narrow_of: says which are narrow.
        """
        last = narrow_of(given[-1]) if given else None
        if last is not None and name in _MULTIPLYING and _is_large(last) and narrow_of(given[-2]) is None:
            product = self._multiplied(given[-2], last, **fixed)
            return product if len(given) == 2 else product.add_(given[0] if (b := narrow_of(given[0])) is None else b)
        if name in _PICKING and (first := narrow_of(given[0])) is not None:
            return operation(first, *given[1:], **fixed).double()
        lent: list[torch.Tensor] = []

        def wide(item: Any) -> Any:
            narrow = narrow_of(item)
            return item if narrow is None else self._made(narrow, lent)

        found = operation(*tree_map(wide, given), **tree_map(wide, dict(fixed)))
        return _apart(found, lent) if lent else found

    def _multiplied(self, a: torch.Tensor, narrow: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """The product of a wide matrix and a large narrow one, which is never wide as a whole."""
        terms, columns = narrow.shape
        made = torch.empty(len(a), columns, dtype=a.dtype) if out is None else out
        if narrow.is_contiguous():
            made.zero_()
            for part in _parts(terms, columns):
                made.addmm_(a[:, part], self._made(narrow[part], []))
        else:
            for part in _parts(columns, terms):
                made[:, part] = torch.mm(a, self._made(narrow[:, part], []))
        return made

    def _made(self, narrow: torch.Tensor, lent: list[torch.Tensor]) -> torch.Tensor:
        """Values made wide, in memory that no value of an operation has yet."""
        is_turned = narrow.ndim == 2 and not narrow.is_contiguous() and narrow.t().is_contiguous()
        if 8 * narrow.numel() > MOST_SHARED or not (is_turned or narrow.is_contiguous()):
            return narrow.double()
        place = len(lent)
        if place == len(self._memory):
            self._memory.append(torch.empty(0, dtype=torch.float64))
        if len(self._memory[place]) < narrow.numel():
            self._memory[place] = torch.empty(narrow.numel(), dtype=torch.float64)
        memory = self._memory[place][: narrow.numel()]
        lent.append(memory)
        return (
            memory.view(narrow.shape[::-1]).t().copy_(narrow) if is_turned else memory.view(narrow.shape).copy_(narrow)
        )


def _is_large(matrix: torch.Tensor) -> bool:
    """Whether a matrix is made wide part by part, and lies in order, or turned."""
    return matrix.numel() >= IN_PARTS and (matrix.is_contiguous() or matrix.t().is_contiguous())


def _parts(lines: int, width: int) -> list[slice]:
    """Lines of a matrix, in parts of about `PART` elements."""
    size = max(1, PART // width)
    return [slice(start, start + size) for start in range(0, lines, size)]


def _apart(found: Any, lent: list[torch.Tensor]) -> Any:
    """Results in memory of their own."""
    places = {memory.untyped_storage().data_ptr() for memory in lent}

    def own(item: Any) -> Any:
        is_lent = isinstance(item, torch.Tensor) and item.untyped_storage().data_ptr() in places
        return item.clone() if is_lent else item

    return tree_map(own, found)


class WidenedTensor(torch.Tensor):
    """A float64 tensor whose float32 values are made wide by each operation that uses them, for as long as it lasts.

    So a module's step in float64 takes no memory for its parameters: what autograd keeps for the backward pass is the
    float32 tensor too. A view of one is one.

    Args:
        narrow: the float32 values, which nothing may write to.
        memory: in which they are made wide.
    """

    narrow: torch.Tensor  # type: ignore[assignment]
    memory: WideMemory

    @staticmethod
    def __new__(cls, narrow: torch.Tensor, memory: WideMemory) -> WidenedTensor:
        """The tensor, without memory of its own."""
        made: WidenedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            narrow.shape,
            strides=narrow.stride(),
            storage_offset=narrow.storage_offset(),
            dtype=torch.float64,
            device=narrow.device,
        )
        made.narrow, made.memory = narrow, memory
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
        fixed = kwargs or {}
        memory = next(item.memory for item in tree_iter((args, fixed)) if isinstance(item, cls))
        if func.is_view and func not in _OF_BYTES and isinstance(args[0], cls):
            found = func(args[0].narrow, *args[1:], **fixed)
            return tree_map(lambda item: cls(item, memory) if isinstance(item, torch.Tensor) else item, found)
        return memory.call(operation_name(func), func, args, fixed, _narrow_of_widened)


def _narrow_of_widened(item: Any) -> torch.Tensor | None:
    return item.narrow if isinstance(item, WidenedTensor) else None


def _narrow_of_any(item: Any) -> torch.Tensor | None:
    return item if isinstance(item, torch.Tensor) and item.dtype == torch.float32 else None


def widening(name: str, operation: Callable[..., Any], memory: WideMemory) -> Callable[..., Any]:
    """An operation that is given float64 in the place of float32, for as long as it lasts.

    Args:
        name: of the operation.
        operation: what computes it.
        memory: in which its arguments are made wide.
    """
    return lambda *given, **fixed: memory.call(name, operation, given, fixed, _narrow_of_any)
