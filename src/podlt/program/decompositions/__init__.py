"""What captures take apart: operations of PyTorch's in terms of those that programs hold.

`RULES` are applied to a traced graph, backward passes included. `COMPOSITIONS` stand in for an operation while a step
is traced, below autograd's sight: their gradients follow from their parts. Neither is believed: a capture's numbers
are held against the module's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch._C import DispatchKey

from podlt.program.decompositions import distances, elementwise, pooling, reductions, sampling, sequences, structure
from podlt.program.draws import FACTORIES, OF_TENSORS


def _drawing(formulas: Mapping[str, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """Random operations, by `torch.rand`."""
    found: dict[Any, Callable[..., Any]] = {}
    for name, formula in formulas.items():
        packet, _, overload = name.partition(".")
        found[getattr(getattr(torch.ops.aten, packet), overload)] = partial(formula, torch.rand)
    return found


RULES: Mapping[Any, Callable[..., Any]] = {
    **elementwise.RULES,
    **reductions.RULES,
    **structure.RULES,
    **_drawing(FACTORIES),
}
"""By operation; a rule that does not know a call returns NotImplemented."""

COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    **pooling.COMPOSITIONS,
    **sampling.COMPOSITIONS,
    **distances.COMPOSITIONS,
    **sequences.COMPOSITIONS,
    **reductions.COMPOSITIONS,
    **_drawing(OF_TENSORS),
}
"""By operation; each has the operation's arguments and results."""


@contextmanager
def composed() -> Iterator[None]:
    """Has PyTorch's Python dispatcher call the compositions."""
    key = DispatchKey.AutogradCPU
    before = {operation: operation.py_kernels.pop(key, None) for operation in COMPOSITIONS}
    for operation, composition in COMPOSITIONS.items():
        operation._dispatch_cache.clear()
        operation.py_kernels[key] = composition
    try:
        yield
    finally:
        for operation, kernel in before.items():
            operation._dispatch_cache.clear()
            del operation.py_kernels[key]
            if kernel is not None:
                operation.py_kernels[key] = kernel
