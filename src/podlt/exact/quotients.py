"""Remainders, whole quotients and cumulative products, once for both backends: each step one IEEE operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from podlt.errors import UnsupportedError

Tensor = torch.Tensor
Binary = Callable[[Tensor, Tensor], Tensor]


def quotients(fmod: Binary, divide: Binary) -> dict[str, Callable[..., Any]]:
    """What is made of an exact remainder, by ATen names.

    Args:
        fmod: a - b trunc(a / b) with the sign of a, exactly, for float32 tensors of one shape.
        divide: a / b, one division.
    """

    def common(a: Tensor, b: Tensor | float) -> tuple[Tensor, Tensor]:
        dtype = torch.result_type(a, b)
        other = b if isinstance(b, Tensor) else torch.full((), b, dtype=dtype, device=a.device)
        x, y = torch.broadcast_tensors(a.to(dtype), other.to(dtype))  # type: ignore[no-untyped-call]
        return x, y

    def remainder(a: Tensor, b: Tensor | float) -> Tensor:
        x, y = common(a, b)
        if not x.is_floating_point():
            return torch.remainder(x, y)
        r = fmod(x, y)
        return torch.where(_apart(r, y), r + y, r)

    def floor_quotient(a: Tensor, b: Tensor, *, rounding_mode: str) -> Tensor:
        if rounding_mode != "floor":
            raise UnsupportedError(f"div: expected the rounding mode floor, got {rounding_mode!r}")
        x, y = common(a, b)
        if not x.is_floating_point():
            return torch.div(x, y, rounding_mode="floor")
        r = fmod(x, y)
        q = divide(x - r, y)
        q = torch.where(_apart(r, y), q - 1.0, q)
        whole = torch.floor(q)
        whole = torch.where(q - whole > 0.5, whole + 1.0, whole)
        plain = divide(x, y)
        whole = torch.where(q == 0, torch.copysign(torch.zeros_like(q), plain), whole)
        return torch.where(y == 0, plain, whole)

    return {"remainder.Tensor": remainder, "remainder.Scalar": remainder, "div.Tensor_mode": floor_quotient}


def _apart(r: Tensor, y: Tensor) -> Tensor:
    """Where a remainder is not 0 and has another sign than the divisor."""
    return (r != 0) & ((r < 0) != (y < 0))


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::cumprod: the products of the prefixes along `dim`, from the first value on, one operation each."""
    if dtype not in (None, x.dtype):
        raise UnsupportedError(f"cumprod: expected no other dtype, got {dtype}")
    out = x.clone() if x.is_floating_point() else x.long().clone()
    lines = out.movedim(dim, 0) if out.ndim else out.reshape(1)
    for i in range(1, len(lines)):
        lines[i] = lines[i - 1] * lines[i]
    return out
