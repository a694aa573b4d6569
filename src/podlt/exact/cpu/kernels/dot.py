"""Sums of products of bytes by AVX-512 VNNI, a tile of results in registers: LLVM's own instruction, no compiler.

One instruction adds four products of an unsigned and a signed byte to each of 16 int32, all exact, modulo 2**32. A
digit d within +-64 becomes unsigned as d + 64; what is then 64 times too much is taken off by whoever calls.
"""

# Numba compiles this file, and llvmlite has no types.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from podlt.exact.cpu.kernels.vectors import LANES, load, spread, store

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, LANES)


def processor_features() -> set[str]:
    """What Numba may use of the processor: its own list, from which NUMBA_ENABLE_AVX and NUMBA_CPU_FEATURES take."""
    return set(str(cpu_target.target_context.codegen().magic_tuple()[2]).split(","))


def available() -> bool:
    """Whether Numba compiles for a processor that has the instruction."""
    return {"+avx512f", "+avx512bw", "+avx512vnni"} <= processor_features()


def tile_of(rows: int, vectors: int, *, unsigned_rows: bool = False) -> Callable[..., None]:
    """A tile of `rows` x `vectors` x 16 sums, as a function of kernels.

    It adds to the int32 (rows, vectors, 16) at `out`, which is first shifted left by `shift` bits, the products of
    words (four bytes each) of each of `vectors` x 16 lines with those of each row.

    Its arguments are addresses, counts and distances in bytes, as int64: `left`, where the words of all lines lie
    side by side, the next `step` further; `right` + `places`[r], where the words of row r lie: `count` words in each
    of `lines` in each of `blocks`. A line begins `line_gap` behind the end of the one before, and a block `block_gap`
    more. Of each pair of bytes one is unsigned: that of the line, or else that of the row.
    """

    @intrinsic
    def tile(
        typing: Any,
        left: Any,
        step: Any,
        right: Any,
        places: Any,
        blocks: Any,
        block_gap: Any,
        lines: Any,
        line_gap: Any,
        count: Any,
        out: Any,
        shift: Any,
    ) -> Any:
        return types.void(*[types.int64] * 10, types.int32), generate

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, step, right, places, blocks, block_gap, lines, line_gap, count, out, shift = arguments
        cells = [out if i == 0 else builder.add(out, _number(64 * i)) for i in range(rows * vectors)]
        shifts = spread(builder, shift)
        begins = [builder.add(right, load(builder, builder.add(places, _number(8 * r)), _I64, 8)) for r in range(rows)]

        def word(state: list[Any]) -> list[Any]:
            at, behind, *sums = state
            ours = [load(builder, builder.add(at, _number(64 * v)), _VECTOR, 4) for v in range(vectors)]
            theirs = [spread(builder, load(builder, builder.add(begin, behind), _I32, 1)) for begin in begins]
            pairs = [(ours[i % vectors], theirs[i // vectors])[:: -1 if unsigned_rows else 1] for i in range(len(sums))]
            found = [add_dots(builder, total, *pair) for total, pair in zip(sums, pairs, strict=True)]
            return [builder.add(at, step), builder.add(behind, _number(4)), *found]

        def line(state: list[Any]) -> list[Any]:
            at, behind, *sums = _repeated(builder, count, word, state)
            return [at, builder.add(behind, line_gap), *sums]

        def block(state: list[Any]) -> list[Any]:
            at, behind, *sums = _repeated(builder, lines, line, state)
            return [at, builder.add(behind, block_gap), *sums]

        before = [builder.shl(load(builder, cell, _VECTOR, 4), shifts) for cell in cells]
        _, _, *sums = _repeated(builder, blocks, block, [left, _number(0), *before])
        for value, cell in zip(sums, cells, strict=True):
            store(builder, value, cell, 4)
        return context.get_dummy_value()

    return cast(Callable[..., None], tile)


def dots_of(rows: int) -> Callable[..., None]:
    """Sums of products of lines of bytes with one line, as a function of kernels.

    Its arguments are addresses and a count, as int64: `line`, of signed bytes; `others` + `places`[r], of unsigned ones
    of row r; `count` >= 1 times 64 bytes of each. It adds to int32 (rows, 16) at `out`.
    """

    @intrinsic
    def dots(typing: Any, line: Any, others: Any, places: Any, count: Any, out: Any) -> Any:
        return types.void(*[types.int64] * 5), generate

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, others, places, count, out = arguments
        cells = [out if i == 0 else builder.add(out, _number(64 * i)) for i in range(rows)]
        begins = [builder.add(others, load(builder, builder.add(places, _number(8 * r)), _I64, 8)) for r in range(rows)]

        def step(state: list[Any]) -> list[Any]:
            behind, *sums = state
            ours = load(builder, builder.add(line, behind), _VECTOR, 1)
            theirs = [load(builder, builder.add(begin, behind), _VECTOR, 1) for begin in begins]
            found = [add_dots(builder, total, other, ours) for total, other in zip(sums, theirs, strict=True)]
            return [builder.add(behind, _number(64)), *found]

        _, *sums = _repeated(builder, count, step, [_number(0), *[load(builder, cell, _VECTOR, 4) for cell in cells]])
        for value, cell in zip(sums, cells, strict=True):
            store(builder, value, cell, 4)
        return context.get_dummy_value()

    return cast(Callable[..., None], dots)


@cast(Callable[..., Callable[..., None]], intrinsic)
def sum_bytes(typing: Any, source: Any, step: Any, count: Any, out: Any) -> Any:
    """Add to int32 (16,) at `out` the signed bytes of `count` >= 1 times 16 words, each 16 `step` bytes further."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, step, count, out = arguments
        ones = ir.Constant(_VECTOR, [0x01010101] * LANES)

        def word(state: list[Any]) -> list[Any]:
            at, total = state
            return [builder.add(at, step), add_dots(builder, total, ones, load(builder, at, _VECTOR, 4))]

        _, total = _repeated(builder, count, word, [source, load(builder, out, _VECTOR, 4)])
        store(builder, total, out, 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def add_dots(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Write the instruction at the builder's place: a total plus the products of four pairs of bytes in each lane."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [total, unsigned, signed])


def _repeated(builder: Any, count: Any, step: Callable[[list[Any]], list[Any]], first: list[Any]) -> list[Any]:
    """What values become by `count` >= 1 steps."""
    before, body, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(body)
    builder.position_at_end(body)
    number, values = builder.phi(_I64), [builder.phi(value.type) for value in first]
    following = [builder.add(number, _number(1)), *step(values)]
    for phi, start, value in zip([number, *values], [_number(0), *first], following, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following[0], count), body, after)
    builder.position_at_end(after)
    return following[1:]
