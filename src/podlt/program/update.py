"""Adding updates up, in one order, one rounding at a time: the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def combine(updates: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """The sum of float32 vectors, in the given order, each element by one IEEE addition after another.

    Args:
        updates: at least one, all of one length; out: takes the sum.
    """
    out.copy_(updates[0])
    for update in updates[1:]:
        out.add_(update)
