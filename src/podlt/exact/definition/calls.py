"""The definitions of sums, products and normalisations under ATen's signatures: dimensions, groups, optional parts.

The steps themselves are in `products` and `layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition import layers as steps
from podlt.exact.definition import volumes
from podlt.exact.definition.elementary import power, rsqrt
from podlt.exact.definition.products import exact_sum, exponent_of, mm
from podlt.exact.definition.selection import extremum
from podlt.exact.definition.structure import rows_over, scaled, shaped

Dims = Sequence[int] | None
Triple = tuple[Array | None, Array | None, Array | None]


def total(x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    """The exact sum over `dims`; of whole numbers and bools, as int64."""
    rows, axes = rows_over(x, dims)
    sums = steps.row_sums(rows) if x.dtype.kind == "f" else np.array([sum(int(v) for v in row) for row in rows])
    return shaped(sums.astype(np.float32 if x.dtype.kind == "f" else np.int64), x, axes, keepdim)


def mean(x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    """The exact sum divided by the number of terms."""
    return np.asarray(total(x, dims, keepdim) / np.float32(rows_over(x, dims)[0].shape[1]))


def variance_and_mean(
    x: Array, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    """The exact sum of (x - mean)**2 divided by n - correction (1 if none, and no less than 0); and the mean."""
    n = rows_over(x, dims)[0].shape[1]
    middle = mean(x, dims, True)
    d = x - middle
    left = np.float32(max(n - (1 if correction is None else correction), 0))
    variance = np.asarray(total(d * d, dims, keepdim) / left)
    return variance, middle if keepdim else middle.reshape(variance.shape)


def vector_norm(x: Array, order: float = 2, dims: Dims = None, keepdim: bool = False) -> Array:
    """sqrt(sum x**2), sum |x|, the number of non-zeros, max |x|, min |x|; else (sum |x|**p)**(1/p)."""
    size = np.abs(x)
    if np.isinf(order):
        return extremum(size, dims or [], keepdim, 1 if order > 0 else -1, "linalg_vector_norm")
    if order == 2:
        return np.asarray(np.sqrt(total(x * x, dims, keepdim)))
    if order in (0, 1):
        return total(size if order else (x != 0).astype(np.float32), dims, keepdim)
    powers = total(power(size, np.full(x.shape, order, np.float32)), dims, keepdim)
    return power(powers, np.full(powers.shape, 1.0 / order, np.float32))


def cumulative(x: Array, dim: int) -> Array:
    """The exact sums of the prefixes along `dim`: one exponent a line, and as many terms as the line has."""
    if x.dtype.kind != "f":
        return np.cumsum(x, axis=dim)

    def line(row: Array) -> Array:
        return np.array([exact_sum(row[: i + 1], exponent_of(row), len(row)) for i in range(len(row))], np.float32)

    return np.apply_along_axis(line, dim, x) if x.size else x


def along(step: Callable[..., Array], dim: int, *tensors: Array) -> Array:
    """What a definition makes of rows, along `dim`; nothing of nothing."""
    if not tensors[0].size:
        return tensors[0]
    moved = [np.moveaxis(t, dim, -1) for t in tensors]
    rows = step(*[t.reshape(-1, t.shape[-1]) for t in moved])
    return np.moveaxis(rows.reshape(moved[0].shape), -1, dim)


def layer_norm(
    x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """`layers.layer_norm` over the last dimensions."""
    lead = [*x.shape[: x.ndim - len(shape)], *[1] * len(shape)]
    scale, shift = (None if t is None else t.reshape(-1) for t in (weight, bias))
    y, middle, factor = steps.layer_norm(x.reshape(int(np.prod(lead)), int(np.prod(shape))), scale, shift, eps)
    return y.reshape(x.shape), middle.reshape(lead), factor.reshape(lead)


def layer_norm_backward(
    grad: Array,
    x: Array,
    shape: Sequence[int],
    middle: Array,
    factor: Array,
    weight: Array | None,
    bias: Array | None,
    mask: Sequence[bool],
) -> Triple:
    """Its gradients, those that there are weights for."""
    rows = middle.size, int(np.prod(shape))
    given = grad.reshape(rows), x.reshape(rows), middle.reshape(-1), factor.reshape(-1)
    d_x, d_weight, d_bias = steps.layer_norm_backward(*given, None if weight is None else weight.reshape(-1))
    remaining = mask[0], mask[1] and weight is not None, mask[2] and bias is not None
    found = d_x.reshape(x.shape), d_weight.reshape(tuple(shape)), d_bias.reshape(tuple(shape))
    return _masked(found, remaining)


def group_norm(
    x: Array, weight: Array | None, bias: Array | None, n: int, c: int, length: int, groups: int, eps: float
) -> tuple[Array, Array, Array]:
    """`layer_norm` of each group of channels, then the weight and bias of each channel."""
    y, middle, factor = steps.layer_norm(x.reshape(n * groups, c // groups * length), None, None, eps)
    by_channel = [None if t is None else t.reshape(1, c, 1) for t in (weight, bias)]
    y = steps.affine(y.reshape(n, c, length), *by_channel)
    return y.reshape(x.shape), middle.reshape(n, groups), factor.reshape(n, groups)


def group_norm_backward(
    grad: Array,
    x: Array,
    middle: Array,
    factor: Array,
    weight: Array | None,
    n: int,
    c: int,
    length: int,
    groups: int,
    mask: Sequence[bool],
) -> Triple:
    """Its gradients."""
    g = grad.reshape(n, c, length)
    scaled_grad = steps.affine(g, None if weight is None else weight.reshape(1, c, 1), None)
    rows, m, f = x.reshape(n * groups, c // groups * length), middle.reshape(-1), factor.reshape(-1)
    d_x, _, _ = steps.layer_norm_backward(scaled_grad.reshape(rows.shape), rows, m, f, None)
    normal = ((rows - m[:, None]) * f[:, None]).reshape(n, c, length)
    return _masked((d_x.reshape(x.shape), total(g * normal, [0, 2]), total(g, [0, 2])), mask)


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, ...]:
    """Each channel as a row of `layer_norm`; running values become (1 - momentum) old + momentum new, unbiased."""
    n = int(np.prod([x.shape[0], *x.shape[2:]]))
    rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], n)
    middle, spread = running_mean, running_var
    if training:
        middle, squares = _moments(rows)
        spread = squares / np.float32(n)
        keep, take = np.float32(1.0 - momentum), np.float32(momentum)
        running_mean = keep * running_mean + take * middle
        running_var = keep * running_var + take * (squares / np.float32(max(n - 1, 1)))
    factor = rsqrt(spread + np.float32(eps))
    scale = np.ones_like(middle) if weight is None else weight
    shift = np.zeros_like(middle) if bias is None else bias
    y = ((rows - middle[:, None]) * factor[:, None]) * scale[:, None] + shift[:, None]
    out = np.moveaxis(y.reshape(x.shape[1], x.shape[0], *x.shape[2:]), 0, 1)
    nothing = np.empty(0, np.float32)
    return out, *((middle, factor) if training else (nothing, nothing)), running_mean, running_var


def batch_norm_backward(
    grad: Array,
    x: Array,
    weight: Array | None,
    running_mean: Array,
    running_var: Array,
    middle: Array,
    factor: Array,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Triple:
    """Its gradients: ((g - mean g) - h mean(g h)) (weight factor) in training, else g (weight factor)."""
    count = int(np.prod([x.shape[0], *x.shape[2:]]))
    rows, g = (np.moveaxis(t, 1, 0).reshape(t.shape[1], count) for t in (x, grad))
    if not training:
        middle, factor = running_mean, rsqrt(running_var + np.float32(eps))
    h = (rows - middle[:, None]) * factor[:, None]
    d_weight, d_bias = steps.row_sums(g * h), steps.row_sums(g)
    n = np.float32(rows.shape[1])
    slope = ((np.ones_like(middle) if weight is None else weight) * factor)[:, None]
    centred = (g - (d_bias / n)[:, None]) - h * (d_weight / n)[:, None]
    d_x = (centred if training else g) * slope
    out = np.moveaxis(d_x.reshape(x.shape[1], x.shape[0], *x.shape[2:]), 0, 1)
    return _masked((out, d_weight, d_bias), mask)


def bmm(a: Array, b: Array, digits: int) -> Array:
    """The product of each pair of matrices."""
    if not len(a):
        return np.zeros((0, a.shape[1], b.shape[2]), np.float32)
    return np.stack([mm(x, y, digits) for x, y in zip(a, b, strict=True)])


def addmm(c: Array, a: Array, b: Array, *, beta: float = 1, alpha: float = 1, digits: int) -> Array:
    """beta c + alpha (a b): the product is rounded, then scaled, then added to. Also by batches."""
    product = np.asarray(scaled((bmm if a.ndim == 3 else mm)(a, b, digits), alpha))
    return product if beta == 0 else product + scaled(c, beta)


def convolution(x: Array, weight: Array, bias: Array | None, *shape: Any, digits: int) -> Array:
    """aten::convolution in one to three dimensions; a transposed one is the gradient of the other one's input."""
    stride, padding, dilation, transposed, extra, groups = shape
    if x.ndim == 5:
        return volumes.convolution(partial(convolution, digits=digits), x, weight, bias, *shape)
    if x.ndim == 3:
        flat = [0, *stride][-2:], [0, *padding][-2:], [0, *dilation][-2:], transposed, [0, *extra][-2:], groups
        flat[0][0] = flat[2][0] = 1
        return convolution(x[:, :, None], weight[:, :, None], bias, *flat, digits=digits)[:, :, 0]
    parts = []
    for xs, ws in zip(np.split(x, groups, 1), np.split(weight, groups, 0), strict=True):
        if transposed:
            size = [
                (n - 1) * s - 2 * p + d * (k - 1) + e + 1
                for n, s, p, d, k, e in zip(x.shape[2:], stride, padding, dilation, ws.shape[2:], extra, strict=True)
            ]
            full = (len(x), ws.shape[1], *size)
            parts.append(steps.convolution_input_gradient(xs, full, ws, stride, padding, dilation, digits))
        else:
            parts.append(steps.convolution(xs, ws, stride, padding, dilation, digits))
    out = np.concatenate(parts, 1)
    return out if bias is None else out + bias[:, None, None]


def convolution_backward(grad: Array, x: Array, weight: Array, sizes: object, *rest: Any, digits: int) -> Triple:
    """The gradients of `convolution`'s input, weight and bias; zeros where there is nothing to multiply."""
    stride, padding, dilation, transposed, extra, groups, mask = rest
    d_bias = total(grad, [d for d in range(grad.ndim) if d != 1])
    if 0 in (grad.size, x.size, weight.size):
        return _masked((np.zeros_like(x), np.zeros_like(weight), d_bias), mask)
    if x.ndim == 5:
        flat_backward = partial(convolution_backward, digits=digits)
        d_x, d_weight = volumes.convolution_backward(flat_backward, grad, x, weight, *rest[:-1])
        return _masked((d_x, d_weight, d_bias), mask)
    if x.ndim == 3:
        flat = [1, *stride], [0, *padding], [1, *dilation], transposed, [0, *extra], groups, [True, True, False]
        lifted = (t[:, :, None] for t in (grad, x, weight))
        of_x, of_weight, _ = convolution_backward(*lifted, None, *flat, digits=digits)
        assert of_x is not None and of_weight is not None
        return _masked((of_x[:, :, 0], of_weight[:, :, 0], d_bias), mask)
    numbers = (stride, padding, dilation, digits)
    d_xs, d_weights = [], []
    for g, xs, ws in zip(np.split(grad, groups, 1), np.split(x, groups, 1), np.split(weight, groups, 0), strict=True):
        if transposed:
            d_xs.append(steps.convolution(g, ws, *numbers))
            d_weights.append(steps.convolution_weight_gradient(xs, g, ws, *numbers))
        else:
            d_xs.append(steps.convolution_input_gradient(g, xs.shape, ws, *numbers))
            d_weights.append(steps.convolution_weight_gradient(g, xs, ws, *numbers))
    return _masked((np.concatenate(d_xs, 1), np.concatenate(d_weights, 0), d_bias), mask)


def _moments(rows: Array) -> tuple[Array, Array]:
    """Means, and exact sums of the squares of the distances from them."""
    middle = steps.row_sums(rows) / np.float32(rows.shape[1])
    d = rows - middle[:, None]
    return middle, steps.row_sums(d * d)


def _masked(found: tuple[Array, Array, Array], mask: Sequence[bool]) -> Triple:
    a, b, c = (value if wanted else None for value, wanted in zip(found, mask, strict=True))
    return a, b, c
