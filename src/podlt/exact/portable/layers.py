"""Products, sums, normalisations and scatter-adds under their ATen names and signatures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch

from podlt.errors import UnsupportedError
from podlt.exact.portable import convolution, normalise, pooling, products, reduce
from podlt.exact.portable.bits import Tensor, number
from podlt.exact.portable.elementary import square_root
from podlt.exact.portable.elementwise import Operation, power
from podlt.exact.portable.selection import largest, least
from podlt.exact.portable.structure import check_indices, check_places


def _addmm(digits: int, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
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
    if not transposed:
        out = convolution.forward(x, weight, bias, g, digits)
        return out.squeeze(2) if flat else out
    extra = (0, output_padding[0]) if flat else (output_padding[0], output_padding[-1])
    spans = [g.dilation[i] * (weight.shape[2 + i] - 1) + extra[i] + 1 for i in (0, 1)]
    h, w = ((x.shape[2 + i] - 1) * g.stride[i] - 2 * g.padding[i] + spans[i] for i in (0, 1))
    out = convolution.input_gradient(x, weight, (h, w), bias, g, digits)
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


def _cumsum(x: Tensor, dim: int, dtype: object = None) -> Tensor:
    return reduce.cumulative(x, dim) if x.is_floating_point() else x.cumsum(dim)


def _mean(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    return torch.div(reduce.total(x, dim, keepdim, "mean"), number(_count(x, dim), x))


def _count(x: Tensor, dim: Sequence[int] | None) -> int:
    return math.prod(x.shape[d] for d in reduce.normal_dims(dim, x.ndim))


def _variance_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    n = _count(x, dim)
    mean = torch.div(reduce.total(x, dim, True, "var"), number(n, x))
    d = x - mean
    divisor = number(max(n - (1 if correction is None else correction), 0), x)
    variance = torch.div(reduce.total(d * d, dim, keepdim, "var"), divisor)
    return variance, mean if keepdim else mean.reshape(variance.shape)


def _vector_norm(
    x: Tensor, ord: float = 2, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    size = x.abs()
    if ord in (math.inf, -math.inf):
        given = list(dim) if dim else []
        return largest(size, given, keepdim) if ord > 0 else least(size, given, keepdim)
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


def _every_place(x: Tensor) -> Tensor:
    return torch.arange(x.numel(), device=x.device).reshape(x.shape)


def _index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    check_indices(x, indices, "index_put")
    places = _every_place(x)[tuple(slice(None) if i is None else i for i in indices)]
    values = values.expand(places.shape).reshape(-1)
    if accumulate and x.is_floating_point():
        return _scatter(x, places, values, "index_put")
    if not accumulate and len(torch.unique(places)) != places.numel():
        raise UnsupportedError("index_put: expected different places, got one twice: the result would depend on order")
    flat = x.reshape(-1)
    write = torch.index_add if accumulate else torch.index_copy  # integers add alike in any order
    return write(flat, 0, places.reshape(-1), values).reshape(x.shape)


def _scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    check_places(index, x.shape[dim] if x.ndim else 1, "scatter_add")
    places = _every_place(x).gather(dim, index)
    return _scatter(x, places, source[tuple(slice(0, n) for n in index.shape)], "scatter_add")


def _index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    check_places(index, x.shape[dim], "index_add")
    places = _every_place(x).index_select(dim, index)
    return _scatter(x, places, source if alpha == 1 else source * alpha, "index_add")


def _scatter(x: Tensor, places: Tensor, values: Tensor, operation: str) -> Tensor:
    flat = reduce.scatter_rows(x.reshape(-1, 1), places.reshape(-1), values.reshape(-1, 1), x.numel(), operation)
    return flat.reshape(x.shape)


def layers(digits: int) -> dict[str, Operation]:
    """Every operation of the exact table that holds a sum or a product of sums, by its ATen name."""
    softmax, softmax_backward = normalise.softmax, normalise.softmax_backward
    return {
        "mm.default": lambda a, b: products.mm(a, b, digits),
        "bmm.default": lambda a, b: products.bmm(a, b, digits),
        "addmm.default": partial(_addmm, digits),
        "baddbmm.default": partial(_baddbmm, digits),
        "mv.default": lambda a, b: products.mm(a, b.unsqueeze(1), digits, operation="mv").squeeze(1),
        "dot.default": lambda a, b: products.mm(a.unsqueeze(0), b.unsqueeze(1), digits, operation="dot").reshape(()),
        "convolution.default": partial(_convolution, digits),
        "convolution_backward.default": partial(_convolution_backward, digits),
        "sum.default": _sum,
        "sum.dim_IntList": _sum,
        "mean.default": _mean,
        "mean.dim": _mean,
        "var.correction": lambda *a, **k: _variance_mean(*a, **k)[0],
        "var_mean.correction": _variance_mean,
        "cumsum.default": _cumsum,
        "linalg_vector_norm.default": _vector_norm,
        "embedding_dense_backward.default": _embedding_backward,
        "index_put.default": _index_put,
        "scatter_add.default": _scatter_add,
        "index_add.default": _index_add,
        "_softmax.default": lambda x, dim, half: softmax(x, dim, False, "_softmax"),
        "_log_softmax.default": lambda x, dim, half: softmax(x, dim, True, "_log_softmax"),
        "_softmax_backward_data.default": lambda g, y, dim, dtype: softmax_backward(
            g, y, dim, False, "_softmax_backward_data"
        ),
        "_log_softmax_backward_data.default": lambda g, y, dim, dtype: softmax_backward(
            g, y, dim, True, "_log_softmax_backward_data"
        ),
        "native_layer_norm.default": normalise.layer_norm,
        "native_layer_norm_backward.default": normalise.layer_norm_backward,
        "native_group_norm.default": normalise.group_norm,
        "native_group_norm_backward.default": normalise.group_norm_backward,
        "_native_batch_norm_legit_functional.default": normalise.batch_norm,
        "native_batch_norm_backward.default": normalise.batch_norm_backward,
        "max_pool2d_with_indices.default": pooling.max_pool,
        "max_pool2d_with_indices_backward.default": pooling.max_pool_backward,
        "avg_pool2d.default": pooling.average_pool,
        "avg_pool2d_backward.default": pooling.average_pool_backward,
        "_adaptive_avg_pool2d.default": pooling.adaptive_average_pool,
        "_adaptive_avg_pool2d_backward.default": pooling.adaptive_average_pool_backward,
    }
