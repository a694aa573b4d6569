"""Cuts into two digits by AVX-512, for loops that pack operands: 64 values of a row at once, or four rows of 16.

What is rounded is a short sequence of operations on 16 lanes, that of `kernels.digits`; nothing is fused or
reassociated. A value's two digits together, plus 64, fit 16 bits: they are taken apart 32 values at a time.
"""

# Numba compiles this file, and llvmlite has no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from podlt.exact.cpu.kernels.dot import add_dots
from podlt.exact.cpu.kernels.vectors import LANES, load, spread, store
from podlt.exact.cpu.kernels.vnni import intrinsic

VALUES = 64
"""Of a row, that are cut at once; as many bytes of each digit are written."""

_I1, _I8, _I16, _I32, _I64, _F32 = (*(ir.IntType(bits) for bits in (1, 8, 16, 32, 64)), ir.FloatType())
_VECTOR, _FLOATS, _MASK = (ir.VectorType(kind, LANES) for kind in (_I32, _F32, _I1))
_WORDS, _BYTES = ir.VectorType(_I16, 32), ir.VectorType(_I8, 64)
_ROUND = 12582912.0  # 1.5 * 2**23, as in `kernels.digits`
_ROUND_BITS = int(np.float32(_ROUND).view(np.int32))
_ENOUGH = 129
_IN_ORDER = ir.Constant(_VECTOR, [4 * (i % 4) + i // 4 for i in range(LANES)])
"""What packing four vectors by lanes of 128 bits leaves, put in order."""


def _all(kind: Any, number: int) -> Any:
    """A vector of one whole number."""
    return ir.Constant(kind, [number] * kind.count)


def _call(builder: Any, name: str, kind: Any, *given: Any) -> Any:
    function = ir.FunctionType(kind, [value.type for value in given])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), given)


def _rounded(builder: Any, value: Any, factor: Any, balance: Any) -> tuple[Any, Any]:
    """Both digits of 16 values as one number q, plus 64, in 32 bits; and the balance, less what values ask that are
    not 0."""
    moved = builder.fadd(builder.fmul(value, factor), _FLOATS([_F32(_ROUND)] * LANES))
    magnitude = builder.and_(builder.bitcast(value, _VECTOR), _all(_VECTOR, 0x7FFFFFFF))
    less = builder.sub(balance, _all(_VECTOR, _ENOUGH))
    is_zero = builder.icmp_signed("==", magnitude, _all(_VECTOR, 0))
    return builder.sub(builder.bitcast(moved, _VECTOR), _all(_VECTOR, _ROUND_BITS - 64)), builder.select(
        is_zero, balance, less
    )


def _add_sizes(builder: Any, balance: Any, words: Any) -> Any:
    """A balance plus |q| of each of 32 words q + 64."""
    q = builder.sub(words, _all(_WORDS, 64))
    size = builder.select(builder.icmp_signed("<", q, _all(_WORDS, 0)), builder.sub(_all(_WORDS, 0), q), q)
    ones = _all(_VECTOR, 0x00010001)
    return _call(builder, "llvm.x86.avx512.vpdpwssd.512", _VECTOR, balance, builder.bitcast(size, _VECTOR), ones)


def _add_bytes(builder: Any, total: Any, digits: Any) -> Any:
    """A total plus signed bytes, four to a lane."""
    return add_dots(builder, total, _all(_VECTOR, 0x01010101), builder.bitcast(digits, _VECTOR))


def _read_some(builder: Any, at: Any, number: int, count: Any) -> Any:
    """The `number`-th 16 values at an address, those from `count` on as zeros."""
    place = builder.inttoptr(builder.add(at, _I64(4 * LANES * number)), _FLOATS.as_pointer())
    lanes = ir.Constant(_VECTOR, list(range(LANES * number, LANES * (number + 1))))
    chosen = builder.icmp_signed("<", lanes, count)
    zeros = ir.Constant(_FLOATS, [0.0] * LANES)
    return _call(builder, "llvm.masked.load.v16f32.p0", _FLOATS, place, _I32(4), chosen, zeros)


def _cut_some(builder: Any, at: Any, count: Any, factor: Any, balance: Any) -> tuple[Any, Any, Any]:
    """The first digits of `count` values at an address and zeros, as bytes; the second plus 64; and the balance."""
    limit = spread(builder, builder.trunc(count, _I32))
    found = []
    for number in range(VALUES // LANES):
        q, balance = _rounded(builder, _read_some(builder, at, number, limit), factor, balance)
        found.append(q)
    words = [_call(builder, "llvm.x86.avx512.packssdw.512", _WORDS, *found[i : i + 2]) for i in range(0, len(found), 2)]
    for part in words:
        balance = _add_sizes(builder, balance, part)
    high = [builder.ashr(part, _all(_WORDS, 7)) for part in words]
    low = [builder.and_(part, _all(_WORDS, 127)) for part in words]
    packed = (_call(builder, "llvm.x86.avx512.packsswb.512", _BYTES, *pair) for pair in (high, low))
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first, second = (builder.shuffle_vector(builder.bitcast(p, _VECTOR), nothing, _IN_ORDER) for p in packed)
    return builder.bitcast(first, _BYTES), builder.bitcast(second, _BYTES), balance


def _cut_row(builder: Any, arguments: Any, is_left: bool) -> None:
    """Write the loop of `cut_left_row` and `cut_right_row` at the builder's place."""
    x, count, scale, high, low, sums = arguments
    factor = builder.bitcast(spread(builder, load(builder, scale, _I32, 4)), _FLOATS)
    before, loop = builder.basic_block, builder.append_basic_block("values")
    after = builder.append_basic_block("cut")
    builder.branch(loop)
    builder.position_at_end(loop)
    i, totals = builder.phi(_I64), [builder.phi(_VECTOR) for _ in range(3 if is_left else 1)]
    at = builder.add(x, builder.shl(i, _I64(2)))
    first, second, balance = _cut_some(builder, at, builder.sub(count, i), factor, totals[0])
    following = [balance]
    if is_left:
        second = builder.sub(second, _all(_BYTES, 64))
        following += [_add_bytes(builder, t, d) for t, d in zip(totals[1:], (first, second), strict=True)]
    else:
        first = builder.add(first, _all(_BYTES, 64))
    store(builder, first, builder.add(high, i), 1)
    store(builder, second, builder.add(low, i), 1)
    advanced = builder.add(i, _I64(VALUES))
    builder.cbranch(builder.icmp_signed("<", advanced, count), loop, after)
    changed = ((total, _all(_VECTOR, 0), new) for total, new in zip(totals, following, strict=True))
    for phi, start, new in ((i, _I64(0), advanced), *changed):
        phi.add_incoming(start, before)
        phi.add_incoming(new, loop)
    builder.position_at_end(after)
    for number, total in enumerate(following):
        store(builder, total, sums, 4, number)


@intrinsic
def cut_left_row(typing: Any, x: Any, count: Any, scale: Any, high: Any, low: Any, sums: Any) -> Any:
    """Inside a kernel: cut a row of a left operand; all arguments but `count` are addresses.

    Args:
        x: of the row's float32.
        count: how many values, > 0.
        scale: of the row's float32.
        high: of bytes that take the first digits, a multiple of `VALUES` of them, zeros after the last.
        low: of as many for the second.
        sums: of int32 (3, 16), written: the balance, as of `kernels.digits.cut_line`, and both digits.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _cut_row(builder, arguments, True)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def cut_right_row(typing: Any, x: Any, count: Any, scale: Any, high: Any, low: Any, sums: Any) -> Any:
    """As `cut_left_row` of a column of a right operand that is a row in memory: 64 is added to each digit, and of the
    sums only the balance, int32 (16,), is written."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _cut_row(builder, arguments, False)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


def _fours(builder: Any, arguments: Any, is_left: bool) -> None:
    """Write the sequence of `cut_left_fours` and `cut_right_fours` at the builder's place."""
    x, row, scale, balance, high, low, *sums = arguments
    factor, rest, rows = load(builder, scale, _FLOATS, 4), load(builder, balance, _VECTOR, 4), []
    for _ in range(4):
        q, rest = _rounded(builder, load(builder, x, _FLOATS, 4), factor, rest)
        rows.append(q)
        x = builder.add(x, row)
    pairs = []
    for below, above in ((rows[0], rows[2]), (rows[1], rows[3])):
        joined = builder.or_(builder.and_(below, _all(_VECTOR, 0xFFFF)), builder.shl(above, _all(_VECTOR, 16)))
        pairs.append(builder.bitcast(joined, _WORDS))
        rest = _add_sizes(builder, rest, pairs[-1])
    store(builder, rest, balance, 4)
    even, odd = pairs
    byte = _all(_WORDS, 8)
    first = builder.or_(
        builder.and_(builder.ashr(even, _all(_WORDS, 7)), _all(_WORDS, 255)),
        builder.shl(builder.ashr(odd, _all(_WORDS, 7)), byte),
    )
    second = builder.or_(builder.and_(even, _all(_WORDS, 127)), builder.shl(builder.and_(odd, _all(_WORDS, 127)), byte))
    first, second = builder.bitcast(first, _BYTES), builder.bitcast(second, _BYTES)
    if is_left:
        second = builder.sub(second, _all(_BYTES, 64))
    else:
        first = builder.add(first, _all(_BYTES, 64))
    for d, (digits, place) in enumerate(((first, high), (second, low))):
        store(builder, digits, place, 4)
        if is_left:
            total = _add_bytes(builder, load(builder, sums[d], _VECTOR, 4), digits)
            store(builder, total, sums[d], 4)


@intrinsic
def cut_right_fours(typing: Any, x: Any, row: Any, scale: Any, balance: Any, high: Any, low: Any) -> Any:
    """Inside a kernel: cut four rows of 16 columns of a right operand; all arguments but `row` are addresses.

    Args:
        x: of float32, rows `row` bytes apart.
        scale: of float32 (16,).
        balance: of int32 (16,), as of `kernels.digits.cut_line`, added to.
        high: of 16 words that take the first digits, four of a column side by side, plus 64.
        low: of as many for the second.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _fours(builder, arguments, False)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def cut_left_fours(
    typing: Any, x: Any, row: Any, scale: Any, balance: Any, high: Any, low: Any, highs: Any, lows: Any
) -> Any:
    """As `cut_right_fours`, of a left operand: digits are signed.

    Args:
        highs: the address of int32 (16,), to which the first digits are added.
        lows: the same for the second.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _fours(builder, arguments, True)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), generate


@intrinsic
def store_tile(typing: Any, high: Any, low: Any, to: Any) -> Any:
    """Inside a kernel: six words at one address and six at another, side by side at a third; 16 of each are read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ours, theirs = (load(builder, at, _VECTOR, 4) for at in arguments[:2])
        order = [i if i < 6 else LANES + i - 6 for i in range(LANES)]
        joined = builder.shuffle_vector(ours, theirs, ir.Constant(_VECTOR, order))
        chosen = ir.Constant(_MASK, [i < 12 for i in range(LANES)])
        place = builder.inttoptr(arguments[2], _VECTOR.as_pointer())
        _call(builder, "llvm.masked.store.v16i32.p0", ir.VoidType(), joined, place, _I32(4), chosen)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
