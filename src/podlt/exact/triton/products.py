"""Exact products: two launches cut the operands, a third multiplies, combines the levels and rounds once.

Digit i of a row counts against digit j of a column where i + j < S, the larger of their numbers of digits. The sums of
a level, i + j, are whole numbers, by one of two ways to the same: "int8", products of int8 in int32, or "half",
bfloat16, which holds a digit exactly, in float32: a chunk of at most 4,096 products (each at most 2**12) sums below
2**24, where every partial sum is exact in whatever order. "float64" is the portable table's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import triton.language as tl

from podlt.exact.constants import ADAPTIVE, FLOAT32_TERMS
from podlt.exact.portable import products as portable
from podlt.exact.triton.digits import CutRows, cut
from podlt.exact.triton.flags import Flag
from podlt.exact.triton.jit import INTERPRETED, kernel, launch, power_of_two
from podlt.exact.triton.scalars import rounded

Tensor = torch.Tensor
Way = Literal["int8", "half", "float64"]
"""How the integers are computed; they agree."""

_way: ContextVar[Way | None] = ContextVar("podlt_triton_way", default=None)
INT8_CHUNK = 2**16
"""So many terms of at most four pairs of digits sum to less than 2**31."""

HALF = tl.constexpr(tl.float32 if INTERPRETED else tl.bfloat16)
"""Triton's interpreter multiplies the bits of bfloat16 as if they were whole numbers."""


@contextmanager
def using(way: Way) -> Iterator[None]:
    """Compute products in this way inside the block, else by `ways.fastest`. The bits are the same in each."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


@kernel
def plus_product(total, a, b, by_half: tl.constexpr):
    """A level's sum so far, plus a product of digits."""
    if by_half:
        return tl.dot(a.to(tl.float32).to(HALF), b.to(tl.float32).to(HALF), total, out_dtype=tl.float32)
    else:
        return tl.dot(a, b, total, out_dtype=tl.int32)


@kernel
def plus_step(
    s0,
    s1,
    s2,
    s3,
    a,
    b,
    next_a,
    next_b,
    seen_a,
    seen_b,
    deep,
    count: tl.constexpr,
    adaptive: tl.constexpr,
    by_half: tl.constexpr,
):
    """The sums of the levels so far, plus those of one block of the contracted dimension.

    Args:
        s0: the sum of the most significant level; s1 to s3 are those of the next.
        a: where the first digits of one operand lie, and of the other `b`.
        next_a: from one digit of a value to the next, and of the other operand `next_b`.
        seen_a: which digits are there, others count as 0; of the other operand `seen_b`.
        deep: whether any row or column has more than two digits.
    """
    a0 = tl.load(a, mask=seen_a, other=0)
    b0 = tl.load(b, mask=seen_b, other=0)
    s0 = plus_product(s0, a0, b0, by_half)
    if count > 1:
        a1 = tl.load(a + next_a, mask=seen_a, other=0)
        b1 = tl.load(b + next_b, mask=seen_b, other=0)
        s1 = plus_product(plus_product(s1, a0, b1, by_half), a1, b0, by_half)
        if count > 2:  # noqa: SIM102 (known when it is compiled; the next is not)
            if deep | (not adaptive):
                a2 = tl.load(a + 2 * next_a, mask=seen_a, other=0)
                b2 = tl.load(b + 2 * next_b, mask=seen_b, other=0)
                s2 = plus_product(plus_product(s2, a0, b2, by_half), a1, b1, by_half)
                s2 = plus_product(s2, a2, b0, by_half)
                if count > 3:
                    a3 = tl.load(a + 3 * next_a, mask=seen_a, other=0)
                    b3 = tl.load(b + 3 * next_b, mask=seen_b, other=0)
                    s3 = plus_product(plus_product(s3, a0, b3, by_half), a1, b2, by_half)
                    s3 = plus_product(plus_product(s3, a2, b1, by_half), a3, b0, by_half)
    return s0, s1, s2, s3


@kernel
def _whole(total):
    return total.to(tl.int32).to(tl.int64)


@kernel
def levels(s0, s1, s2, s3, wide, count: tl.constexpr, adaptive: tl.constexpr):
    """The sums of the levels, most significant first, as one whole number: all of them, or two where not wide."""
    part = _whole(s0)
    if count > 1:
        part = (part << 7) + _whole(s1)
    if count > 2:
        deeper = (part << 7) + _whole(s2)
        if count > 3:
            deeper = (deeper << 7) + _whole(s3)
        part = tl.where(wide, deeper, part) if adaptive else deeper
    return part


@kernel
def unit(wide, count: tl.constexpr, adaptive: tl.constexpr):
    """The exponent of what `levels` counts in, of rows and columns at exponent 0, negated."""
    return tl.where(wide, 12 + 7 * 3, 12 + 7) if adaptive else 12 + 7 * (count - 1)


@kernel
def product_kernel(
    left,
    right,
    left_exponents,
    right_exponents,
    left_wide,
    right_wide,
    bias,
    out,
    m,
    n,
    padded,
    count: tl.constexpr,
    adaptive: tl.constexpr,
    by_half: tl.constexpr,
    has_bias: tl.constexpr,
    chunk: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    """One block of one product; rows and columns are rows of planes along the contracted dimension."""
    blocks = tl.cdiv(n, block_n)
    i = (tl.program_id(0) // blocks).to(tl.int64) * block_m + tl.arange(0, block_m)
    j = (tl.program_id(0) % blocks).to(tl.int64) * block_n + tl.arange(0, block_n)
    batch = tl.program_id(1).to(tl.int64)
    rows, columns = (i < m)[:, None], (j < n)[None, :]
    k = tl.arange(0, block_k).to(tl.int64)
    a = left + (batch * count * m + i)[:, None] * padded + k[None, :]
    b = right + (batch * count * n + j)[None, :] * padded + k[:, None]
    next_a, next_b = m.to(tl.int64) * padded, n.to(tl.int64) * padded
    wide_a = tl.load(left_wide + batch * m + i, mask=i < m, other=0)
    wide_b = tl.load(right_wide + batch * n + j, mask=j < n, other=0)
    wide = (wide_a[:, None] + wide_b[None, :]) > 0
    deep = (tl.max(wide_a, 0) + tl.max(wide_b, 0)) > 0
    kind: tl.constexpr = tl.float32 if by_half else tl.int32
    total = tl.zeros((block_m, block_n), tl.int64)
    for first in range(0, padded, chunk):
        s0 = tl.zeros((block_m, block_n), kind)
        s1, s2, s3 = s0, s0, s0
        for start in range(first, tl.minimum(first + chunk, padded), block_k):
            at_a, at_b = a + start, b + start
            s0, s1, s2, s3 = plus_step(
                s0, s1, s2, s3, at_a, at_b, next_a, next_b, rows, columns, deep, count, adaptive, by_half
            )
        total += levels(s0, s1, s2, s3, wide, count, adaptive)
    e = tl.load(left_exponents + batch * m + i, mask=i < m, other=0)[:, None]
    e = e + tl.load(right_exponents + batch * n + j, mask=j < n, other=0)[None, :]
    found = rounded(total, e - unit(wide, count, adaptive))
    if has_bias:
        found = found + tl.load(bias + j, mask=j < n, other=0.0)[None, :]
    tl.store(out + (batch * m + i)[:, None] * n + j[None, :], found, mask=rows & columns)


def chunk_terms(count: int, by_half: bool) -> int:
    """How many terms are added before they are counted as whole numbers; a level has up to `count` pairs of digits."""
    return FLOAT32_TERMS // power_of_two(count) if by_half else INT8_CHUNK


def multiplied(left: CutRows, right: CutRows, adaptive: bool, by_half: bool, bias: Tensor | None) -> Tensor:
    """The products of cut rows (b, m) and cut columns (b, n), float32 (b, m, n), each rounded once, plus `bias`."""
    (batches, count, m, padded), n = left.values.shape, right.values.shape[2]
    out = torch.empty((batches, m, n), device=left.values.device)
    block_m, block_n = (64 if m > 32 else 32), (64 if n > 32 else 32)
    launch(
        product_kernel,
        (-(-m // block_m) * -(-n // block_n), batches),
        left.values,
        right.values,
        left.exponents,
        right.exponents,
        left.wide,
        right.wide,
        left.values if bias is None else bias.contiguous(),
        out,
        m,
        n,
        padded,
        count=count,
        adaptive=adaptive,
        by_half=by_half,
        has_bias=bias is not None,
        chunk=chunk_terms(count, by_half),
        block_m=block_m,
        block_n=block_n,
        block_k=64,
        num_warps=4 if count <= 2 else 8,
    )
    return out


def mm(a: Tensor, b: Tensor, digits: int, bias: Tensor | None = None, operation: str = "mm") -> Tensor:
    """`Products.mm`."""
    if _is_portable(a, b):
        with portable.using("float64"):
            return portable.mm(a, b, digits, bias, operation)
    return _multiply(a.unsqueeze(0), b.unsqueeze(0), digits, operation, bias).squeeze(0)


def bmm(a: Tensor, b: Tensor, digits: int, operation: str = "bmm") -> Tensor:
    """`Products.bmm`."""
    if _is_portable(a, b):
        with portable.using("float64"):
            return portable.bmm(a, b, digits, operation)
    return _multiply(a, b, digits, operation, None)


def chosen(device: torch.device) -> Way:
    """The way of products in this block, or of the device."""
    from podlt.exact.triton.ways import fastest  # which tries these products

    return _way.get() or fastest(device)


def _is_portable(a: Tensor, b: Tensor) -> bool:
    return not a.numel() or not b.numel() or chosen(a.device) == "float64"


def _multiply(a: Tensor, b: Tensor, digits: int, operation: str, bias: Tensor | None) -> Tensor:
    flag = Flag(a.device)
    left, right = cut(a.detach(), digits, flag), cut(b.detach().mT, digits, flag)
    out = multiplied(
        left, right, digits == ADAPTIVE, chosen(a.device) == "half", None if bias is None else bias.detach()
    )
    flag.check(operation)
    return out
