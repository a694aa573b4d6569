"""AVX-512 for Numba's loops, where compilers leave out what counts: int8 products of whole tiles.

`kernels.dot` has the instruction for products, and says whether there is one. Each function here is a short sequence of
vector operations; nothing is fused or reassociated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as numba_intrinsic

from podlt.exact.cpu.kernels.dot import add_dots
from podlt.exact.cpu.kernels.vectors import LANES, load, spread, store

ROWS, COLUMNS = 6, 32
"""Of a tile. With two levels of two vectors a row that is 24 registers; four hold the right operand, two the left."""

LEVELS = 2


def intrinsic(function: Callable[..., Any]) -> Any:
    """What a kernel calls without the first argument of `function`, which generates its code."""
    return numba_intrinsic(function)


_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_WIDTH = COLUMNS // LANES


def _lanes(number: int) -> Any:
    """A vector of one whole number."""
    return _VECTOR([number] * LANES)


def _spread(builder: Any, address: Any, number: int = 0) -> Any:
    """The `number`-th int32 at an address, in all lanes."""
    return spread(builder, load(builder, address, _I32, 4, number))


def _tile(builder: Any, arguments: Any) -> dict[tuple[int, int, int], Any]:
    """Write the loop of `multiply_tile` at the builder's place; its sums by level, row and vector."""
    left, row, low, step, right, start, steps = arguments

    numbers = [(level, i, v) for level in range(LEVELS) for i in range(ROWS) for v in range(_WIDTH)]
    first = {(level, i): _spread(builder, start, level * ROWS + i) for level in range(LEVELS) for i in range(ROWS)}
    before, loop = builder.basic_block, builder.append_basic_block("steps")
    after = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    count, ours, theirs = builder.phi(_I64), builder.phi(_I64), builder.phi(_I64)
    sums = {number: builder.phi(_VECTOR) for number in numbers}
    found: dict[tuple[int, int, int], Any] = dict(sums)
    high, lower = ([load(builder, theirs, _VECTOR, 64, d * _WIDTH + v) for v in range(_WIDTH)] for d in range(2))
    place = ours
    for i in range(ROWS):
        own_high, own_low = _spread(builder, place), _spread(builder, builder.add(place, low))
        for level, digits, own in ((0, high, own_high), (1, lower, own_high), (1, high, own_low)):
            for v in range(_WIDTH):
                found[level, i, v] = add_dots(builder, found[level, i, v], digits[v], own)
        place = builder.add(place, row)
    changed = (
        (count, _I64(0), builder.add(count, _I64(1))),
        (ours, left, builder.add(ours, step)),
        (theirs, right, builder.add(theirs, _I64(2 * 4 * COLUMNS))),
        *((sums[n], first[n[0], n[1]], found[n]) for n in numbers),
    )
    builder.cbranch(builder.icmp_signed("<", changed[0][2], steps), loop, after)
    for phi, begin, following in changed:
        phi.add_incoming(begin, before)
        phi.add_incoming(following, loop)
    builder.position_at_end(after)
    return found


@intrinsic
def multiply_tile(
    typing: Any, left: Any, row: Any, low: Any, step: Any, right: Any, start: Any, steps: Any, to: Any
) -> Any:
    """Inside a kernel: the levels of a tile, int32 (2, `ROWS`, `COLUMNS`), written to the address `to`.

    Args:
        left: the address of four first digits of the tile's first row.
        row: bytes from a row to the next.
        low: bytes from a row's first digits to its second ones.
        step: bytes from four values of a row to the next four.
        right: the address of a panel.
        start: the address of what the sums begin with, int32 (2, `ROWS`).
        steps: how many fours of values there are, > 0.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for number, sums in enumerate(_tile(builder, arguments[:-1]).values()):
            store(builder, sums, arguments[-1], 64, number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), generate


@intrinsic
def round_tile(
    typing: Any,
    left: Any,
    row: Any,
    low: Any,
    step: Any,
    right: Any,
    start: Any,
    steps: Any,
    own: Any,
    scale: Any,
    bias: Any,
    to: Any,
    apart: Any,
) -> Any:
    """As `multiply_tile`, and the levels combined where an int32 holds them: `kernels.digits.narrow_sum`, then scaled.

    Args:
        own: the address of each row's factor, float32 (`ROWS`,).
        scale: the address of each column's, float32 (`COLUMNS`,).
        bias: the address of what is added to each column, or 0.
        to: the address of the first row's results, the next row's `apart` bytes after.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, scale, bias, to, apart = arguments[7:]
        sums = _tile(builder, arguments[:7])
        is_biased = builder.icmp_signed("!=", bias, _I64(0))
        readable = builder.select(is_biased, bias, scale)
        columns = [(load(builder, scale, _FLOATS, 4, v), load(builder, readable, _FLOATS, 4, v)) for v in range(_WIDTH)]
        for i in range(ROWS):
            ours = builder.bitcast(_spread(builder, own, i), _FLOATS)
            for v, (factor, added) in enumerate(columns):
                whole = builder.add(builder.shl(sums[0, i, v], _lanes(7)), sums[1, i, v])
                value = builder.fmul(builder.sitofp(whole, _FLOATS), builder.fmul(ours, factor))
                value = builder.select(is_biased, builder.fadd(value, added), value)  # + 0 would change a -0
                store(builder, value, to, 4, v)
            to = builder.add(to, apart)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12), generate
