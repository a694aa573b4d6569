"""The exact table of operations: an ATen name to what computes it with the same bits on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from podlt.errors import UsageError
from podlt.exact.aten import (
    attention,
    convolution,
    elementwise,
    losses,
    normalise,
    places,
    pooling,
    products,
    recurrences,
    reductions,
    selection,
    structure,
)
from podlt.exact.aten.backend import AS_THEY_ARE, Backend, Operation
from podlt.exact.constants import ADAPTIVE, MAX_DIGITS

_ANYWHERE = {**structure.ANYWHERE, **elementwise.ANYWHERE, **reductions.ANYWHERE, **losses.ANYWHERE}
"""Single operations of torch, and what is composed of them alone."""

_BY_BACKEND = {
    **structure.BY_BACKEND,
    **places.BY_BACKEND,
    **selection.BY_BACKEND,
    **elementwise.BY_BACKEND,
    **reductions.BY_BACKEND,
    **losses.BY_BACKEND,
    **normalise.BY_BACKEND,
    **products.BY_BACKEND,
    **convolution.BY_BACKEND,
    **pooling.BY_BACKEND,
    **recurrences.BY_BACKEND,
    **attention.BY_BACKEND,
}
"""Operations that take a backend before ATen's arguments."""


def aten_table(b: Backend) -> Mapping[str, Operation]:
    """Each operation that has an exact definition, under its row's name and with that overload's signature.

    Tensors are float32, int64 or bool on the backend's device, with any strides; so is what comes out. What is not in
    the table has no definition: the caller refuses it by name.

    Raises:
        UsageError: products cannot be cut into so many digits.
    """
    if b.digits not in (ADAPTIVE, *range(1, MAX_DIGITS + 1)):
        raise UsageError(f"arithmetic: expected 1, 2 or 3 digits or {ADAPTIVE} (adaptive), got {b.digits}")
    functions = {f"{name}.default": b.functions[name] for name in AS_THEY_ARE}
    bound = {name: partial(run, b) for name, run in _BY_BACKEND.items()}
    return MappingProxyType({**_ANYWHERE, **functions, **bound, **b.native})
