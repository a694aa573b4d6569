"""Products, sums, losses, normalisations and pooling under their ATen names and signatures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact.constants import NonFiniteError
from podlt.exact.cpu import convolution, normalise, pooling, products, reduce, selection
from podlt.exact.cpu.elementwise import Operation, power, square_root
from podlt.exact.cpu.losses import divided

Tensor = torch.Tensor


def _addmm(digits: int, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == 1 and alpha == 1 and c.ndim == 1 and c.shape[0] == b.shape[1]:
        return products.mm(a, b, digits, bias=c, operation="addmm")
    return _scaled(c, products.mm(a, b, digits, operation="addmm"), beta, alpha)


def _baddbmm(digits: int, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _scaled(c, products.bmm(a, b, digits, operation="baddbmm"), beta, alpha)


def _scaled(c: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (c if beta == 1 else c * beta)


def _convolution(
    digits: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    g = convolution.geometry(x, stride, padding, dilation, groups)
    flat = x.ndim == 3
    if flat:
        x, weight = x.unsqueeze(2), weight.unsqueeze(2)
    if transposed:
        extra = (0, output_padding[0]) if flat else (output_padding[0], output_padding[-1])
        size = tuple(
            (x.shape[2 + i] - 1) * g.stride[i]
            - 2 * g.padding[i]
            + g.dilation[i] * (weight.shape[2 + i] - 1)
            + extra[i]
            + 1
            for i in (0, 1)
        )
        out = convolution.input_gradient(x, weight, (size[0], size[1]), bias, g, digits)
    else:
        out = convolution.forward(x, weight, bias, g, digits)
    return out.squeeze(2) if flat else out


def _convolution_backward(
    digits: int,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    g = convolution.geometry(x, stride, padding, dilation, groups)
    shapes = x.shape, weight.shape
    bias = None
    if mask[2]:
        bias = reduce.total(grad, [d for d in range(grad.ndim) if d != 1], False, "convolution_backward")
    if x.ndim == 3:
        grad, x, weight = grad.unsqueeze(2), x.unsqueeze(2), weight.unsqueeze(2)
    d_x = d_weight = None
    if mask[0]:
        size = (x.shape[2], x.shape[3])
        if transposed:
            d_x = convolution.forward(grad, weight, None, g, digits)
        else:
            d_x = convolution.input_gradient(grad, weight, size, None, g, digits)
        d_x = d_x.reshape(shapes[0])
    if mask[1]:
        pair = (x, grad) if transposed else (grad, x)
        d_weight = convolution.weight_gradient(*pair, weight.shape, g, digits).reshape(shapes[1])
    return d_x, d_weight, bias


def _sum(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    if not x.is_floating_point():
        return x.sum(dim=list(dim) if dim else None, keepdim=keepdim) if x.ndim else x.sum()
    return reduce.total(x, dim, keepdim)


def _mean(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    return divided(reduce.total(x, dim, keepdim, "mean"), _count(x, dim))


def _count(x: Tensor, dim: Sequence[int] | None) -> float:
    return math.prod(x.shape[d] for d in reduce.normal_dims(dim, x.ndim))


def _variance_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    n = _count(x, dim)
    mean = divided(reduce.total(x, dim, True, "var"), n)
    d = x - mean
    variance = divided(reduce.total(d * d, dim, keepdim, "var"), max(n - (1 if correction is None else correction), 0))
    return variance, mean if keepdim else mean.reshape(variance.shape)


def _vector_norm(
    x: Tensor, ord: float = 2, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    size = x.abs()
    if ord in (math.inf, -math.inf):
        given = list(dim) if dim else []
        return selection.largest(size, given, keepdim) if ord > 0 else selection.least(size, given, keepdim)
    if ord == 2:
        return square_root(reduce.total(x * x, dim, keepdim, "linalg_vector_norm"))
    if ord in (0, 1):
        return reduce.total(size if ord else (x != 0).float(), dim, keepdim, "linalg_vector_norm")
    return power(reduce.total(power(size, float(ord)), dim, keepdim, "linalg_vector_norm"), 1.0 / ord)


def _embedding_backward(grad: Tensor, index: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    if by_frequency:
        raise UnsupportedError("embedding_dense_backward: expected scale_grad_by_freq false, got true")
    places = index.reshape(-1)
    places = torch.where(places == padding, -1, places)
    flat = grad.reshape(places.numel(), grad.shape[-1])
    return reduce.scatter_rows(None, places, flat, rows, "embedding_dense_backward")


def _index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    places = torch.arange(x.numel()).reshape(x.shape)[tuple(slice(None) if i is None else i for i in indices)]
    values = values.expand(places.shape).reshape(-1, 1)
    if accumulate and x.is_floating_point():
        return _scatter(x, places, values, "index_put")
    if not accumulate and len(np.unique(places.numpy())) != places.numel():
        raise UnsupportedError("index_put: expected different places, got one twice: the result would depend on order")
    return torch.ops.aten.index_put(x, list(indices), values.reshape(places.shape), accumulate)  # type: ignore[no-any-return]


def _scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    places = torch.arange(x.numel()).reshape(x.shape).gather(dim, index)
    window = tuple(slice(0, n) for n in index.shape)
    return _scatter(x, places, source[window].reshape(-1, 1), "scatter_add")


def _index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    places = torch.arange(x.numel()).reshape(x.shape).index_select(dim, index)
    source = source if alpha == 1 else source * alpha
    return _scatter(x, places, source.reshape(-1, 1), "index_add")


def _scatter(x: Tensor, places: Tensor, values: Tensor, operation: str) -> Tensor:
    flat = reduce.scatter_rows(x.reshape(-1, 1), places.reshape(-1), values, x.numel(), operation)
    return flat.reshape(x.shape)


@contextmanager
def _named(operation: str) -> Iterator[None]:
    """A refusal within names `operation`, and not the one that it is made of."""
    try:
        yield
    except NonFiniteError:
        raise NonFiniteError(operation) from None


def _naming(operation: str, run: Operation) -> Operation:
    def named(*arguments: Any, **options: Any) -> Any:
        with _named(operation):
            return run(*arguments, **options)

    return named


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, length: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.reshape(n * groups, -1)
    with _named("native_group_norm"):
        out, mean, rstd = normalise.layer_norm(rows, rows.shape[1:], None, None, eps)
    out = out.reshape(n, c, length)
    out = out if weight is None else out * weight.reshape(1, c, 1)
    out = out if bias is None else out + bias.reshape(1, c, 1)
    return out.reshape(x.shape), mean.reshape(n, groups), rstd.reshape(n, groups)


def _group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    n: int,
    c: int,
    length: int,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    g = grad.reshape(n, c, length)
    scaled = g if weight is None else g * weight.reshape(1, c, 1)
    rows = x.reshape(n * groups, -1)
    with _named("native_group_norm_backward"):
        d_x, _, _ = normalise.layer_norm_backward(
            scaled.reshape(rows.shape), rows, rows.shape[1:], mean, rstd, None, None, [True, False, False]
        )
    normal = ((rows - mean.reshape(-1, 1)) * rstd.reshape(-1, 1)).reshape(n, c, length)
    d_weight = reduce.total(g * normal, [0, 2], False, "native_group_norm_backward") if mask[1] else None
    d_bias = reduce.total(g, [0, 2], False, "native_group_norm_backward") if mask[2] else None
    return d_x.reshape(x.shape) if d_x is not None and mask[0] else None, d_weight, d_bias


def layers(digits: int) -> dict[str, Operation]:
    """Every operation that holds a sum or a product of sums, by its ATen name."""
    return {
        "mm.default": lambda a, b: products.mm(a, b, digits),
        "bmm.default": lambda a, b: products.bmm(a, b, digits),
        "addmm.default": partial(_addmm, digits),
        "baddbmm.default": partial(_baddbmm, digits),
        "mv.default": lambda a, b: products.mm(a, b.unsqueeze(1), digits, operation="mv").squeeze(1),
        "dot.default": lambda a, b: products.mm(a.unsqueeze(0), b.unsqueeze(1), digits, operation="dot").reshape(()),
        "convolution.default": _naming("convolution", partial(_convolution, digits)),
        "convolution_backward.default": _naming("convolution_backward", partial(_convolution_backward, digits)),
        "sum.default": _sum,
        "sum.dim_IntList": _sum,
        "mean.default": _mean,
        "mean.dim": _mean,
        "var.correction": lambda *a, **k: _variance_mean(*a, **k)[0],
        "var_mean.correction": _variance_mean,
        "cumsum.default": lambda x, dim, dtype=None: (
            reduce.cumulative(x, dim) if x.is_floating_point() else x.cumsum(dim)
        ),
        "linalg_vector_norm.default": _vector_norm,
        "embedding_dense_backward.default": _embedding_backward,
        "index_put.default": _index_put,
        "scatter_add.default": _scatter_add,
        "index_add.default": _index_add,
        "_softmax.default": lambda x, dim, half: normalise.softmax(x, dim, False, "_softmax"),
        "_log_softmax.default": lambda x, dim, half: normalise.softmax(x, dim, True, "_log_softmax"),
        "_softmax_backward_data.default": lambda g, y, dim, dtype: normalise.softmax_backward(
            g, y, dim, False, "_softmax_backward_data"
        ),
        "_log_softmax_backward_data.default": lambda g, y, dim, dtype: normalise.softmax_backward(
            g, y, dim, True, "_log_softmax_backward_data"
        ),
        "native_layer_norm.default": normalise.layer_norm,
        "native_layer_norm_backward.default": normalise.layer_norm_backward,
        "native_group_norm.default": _group_norm,
        "native_group_norm_backward.default": _group_norm_backward,
        "_native_batch_norm_legit_functional.default": normalise.batch_norm,
        "native_batch_norm_backward.default": normalise.batch_norm_backward,
        "max_pool2d_with_indices.default": pooling.max_pool,
        "max_pool2d_with_indices_backward.default": pooling.max_pool_backward,
        "avg_pool2d.default": pooling.average_pool,
        "avg_pool2d_backward.default": pooling.average_pool_backward,
        "_adaptive_avg_pool2d.default": pooling.adaptive_average_pool,
        "_adaptive_avg_pool2d_backward.default": pooling.adaptive_average_pool_backward,
    }
