"""Softmax and normalisations, a row in one program. Definitions: `definition.layers`.

Longer rows than a program holds are left to the portable table.
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
import triton.language as tl

from podlt.exact.aten.tensors import number
from podlt.exact.constants import sum_bits
from podlt.exact.portable import normalise as portable
from podlt.exact.portable.elementary import rsqrt
from podlt.exact.triton.flags import Flag
from podlt.exact.triton.jit import kernel, launch, power_of_two
from podlt.exact.triton.reduce import PRODUCTS, SQUARES, Plan, summed
from podlt.exact.triton.scalars import INFINITY, divided, exp, from_order_key, log, magnitude, order_key, rounded, units

Tensor = torch.Tensor
LONGEST_ROW = 2**16
BLOCK = 1024


class Sight(IntEnum):
    """What a row of softmax is of."""

    ALL = 0  # all its values; nothing but -inf is refused
    PERHAPS_NOTHING = 1  # as above, but a row of nothing but -inf is zeros
    CAUSAL = 2  # as above, and a row of scores (h, t, s) sees no key beyond its own place


@kernel
def _row_sum(value, bits, flag):
    """The exact sum of a row, in one place, rounded once."""
    top = tl.max(magnitude(value), 0, keep_dims=True)
    if tl.max(top, 0) >= INFINITY:
        tl.store(flag, 1)
    e = (tl.minimum(top, INFINITY - 1) >> 23) - 126 - bits
    finite = tl.where(magnitude(value) < INFINITY, value, 0.0)
    return rounded(tl.sum(units(finite, e), 0, keep_dims=True), e)


@kernel
def _row_places(n, inner, block: tl.constexpr):
    """Where a row of (outer, n, inner) lies, and which places of the block are inside."""
    row = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, block)
    return (row // inner) * n * inner + (row % inner) + t.to(tl.int64) * inner, t < n


@kernel
def softmax_kernel(
    x, out, flag, n, inner, queries, bits, logarithm: tl.constexpr, sight: tl.constexpr, block: tl.constexpr
):
    """Softmax of a row, or its logarithm."""
    place, inside = _row_places(n, inner, block)
    value = tl.load(x + place, mask=inside, other=float("-inf"))
    if sight == 2:
        value = tl.where(tl.arange(0, block) > tl.program_id(0) % queries, float("-inf"), value)
    largest = from_order_key(tl.max(order_key(value), 0, keep_dims=True))
    worst = tl.max(magnitude(tl.where(inside, value, 0.0)), 0)
    blind = largest == float("-inf")
    if sight > 0:
        largest = tl.where(blind, 0.0, largest)
    if (worst > INFINITY) | (tl.max(magnitude(largest), 0) == INFINITY):
        tl.store(flag, 1)
    d = value - largest
    powers = tl.where(inside, exp(d), 0.0)
    if sight > 0:
        powers = tl.where(blind, 0.0, powers)
    # The largest exponential of a row is exactly 1, so 2**1 bounds the terms of its sum.
    e = tl.zeros((1,), tl.int32) + (1 - bits)
    sums = rounded(tl.sum(units(tl.where(powers <= 1.0, powers, 0.0), e), 0, keep_dims=True), e)
    if sight > 0:
        sums = tl.where(blind, 1.0, sums)
    found = d - log(sums) if logarithm else tl.div_rn(powers, tl.broadcast_to(sums, (block,)))
    tl.store(out + place, found, mask=inside)


@kernel
def softmax_backward_kernel(
    grad, y, out, flag, n, inner, queries, bits, logarithm: tl.constexpr, sight: tl.constexpr, block: tl.constexpr
):
    """The gradient of a row."""
    place, inside = _row_places(n, inner, block)
    g = tl.load(grad + place, mask=inside, other=0.0)
    if sight == 2:
        g = tl.where(tl.arange(0, block) > tl.program_id(0) % queries, 0.0, g)
    value = tl.load(y + place, mask=inside, other=0.0)
    found = g - exp(value) * _row_sum(g, bits, flag) if logarithm else value * (g - _row_sum(g * value, bits, flag))
    tl.store(out + place, found, mask=inside)


@kernel
def layer_norm_kernel(
    x,
    weight,
    bias,
    out,
    means,
    factors,
    flag,
    n,
    count,
    eps,
    bits,
    has_weight: tl.constexpr,
    has_bias: tl.constexpr,
    block: tl.constexpr,
):
    """A row, its mean and 1/deviation."""
    place, inside = _row_places(n, 1, block)
    t = tl.arange(0, block)
    value = tl.load(x + place, mask=inside, other=0.0)
    counts = tl.zeros((1,), tl.float32) + count
    mean = tl.div_rn(_row_sum(value, bits, flag), counts)
    d = tl.where(inside, value - mean, 0.0)
    factor = divided(1.0, tl.sqrt_rn(tl.div_rn(_row_sum(d * d, bits, flag), counts) + eps))
    found = d * factor
    if has_weight:
        found = found * tl.load(weight + t, mask=inside, other=0.0)
    if has_bias:
        found = found + tl.load(bias + t, mask=inside, other=0.0)
    tl.store(out + place, found, mask=inside)
    row = tl.program_id(0) + tl.arange(0, 1)
    tl.store(means + row, mean)
    tl.store(factors + row, factor)


@kernel
def layer_norm_backward_kernel(
    grad, x, means, factors, weight, out, terms, flag, n, count, bits, has_weight: tl.constexpr, block: tl.constexpr
):
    """The gradient of a row, and the terms of its weight's."""
    place, inside = _row_places(n, 1, block)
    row = tl.program_id(0) + tl.arange(0, 1)
    mean = tl.load(means + row)
    factor = tl.load(factors + row)
    given = tl.load(grad + place, mask=inside, other=0.0)
    h = tl.where(inside, (tl.load(x + place, mask=inside, other=0.0) - mean) * factor, 0.0)
    g = given
    if has_weight:
        g = given * tl.load(weight + tl.arange(0, block), mask=inside, other=0.0)
    counts = tl.zeros((1,), tl.float32) + count
    a = tl.div_rn(_row_sum(g, bits, flag), counts)
    b = tl.div_rn(_row_sum(g * h, bits, flag), counts)
    tl.store(out + place, ((g - a) - h * b) * factor, mask=inside)
    tl.store(terms + place, given * h, mask=inside)


@kernel
def channel_kernel(
    x,
    means,
    factors,
    weight,
    bias,
    out,
    size,
    channels,
    length,
    has_weight: tl.constexpr,
    has_bias: tl.constexpr,
    block: tl.constexpr,
):
    """((x - mean) factor) weight + bias, by 1 and 0 where they are none."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    c = (place // length) % channels
    found = tl.load(x + place, mask=inside, other=0.0) - tl.load(means + c, mask=inside, other=0.0)
    found = found * tl.load(factors + c, mask=inside, other=0.0)
    if has_weight:
        found = found * tl.load(weight + c, mask=inside, other=0.0)
    found = found + (tl.load(bias + c, mask=inside, other=0.0) if has_bias else 0.0)
    tl.store(out + place, found, mask=inside)


@kernel
def channel_backward_kernel(
    grad, x, means, factors, scales, a, b, out, size, channels, length, training: tl.constexpr, block: tl.constexpr
):
    """((grad - a) - h b) scale with h = (x - mean) factor, or grad scale."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    c = (place // length) % channels
    g = tl.load(grad + place, mask=inside, other=0.0)
    if training:
        h = tl.load(x + place, mask=inside, other=0.0) - tl.load(means + c, mask=inside, other=0.0)
        h = h * tl.load(factors + c, mask=inside, other=0.0)
        g = (g - tl.load(a + c, mask=inside, other=0.0)) - h * tl.load(b + c, mask=inside, other=0.0)
    tl.store(out + place, g * tl.load(scales + c, mask=inside, other=0.0), mask=inside)


def _lines(x: Tensor, dim: int) -> tuple[int, int, int]:
    """Rows, their length and how far apart their values lie, along a dimension of a contiguous tensor."""
    if not x.ndim:
        return 1, 1, 1
    n, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
    return x.numel() // n, n, inner


def _warps(block: int) -> int:
    return max(1, min(16, block // 256))


def softmax(x: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax`."""
    if not x.numel() or _lines(x, dim)[1] > LONGEST_ROW:
        return portable.softmax(x, dim, logarithm, operation)
    return softmax_rows(x, dim, operation, Sight.ALL, logarithm)


def softmax_rows(x: Tensor, dim: int, operation: str, sight: Sight, logarithm: bool = False) -> Tensor:
    """Softmax along a dimension of at most `LONGEST_ROW` values, not empty; the queries are the last but one."""
    rows, n, inner = _lines(x, dim)
    x, block, flag = x.detach().contiguous(), power_of_two(n), Flag(x.device)
    out = torch.empty_like(x)
    arguments = (x, out, flag.raised, n, inner, x.shape[-2] if x.ndim > 1 else 1, sum_bits(n))
    constants = {"logarithm": logarithm, "sight": int(sight), "block": block, "num_warps": _warps(block)}
    launch(softmax_kernel, (rows,), *arguments, **constants)
    flag.check(operation)
    return out


def softmax_backward(grad: Tensor, y: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax_backward`."""
    if not y.numel() or _lines(y, dim)[1] > LONGEST_ROW:
        return portable.softmax_backward(grad, y, dim, logarithm, operation)
    return softmax_backward_rows(grad, y, dim, operation, Sight.ALL, logarithm)


def softmax_backward_rows(
    grad: Tensor, y: Tensor, dim: int, operation: str, sight: Sight, logarithm: bool = False
) -> Tensor:
    """The gradient of `softmax_rows`; what a query does not see has none."""
    rows, n, inner = _lines(y, dim)
    y, block, flag = y.detach().contiguous(), power_of_two(n), Flag(y.device)
    out = torch.empty_like(y)
    queries = y.shape[-2] if y.ndim > 1 else 1
    arguments = (grad.expand_as(y).contiguous(), y, out, flag.raised, n, inner, queries, sum_bits(n))
    constants = {"logarithm": logarithm, "sight": int(sight), "block": block, "num_warps": _warps(block)}
    launch(softmax_backward_kernel, (rows,), *arguments, **constants)
    flag.check(operation)
    return out


def layer_norm(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.layer_norm`."""
    m, n = rows.shape
    if not m or not 0 < n <= LONGEST_ROW:
        return portable.layer_norm(rows, weight, bias, eps, operation)
    x, block, flag = rows.detach().contiguous(), power_of_two(n), Flag(rows.device)
    out, mean, rstd = torch.empty_like(x), torch.empty(m, device=x.device), torch.empty(m, device=x.device)
    launch(
        layer_norm_kernel,
        (m,),
        x,
        _given(weight, x),
        _given(bias, x),
        out,
        mean,
        rstd,
        flag.raised,
        n,
        float(n),
        eps,
        sum_bits(n),
        has_weight=weight is not None,
        has_bias=bias is not None,
        block=block,
        num_warps=_warps(block),
    )
    flag.check(operation)
    return out, mean, rstd


def layer_norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, operation: str
) -> tuple[Tensor, Tensor]:
    """`Norms.layer_norm_backward`."""
    m, n = rows.shape
    if not m or not 0 < n <= LONGEST_ROW:
        return portable.layer_norm_backward(grad, rows, mean, rstd, weight, operation)
    x, block, flag = rows.detach().contiguous(), power_of_two(n), Flag(rows.device)
    out, terms = torch.empty_like(x), torch.empty_like(x)
    launch(
        layer_norm_backward_kernel,
        (m,),
        grad.expand_as(x).contiguous(),
        x,
        mean.contiguous(),
        rstd.contiguous(),
        _given(weight, x),
        out,
        terms,
        flag.raised,
        n,
        float(n),
        sum_bits(n),
        has_weight=weight is not None,
        block=block,
        num_warps=_warps(block),
    )
    flag.check(operation)
    return out, terms


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`Norms.batch_norm`."""
    if not x.numel():
        return portable.batch_norm(x, weight, bias, eps, operation)
    values, at = x.detach().contiguous(), _channel_plan(x)
    terms = math.prod(at.terms)
    count = number(terms, x)
    mean = torch.div(summed(values, at, operation), count)
    squares = summed(values, at, operation, SQUARES, mean=mean)
    rstd = rsqrt(torch.div(squares, count) + eps)
    unbiased = torch.div(squares, number(max(terms - 1, 1), x))
    return channel_normalise(values, mean, rstd, weight, bias), mean, unbiased, rstd


def channel_normalise(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`Norms.channel_normalise`; without a weight and a bias, by 1 and 0."""
    if not x.numel():
        return portable.channel_normalise(x, mean, rstd, weight, bias)
    values = x.detach().contiguous()
    out = torch.empty_like(values)
    launch(
        channel_kernel,
        (-(-x.numel() // BLOCK),),
        values,
        mean.contiguous(),
        rstd.contiguous(),
        _given(weight, values),
        _given(bias, values),
        out,
        x.numel(),
        x.shape[1],
        math.prod(x.shape[2:]),
        has_weight=weight is not None,
        has_bias=bias is not None,
        block=BLOCK,
    )
    return out


def batch_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, training: bool, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.batch_norm_backward`."""
    if not x.numel():
        return portable.batch_norm_backward(grad, x, mean, rstd, weight, training, operation)
    values, g, at = x.detach().contiguous(), grad.expand_as(x).contiguous(), _channel_plan(x)
    mean, rstd = mean.contiguous(), rstd.contiguous()
    d_weight = summed(values, at, operation, PRODUCTS, g, mean, rstd)
    d_bias = summed(g, at, operation)
    scale = rstd if weight is None else weight * rstd
    count = number(math.prod(at.terms), x)
    out = torch.empty_like(values)
    launch(
        channel_backward_kernel,
        (-(-x.numel() // BLOCK),),
        g,
        values,
        mean,
        rstd,
        scale.contiguous(),
        torch.div(d_bias, count),
        torch.div(d_weight, count),
        out,
        x.numel(),
        x.shape[1],
        math.prod(x.shape[2:]),
        training=training,
        block=BLOCK,
    )
    return out, d_weight, d_bias


def _channel_plan(x: Tensor) -> Plan:
    """The sums of the channels of contiguous (n, c, ...)."""
    n, c, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    return Plan((1, c), (0, length), (n, length), (c * length, 1))


def _given(value: Tensor | None, instead: Tensor) -> Tensor:
    """A pointer that is not read where there is no such tensor."""
    return instead if value is None else value.contiguous()
