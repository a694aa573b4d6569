"""Moves of 16 values at addresses, as LLVM's vectors: loops as short would be slower to start than to run.

Whatever is loaded and stored may overlap anything: of a loop over arrays, LLVM would ask that first.
"""

# Numba compiles this file, and llvmlite has no types.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_WORDS, _BYTES, _FLOATS = (ir.VectorType(kind, LANES) for kind in (_I32, _I8, _FLOAT))


def load(builder: Any, address: Any, kind: Any, align: int, number: int = 0) -> Any:
    """The `number`-th value of a kind at an address."""
    found = builder.load(_cell(builder, address, kind, number))
    found.align = align
    return found


def store(builder: Any, value: Any, address: Any, align: int, number: int = 0) -> None:
    """Put a value at an address, as the `number`-th of its kind."""
    builder.store(value, _cell(builder, address, value.type, number)).align = align


def _cell(builder: Any, address: Any, kind: Any, number: int) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [ir.Constant(_I64, number)])


def spread(builder: Any, value: Any) -> Any:
    """A vector with one value in all lanes."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_WORDS, [0] * LANES))


def _machine(describe: Callable[..., Any]) -> Callable[..., None]:
    """A function of kernels whose types and instructions `describe` gives."""
    return cast(Callable[..., None], intrinsic(describe))


@_machine
def copy(typing: Any, source: Any, target: Any) -> Any:
    """Copy 16 words."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, load(builder, arguments[0], _WORDS, 4), arguments[1], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_machine
def copy_every_second(typing: Any, source: Any, target: Any) -> Any:
    """Copy 16 words, every second from the first of 32 on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = load(builder, arguments[0], _WORDS, 4)
        second = load(builder, builder.add(arguments[0], ir.Constant(_I64, 64)), _WORDS, 4)
        found = builder.shuffle_vector(first, second, ir.Constant(_WORDS, list(range(0, 2 * LANES, 2))))
        store(builder, found, arguments[1], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_machine
def copy_bytes(typing: Any, source: Any, target: Any) -> Any:
    """Copy 16 bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, load(builder, arguments[0], _BYTES, 1), arguments[1], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_machine
def copy_every_second_byte(typing: Any, source: Any, target: Any) -> Any:
    """Copy 16 bytes, every second from the first of 32 on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = load(builder, arguments[0], _BYTES, 1)
        second = load(builder, builder.add(arguments[0], ir.Constant(_I64, LANES)), _BYTES, 1)
        found = builder.shuffle_vector(first, second, ir.Constant(_WORDS, list(range(0, 2 * LANES, 2))))
        store(builder, found, arguments[1], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_machine
def fill_bytes(typing: Any, byte: Any, target: Any) -> Any:
    """Write a byte 16 times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, spread(builder, arguments[0]), arguments[1], 1)
        return context.get_dummy_value()

    return types.void(types.int8, types.int64), generate


@_machine
def fill(typing: Any, word: Any, target: Any) -> Any:
    """Write a word 16 times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, spread(builder, arguments[0]), arguments[1], 4)
        return context.get_dummy_value()

    return types.void(types.int32, types.int64), generate


@_machine
def transpose(typing: Any, source: Any, apart: Any, target: Any, step: Any) -> Any:
    """Write 16 words of each of 16 lines that lie `apart` as 16 lines, `step` apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, apart, target, step = arguments
        lines = []
        for _ in range(LANES):
            lines.append(load(builder, at, _WORDS, 1))
            at = builder.add(at, apart)
        low = ir.Constant(_WORDS, [i // 2 + LANES * (i % 2) for i in range(LANES)])
        high = ir.Constant(_WORDS, [LANES // 2 + i // 2 + LANES * (i % 2) for i in range(LANES)])
        for _ in range(4):  # each time, the halves of the lines are dealt like cards
            pairs = [(lines[i], lines[i + LANES // 2]) for i in range(LANES // 2)]
            lines = [builder.shuffle_vector(a, b, order) for a, b in pairs for order in (low, high)]
        for line in lines:
            store(builder, line, target, 4)
            target = builder.add(target, step)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@_machine
def join_pairs(typing: Any, first: Any, second: Any, target: Any) -> Any:
    """Write 16 words: the lower two bytes of each of two lines of words, the first line's lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, _joined(builder, arguments[:2]), arguments[2], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@_machine
def join_single(typing: Any, first: Any, second: Any, third: Any, fourth: Any, target: Any) -> Any:
    """Write 16 words: the lowest byte of each of four lines of words, the first line's lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, _joined(builder, arguments[:4]), arguments[4], 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _joined(builder: Any, places: Any) -> Any:
    """The lower part of the words at each of some addresses, side by side in one."""
    bits, words = 32 // len(places), None
    for i, at in enumerate(places):
        one = load(builder, at, _WORDS, 4)
        if i < len(places) - 1:
            one = builder.and_(one, ir.Constant(_WORDS, [2**bits - 1] * LANES))
        one = builder.shl(one, ir.Constant(_WORDS, [bits * i] * LANES))
        words = one if words is None else builder.or_(words, one)
    return words


@_machine
def scale(typing: Any, sums: Any, off: Any, factor: Any, bias: Any, target: Any) -> Any:
    """Write 16 float32 (sum - off) * factor, rounded once each, or with a `bias` that and the sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(builder, _scaled(builder, arguments, bias), arguments[4], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int32, types.float32, bias, types.int64), generate


@_machine
def scale_some(typing: Any, sums: Any, off: Any, factor: Any, bias: Any, target: Any, count: Any) -> Any:
    """As `scale`, of which only the first `count` < 16 are written; all sums are read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _store_some(builder, _scaled(builder, arguments, bias), arguments[4], arguments[5])
        return context.get_dummy_value()

    return types.void(types.int64, types.int32, types.float32, bias, types.int64, types.int32), generate


@_machine
def weave(typing: Any, first: Any, second: Any, target: Any) -> Any:
    """Write 32 float32: 16 of each of two lines, in turns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for number, value in enumerate(_woven(builder, arguments)):
            store(builder, value, arguments[2], 4, number)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@_machine
def weave_some(typing: Any, first: Any, second: Any, target: Any, count: Any) -> Any:
    """As `weave`, of which only the first `count` are written."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *_, target, count = arguments
        for value in _woven(builder, arguments):
            _store_some(builder, value, target, count)
            target = builder.add(target, ir.Constant(_I64, 4 * LANES))
            count = builder.sub(count, ir.Constant(_I32, LANES))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int32), generate


def _woven(builder: Any, arguments: Any) -> list[Any]:
    """What `weave` writes."""
    a, b = (load(builder, at, _FLOATS, 4) for at in arguments[:2])
    orders = ([start + i // 2 + LANES * (i % 2) for i in range(LANES)] for start in (0, LANES // 2))
    return [builder.shuffle_vector(a, b, ir.Constant(_WORDS, order)) for order in orders]


def _store_some(builder: Any, value: Any, address: Any, count: Any) -> None:
    """Put the first values of a vector of float32 at an address."""
    chosen = builder.icmp_signed("<", ir.Constant(_WORDS, list(range(LANES))), spread(builder, count))
    place = builder.inttoptr(address, _FLOATS.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [_FLOATS, place.type, _I32, chosen.type])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
    builder.call(function, [value, place, ir.Constant(_I32, 4), chosen])


def _scaled(builder: Any, arguments: Any, bias: Any) -> Any:
    """What `scale` writes."""
    total = builder.sub(load(builder, arguments[0], _WORDS, 4), spread(builder, arguments[1]))
    found = builder.fmul(builder.sitofp(total, _FLOATS), spread(builder, arguments[2]))
    if isinstance(bias, types.NoneType):
        return found
    return builder.fadd(found, spread(builder, arguments[3]))
