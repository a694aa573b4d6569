"""Cutting rows into digits: exponent, decision and digits in one launch. Definition: `definition.products`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl

from podlt.exact.constants import ADAPTIVE, DIGIT_BITS, LEAST_EXPONENT, LOSS_BITS, NARROW_DIGITS, WIDE_DIGITS
from podlt.exact.triton.flags import Flag
from podlt.exact.triton.jit import kernel, launch
from podlt.exact.triton.scalars import INFINITY, magnitude, units

Tensor = torch.Tensor

_TERMS = 64
"""Planes are padded with zeros to multiples of this, so that products need no masks along them."""

COARSE = tl.constexpr(DIGIT_BITS * NARROW_DIGITS - 1)
FINE = tl.constexpr(DIGIT_BITS * WIDE_DIGITS - 1)
APART = tl.constexpr(DIGIT_BITS * (WIDE_DIGITS - NARROW_DIGITS))
LEAST = tl.constexpr(LEAST_EXPONENT)
LOSS = tl.constexpr(LOSS_BITS)


@dataclass(frozen=True)
class CutRows:
    """The digits of rows.

    Args:
        values: int8 (batches, planes, rows, padded terms), most significant plane first.
        exponents: int32 (batches, rows).
        wide: int32 (batches, rows): 1 where a row has four digits though others may have two.
    """

    values: Tensor
    exponents: Tensor
    wide: Tensor


@kernel
def cut_kernel(
    x,
    planes,
    exponents,
    wides,
    flag,
    rows,
    terms,
    padded,
    batch_stride,
    row_stride,
    term_stride,
    count: tl.constexpr,
    adaptive: tl.constexpr,
    block_rows: tl.constexpr,
    block_terms: tl.constexpr,
):
    """A block of rows is read for its exponents, perhaps for what two digits lose of it, and to be cut."""
    r = tl.program_id(0).to(tl.int64) * block_rows + tl.arange(0, block_rows)
    batch = tl.program_id(1).to(tl.int64)
    known = r < rows
    base = x + batch * batch_stride + r[:, None] * row_stride
    top = tl.zeros((block_rows,), tl.int32)
    for start in range(0, terms, block_terms):
        t = start + tl.arange(0, block_terms).to(tl.int64)
        value = tl.load(base + t[None, :] * term_stride, mask=known[:, None] & (t < terms)[None, :], other=0.0)
        top = tl.maximum(top, tl.max(magnitude(value), 1))
    if tl.max(top, 0) >= INFINITY:
        tl.store(flag, 1)
    e = (tl.minimum(top, INFINITY - 1) >> 23) - 126
    floored = tl.maximum(e, LEAST)
    wide = tl.zeros((block_rows,), tl.int32)
    if adaptive:
        lost = tl.zeros((block_rows,), tl.int64)
        mass = tl.zeros((block_rows,), tl.int64)
        for start in range(0, terms, block_terms):
            t = start + tl.arange(0, block_terms).to(tl.int64)
            value = tl.load(base + t[None, :] * term_stride, mask=known[:, None] & (t < terms)[None, :], other=0.0)
            value = tl.where(magnitude(value) < INFINITY, value, 0.0)
            fine = units(value, (e - FINE)[:, None])
            coarse = units(value, (e - COARSE)[:, None])
            lost += tl.sum(tl.abs(fine - (coarse << APART)) + (value != 0.0).to(tl.int64), 1)
            mass += tl.sum(tl.abs(fine), 1)
        enough = (e >= LEAST) & ((lost << LOSS) <= mass)
        wide = ((enough == 0) & (top > 0)).to(tl.int32)
    used = tl.where(wide == 1, e, floored)
    tl.store(exponents + batch * rows + r, used, mask=known)
    tl.store(wides + batch * rows + r, wide, mask=known)
    for start in range(0, padded, block_terms):
        t = start + tl.arange(0, block_terms).to(tl.int64)
        value = tl.load(base + t[None, :] * term_stride, mask=known[:, None] & (t < terms)[None, :], other=0.0)
        value = tl.where(magnitude(value) < INFINITY, value, 0.0)
        if adaptive:
            two = units(value, (floored - COARSE)[:, None]) << APART
            rest = tl.where(wide[:, None] == 1, units(value, (e - FINE)[:, None]), two).to(tl.int32)
        else:
            rest = units(value, (floored - (7 * count - 1))[:, None]).to(tl.int32)
        inside = known[:, None] & (t < padded)[None, :]
        for back in tl.static_range(1, count):
            plane = batch * count + (count - back)
            higher = (rest + 64) >> 7
            digit = (rest - (higher << 7)).to(tl.int8)
            tl.store(planes + (plane * rows + r)[:, None] * padded + t[None, :], digit, mask=inside)
            rest = higher
        tl.store(planes + (batch * count * rows + r)[:, None] * padded + t[None, :], rest.to(tl.int8), mask=inside)


def cut(x: Tensor, digits: int, flag: Flag) -> CutRows:
    """Cut float32 (batches, rows, terms), not empty, any strides, along its terms.

    Args:
        digits: into how many, 1 to 4, or `ADAPTIVE`.
        flag: is raised by an infinity or a NaN.
    """
    batches, rows, terms = x.shape
    count, padded = digits or WIDE_DIGITS, -(-terms // _TERMS) * _TERMS
    planes = torch.empty((batches, count, rows, padded), dtype=torch.int8, device=x.device)
    exponents = torch.empty((batches, rows), dtype=torch.int32, device=x.device)
    wide = torch.empty_like(exponents)
    block_rows, block_terms = (8, 256) if x.stride(2) == 1 else (32, 64)
    launch(
        cut_kernel,
        (-(-rows // block_rows), batches),
        x,
        planes,
        exponents,
        wide,
        flag.raised,
        rows,
        terms,
        padded,
        *x.stride(),
        count=count,
        adaptive=digits == ADAPTIVE,
        block_rows=block_rows,
        block_terms=block_terms,
    )
    return CutRows(planes, exponents, wide)
