"""The definition of what moves values, makes them from numbers, compares or computes them one by one, in NumPy.

A float is binary32, a whole number int64, and a pair of both is taken as floats; NumPy rounds each operation once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from podlt.exact.constants import Array

Number = float | int


def common(*operands: Array | Number | None) -> list[Any]:
    """The operands in one type: float32 if one is a float, else int64 if one is a whole number, else bool."""
    kinds = {np.asarray(value).dtype.kind for value in operands if value is not None}
    kind = np.float32 if "f" in kinds else np.int64 if "i" in kinds else np.bool_
    return [None if value is None else np.asarray(value).astype(kind) for value in operands]


def scaled(b: Array | Number, alpha: Number) -> Array | Number:
    """alpha * b, rounded on its own."""
    if alpha == 1:
        return b
    x, y = common(b, alpha)
    product: Array = x * y
    return product


def add(a: Array, b: Array | Number, alpha: Number = 1) -> Array:
    """a + alpha b, two roundings."""
    x, y = common(a, scaled(b, alpha))
    return np.asarray(x + y)


def sub(a: Array | Number, b: Array | Number, alpha: Number = 1) -> Array:
    """a - alpha b, two roundings."""
    x, y = common(a, scaled(b, alpha))
    return np.asarray(x - y)


def mul(a: Array, b: Array | Number) -> Array:
    """a b."""
    x, y = common(a, b)
    return np.asarray(x * y)


def div(a: Array, b: Array | Number) -> Array:
    """a / b in binary32."""
    return np.asarray(a.astype(np.float32) / np.asarray(b).astype(np.float32))


def fmod(a: Array, b: Array) -> Array:
    """a - b trunc(a / b) with the sign of a: exact. NaN for an infinite a or a b of 0."""
    x, y = np.broadcast_arrays(a, b)
    out = np.full(x.shape, np.nan, np.float32)
    for i in np.ndindex(x.shape):
        if np.isinf(y[i]) and np.isfinite(x[i]):
            out[i] = x[i]
        elif np.isfinite(x[i]) and np.isfinite(y[i]) and y[i] != 0:
            p, q = Fraction(float(x[i])), Fraction(float(y[i]))
            out[i] = np.copysign(np.float32(float(p - q * int(p / q))), x[i])
    return out


def remainder(a: Array, b: Array | Number) -> Array:
    """a - b floor(a / b), with the sign of b: `fmod`, plus b if that has the other sign."""
    x, y = common(a, b)
    if x.dtype.kind != "f":
        return np.asarray(np.mod(x, y))
    r = fmod(x, y)
    return np.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)


def floor_quotient(a: Array, b: Array, *, rounding_mode: str) -> Array:
    """The whole number at or below a / b, by `fmod`: ATen's sequence, exact as long as the quotient is."""
    x, y = common(a, b)
    if x.dtype.kind != "f":
        return np.asarray(x // y)
    r, one = fmod(x, y), np.float32(1.0)
    q = (x - r) / y
    q = np.where((r != 0) & ((r < 0) != (y < 0)), q - one, q)
    whole = np.floor(q)
    whole = np.where(q - whole > np.float32(0.5), whole + one, whole)
    whole = np.where(q == 0, np.copysign(np.float32(0.0), x / y), whole)
    return np.asarray(np.where(y == 0, x / y, whole))


def rounded(x: Array) -> Array:
    """The nearest whole number, ties to even."""
    return np.asarray(np.rint(x) if x.dtype.kind == "f" else x)


def maximum(a: Array, b: Array) -> Array:
    """IEEE 754-2019, 9.6: the larger, +0 above -0, a NaN wins."""
    found = np.maximum(a, b)
    return _zeros(found, np.signbit(a) & np.signbit(b)) if found.dtype.kind == "f" else found


def minimum(a: Array, b: Array) -> Array:
    """IEEE 754-2019, 9.6: the smaller, -0 below +0, a NaN wins."""
    found = np.minimum(a, b)
    return _zeros(found, np.signbit(a) | np.signbit(b)) if found.dtype.kind == "f" else found


def clamp(x: Array, low: Array | Number | None = None, high: Array | Number | None = None) -> Array:
    """`low` where x < low, then `high` where that is above it; zeros keep their sign, a NaN, of a bound too, stays."""
    x, low, high = common(x, low, high)
    if low is not None:
        x = np.where((x < low) | np.isnan(low), low, x)
    if high is not None:
        x = np.where((x > high) | np.isnan(high), high, x)
    return np.asarray(x)


def where(condition: Array, a: Array | Number, b: Array | Number) -> Array:
    """a where the condition holds, else b."""
    found: Array = np.where(condition, *common(a, b))
    return found


def filled(x: Array, mask: Array, value: Array | Number) -> Array:
    """`value` where the mask holds, else x."""
    return np.where(mask, np.asarray(value).astype(x.dtype), x)


def cast(x: Array, *, dtype: Any) -> Array:
    """To another type: whole numbers by cutting fractions off, int64 to binary32 rounded to nearest, ties to even."""
    if x.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
        return np.array([int(value) for value in x.reshape(-1)], dtype).reshape(x.shape)
    return x.astype(dtype)


def arange(*numbers: Number, dtype: Any = None) -> Array:
    """start (0), end, step (1): start + i step while it is before `end`.

    Floats are computed in binary64, each operation rounded, and then rounded to binary32.
    """
    start, end, step = (*((0, *numbers) if len(numbers) == 1 else numbers), 1)[:3]
    count = int(np.ceil((np.float64(end) - np.float64(start)) / np.float64(step)))
    whole = all(isinstance(value, int) for value in (start, end, step))
    if whole and dtype in (None, np.int64):
        return np.array([start + i * step for i in range(count)], np.int64)
    return np.array([np.float64(start) + np.float64(i) * np.float64(step) for i in range(count)], np.float32)


def full(shape: Sequence[int], value: Number, *, dtype: Any = None) -> Array:
    """One value everywhere: float32, int64 or bool after it, unless `dtype` says otherwise."""
    return np.full(tuple(shape), value, dtype or common(value)[0].dtype)


def pad(x: Array, amounts: Sequence[int], value: Number = 0) -> Array:
    """`value` around `x`, amounts from the last dimension on, before and after; less than nothing cuts off."""
    for i in range(len(amounts) // 2):
        axis, before, after = x.ndim - 1 - i, amounts[2 * i], amounts[2 * i + 1]
        x = cut(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
        widths = [(0, 0)] * x.ndim
        widths[axis] = max(before, 0), max(after, 0)
        x = np.pad(x, widths, constant_values=value)
    return x


def cut(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    """The values from `start` to before `end` along `dim`."""
    found: Array = x[window(x.ndim, dim, slice(start, end, step))]
    return found


def window(ndim: int, dim: int, place: Any) -> tuple[Any, ...]:
    """An index that takes `place` along `dim`, and all of the others."""
    found: list[Any] = [slice(None)] * ndim
    found[dim] = place
    return tuple(found)


def replaced(x: Array, source: Array, dim: int, place: Any) -> Array:
    """`x` with `source` at `place` along `dim`."""
    out = x.copy()
    out[window(x.ndim, dim, place)] = source
    return out


def expand(x: Array, shape: Sequence[int]) -> Array:
    """`x` repeated to a shape, in which -1 stands for its own size."""
    own = [1] * (len(shape) - x.ndim) + list(x.shape)
    return np.broadcast_to(x, [o if n == -1 else n for o, n in zip(own, shape, strict=True)])


def squeeze(x: Array, dims: int | Sequence[int]) -> Array:
    """`x` without those of these dimensions that are 1."""
    asked = [dims] if isinstance(dims, int) else dims
    return np.squeeze(x, tuple(d % x.ndim for d in asked if x.shape[d] == 1))


def split(x: Array, size: int, dim: int = 0) -> list[Array]:
    """`x` cut along `dim` into pieces of one size, the last of what is left."""
    n = x.shape[dim]
    return pieces(x, [min(size, n - i) for i in range(0, n, size)], dim)


def roll(x: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    """The values moved on by so many places along each of `dims` (none: in row-major order), the last to the front."""
    return np.roll(x, tuple(shifts), tuple(dims)) if dims else np.roll(x, shifts[0])


def pieces(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    """`x` cut along `dim` into pieces of these sizes."""
    return np.split(x, np.cumsum(sizes)[:-1], axis=dim)


def gather(x: Array, dim: int, index: Array) -> Array:
    """What stands at the places that `index` names along `dim`."""
    out = np.zeros(index.shape, x.dtype)
    for place in np.ndindex(index.shape):
        source = list(place)
        source[dim] = int(index[place])
        out[place] = x[tuple(source)]
    return out


def rows_over(x: Array, dims: Sequence[int] | None) -> tuple[Array, list[int]]:
    """What lies along `dims` (none: all) as rows, and those dimensions."""
    axes = sorted({d % x.ndim for d in dims}) if dims and x.ndim else list(range(x.ndim))
    kept = [d for d in range(x.ndim) if d not in axes]
    count = int(np.prod([x.shape[d] for d in kept], dtype=np.int64))
    length = int(np.prod([x.shape[d] for d in axes], dtype=np.int64))
    return x.transpose(*kept, *axes).reshape(count, length), axes


def shaped(found: Array, x: Array, axes: list[int], keepdim: bool) -> Array:
    """One value a row of `rows_over`, in the shape that is left of `x`."""
    sizes = [1 if d in axes else n for d, n in enumerate(x.shape) if keepdim or d not in axes]
    return np.asarray(found).reshape(sizes)


def _zeros(x: Array, negative: Array) -> Array:
    return np.where(x == 0, np.where(negative, np.float32(-0.0), np.float32(0.0)), x)
