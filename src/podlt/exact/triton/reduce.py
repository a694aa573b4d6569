"""Exact sums, over rows, columns or channels in one launch. Definition: `definition.exact_sum`.

Integers are added, in any order. Few sums of many terms are left to the portable table, whose reductions are spread
over the whole device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton.language as tl

from podlt.exact.aten.tensors import normal_dims
from podlt.exact.constants import sum_bits
from podlt.exact.portable import reduce as portable
from podlt.exact.triton.flags import Flag
from podlt.exact.triton.jit import INTERPRETED, kernel, launch
from podlt.exact.triton.scalars import INFINITY, magnitude, rounded, units
from podlt.exact.triton.scatter import scatter_rows as scatter_rows

Tensor = torch.Tensor
cumulative = portable.cumulative

PLAIN, SQUARES, PRODUCTS = 0, 1, 2
"""What is summed: x; (x - mean)**2; y ((x - mean) factor), each operation rounded."""

FEW_SUMS, MANY_TERMS = 256, 2**14
"""Fewer sums of more terms would leave most of a GPU idle."""


@dataclass(frozen=True)
class Plan:
    """Where the terms of contiguous values lie: sums are numbered by two indices, terms of each by two others.

    Args:
        sums: their numbers, outer and inner.
        sum_strides: from one to the next, in values.
        terms: of each sum, outer and inner.
        term_strides: ditto.
    """

    sums: tuple[int, int]
    sum_strides: tuple[int, int]
    terms: tuple[int, int]
    term_strides: tuple[int, int]

    @property
    def is_spread(self) -> bool:
        """Whether one launch keeps a device busy."""
        count, length = math.prod(self.sums), math.prod(self.terms)
        return INTERPRETED or count >= FEW_SUMS or length <= MANY_TERMS


def plan(shape: Sequence[int], reduced: Sequence[int]) -> Plan | None:
    """The plan of a contiguous tensor of this shape; None if its dimensions alternate more often than twice."""
    groups: list[tuple[bool, int, int]] = []
    stride = math.prod(shape)
    for dim, size in enumerate(shape):
        stride //= size
        if size == 1:
            continue
        summed = dim in reduced
        if groups and groups[-1][0] == summed:
            groups[-1] = (summed, groups[-1][1] * size, stride)
        else:
            groups.append((summed, size, stride))
    sums, terms = ([(n, s) for summed, n, s in groups if summed is kind] for kind in (False, True))
    if len(sums) > 2 or len(terms) > 2:
        return None
    (a, b), (c, d) = (((1, 0), (1, 0), *found)[-2:] for found in (sums, terms))
    return Plan((a[0], b[0]), (a[1], b[1]), (c[0], d[0]), (c[1], d[1]))


@kernel
def _term(x, y, mean, factor, where, inside, kind: tl.constexpr):
    value = tl.load(x + where, mask=inside, other=0.0)
    if kind == 1:
        d = value - mean
        value = d * d
    elif kind == 2:
        value = tl.load(y + where, mask=inside, other=0.0) * ((value - mean) * factor)
    return tl.where(inside, value, 0.0)


@kernel
def sum_kernel(
    x,
    y,
    means,
    factors,
    out,
    flag,
    sums,
    inner,
    outer_stride,
    inner_stride,
    terms,
    inner_terms,
    outer_step,
    inner_step,
    bits,
    kind: tl.constexpr,
    block_sums: tl.constexpr,
    block_terms: tl.constexpr,
):
    """Each sum's terms are looked at twice: for their largest magnitude, and to be added."""
    place = tl.program_id(0).to(tl.int64) * block_sums + tl.arange(0, block_sums)
    known = place < sums
    base = (place // inner) * outer_stride + (place % inner) * inner_stride
    mean = tl.zeros((block_sums, 1), tl.float32)
    factor = mean
    if kind > 0:
        mean = tl.load(means + place, mask=known, other=0.0)[:, None]
    if kind == 2:
        factor = tl.load(factors + place, mask=known, other=0.0)[:, None]
    top = tl.zeros((block_sums,), tl.int32)
    for start in range(0, terms, block_terms):
        t = start + tl.arange(0, block_terms).to(tl.int64)
        where = base[:, None] + ((t // inner_terms) * outer_step + (t % inner_terms) * inner_step)[None, :]
        inside = known[:, None] & (t < terms)[None, :]
        found = magnitude(_term(x, y, mean, factor, where, inside, kind))
        top = tl.maximum(top, tl.max(found, 1))
    if tl.max(top, 0) >= INFINITY:
        tl.store(flag, 1)
    e = ((tl.minimum(top, INFINITY - 1) >> 23) - 126 - bits)[:, None]
    total = tl.zeros((block_sums,), tl.int64)
    for start in range(0, terms, block_terms):
        t = start + tl.arange(0, block_terms).to(tl.int64)
        where = base[:, None] + ((t // inner_terms) * outer_step + (t % inner_terms) * inner_step)[None, :]
        inside = known[:, None] & (t < terms)[None, :]
        value = _term(x, y, mean, factor, where, inside, kind)
        value = tl.where(magnitude(value) < INFINITY, value, 0.0)
        total += tl.sum(units(value, e), 1)
    tl.store(out + place[:, None], rounded(total[:, None], e), mask=known[:, None])


def summed(
    x: Tensor,
    at: Plan,
    operation: str,
    kind: int = PLAIN,
    y: Tensor | None = None,
    mean: Tensor | None = None,
    factor: Tensor | None = None,
) -> Tensor:
    """The exact sums of contiguous `x`, or of what `kind` makes of it, each rounded once; one dimension.

    Args:
        at: which terms are whose.
        y: contiguous, of the shape of `x`.
        mean: one value a sum, contiguous.
        factor: ditto.

    Raises:
        NonFiniteError: a term is an infinity or a NaN. The message names `operation`.
    """
    count, length = math.prod(at.sums), math.prod(at.terms)
    out, flag = torch.empty(count, device=x.device), Flag(x.device)
    along = at.sum_strides[1] == 1 and at.sums[1] >= 32  # neighbours in memory belong to different sums
    block_sums, block_terms = (64, 16) if along else (4, 256)
    launch(
        sum_kernel,
        (-(-count // block_sums),),
        x,
        x if y is None else y,
        x if mean is None else mean,
        x if factor is None else factor,
        out,
        flag.raised,
        count,
        at.sums[1],
        *at.sum_strides,
        length,
        at.terms[1],
        *at.term_strides,
        sum_bits(length),
        kind=kind,
        block_sums=block_sums,
        block_terms=block_terms,
    )
    flag.check(operation)
    return out


def total(x: Tensor, dims: Sequence[int] | None, keepdim: bool, operation: str = "sum") -> Tensor:
    """`Sums.total`."""
    reduced = normal_dims(dims, x.ndim)
    at = plan(x.shape, reduced) if x.numel() else None
    if at is None or not at.is_spread:
        return portable.total(x, dims, keepdim, operation)
    shape = [1 if d in reduced else n for d, n in enumerate(x.shape) if keepdim or d not in reduced]
    return summed(x.detach().contiguous(), at, operation).reshape(shape)
