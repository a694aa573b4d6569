"""Cut float32 matrices into digits for exact products, and keep the digits of what does not change.

The planes of one operand lie along the contracted dimension, of the left one most significant first, of the
right one last: then all products of one level are a single matrix product of slices.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TypeVar, cast

import numpy as np
import torch

from podlt.exact.constants import ADAPTIVE, NARROW_DIGITS, WIDE_DIGITS, Array, NonFiniteError
from podlt.exact.cpu import scratch
from podlt.exact.cpu.kernels import digits as kernels_digits

_local = threading.local()
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Digits:
    """One operand of products, cut.

    Args:
        planes: int8 (b, m, digits * k) for a left operand, (b, digits * k, n) for a right one, any strides.
        exponents: int64 (b, m) or (b, n).
        place: the address of the exponents.
        levels: for each matrix, the planes that take part in each level: the first of a left operand, the last of a
            right one.
        wide: uint8 (b, m) or (b, n): which lines need four digits, if they decide themselves (`ADAPTIVE`). All are
            cut into two here.
        wide_lines: how many do.
    """

    planes: torch.Tensor
    exponents: Array
    place: int
    levels: tuple[tuple[torch.Tensor, ...], ...]
    wide: Array
    wide_lines: int = 0


class DigitCache:
    """Keeps the digits of tensors that do not change while it is in force: cut once, used by every execution.

    The caller promises that the memory of `tensors` is not written while the cache is entered (`with cache:`);
    in-place changes made through torch are noticed, by the tensor's version, and cut again.

    Args:
        tensors: typically the parameters of a round. References are kept, so their memory cannot be reused.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._held = {t.data_ptr(): t for t in tensors if t.numel()}
        self._cut: dict[tuple[object, ...], tuple[int, object]] = {}
        self._outer: DigitCache | None = None

    def __enter__(self) -> DigitCache:
        self._outer = getattr(_local, "cache", None)
        _local.cache = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _local.cache = self._outer

    def holds(self, x: torch.Tensor) -> bool:
        """Whether `x` is a held tensor or a permuted view of the whole of one."""
        held = self._held.get(x.data_ptr())
        return held is not None and held.numel() == x.numel() and held.dtype == x.dtype

    def get(self, key: tuple[object, ...], x: torch.Tensor) -> object | None:
        """The digits kept under `key`, unless `x` was changed since."""
        found = self._cut.get(key)
        return found[1] if found is not None and found[0] == x._version else None

    def put(self, key: tuple[object, ...], x: torch.Tensor, digits: object) -> None:
        """Keep `digits` under `key` for as long as `x` is unchanged."""
        self._cut[key] = (x._version, digits)


def cut_left(x: torch.Tensor, digits: int, operation: str) -> Digits:
    """Cut the left operand of products, float32 (m, k) or (b, m, k) with any strides, along k.

    Raises:
        NonFiniteError: naming `operation`.
    """
    return cached(x, "left", digits, lambda keep: _cut(x, "left", digits, operation, keep))


def cut_right(x: torch.Tensor, digits: int, operation: str) -> Digits:
    """Cut the right operand of products, float32 (k, n) or (b, k, n) with any strides, along k.

    Raises:
        NonFiniteError: naming `operation`.
    """
    return cached(x, "right", digits, lambda keep: _cut(x, "right", digits, operation, keep))


def cached(x: torch.Tensor, side: str, digits: int, cut: Callable[[bool], D]) -> D:
    """What `cut` makes of `x`, which is told whether it is kept: once only, where the cache in force holds `x`."""
    cache: DigitCache | None = getattr(_local, "cache", None)
    if cache is None or not cache.holds(x):
        return cut(False)
    key = (x.data_ptr(), x.shape, x.stride(), side, digits)
    found = cache.get(key, x)
    if found is None:
        found = cut(True)
        cache.put(key, x, found)
    return cast(D, found)


def in_memory(x: torch.Tensor, side: str) -> tuple[torch.Tensor, bool, int, int, int]:
    """How an operand lies: contiguous, whether its lines are rows there, how many matrices, their rows and columns.

    No transposed copy is made of one that is contiguous, or whose matrices are once they are transposed.
    """
    shape = x.shape
    batches, rows, columns = shape if len(shape) == 3 else (1, *shape)
    if x.is_contiguous():
        return x, side == "left", batches, rows, columns
    if x.stride()[-2:] == (1, rows) and (batches == 1 or x.stride()[0] == rows * columns):
        return x.mT, side == "right", batches, columns, rows
    return x.contiguous(), side == "left", batches, rows, columns


def _cut(x: torch.Tensor, side: str, digits: int, operation: str, keep: bool) -> Digits:
    """Cut along the contracted dimension in the memory order that `x` has.

    Digits that are not kept live in scratch memory until the next operand of the same side is cut.
    """
    x, along_rows, batches, rows, columns = in_memory(x, side)
    key = (side, along_rows, batches, rows, columns, digits)
    found, planes, marks = _room(*key, keep=True) if keep else scratch.view(key, lambda: _room(*key, keep=False))
    wide = kernels_digits.cut_at(
        scratch.address(x), along_rows, batches, rows, columns, planes, found.place, marks, digits, side == "right"
    )
    if wide == kernels_digits.NOT_FINITE:
        raise NonFiniteError(operation)
    return replace(found, wide_lines=wide) if wide else found


def cut_wide(rows: torch.Tensor, side: str) -> tuple[torch.Tensor, Array]:
    """Four digits of each of some rows, float32 (m, k), finite, any strides, as planes along k of an operand.

    Returns:
        int8 (m, 4 * k) for a left operand, (4 * k, m) for a right one, and exponents (m,); in scratch memory.
    """
    values: Array = rows.detach().contiguous().numpy()
    planes = scratch.take(f"wide {side}", (values.shape[0], WIDE_DIGITS * values.shape[1]), np.int8)
    exponents = np.empty(len(values), np.int64)
    kernels_digits.cut_wide(values, planes, exponents, side == "right")
    cut = torch.from_numpy(planes)
    return (cut if side == "left" else cut.t()), exponents


def _room(
    side: str, along_rows: bool, batches: int, rows: int, columns: int, digits: int, keep: bool
) -> tuple[Digits, int, int]:
    """Memory for the digits of an operand as it lies in memory, and where the planes and the marks begin."""
    digits = digits if digits != ADAPTIVE else NARROW_DIGITS
    shape = (batches, rows, digits * columns) if along_rows else (batches, digits * rows, columns)
    lines = (batches, rows if along_rows else columns)
    planes: Array = np.empty(shape, np.int8) if keep else scratch.take(f"planes {side}", shape, np.int8)
    exponents: Array = np.empty(lines, np.int64) if keep else scratch.take(f"exponents {side}", lines, np.int64)
    wide: Array = np.empty(lines, np.uint8) if keep else scratch.take(f"wide lines {side}", lines, np.uint8)
    cut = torch.from_numpy(planes)
    cut = cut if along_rows == (side == "left") else cut.mT
    k = columns if along_rows else rows
    if side == "left":
        levels = tuple(tuple(one[:, : (level + 1) * k] for level in range(digits)) for one in cut)
    else:
        levels = tuple(tuple(one[(digits - 1 - level) * k :] for level in range(digits)) for one in cut)
    found = Digits(cut, exponents, exponents.ctypes.data, levels, wide)
    return found, planes.ctypes.data, wide.ctypes.data
