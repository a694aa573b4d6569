"""Exact matrix products: digits, integer products by the vendor's library, rounded once. Definition: `definition.mm`.

Two ways to the same integers. "int8" is `torch._int_mm` (tensor cores on CUDA): CUDA wants more than 16 rows and the
other sizes in multiples of 8, takes a row-major left and a column-major right operand on every GPU, and has returned
wrong integers for 17 rows (pytorch issue 107671, CUDA 12.1). So both operands lie along the contracted dimension, and
zeros fill them up to 32 rows at a time. "float64" is a float64 product, exact while a sum stays below 2**53: for
batches of small matrices, of which int8 would need one launch each, and for GPUs without int8. float32 products are
not used: whether TF32 rounds them is a setting of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

import torch

from podlt.exact.constants import DIGIT_BITS, LEAST_EXPONENT
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, power32, power64

Way = Literal["int8", "float64"]
"""How the integers are computed; they agree."""

_way: ContextVar[Way] = ContextVar("podlt_portable_way", default="int8")
_ROWS, _TERMS = 32, 16
"""Rows come in multiples of 32, planes in multiples of 16 values, so that a slice of planes starts aligned."""

MOST_TERMS = 2**19 - _TERMS
"""So many products of two digits (each <= 2**12) sum to less than 2**31; longer products are cut in pieces."""

LARGE = 2**24
"""Batches of products of at least so many multiplications each are worth one int8 launch each."""


@contextmanager
def using(way: Way) -> Iterator[None]:
    """Compute products in this way inside the block. The bits are the same in each."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


@cache
def has_int8(device: torch.device) -> bool:
    """Whether int8 products run there: on CUDA from compute capability 7.5 on."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (7, 5)


def _by_int8(device: torch.device) -> bool:
    return _way.get() == "int8" and has_int8(device)


def padded(n: int, to: int) -> int:
    """The least multiple of `to` from `n` on."""
    return -(-n // to) * to


def padded_rows(n: int) -> int:
    """How many rows an operand with `n` rows is given."""
    return padded(max(n, 1), _ROWS)


def padded_terms(k: int) -> int:
    """How many values a plane of `k` values is given."""
    return padded(k, _TERMS)


def cut_exponents(x: Tensor, dims: list[int], operation: str) -> Tensor:
    """The exponents at which float32 `x` is cut, shared over `dims`, which are kept with size 1; int64.

    Raises:
        NonFiniteError: `x` holds an infinity or a NaN. The message names `operation`.
    """
    return exponents(magnitudes(x).amax(dim=dims, keepdim=True), operation).clamp(min=LEAST_EXPONENT)


def cut_planes(x: Tensor, e: Tensor, digits: int, last_first: bool) -> list[Tensor]:
    """The int8 digits of each value: `digits` tensors of the shape of `x`, most significant first or last first."""
    rest = torch.round(x.detach() * power32(DIGIT_BITS * digits - 1 - e)).to(torch.int32)
    planes = []
    for _ in range(digits - 1):
        higher = (rest + 64) >> DIGIT_BITS
        planes.append((rest - (higher << DIGIT_BITS)).to(torch.int8))
        rest = higher
    planes.append(rest.to(torch.int8))
    return planes if last_first else planes[::-1]


def cut_rows(x: Tensor, digits: int, operation: str, last_first: bool) -> tuple[Tensor, Tensor]:
    """Cut float32 (b, rows, k), k > 0, along k.

    Returns:
        planes int8 (b, padded rows, digits * padded k) side by side, zeros where padded; exponents int64 (b, rows).
    """
    b, rows, k = x.shape
    out = torch.zeros((b, padded_rows(rows), digits, padded_terms(k)), dtype=torch.int8, device=x.device)
    if not b * rows:
        return out.flatten(2), torch.zeros((b, rows), dtype=torch.int64, device=x.device)
    e = cut_exponents(x, [2], operation)
    for plane, digit in enumerate(cut_planes(x, e, digits, last_first)):
        out[:, :rows, plane, :k] = digit
    return out.flatten(2), e.squeeze(2)


def mm(a: Tensor, b: Tensor, digits: int, bias: Tensor | None = None, operation: str = "mm") -> Tensor:
    """`Products.mm`."""
    out = bmm(a.unsqueeze(0), b.unsqueeze(0), digits, operation).squeeze(0)
    return out if bias is None else out + bias


def bmm(a: Tensor, b: Tensor, digits: int, operation: str = "bmm") -> Tensor:
    """`Products.bmm`."""
    batches, m, k = a.shape
    n = b.shape[2]
    if k == 0:
        return torch.zeros((batches, m, n), device=a.device)
    left, ea = cut_rows(a, digits, operation, last_first=False)
    right, eb = cut_rows(b.mT, digits, operation, last_first=True)
    if _by_int8(a.device) and (batches == 1 or m * n * k >= LARGE):
        found = [level_sum(x, y, digits) for x, y in zip(left, right, strict=True)]
        sums = torch.stack(found) if found else torch.zeros((0, m, n), device=a.device)
    else:
        sums = _float64_sum(left, right, digits)
    return scaled(sums[:, :m, :n], ea.unsqueeze(2), eb.unsqueeze(1), digits)


def level_sum(left: Tensor, right: Tensor, digits: int) -> Tensor:
    """Sum over digits i + j < `digits` of their products' sums, times 128**(digits - 1 - i - j): whole float64.

    Args:
        left: int8 (m, digits * k), most significant plane first; sizes padded as `cut_rows` does, here and below.
        right: int8 (n, digits * k), last plane first.

    Returns:
        float64 (m, n), exact while the sum stays below 2**53: k up to 2**26 for three digits.
    """
    if not _by_int8(left.device):
        return _float64_sum(left.unsqueeze(0), right.unsqueeze(0), digits).squeeze(0)
    k = left.shape[1] // digits
    total = torch.zeros((left.shape[0], right.shape[0]), dtype=torch.float64, device=left.device)
    for level in range(digits):
        a, b = left[:, : (level + 1) * k], right[:, (digits - 1 - level) * k :]
        total = total * 128.0
        for start in range(0, a.shape[1], MOST_TERMS):
            piece = slice(start, start + MOST_TERMS)
            total = total + torch._int_mm(a[:, piece], b[:, piece].t())
    return total


def scaled(sums: Tensor, ea: Tensor, eb: Tensor, digits: int) -> Tensor:
    """Whole float64 sums of `level_sum` times 2**(ea + eb) and what digits stand for, rounded to float32 once."""
    shift = DIGIT_BITS * (digits - 1) - 2 * (DIGIT_BITS * digits - 1)
    return (sums * power64(ea + eb + shift)).float()


def _float64_sum(left: Tensor, right: Tensor, digits: int) -> Tensor:
    """`level_sum` of batches, by float64 products."""
    k = left.shape[2] // digits
    a, b = left.double(), right.double()
    total = torch.zeros((a.shape[0], a.shape[1], b.shape[1]), dtype=torch.float64, device=left.device)
    for level in range(digits):
        total = total * 128.0
        total = total + torch.bmm(a[:, :, : (level + 1) * k], b[:, :, (digits - 1 - level) * k :].mT)
    return total
