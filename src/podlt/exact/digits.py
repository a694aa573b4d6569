"""Cut float32 matrices into digits for exact products, and keep the digits of what does not change.

The planes of one operand lie along the contracted dimension, of the left one most significant first, of the
right one last: then all products of one level are a single matrix product of slices.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from podlt.exact import kernels_digits, workspace
from podlt.exact.rules import Array, NonFiniteError

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Digits:
    """One operand of products, cut.

    planes: int8 (b, m, digits * k) for a left operand, (b, digits * k, n) for a right one, any strides.
    exponents: int64 (b, m) or (b, n).
    """

    planes: torch.Tensor
    exponents: Array


class DigitCache:
    """Keeps the digits of tensors that do not change while it is in force: cut once, used by every execution.

    The caller promises that the memory of `tensors` is not written while the cache is entered (`with cache:`);
    in-place changes made through torch are noticed, by the tensor's version, and cut again.

    Args:
        tensors: typically the parameters of a round. References are kept, so their memory cannot be reused.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._held = {t.data_ptr(): t for t in tensors if t.numel()}
        self._cut: dict[tuple[object, ...], tuple[int, Digits]] = {}
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

    def get(self, key: tuple[object, ...], x: torch.Tensor) -> Digits | None:
        """The digits kept under `key`, unless `x` was changed since."""
        found = self._cut.get(key)
        return found[1] if found is not None and found[0] == x._version else None

    def put(self, key: tuple[object, ...], x: torch.Tensor, digits: Digits) -> None:
        """Keep `digits` under `key` for as long as `x` is unchanged."""
        self._cut[key] = (x._version, digits)


def cut_left(x: torch.Tensor, digits: int, operation: str) -> Digits:
    """Cut the left operand of a product, float32 (b, m, k) with any strides, along k.

    Raises:
        NonFiniteError: naming `operation`.
    """
    return _cached(x, "left", digits, operation)


def cut_right(x: torch.Tensor, digits: int, operation: str) -> Digits:
    """Cut the right operand of a product, float32 (b, k, n) with any strides, along k.

    Raises:
        NonFiniteError: naming `operation`.
    """
    return _cached(x, "right", digits, operation)


def _cached(x: torch.Tensor, side: str, digits: int, operation: str) -> Digits:
    cache: DigitCache | None = getattr(_local, "cache", None)
    if cache is None or not cache.holds(x):
        return _cut(x, side, digits, operation, keep=False)
    key = (x.data_ptr(), tuple(x.shape), x.stride(), side, digits)
    found = cache.get(key, x)
    if found is None:
        found = _cut(x, side, digits, operation, keep=True)
        cache.put(key, x, found)
    return found


def _cut(x: torch.Tensor, side: str, digits: int, operation: str, keep: bool) -> Digits:
    """Cut along the contracted dimension in the memory order that `x` has: no transposed copy is made.

    Digits that are not kept live in scratch memory until the next operand of the same side is cut.
    """
    batches, rows, columns = x.shape
    x = x.detach()
    if x.is_contiguous():
        along_rows = side == "left"
    elif x.mT.is_contiguous():
        x, along_rows = x.mT, side == "right"
        rows, columns = columns, rows
    else:
        x, along_rows = x.contiguous(), side == "left"
    values = x.numpy()
    if along_rows:
        planes = _planes((batches, rows, digits * columns), side, keep)
        exponents = np.empty((batches, rows), np.int64)
        flat = values.reshape(batches * rows, columns)
        finite = kernels_digits.cut_rows(
            flat,
            flat.view(np.uint32),
            planes.reshape(batches * rows, digits * columns),
            exponents.reshape(-1),
            digits,
            side == "right",
        )
    else:
        planes = _planes((batches, digits * rows, columns), side, keep)
        exponents = np.empty((batches, columns), np.int64)
        finite = kernels_digits.cut_columns(values, values.view(np.uint32), planes, exponents, digits, side == "right")
    if not finite:
        raise NonFiniteError(operation)
    cut = torch.from_numpy(planes)
    return Digits(cut if along_rows == (side == "left") else cut.mT, exponents)


def _planes(shape: tuple[int, ...], side: str, keep: bool) -> Array:
    return np.empty(shape, np.int8) if keep else workspace.take(f"planes {side}", shape, np.int8)
