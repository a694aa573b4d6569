"""The definition of what selects, orders or places values, and of the two reductions that are neither sum nor product.

Nothing here rounds, except `prod`, `logsumexp` and what is added at places. Where not said otherwise values compare
as in IEEE 754: -0 equals +0, an infinity is a value like any other, and a NaN has no place in an order: an error that
names the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from podlt.errors import UsageError
from podlt.exact.constants import Array, NanError, NonFiniteError
from podlt.exact.definition.elementary import exp, log
from podlt.exact.definition.pooling import scatter_sum
from podlt.exact.definition.products import exact_sum, exponent_of
from podlt.exact.definition.structure import gather, rows_over, scaled, shaped

Line = Callable[[Array], Array]


def ordered(x: Array, operation: str) -> None:
    """Refuses what has no order.

    Raises:
        NanError: a value is a NaN.
    """
    if x.dtype.kind == "f" and np.isnan(x).any():
        raise NanError(operation)


def sort(x: Array, dim: int = -1, descending: bool = False, operation: str = "sort") -> tuple[Array, Array]:
    """Each line along `dim` in order, and where its values stood; equal values keep the order in which they stood."""
    ordered(x, operation)

    def line(values: Array) -> Array:
        places = range(len(values))
        if descending:
            return np.array(sorted(places, key=lambda i: -values[i] if values.dtype.kind == "f" else -int(values[i])))
        return np.array(sorted(places, key=lambda i: values[i]))

    index = _by_line(x, dim, line)
    return _taken(x, index, dim), index


def topk(x: Array, k: int, dim: int = -1, largest: bool = True, in_order: bool = True) -> tuple[Array, Array]:
    """The first k of `sort`, descending for the largest; in that order whether or not the caller wants one.

    Raises:
        UsageError: a line holds fewer than k values.
    """
    values, index = sort(x, dim, largest, "topk")
    length = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= length:
        raise UsageError(f"topk: expected k from 0 to {length}, got {k}")
    window = [slice(None)] * max(x.ndim, 1)
    window[dim] = slice(0, k)
    if x.ndim == 0:
        return values, index
    return values[tuple(window)], index[tuple(window)]


def extreme(x: Array, dim: int, keepdim: bool, sign: int, operation: str) -> tuple[Array, Array]:
    """The largest (`sign` 1) or smallest (-1) value of each line along `dim`, the first of equal ones; and its index.

    Raises:
        UsageError: the lines are empty.
    """
    ordered(x, operation)
    if x.ndim and x.shape[dim] == 0:
        raise UsageError(f"{operation}: expected at least one value in each line, got none")

    def line(values: Array) -> Array:
        best = 0
        for i in range(1, len(values)):
            if (values[i] > values[best]) if sign > 0 else (values[i] < values[best]):
                best = i
        return np.array([best])

    index = _by_line(x, dim, line)
    values = _taken(x, index, dim)
    if keepdim or not x.ndim:
        return values, index
    return values.squeeze(dim), index.squeeze(dim)


def argmax(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Where the first of the largest values of each line stands; of all values in row-major order without `dim`."""
    if dim is None:
        index = extreme(x.reshape(-1), 0, False, 1, "argmax")[1]
        return index.reshape([1] * x.ndim) if keepdim else index
    return extreme(x, dim, keepdim, 1, "argmax")[1]


def extremum(x: Array, dims: Sequence[int], keepdim: bool, sign: int, operation: str) -> Array:
    """aten::amax (`sign` 1) and amin (-1) over `dims` (none: all): here -0 is below +0, and a NaN wins over all.

    Raises:
        UsageError: there is nothing to choose from.
    """
    axes = tuple(d % x.ndim for d in dims) if dims and x.ndim else tuple(range(x.ndim))
    if any(x.shape[d] == 0 for d in axes):
        raise UsageError(f"{operation}: expected at least one value in each line, got none")
    found: Array = np.asarray((np.max if sign > 0 else np.min)(x, axis=axes, keepdims=keepdim))
    if x.dtype.kind != "f":
        return found
    wins = (x == 0) & (np.signbit(x) == (sign < 0))
    zero = np.where(np.any(wins, axis=axes, keepdims=keepdim), sign * np.float32(0.0), sign * -np.float32(0.0))
    return np.where(found == 0, zero, found).astype(np.float32)


def prod(x: Array) -> Array:
    """The product of all values in a written order: ones are appended up to a power of two; then, until one is left,
    the first half times the second half. Each product is one float32 operation. Integers wrap at 64 bits."""
    values = x.reshape(-1).astype(np.float32 if x.dtype.kind == "f" else np.int64)
    size = 1 << max(len(values) - 1, 0).bit_length()
    values = np.concatenate([values, np.ones(size - len(values), values.dtype)])
    while len(values) > 1:
        values = np.multiply(values[: len(values) // 2], values[len(values) // 2 :])
    return values.reshape(())


def cumprod(x: Array, dim: int) -> Array:
    """The products of the prefixes along `dim`, from the first value on: one float32 operation each."""
    out = x.astype(np.float32 if x.dtype.kind == "f" else np.int64)
    lines = np.moveaxis(out, dim, 0) if out.ndim else out.reshape(1)
    for i in range(1, len(lines)):
        lines[i] = lines[i - 1] * lines[i]
    return out


def logsumexp(x: Array, dims: Sequence[int], keepdim: bool = False) -> Array:
    """max + log(exact sum of exp(x - max)) over `dims` (none: all); -inf where there is nothing but -inf, or nothing.

    Raises:
        NonFiniteError: a value is +inf.
        NanError: a value is a NaN.
    """
    ordered(x, "logsumexp")
    if (x == np.inf).any():
        raise NonFiniteError("logsumexp")
    rows, axes = rows_over(x, dims)
    return shaped(np.array([_log_of_sum(row) for row in rows], np.float32), x, axes, keepdim)


def scatter(x: Array, dim: int, index: Array, source: Array | float) -> Array:
    """`x` with `source` at the places that `index` names along `dim`.

    Raises:
        UsageError: values from a tensor name one place twice.
    """
    out = x.copy()
    met = set()
    for place in np.ndindex(index.shape):
        target = list(place)
        if target:
            target[dim] = int(index[place])
        if isinstance(source, np.ndarray) and tuple(target) in met:
            raise UsageError("scatter: expected different places, got one twice: the result would depend on order")
        met.add(tuple(target))
        out[tuple(target)] = source[place] if isinstance(source, np.ndarray) else source
    return out


def at(x: Array, indices: Sequence[Array | None]) -> Array:
    """What stands where `indices` say for the first dimensions, None for all of one."""
    found: Array = x[tuple(slice(None) if index is None else index for index in indices)]
    return found


def index_put(x: Array, indices: Sequence[Array | None], source: Array, accumulate: bool = False) -> Array:
    """`x` with `source` where `indices` say, or added there."""
    places = at(_numbers(x), indices)
    source = np.broadcast_to(source, places.shape)
    if accumulate:
        return _added(x, places, source)
    return scatter(x.reshape(-1), 0, places.reshape(-1), source.reshape(-1)).reshape(x.shape)


def scatter_add(x: Array, dim: int, index: Array, source: Array) -> Array:
    """`x` with `source` added at the places that `index` names along `dim`."""
    return _added(x, gather(_numbers(x), dim, index), source[tuple(slice(0, n) for n in index.shape)])


def index_add(x: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    """`x` with `alpha` times each slice of `source` added to the slice that `index` names."""
    return _added(x, np.take(_numbers(x), index, dim), np.asarray(scaled(source, alpha)))


def embedding_backward(grad: Array, index: Array, rows: int, padding: int, by_frequency: bool) -> Array:
    """The exact sum of each row's gradients, but for `padding`: one exponent, len(index) + 1 terms."""
    places, flat = index.reshape(-1), grad.reshape(index.size, grad.shape[-1])
    exponent = exponent_of(flat)
    out = np.zeros((rows, flat.shape[1]), np.float32)
    for row, column in np.ndindex(out.shape):
        if row != padding:
            out[row, column] = exact_sum(flat[places == row, column], exponent, index.size + 1)
    return out


def _numbers(x: Array) -> Array:
    """The place of each element in row-major order."""
    return np.arange(x.size).reshape(x.shape)


def _added(x: Array, places: Array, source: Array) -> Array:
    """`x` with each element of `source` added at its flat place: exactly where floats, see `scatter_sum`."""
    if x.dtype.kind != "f":
        out = x.reshape(-1).copy()
        np.add.at(out, places.reshape(-1), source.reshape(-1))
        return out.reshape(x.shape)
    return scatter_sum(x.reshape(-1), places.reshape(-1).tolist(), source.reshape(-1)).reshape(x.shape)


def _log_of_sum(row: Array) -> np.float32:
    largest = np.max(row, initial=np.float32(-np.inf))
    if largest == -np.inf:
        return np.float32(-np.inf)
    return np.float32(log(np.array([exact_sum(exp(row - largest))]))[0] + largest)


def _by_line(x: Array, dim: int, line: Line) -> Array:
    """What `line` makes of each line along `dim`, int64; a scalar is a line of one value."""
    if not x.ndim:
        return line(x.reshape(1)).astype(np.int64).reshape(())
    if x.size:
        return np.apply_along_axis(line, dim, x).astype(np.int64)
    count = len(line(np.zeros(x.shape[dim], x.dtype)))  # there are no lines, of so many places each
    return np.zeros([count if d == dim % x.ndim else n for d, n in enumerate(x.shape)], np.int64)


def _taken(x: Array, index: Array, dim: int) -> Array:
    return np.take_along_axis(x, index, dim) if x.ndim else x
