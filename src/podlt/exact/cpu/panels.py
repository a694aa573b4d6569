"""Operands of products packed for the VNNI loops, and their products: one call a cut, and one a product.

What a loop does in panels gives the same integers as `products` by any other way. Rows and columns that need four
digits are marked here, and computed there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from podlt.exact.constants import ADAPTIVE, INT32_TERMS, NARROW_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.digits import cached, in_memory
from podlt.exact.cpu.kernels import panels as loops
from podlt.exact.cpu.kernels import tiles
from podlt.exact.cpu.kernels.digits import NOT_FINITE
from podlt.exact.cpu.kernels.vnni import COLUMNS, ROWS


@dataclass(frozen=True, slots=True)
class Packed:
    """One operand, as `kernels.panels` packs it.

    Args:
        memory: what it lies in.
        digits: the address of the first matrix.
        size: bytes from one to the next.
        exponents: the address of int64 (batches, lines).
        wide: the address of the marks.
        start: the address of what the sums of a left one begin with.
        steps: of a left one, in bytes: from a row to the next, to its second digits, to its next four values, and from
            a tile to the next.
        wide_lines: how many need four digits, if they decide themselves.
    """

    memory: tuple[Array, ...]
    digits: int
    size: int
    exponents: int
    wide: int
    start: int
    steps: tuple[int, int, int, int]
    wide_lines: int = 0


def suits(digits: int, k: int) -> bool:
    """Whether the loops multiply operands of so many digits over k terms."""
    return digits in (ADAPTIVE, NARROW_DIGITS) and NARROW_DIGITS * k <= INT32_TERMS


def pack(x: torch.Tensor, side: str, digits: int, operation: str) -> Packed:
    """Cut and pack an operand of products, (m, k) or (k, n), or several, any strides, along k.

    Raises:
        NonFiniteError: naming `operation`.
    """
    found: Packed = cached(x, f"packed {side}", digits, lambda keep: _pack(x, side, digits, operation, keep))
    return found


def multiply(left: Packed, right: Packed, size: tuple[int, int, int, int], bias: torch.Tensor | None, out: int) -> None:
    """Each pair's product of two digits, (m, k) by (k, n), `+ bias`, to the address `out`.

    Args:
        size: how many pairs, m, k and n.
    """
    batches, m, k, n = size
    ours = left.digits, *left.steps, left.size, left.start, left.exponents
    theirs = right.digits, right.size, right.exponents
    tiles.multiply_at(batches, m, k, n, *ours, *theirs, 0 if bias is None else scratch.address(bias), out)


def _pack(x: torch.Tensor, side: str, digits: int, operation: str, keep: bool) -> Packed:
    x, along_rows, batches, rows, columns = in_memory(x, side)
    lines, k = (rows, columns) if along_rows else (columns, rows)
    key = ("packed", side, along_rows, batches, lines, k)
    found = _room(*key[1:], True) if keep else scratch.view(key, lambda: _room(*key[1:], False))
    wide = loops.pack_at(
        scratch.address(x),
        side == "left",
        along_rows,
        batches,
        lines,
        k,
        found.steps[1],
        found.digits,
        found.size,
        found.exponents,
        found.wide,
        digits == ADAPTIVE,
        found.start,
    )
    if wide == NOT_FINITE:
        raise NonFiniteError(operation)
    return replace(found, wide_lines=wide) if wide else found


def _room(side: str, along_rows: bool, batches: int, lines: int, k: int, keep: bool) -> Packed:
    """Memory for a packed operand."""
    fours, tiles = -(-k // 4), -(-lines // ROWS)
    row = loops.row_bytes(k)
    if side == "right":
        size, steps = -(-lines // COLUMNS) * fours * 2 * 4 * COLUMNS, (0, 0, 0, 0)
    elif along_rows:
        size, steps = tiles * ROWS * 2 * row, (2 * row, row, 4, ROWS * 2 * row)
    else:
        size, steps = tiles * fours * 2 * 4 * ROWS, (4, 4 * ROWS, 2 * 4 * ROWS, fours * 2 * 4 * ROWS)

    def take(name: str, count: int) -> Array:
        if keep:
            return torch.empty(max(count, 1), dtype=torch.uint8).numpy()
        return scratch.take(f"packed {name} {side}", (max(count, 1),), np.uint8)

    start = batches * tiles * 2 * ROWS * 4 if side == "left" else 0
    memory = (
        take("digits", batches * size),
        take("exponents", 8 * batches * lines),
        take("marks", batches * lines),
        take("starts", start),
    )
    places = [one.ctypes.data for one in memory]
    return Packed(memory, places[0], size, places[1], places[2], places[3], steps)
