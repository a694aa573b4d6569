"""Exact matrix products: three ways to the same integers, rounded once.

The integers do not depend on the order of summation, so vendor libraries may run at full speed, with any blocking
and any number of threads. Definition: `definition.mm`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import numpy as np
import torch

from podlt.exact.constants import FLOAT32_TERMS, FLOAT64_TERMS, INT32_TERMS, NARROW_DIGITS, WIDE_DIGITS, Array
from podlt.exact.cpu import panels, scratch
from podlt.exact.cpu.digits import Digits, cut_left, cut_right, cut_wide
from podlt.exact.cpu.kernels import digits as kernels_digits
from podlt.exact.cpu.kernels import dot
from podlt.exact.cpu.kernels.digits import NARROW_TERMS

Way = Literal["vnni", "int8", "float32", "float64"]
"""How the integers are computed. All agree; the first that a processor has is the fastest wherever it was measured.

`vnni` multiplies two digits by loops of our own (`panels`), and others as int8.
"""

WAYS: tuple[Way, ...] = (*(("vnni",) if dot.available() else ()), "int8", "float32", "float64")
"""Those of this processor."""

_INT8 = ("vnni", "int8")
_way: ContextVar[Way | None] = ContextVar("podlt_exact_way", default=None)
_no_bias = np.empty(0, np.float32)


@contextmanager
def using(way: Way) -> Iterator[None]:
    """Compute products in this way inside the block. The bits are the same in each."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def _way_now() -> Way:
    """What `using` says, or else the fastest: our own loops take one thread, where torch may use more."""
    return _way.get() or (WAYS[0] if torch.get_num_threads() == 1 else "int8")


def mm(
    a: torch.Tensor,
    b: torch.Tensor,
    digits: int,
    bias: torch.Tensor | None = None,
    operation: str = "mm",
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """`Products.mm`.

    Args:
        out: float32 (m, n), contiguous: takes the product, and is returned.

    Raises:
        ValueError: `out` has another shape.
    """
    (m, k), n = a.shape, b.shape[1]
    if out is None:
        out = torch.empty((m, n))
    elif out.shape != (m, n):
        raise ValueError(f"{operation}: expected memory for {(m, n)}, got {tuple(out.shape)}")
    if k == 0:  # rows of nothing have no exponent
        return out.zero_() if bias is None else out.copy_(bias)
    added, size = None if bias is None else bias.contiguous(), (1, m, k, n)
    if _way_now() == "vnni" and panels.suits(digits, k):
        if not _by_panels(a, b, size, digits, added, operation, out):
            return out
        left, right = cut_left(a, digits, operation), cut_right(b, digits, operation)
    else:
        left, right = cut_left(a, digits, operation), cut_right(b, digits, operation)
        if left.wide_lines < m:  # else `_widen` computes all of it
            _multiply(left, right, size, digits or NARROW_DIGITS, added, scratch.address(out))
    if left.wide_lines or right.wide_lines:
        _widen(a, b, left, right, 0, added, out)
    return out


def _by_panels(
    a: torch.Tensor,
    b: torch.Tensor,
    size: tuple[int, int, int, int],
    digits: int,
    bias: torch.Tensor | None,
    operation: str,
    out: torch.Tensor,
) -> bool:
    """Products by the VNNI loops; whether some lines need four digits, and are to be computed anew."""
    batches, m, _, n = size
    left, right = panels.pack(a, "left", digits, operation), panels.pack(b, "right", digits, operation)
    if left.wide_lines < batches * m and n:
        panels.multiply(left, right, size, bias, scratch.address(out))
    return bool(left.wide_lines or right.wide_lines)


def bmm(a: torch.Tensor, b: torch.Tensor, digits: int, operation: str = "bmm") -> torch.Tensor:
    """`Products.bmm`."""
    (batches, m, k), n = a.shape, b.shape[2]
    if k == 0:
        return torch.zeros((batches, m, n))
    out, size = torch.empty((batches, m, n)), (batches, m, k, n)
    if _way_now() == "vnni" and panels.suits(digits, k):
        if not _by_panels(a, b, size, digits, None, operation, out):
            return out
        left, right = cut_left(a, digits, operation), cut_right(b, digits, operation)
    else:
        left, right = cut_left(a, digits, operation), cut_right(b, digits, operation)
        _multiply(left, right, size, digits or NARROW_DIGITS, None, scratch.address(out))
    for i in range(batches if left.wide_lines or right.wide_lines else 0):
        _widen(a[i], b[i], left, right, i, None, out[i])
    return out


def _widen(
    a: torch.Tensor,
    b: torch.Tensor,
    left: Digits,
    right: Digits,
    matrix: int,
    bias: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """Compute anew, from four digits, the rows and columns of a product that need them.

    Args:
        a: float32 (m, k), cut into `left`, its number `matrix`; and so `b` (k, n) into `right`.
        out: float32 (m, n), written in part.
    """
    rows, columns = np.flatnonzero(left.wide[matrix]), np.flatnonzero(right.wide[matrix])
    k, added = a.shape[1], _no_bias if bias is None else bias.detach().numpy()
    planes, exponents = right.planes[matrix], right.exponents[matrix]
    if len(columns):
        found, theirs = cut_wide(b.t()[torch.from_numpy(columns)], "right")
    if len(rows):
        ours, own = cut_wide(a[torch.from_numpy(rows)], "left")
        if len(columns):  # the others' lower two digits are 0; the last digit comes first
            planes = torch.cat([torch.zeros_like(planes), planes])
            planes[:, torch.from_numpy(columns)] = found
            exponents = exponents.copy()
            exponents[columns] = theirs
        _put(ours, planes, own, exponents, k, added, out, torch.from_numpy(rows), None)
    if len(columns) and len(rows) < len(a):
        rest = np.flatnonzero(left.wide[matrix] == 0)
        narrow = left.planes[matrix][torch.from_numpy(rest)]
        added = added[columns] if len(added) else added
        at = torch.from_numpy(rest), torch.from_numpy(columns)
        _put(narrow, found, left.exponents[matrix][rest], theirs, k, added, out, *at)


def _put(
    left: torch.Tensor,
    right: torch.Tensor,
    ea: Array,
    eb: Array,
    k: int,
    bias: Array,
    out: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor | None,
) -> None:
    """Write the product of two or four digits by as many, of which one is four, to some rows (and columns) of `out`."""
    found = np.empty((left.shape[0], right.shape[1]), np.float32)
    kernels_digits.combine_wide(level_products(left, right, k, WIDE_DIGITS), ea, eb, bias, found)
    if columns is None:
        out[rows] = torch.from_numpy(found)
    else:
        out[rows.unsqueeze(1), columns] = torch.from_numpy(found)


def _multiply(
    left: Digits, right: Digits, size: tuple[int, int, int, int], digits: int, bias: torch.Tensor | None, out: int
) -> None:
    """The products of each pair of matrices, (m, k) and (k, n), `+ bias`, to the address `out`."""
    batches, m, k, n = size
    if _way_now() not in _INT8 or digits * k > INT32_TERMS:
        target = np.empty((batches, m, n), np.float32)
        added = _no_bias if bias is None else bias.detach().numpy()
        for i in range(batches):
            levels = level_products(left.planes[i], right.planes[i], k, digits)
            kernels_digits.combine(levels, left.exponents[i], right.exponents[i], digits, added, target[i])
        ctypes.memmove(out, target.ctypes.data, target.nbytes)
        return
    if not m * n:
        return
    place, parts = scratch.view(("levels", digits, m, n), lambda: _level_room(digits, m, n))
    added_at = 0 if bias is None else scratch.address(bias)
    multiply, combine, ea, eb = torch._int_mm, kernels_digits.combine_at, left.place, right.place
    for i, (firsts, lasts) in enumerate(zip(left.levels, right.levels, strict=True)):
        for a, b, part in zip(firsts, lasts, parts, strict=True):
            multiply(a, b, out=part)
        combine(place, m, n, k, ea + 8 * i * m, eb + 8 * i * n, digits, added_at, out + 4 * i * m * n)


def _level_room(digits: int, m: int, n: int) -> tuple[int, tuple[torch.Tensor, ...]]:
    """Scratch memory for the levels of a product: where it begins, and each level."""
    levels = scratch.take("levels", (digits, m, n), np.int32)
    return levels.ctypes.data, tuple(torch.from_numpy(levels))


def narrow(digits: int, k: int) -> bool:
    """Whether products of so many digits over k terms are int8, and their levels fit an int32 together."""
    return _way_now() in _INT8 and 0 < k <= (INT32_TERMS if digits == 1 else NARROW_TERMS) and digits < 3


def level_products(left: torch.Tensor, right: torch.Tensor, k: int, count: int) -> Array:
    """The sums of the products of digits i and j with i + j = l, for each l < `count`.

    Args:
        left: int8 (m, digits * k); left and right may have different numbers of digits.
        right: int8 (digits * k, n).
        k: how many terms a product has, > 0.

    Returns:
        (count, m, n), in scratch memory: int32, or integers in float64 where int32 could overflow
        or another way is in use.
    """
    way = _way_now()
    if max(left.shape[1], right.shape[0]) > INT32_TERMS and way in _INT8:
        return _in_pieces(left, right, k, count, INT32_TERMS, _int8_product)
    if way in _INT8:
        levels = scratch.take("levels", (count, left.shape[0], right.shape[1]), np.int32)
        for level, out in enumerate(torch.from_numpy(levels)):
            a, b = _slices(left, right, k, level)
            _int8_product(a, b, out)
        return levels
    terms, product = (FLOAT32_TERMS, _float32_product) if way == "float32" else (FLOAT64_TERMS, _float64_product)
    return _in_pieces(left, right, k, count, terms, product)


def _slices(left: torch.Tensor, right: torch.Tensor, k: int, level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The planes whose product is a level: digits i of the left one against digits level - i of the right one."""
    ours, theirs = left.shape[1] // k, right.shape[0] // k
    first, last = max(0, level - theirs + 1), min(level, ours - 1)
    return left[:, first * k : (last + 1) * k], right[(theirs - 1 - level + first) * k : (theirs - level + last) * k]


def _in_pieces(
    left: torch.Tensor,
    right: torch.Tensor,
    k: int,
    count: int,
    terms: int,
    product: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None],
) -> Array:
    """Level products by pieces of the contracted dimension that are exact each, added in float64 (exact to 2**53)."""
    total = torch.zeros((count, left.shape[0], right.shape[1]), dtype=torch.float64)
    piece = torch.empty((left.shape[0], right.shape[1]), dtype=torch.int32)
    for level in range(count):
        a, b = _slices(left, right, k, level)
        for start in range(0, a.shape[1], terms):
            product(a[:, start : start + terms], b[start : start + terms], piece)
            total[level] += piece
    return total.numpy()


def _int8_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    if a.shape[1] == 0 or out.numel() == 0:
        out.zero_()
        return
    torch._int_mm(a, b, out=out)


def _float32_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(torch.mm(a.float(), b.float()))


def _float64_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(torch.mm(a.double(), b.double()))
