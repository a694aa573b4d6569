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
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from podlt.exact.constants import ADAPTIVE, DIGIT_BITS, LEAST_EXPONENT, LOSS_BITS, NARROW_DIGITS, WIDE_DIGITS
from podlt.exact.portable.bits import Tensor, exponents, magnitudes, power32, rounded, units

Way = Literal["int8", "float64"]
"""How the integers are computed; they agree."""

_way: ContextVar[Way] = ContextVar("podlt_portable_way", default="int8")
_COARSE, _FINE = DIGIT_BITS * NARROW_DIGITS - 1, DIGIT_BITS * WIDE_DIGITS - 1
_ENOUGH = 129
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
    """The exponents of float32 `x` over `dims`, which are kept with size 1; int64.

    Raises:
        NonFiniteError: `x` holds an infinity or a NaN. The message names `operation`.
    """
    return exponents(magnitudes(x).amax(dim=dims, keepdim=True), operation)


def planes_of(rest: Tensor, digits: int) -> list[Tensor]:
    """The int8 digits of whole int32 values, most significant first."""
    planes = []
    for _ in range(digits - 1):
        higher = (rest + 64) >> DIGIT_BITS
        planes.append((rest - (higher << DIGIT_BITS)).to(torch.int8))
        rest = higher
    return [rest.to(torch.int8), *reversed(planes)]


def is_wide(x: Tensor, e: Tensor, dims: list[int]) -> Tensor | None:
    """Which rows need four digits, decided as `definition.cut_of` does; None if none does.

    Args:
        e: their exponents, as `cut_exponents` gives them.
    """
    fine, coarse = units(x, e - _FINE), units(x, e - _COARSE)
    some = (x != 0).to(torch.int64)
    lost = ((fine - (coarse << (_FINE - _COARSE))).abs() + some).sum(dim=dims, keepdim=True)
    enough = (e >= LEAST_EXPONENT) & ((lost << LOSS_BITS) <= fine.abs().sum(dim=dims, keepdim=True))
    wide = ~enough & (some.amax(dim=dims, keepdim=True) > 0)
    return wide if bool(wide.any()) else None


@dataclass(frozen=True)
class Planes:
    """Values cut along some dimensions.

    Args:
        digits: int8 tensors of the values' shape, most significant first.
        exponents: int64, the cut dimensions kept with size 1.
        wide: which rows need four digits; None if none does.
    """

    digits: list[Tensor]
    exponents: Tensor
    wide: Tensor | None = None


def cut(x: Tensor, dims: list[int], digits: int, operation: str) -> Planes:
    """Cut float32 `x`, not empty, along `dims`; all rows into as many digits, two for `ADAPTIVE`."""
    x = x.detach()
    e = cut_exponents(x, dims, operation)
    count, floored = digits or NARROW_DIGITS, e.clamp(min=LEAST_EXPONENT)
    rest = torch.round(x * power32(DIGIT_BITS * count - 1 - floored)).to(torch.int32)
    wide = is_wide(x, e, dims) if digits == ADAPTIVE and _is_suspected(x, rest, e, dims) else None
    return Planes(planes_of(rest, count), floored, wide)


def _is_suspected(x: Tensor, rest: Tensor, e: Tensor, dims: list[int]) -> bool:
    """Whether any row may be wide: else their integers are 129 on average, and lose half a one at most."""
    balance = (rest.abs() - _ENOUGH * (x != 0).to(torch.int32)).sum(dim=dims, keepdim=True)
    return bool(((balance < 0) | (e < LEAST_EXPONENT)).any())


def widened(x: Tensor, dims: list[int], narrow: Planes) -> Planes:
    """Four planes of the same values: those of wide rows, and of the others the two that they have, and zeros."""
    if narrow.wide is None:
        zero = torch.zeros_like(narrow.digits[0])
        return Planes([*narrow.digits, zero, zero], narrow.exponents)
    e = cut_exponents(x, dims, "mm")
    found = planes_of(units(x, e - _FINE).to(torch.int32), WIDE_DIGITS)
    two = [*narrow.digits, *[torch.zeros_like(found[0])] * (WIDE_DIGITS - NARROW_DIGITS)]
    mixed = [torch.where(narrow.wide, more, less) for more, less in zip(found, two, strict=True)]
    return Planes(mixed, torch.where(narrow.wide, e, narrow.exponents), narrow.wide)


def side_by_side(planes: Planes, last_first: bool) -> Tensor:
    """Digits (b, rows, k), k > 0, as int8 (b, padded rows, digits * padded k), zeros where padded."""
    b, rows, k = planes.digits[0].shape
    count = len(planes.digits)
    out = torch.zeros((b, padded_rows(rows), count, padded_terms(k)), dtype=torch.int8, device=planes.exponents.device)
    for place, digit in enumerate(reversed(planes.digits) if last_first else planes.digits):
        out[:, :rows, place, :k] = digit
    return out.flatten(2)


def mm(a: Tensor, b: Tensor, digits: int, bias: Tensor | None = None, operation: str = "mm") -> Tensor:
    """`Products.mm`."""
    out = bmm(a.unsqueeze(0), b.unsqueeze(0), digits, operation).squeeze(0)
    return out if bias is None else out + bias


def bmm(a: Tensor, b: Tensor, digits: int, operation: str = "bmm") -> Tensor:
    """`Products.bmm`."""
    (batches, m, k), n = a.shape, b.shape[2]
    if not batches * m * n * k:
        for operand in (a, b):
            if operand.numel():
                cut_exponents(operand, list(range(operand.ndim)), operation)
        return torch.zeros((batches, m, n), device=a.device)
    rows, columns = a.detach(), b.detach().mT
    left, right = cut(rows, [2], digits, operation), cut(columns, [2], digits, operation)
    out = scaled(_sums(left, right, digits or NARROW_DIGITS)[:, :m, :n], left, right)
    if left.wide is None and right.wide is None:
        return out
    wide = _either(left.wide, right.wide)
    left, right = widened(rows, [2], left), widened(columns, [2], right)
    return torch.where(wide, scaled(_sums(left, right, WIDE_DIGITS)[:, :m, :n], left, right), out)


def _either(rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Whether a row (b, m, 1) or a column (b, n, 1) is wide, for each place (b, m, n)."""
    if rows is None or columns is None:
        known = rows if columns is None else columns.mT
        assert known is not None
        return known
    return rows | columns.mT


def _sums(left: Planes, right: Planes, count: int) -> Tensor:
    (batches, m, k), n = left.digits[0].shape, right.digits[0].shape[1]
    ours, theirs = side_by_side(left, last_first=False), side_by_side(right, last_first=True)
    if _by_int8(ours.device) and (batches == 1 or m * n * k >= LARGE):
        found = [level_sum(x, y, padded_terms(k), count) for x, y in zip(ours, theirs, strict=True)]
        return torch.stack(found)
    return _float64_sum(ours, theirs, padded_terms(k), count)


def level_sum(left: Tensor, right: Tensor, k: int, count: int) -> Tensor:
    """Sum over digits i + j < `count` of their products' sums, times 128**(count - 1 - i - j): int64.

    Args:
        left: int8 (m, digits * k), most significant plane first; sizes padded as `side_by_side` does, here and below.
        right: int8 (n, digits * k), last plane first; it may have another number of digits.
        k: padded terms.

    Returns:
        (m, n), exact while the sum stays below 2**63: k up to 2**28.
    """
    if not _by_int8(left.device):
        return _float64_sum(left.unsqueeze(0), right.unsqueeze(0), k, count).squeeze(0)
    total = torch.zeros((left.shape[0], right.shape[0]), dtype=torch.int64, device=left.device)
    for level in range(count):
        a, b = _level(left, right, k, level)
        total = total << DIGIT_BITS
        for start in range(0, a.shape[1], MOST_TERMS):
            piece = slice(start, start + MOST_TERMS)
            total = total + torch._int_mm(a[:, piece], b[:, piece].t())
    return total


def _level(left: Tensor, right: Tensor, k: int, level: int) -> tuple[Tensor, Tensor]:
    """Digits i of the left operand against digits level - i of the right one."""
    ours, theirs = left.shape[-1] // k, right.shape[-1] // k
    first, last = max(0, level - theirs + 1), min(level, ours - 1)
    other = slice((theirs - 1 - level + first) * k, (theirs - level + last) * k)
    return left[..., first * k : (last + 1) * k], right[..., other]


def scaled(sums: Tensor, left: Planes, right: Planes) -> Tensor:
    """Sums (b, m, n) of `level_sum` by the exponents of rows (b, m, 1) and columns (b, n, 1), rounded once."""
    return rounded(sums, left.exponents + right.exponents.mT + unit(len(left.digits)))


def unit(count: int) -> int:
    """The exponent of what `level_sum` counts in, of rows at exponent 0."""
    return -2 * (DIGIT_BITS - 1) - DIGIT_BITS * (count - 1)


def _float64_sum(left: Tensor, right: Tensor, k: int, count: int) -> Tensor:
    """`level_sum` of batches, by float64 products: each level's sum stays below 2**53."""
    a, b = left.double(), right.double()
    total = torch.zeros((a.shape[0], a.shape[1], b.shape[1]), dtype=torch.int64, device=left.device)
    for level in range(count):
        x, y = _level(a, b, k, level)
        total = (total << DIGIT_BITS) + torch.bmm(x, y.mT).long()
    return total
