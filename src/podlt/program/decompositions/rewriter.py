"""A traced graph run again in the types that programs have: complex numbers as pairs, whole numbers as int64."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import _disable_current_modes

from podlt.errors import UnsupportedError
from podlt.program.decompositions.complex_pairs import HANDLERS, MAKERS, Pairs, as_pairs
from podlt.program.source_lines import line_of

_COMPLEX = {torch.complex64, torch.complex128}
_NARROW = {torch.int16, torch.int8}


class Rewriter(fx.Interpreter):
    """Runs a graph of ATen operations, and carries each node's line in the user's code over to what it becomes."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # it would be appended to what is said to the user

    def run_node(self, n: fx.Node) -> Any:
        """A node; what its rule refuses is said with the node's line."""
        try:
            return super().run_node(n)
        except UnsupportedError as error:
            raise UnsupportedError(f"{error}{line_of(n)}") from error

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation, complex values as `Pairs`."""
        args, kwargs = _widened(args), _widened(kwargs)
        packet = getattr(target, "overloadpacket", target)
        if packet in MAKERS:
            return MAKERS[packet](*args, **kwargs)
        to_complex = packet is torch.ops.aten._to_copy and kwargs.get("dtype") in _COMPLEX
        if not to_complex and not _holds_pairs([*args, *kwargs.values()]):
            return super().call_function(target, args, kwargs)
        if packet not in HANDLERS:
            raise UnsupportedError(f"operation {packet.__name__} of complex numbers is not supported")
        return HANDLERS[packet](*args, **kwargs)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A constant."""
        value = super().get_attr(target, args, kwargs)
        if isinstance(value, torch.Tensor) and value.is_complex():
            with _disable_current_modes():
                plain = torch.view_as_real(value.resolve_conj()).clone()
            return as_pairs(plain)
        if isinstance(value, torch.Tensor) and value.dtype in _NARROW:
            with _disable_current_modes():
                value = value.long()
        return value


def _widened(item: Any) -> Any:
    """An argument with every narrow whole type made int64."""
    if isinstance(item, torch.dtype):
        return torch.int64 if item in _NARROW else item
    if isinstance(item, dict):
        return {key: _widened(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(_widened(part) for part in item)
    return item


def _holds_pairs(items: Any) -> bool:
    return any(isinstance(item, Pairs) or (isinstance(item, (list, tuple)) and _holds_pairs(item)) for item in items)
