"""The definition of pooling and of sums at given places, cell by cell, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition.products import exact_sum, exponent_of

Sizes = Sequence[int]
Span = tuple[int, int, int]


def pair(values: Sizes) -> tuple[int, int]:
    """One number stands for both directions."""
    return int(values[0]), int(values[-1])


def output_length(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """How many windows of `k` cells, `d` apart, start every `s` cells on a line of n with p cells around.

    With `ceil`, also the one that only begins on the line or on the padding before it.
    """
    span = n + 2 * p - d * (k - 1) - 1
    length = -(-span // s) + 1 if ceil else span // s + 1
    return length - 1 if ceil and (length - 1) * s >= n + p else length


def max_pool(
    x: Array, kernel: Sizes, stride: Sizes = (), padding: Sizes = (0,), dilation: Sizes = (1,), ceil: bool = False
) -> tuple[Array, Array]:
    """The first largest value of each window, in row-major order, and its place in the plane; the last NaN wins."""
    k, s, p, d = pair(kernel), pair(stride or kernel), pair(padding), pair(dilation)
    h, w = x.shape[-2:]
    size = [output_length((h, w)[i], k[i], s[i], p[i], d[i], ceil) for i in (0, 1)]
    planes = x.reshape(-1, h, w)
    out = np.zeros((len(planes), *size), np.float32)
    index = np.zeros(out.shape, np.int64)
    for b, i, j in np.ndindex(out.shape):
        place = -1
        for y in range(i * s[0] - p[0], i * s[0] - p[0] + d[0] * k[0], d[0]):
            for z in range(j * s[1] - p[1], j * s[1] - p[1] + d[1] * k[1], d[1]):
                if 0 <= y < h and 0 <= z < w:
                    v = planes[b, y, z]
                    if place < 0 or v > out[b, i, j] or np.isnan(v):
                        out[b, i, j], place = v, y * w + z
        index[b, i, j] = place
    return out.reshape(*x.shape[:-2], *size), index.reshape(*x.shape[:-2], *size)


def max_pool_backward(
    grad: Array, x: Array, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool, index: Array
) -> Array:
    """The exact sum of what each value was the largest for; one exponent a plane, and as many terms as a window's."""
    k = pair(kernel)
    planes = grad.reshape(-1, grad.shape[-2] * grad.shape[-1])
    area = x.shape[-2] * x.shape[-1]
    places = index.reshape(planes.shape)
    out = [
        exact_sum(row[where == place], exponent_of(row), k[0] * k[1])
        for row, where in zip(planes, places, strict=True)
        for place in range(area)
    ]
    return np.array(out, np.float32).reshape(x.shape)


def average_pool(
    x: Array,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> Array:
    """The exact sum of each window, divided by its number of cells (with the padding's or not) or by `divisor`."""
    return _average(x, _windows(x.shape, kernel, stride, padding, ceil, include_pad), divisor)


def average_pool_backward(
    grad: Array,
    x: Array,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> Array:
    """The exact sum of the shares of all windows that a value is in; one exponent a tensor.

    As many terms are allowed for as all windows have cells at most, and one.
    """
    return _average_backward(grad, x, _windows(x.shape, kernel, stride, padding, ceil, include_pad), divisor)


def adaptive_average_pool(x: Array, size: Sizes) -> Array:
    """`average_pool` with windows from floor(i m / n) to ceil((i + 1) m / n)."""
    return _average(x, _adaptive(x.shape, size), None)


def adaptive_average_pool_backward(grad: Array, x: Array) -> Array:
    """`average_pool_backward` with the windows of `adaptive_average_pool`."""
    return _average_backward(grad, x, _adaptive(x.shape, grad.shape[-2:]), None)


def scatter_sum(base: Array, places: Sequence[int], terms: Array) -> Array:
    """Flat `base` plus every term at its place (< 0: nowhere), exactly; one exponent, and len(terms) + 1 terms."""
    exponent = exponent_of(np.concatenate([base, terms]))
    found = np.asarray(places, np.int64)
    sums = [exact_sum([base[i], *terms[found == i]], exponent, len(terms) + 1) for i in range(len(base))]
    return np.array(sums, np.float32)


def _windows(
    shape: tuple[int, ...], kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include_pad: bool
) -> tuple[list[Span], list[Span]]:
    """(first cell, last cell + 1, counted cells) of each window, by rows and by columns."""
    k, s, p = pair(kernel), pair(stride or kernel), pair(padding)

    def line(axis: int) -> Iterator[Span]:
        n = shape[len(shape) - 2 + axis]
        for i in range(output_length(n, k[axis], s[axis], p[axis], 1, ceil)):
            first = i * s[axis] - p[axis]
            inside = max(first, 0), min(first + k[axis], n)
            yield *inside, min(first + k[axis], n + p[axis]) - first if include_pad else inside[1] - inside[0]

    return list(line(0)), list(line(1))


def _adaptive(shape: tuple[int, ...], size: Sizes) -> tuple[list[Span], list[Span]]:
    def line(axis: int) -> Iterator[Span]:
        m, n = shape[len(shape) - 2 + axis], int(size[axis])
        for i in range(n):
            first, stop = i * m // n, -(-(i + 1) * m // n)
            yield first, stop, stop - first

    return list(line(0)), list(line(1))


def _average(x: Array, windows: tuple[list[Span], list[Span]], divisor: int | None) -> Array:
    rows, columns = windows
    planes = x.reshape(-1, *x.shape[-2:])
    out = np.zeros((len(planes), len(rows), len(columns)), np.float32)
    for b, i, j in np.ndindex(out.shape):
        (top, bottom, high), (left, right, wide) = rows[i], columns[j]
        out[b, i, j] = exact_sum(planes[b, top:bottom, left:right]) / np.float32(divisor or high * wide)
    return out.reshape(*x.shape[:-2], len(rows), len(columns))


def _average_backward(grad: Array, x: Array, windows: tuple[list[Span], list[Span]], divisor: int | None) -> Array:
    rows, columns = windows
    places: list[int] = []
    terms: list[np.float32] = []
    numbers = np.arange(x.size).reshape(-1, *x.shape[-2:])
    for b, i, j in np.ndindex(len(numbers), len(rows), len(columns)):
        (top, bottom, high), (left, right, wide) = rows[i], columns[j]
        share = grad.reshape(len(numbers), len(rows), len(columns))[b, i, j] / np.float32(divisor or high * wide)
        inside = numbers[b, top:bottom, left:right].reshape(-1)
        places.extend(inside)
        terms.extend([np.float32(share)] * len(inside))
    return scatter_sum(np.zeros(x.size, np.float32), places, np.array(terms, np.float32)).reshape(x.shape)
