"""Sums of rows at given places: integers are added by atomic operations, whose order does not matter.

Definition: `definition.exact_sum`, with one exponent for the whole operation.
"""

from __future__ import annotations

import torch
import triton.language as tl

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.portable import reduce as portable
from podlt.exact.triton.jit import kernel, launch
from podlt.exact.triton.scalars import INFINITY, MAGNITUDE, magnitude, rounded, units

Tensor = torch.Tensor
BLOCK = 1024
INFINITE = 0x7F800000


@kernel
def top_kernel(x, top, size, block: tl.constexpr):
    """The largest magnitude so far."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    found = magnitude(tl.load(x + place, mask=place < size, other=0.0))
    tl.atomic_max(top, tl.max(found, 0))


@kernel
def _exponent(top, bits):
    return (tl.minimum(tl.load(top), INFINITY - 1) >> 23) - 126 - bits


@kernel
def add_kernel(x, index, sums, top, size, width, rows, bits, block: tl.constexpr):
    """Each value is added to its row; a negative place leaves it out, one beyond the rows spoils the exponent."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    row = tl.load(index + place // width, mask=inside, other=-1)
    if tl.max(row, 0) >= rows:
        tl.atomic_max(top, MAGNITUDE)
    value = tl.load(x + place, mask=inside, other=0.0)
    value = tl.where(magnitude(value) < INFINITY, value, 0.0)
    counts = inside & (row >= 0) & (row < rows)
    tl.atomic_add(sums + row * width + place % width, units(value, _exponent(top, bits)), mask=counts)


@kernel
def finish_kernel(sums, base, out, top, size, bits, has_base: tl.constexpr, block: tl.constexpr):
    """Each sum, plus its base, rounded once."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    e = _exponent(top, bits)
    total = tl.load(sums + place, mask=inside, other=0)
    if has_base:
        value = tl.load(base + place, mask=inside, other=0.0)
        total += units(tl.where(magnitude(value) < INFINITY, value, 0.0), e)
    tl.store(out + place, rounded(total, e), mask=inside)


def scatter_rows(base: Tensor | None, index: Tensor, x: Tensor, rows: int, operation: str) -> Tensor:
    """`Sums.scatter_rows`."""
    width = x.shape[-1] if base is None else base.shape[1]
    if not index.numel() or not x.numel() or not rows * width:
        return portable.scatter_rows(base, index, x, rows, operation)
    values = x.detach().reshape(len(index), width).contiguous()
    top = torch.zeros(1, dtype=torch.int32, device=x.device)
    held = None if base is None else base.detach().contiguous()
    for given in (values, *(() if held is None else (held,))):
        launch(top_kernel, _grid(given), given, top, given.numel(), block=BLOCK)
    sums = torch.zeros((rows, width), dtype=torch.int64, device=x.device)
    bits = sum_bits(len(index) + 1)
    numbers = (values.numel(), width, rows, bits)
    launch(add_kernel, _grid(values), values, index.contiguous(), sums, top, *numbers, block=BLOCK)
    if int(top) >= INFINITE:
        if int(index.max()) >= rows:
            raise IndexError(f"{operation}: expected indices below {rows}, got {int(index.max())}")
        raise NonFiniteError(operation)
    out = torch.empty((rows, width), device=x.device)
    pointer, has_base = (sums, False) if held is None else (held, True)
    launch(finish_kernel, _grid(out), sums, pointer, out, top, out.numel(), bits, has_base=has_base, block=BLOCK)
    return out


def _grid(x: Tensor) -> tuple[int]:
    return (-(-x.numel() // BLOCK),)
