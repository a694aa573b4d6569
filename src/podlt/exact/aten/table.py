"""The exact table of operations: an ATen name to what computes it with the same bits on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from podlt.errors import UsageError
from podlt.exact.aten.backend import Backend, Operation
from podlt.exact.aten.convolution import convolutions
from podlt.exact.aten.elementwise import elementwise
from podlt.exact.aten.losses import losses
from podlt.exact.aten.normalise import normalise
from podlt.exact.aten.places import places
from podlt.exact.aten.pooling import pooling
from podlt.exact.aten.products import products
from podlt.exact.aten.reductions import reductions
from podlt.exact.aten.selection import selection
from podlt.exact.aten.structure import structure
from podlt.exact.constants import MAX_DIGITS

_FAMILIES = (
    structure,
    places,
    selection,
    elementwise,
    reductions,
    losses,
    normalise,
    products,
    convolutions,
    pooling,
)


def aten_table(b: Backend) -> Mapping[str, Operation]:
    """Each operation that has an exact definition, under its ATen overload's name and with its signature.

    Tensors are float32, int64 or bool on the backend's device, with any strides; so is what comes out. What is not in
    the table has no definition: the caller refuses it by name.

    Raises:
        UsageError: products cannot be cut into so many digits.
    """
    if b.digits not in range(1, MAX_DIGITS + 1):
        raise UsageError(f"arithmetic: expected 1, 2 or 3 digits, got {b.digits}")
    found: dict[str, Operation] = {}
    for family in _FAMILIES:
        found |= family(b)
    return MappingProxyType({**found, **b.native})
