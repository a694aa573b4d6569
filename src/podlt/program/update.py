"""The mean of updates: the same on every machine, whatever the arithmetic of the program."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podlt.program.operations import EXACT_ARITHMETIC
from podlt.program.places import Places

DIVISOR = "divisor"
"""What an update calls the sum that its loss is divided by, where that is not the number of examples."""


def combine(updates: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """The sum of float32 vectors, in the given order, each element by one IEEE addition after another.

    Args:
        updates: at least one, all of one length.
        out: takes the sum.
    """
    out.copy_(updates[0])
    for update in updates[1:]:
        out.add_(update)


def average(updates: Sequence[torch.Tensor], examples: int, layout: Places, arithmetic: str, out: torch.Tensor) -> bool:
    """What a round applies: loss and gradients over its examples, or over the sum of the updates' divisors if they have
    one; buffers over its examples. Without any label in the round, the divisor is 1.

    Args:
        updates: the float32 parts of updates, one a shard.
        examples: of the round.
        layout: of an update.
        arithmetic: the program's.
        out: takes the average, and in the divisor's place the sum of the divisors.

    Returns:
        Whether all of it is finite; `out` is of no use if not.
    """
    place = dict(layout.items()).get(DIVISOR)
    if place is None:
        return mean(updates, examples, arithmetic, out)
    at, end = slice(place.offset // 4, place.offset // 4 + 1), layout.section("grad:")[1] // 4
    if not mean([update[at] for update in updates], 1, arithmetic, out[at]):
        return False
    total = float(out[at])
    finite = mean([update[:end] for update in updates], total or 1, arithmetic, out[:end])
    finite = finite and (end == len(out) or mean([update[end:] for update in updates], examples, arithmetic, out[end:]))
    out[at] = total
    return finite


def mean(updates: Sequence[torch.Tensor], divisor: float, arithmetic: str, out: torch.Tensor) -> bool:
    """The sum of updates over a number of examples.

    Stock programs add in the given order; exact ones add without any.

    Args:
        updates: float32 vectors of one length.
        divisor: what the sum is divided by: the number of examples.
        arithmetic: the program's.
        out: takes the mean.

    Returns:
        Whether all of it is finite; `out` is of no use if not.
    """
    if arithmetic in EXACT_ARITHMETIC:
        from podlt.exact.constants import NonFiniteError
        from podlt.exact.cpu.average import average as exact_average

        try:
            out.copy_(exact_average(updates, divisor=divisor))
        except NonFiniteError:
            return False
    else:
        combine(updates, out)
        out.div_(torch.tensor(float(divisor), dtype=torch.float32))
    return is_finite(out)


def is_finite(vector: torch.Tensor) -> bool:
    """Whether no element is infinite or not a number; a finite sum says so at once."""
    return bool(torch.isfinite(vector.sum()) or torch.isfinite(vector).all())
