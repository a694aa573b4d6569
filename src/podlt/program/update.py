"""The mean of updates: the same on every machine, whatever the arithmetic of the program."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podlt.program.operations import EXACT_ARITHMETIC


def combine(updates: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """The sum of float32 vectors, in the given order, each element by one IEEE addition after another.

    Args:
        updates: at least one, all of one length.
        out: takes the sum.
    """
    out.copy_(updates[0])
    for update in updates[1:]:
        out.add_(update)


def mean(updates: Sequence[torch.Tensor], divisor: int, arithmetic: str, out: torch.Tensor) -> bool:
    """The sum of updates over a number of lines.

    Stock programs add in the given order; exact ones add without any.

    Args:
        updates: float32 vectors of one length.
        divisor: the number of lines.
        arithmetic: the program's.
        out: takes the mean.

    Returns:
        Whether all of it is finite; `out` is of no use if not.
    """
    if arithmetic in EXACT_ARITHMETIC:
        from podlt.exact.constants import NonFiniteError
        from podlt.exact.cpu.average import average

        try:
            out.copy_(average(updates, divisor=divisor))
        except NonFiniteError:
            return False
    else:
        combine(updates, out)
        out.div_(torch.tensor(float(divisor), dtype=torch.float32))
    return is_finite(out)


def is_finite(vector: torch.Tensor) -> bool:
    """Whether no element is infinite or not a number; a finite sum says so at once."""
    return bool(torch.isfinite(vector.sum()) or torch.isfinite(vector).all())
