"""The definition of softmax, normalisations and convolutions, step by step, over the definitions of their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition.elementary import exp, log, rsqrt
from podlt.exact.definition.products import cut_of, dot, exact_sum

_1 = np.float32(1.0)
Pair = int | Sequence[int]


def row_sums(x: Array) -> Array:
    """The exact sum of each row of float32 (m, n)."""
    return np.array([exact_sum(row) for row in x], np.float32)


def softmax(x: Array) -> Array:
    """exp(x - max) divided by its exact sum, by row."""
    e = exp(x - x.max(axis=1, keepdims=True))
    out: Array = e / row_sums(e)[:, None]
    return out


def log_softmax(x: Array) -> Array:
    """(x - max) - log(exact sum of exp(x - max)), by row."""
    d = x - x.max(axis=1, keepdims=True)
    out: Array = d - log(row_sums(exp(d)))[:, None]
    return out


def softmax_backward(grad: Array, y: Array) -> Array:
    """y (grad - exact sum of grad y), by row."""
    out: Array = y * (grad - row_sums(grad * y)[:, None])
    return out


def log_softmax_backward(grad: Array, y: Array) -> Array:
    """grad - exp(y) times the exact sum of grad, by row."""
    out: Array = grad - exp(y) * row_sums(grad)[:, None]
    return out


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Each row less its mean, times 1/sqrt(variance + eps), times `weight`, plus `bias`; with means and factors."""
    n = np.float32(x.shape[1])
    mean = row_sums(x) / n if n else np.zeros(len(x), np.float32)  # PyTorch's mean of nothing
    d = x - mean[:, None]
    factor = rsqrt(row_sums(d * d) / n + np.float32(eps))
    return affine(d * factor[:, None], weight, bias), mean, factor


def affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    """x times `weight`, plus `bias`, each if there is one."""
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm_backward(
    grad: Array, x: Array, mean: Array, factor: Array, weight: Array | None
) -> tuple[Array, Array, Array]:
    """The gradients of `layer_norm`'s argument, weight and bias."""
    n = np.float32(x.shape[1])
    h = (x - mean[:, None]) * factor[:, None]
    g = affine(grad, weight, None)
    a, b = row_sums(g) / n, row_sums(g * h) / n
    return ((g - a[:, None]) - h * b[:, None]) * factor[:, None], row_sums((grad * h).T), row_sums(grad.T)


def convolution(x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, digits: int) -> Array:
    """Float32 (n, c, h, w) * (o, c, kh, kw): a `dot` each; cut by sample and by output channel."""
    patches, height, width = _patches(x, weight.shape, stride, padding, dilation)
    out = np.zeros((x.shape[0], weight.shape[0], height, width), np.float32)
    kernels = weight.reshape(weight.shape[0], -1)
    for n, o, i, j in np.ndindex(out.shape):
        out[n, o, i, j] = dot(patches(n, i, j), kernels[o], digits, cut_of(x[n], digits), cut_of(kernels[o], digits))
    return out


def convolution_weight_gradient(
    grad: Array, x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, digits: int
) -> Array:
    """One `dot` over samples and positions for each weight, cut by output channel and by input channel."""
    patches, _, _ = _patches(x, weight.shape, stride, padding, dilation)
    _, _, height, width = grad.shape
    columns = np.stack([patches(n, i, j) for n in range(len(x)) for i in range(height) for j in range(width)], 1)
    rows = np.moveaxis(grad, 1, 0).reshape(grad.shape[1], -1)
    taps = weight.shape[2] * weight.shape[3]
    out = np.zeros((rows.shape[0], columns.shape[0]), np.float32)
    for o, k in np.ndindex(out.shape):
        out[o, k] = dot(rows[o], columns[k], digits, None, cut_of(x[:, k // taps], digits))
    return out.reshape(weight.shape)


def convolution_input_gradient(
    grad: Array, shape: tuple[int, ...], weight: Array, stride: Pair, padding: Pair, dilation: Pair, digits: int
) -> Array:
    """One `dot` over output channels and taps for each input, cut by sample and by input channel."""
    out = np.zeros(shape, np.float32)
    (sy, sx), (py, px), (dy, dx) = both(stride), both(padding), both(dilation)
    for n, c, y, x in np.ndindex(out.shape):
        a, b = [np.float32(0)], [np.float32(0)]
        for ky, kx in np.ndindex(weight.shape[2:]):
            i, j = y + py - ky * dy, x + px - kx * dx
            if i % sy == 0 and j % sx == 0 and 0 <= i // sy < grad.shape[2] and 0 <= j // sx < grad.shape[3]:
                a.extend(grad[n, :, i // sy, j // sx])
                b.extend(weight[:, c, ky, kx])
        cuts = cut_of(grad[n], digits), cut_of(weight[:, c], digits)
        out[n, c, y, x] = dot(np.array(a), np.array(b), digits, *cuts)
    return out


def both(numbers: Pair) -> tuple[int, int]:
    """A number for rows and one for columns; one may stand for both."""
    return (numbers, numbers) if isinstance(numbers, int) else (int(numbers[0]), int(numbers[-1]))


def _patches(
    x: Array, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Callable[[int, int, int], Array], int, int]:
    """What one output position sees of a zero-padded sample, flat in (c, kh, kw); and the output's height and width."""
    (sy, sx), (py, px), (dy, dx) = both(stride), both(padding), both(dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    tall, wide = (shape[2] - 1) * dy + 1, (shape[3] - 1) * dx + 1

    def patch(n: int, i: int, j: int) -> Array:
        y, z = i * sy, j * sx
        return padded[n, :, y : y + tall : dy, z : z + wide : dx].reshape(-1)

    return patch, (padded.shape[2] - tall) // sy + 1, (padded.shape[3] - wide) // sx + 1
