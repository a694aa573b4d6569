"""Every operation that a program can hold, by its ATen name and with its signature, as its definition computes it.

NumPy arrays stand for tensors, NumPy types for torch's: the specification of `table`, and of any other twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition import calls, elementary, layers, losses, pooling, selection, structure
from podlt.exact.definition import products as product

Definition = Callable[..., Any]
_0, _1 = np.float32(0.0), np.float32(1.0)


def definitions(digits: int) -> Mapping[str, Definition]:
    """The definition of each operation of the table with so many digits."""
    return {
        **_elementary(),
        **_elementwise(),
        **_structure(),
        **_selection(),
        **_sums(),
        **_losses(),
        **_products(digits),
    }


def _elementary() -> dict[str, Definition]:
    def real(function: Definition) -> Definition:
        return lambda x, *rest: function(x.astype(np.float32), *rest)

    def slope(function: Definition) -> Definition:
        return lambda grad, x, *rest: grad * function(x, *rest)

    def gelu(x: Array, approximate: str = "none") -> Array:
        return elementary.gelu_tanh(x) if approximate == "tanh" else elementary.gelu(x)

    def gelu_backward(grad: Array, x: Array, approximate: str = "none") -> Array:
        return grad * (elementary.gelu_tanh_slope(x) if approximate == "tanh" else elementary.gelu_slope(x))

    def power(x: Any, y: Any) -> Array:
        given = [np.asarray(value) for value in (x, y)]
        if all(value.dtype.kind == "i" for value in given):
            return np.asarray(np.power(*given))
        return elementary.power(*np.broadcast_arrays(*[value.astype(np.float32) for value in given]))

    names = "exp log log1p expm1 tanh sigmoid erf sin cos rsqrt silu"
    return {
        **{f"{name}.default": real(getattr(elementary, name)) for name in names.split()},
        "sqrt.default": real(np.sqrt),
        "softplus.default": lambda x, beta=1, threshold=20: elementary.softplus(x, beta, threshold),
        "softplus_backward.default": slope(elementary.softplus_slope),
        "elu.default": lambda x, alpha=1, scale=1, inner=1: elementary.elu(x, alpha, scale, inner),
        "elu_backward.default": elementary.elu_backward,
        "log_sigmoid_forward.default": elementary.log_sigmoid,
        "log_sigmoid_backward.default": lambda grad, x, buffer: grad * elementary.log_sigmoid_slope(x),
        "silu_backward.default": slope(elementary.silu_slope),
        "gelu.default": gelu,
        "gelu_backward.default": gelu_backward,
        "tanh_backward.default": lambda grad, y: grad * (_1 - y * y),
        "sigmoid_backward.default": lambda grad, y: grad * ((_1 - y) * y),
        **dict.fromkeys(("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"), power),
    }


def _elementwise() -> dict[str, Definition]:
    def compared(function: Definition) -> Definition:
        return lambda a, b: function(*structure.common(a, b))

    comparisons = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
    found: dict[str, Definition] = {}
    for name, function in {**comparisons, "ge": np.greater_equal}.items():
        found |= dict.fromkeys((f"{name}.Tensor", f"{name}.Scalar"), compared(function))
    for name in ("add", "sub", "mul", "div"):
        found |= dict.fromkeys((f"{name}.Tensor", f"{name}.Scalar"), getattr(structure, name))
    found |= dict.fromkeys(("clamp.default", "clamp.Tensor", "clamp_min.default"), structure.clamp)
    found |= dict.fromkeys(("where.self", "where.ScalarSelf", "where.ScalarOther"), structure.where)
    filled = dict.fromkeys(
        ("masked_fill.Scalar", "masked_fill.Tensor"),
        lambda x, mask, value: np.where(mask, np.asarray(value).astype(x.dtype), x),
    )
    return {
        **found,
        **filled,
        "rsub.Scalar": lambda a, b, alpha=1: structure.sub(b, a, alpha),
        "addcmul.default": lambda a, b, c, value=1: a + structure.scaled(b * c, value),
        "clamp_max.default": lambda x, high: structure.clamp(x, None, high),
        "hardtanh.default": lambda x, low=-1, high=1: structure.clamp(x, low, high),
        "hardtanh_backward.default": lambda grad, x, low, high: np.where(
            (x <= np.float32(low)) | (x >= np.float32(high)), _0, grad
        ),
        "threshold_backward.default": lambda grad, x, threshold: np.where(x <= np.float32(threshold), _0, grad),
        "relu.default": lambda x: np.where(x < 0, x.dtype.type(0), x),
        "leaky_relu.default": lambda x, slope=0.01: np.where(x > 0, x, x * np.float32(slope)),
        "leaky_relu_backward.default": lambda g, x, slope, is_result: np.where(x > 0, g, g * np.float32(slope)),
        "maximum.default": structure.maximum,
        "minimum.default": structure.minimum,
        "abs.default": np.abs,
        "neg.default": np.negative,
        "square.default": lambda x: x * x,
        "reciprocal.default": lambda x: _1 / x,
        "sign.default": lambda x: np.where(x > 0, _1, np.where(x < 0, -_1, _0)),
        "floor.default": np.floor,
        "isnan.default": np.isnan,
        "isinf.default": np.isinf,
        "clone.default": np.copy,
        "_to_copy.default": structure.cast,
        "logical_and.default": np.logical_and,
        "logical_or.default": np.logical_or,
        "logical_not.default": np.logical_not,
        "bitwise_and.Tensor": np.bitwise_and,
        "bitwise_or.Tensor": np.bitwise_or,
        "bitwise_not.default": np.invert,
    }


def _structure() -> dict[str, Definition]:
    s = structure

    def expand(x: Array, shape: list[int]) -> Array:
        own = [1] * (len(shape) - x.ndim) + list(x.shape)
        return np.broadcast_to(x, [o if n == -1 else n for o, n in zip(own, shape, strict=True)])

    def squeeze(x: Array, dims: list[int]) -> Array:
        return np.squeeze(x, tuple(d % x.ndim for d in dims if x.shape[d] == 1))

    def split(x: Array, size: int, dim: int = 0) -> list[Array]:
        n = x.shape[dim]
        return s.pieces(x, [min(size, n - i) for i in range(0, n, size)], dim)

    def arange(*numbers: Any, **options: Any) -> Array:
        return s.arange(*(numbers if len(numbers) > 1 else (0, *numbers)), **options)

    views = dict.fromkeys(("view.default", "_unsafe_view.default", "reshape.default"), np.reshape)
    return {
        **views,
        **dict.fromkeys(("arange.default", "arange.start", "arange.start_step"), arange),
        "permute.default": np.transpose,
        "t.default": np.transpose,
        "transpose.int": np.swapaxes,
        "expand.default": expand,
        "unsqueeze.default": np.expand_dims,
        "squeeze.default": np.squeeze,
        "squeeze.dim": lambda x, dim: squeeze(x, [dim]),
        "squeeze.dims": squeeze,
        "select.int": lambda x, dim, index: np.take(x, index, dim),
        "slice.Tensor": s.cut,
        "cat.default": lambda tensors, dim=0: np.concatenate(tensors, dim),
        "stack.default": lambda tensors, dim=0: np.stack(tensors, dim),
        "split.Tensor": split,
        "split_with_sizes.default": s.pieces,
        "unbind.int": lambda x, dim=0: [np.take(x, i, dim) for i in range(x.shape[dim])],
        "constant_pad_nd.default": s.pad,
        "flip.default": lambda x, dims: np.flip(x, dims),
        "repeat.default": np.tile,
        "select_backward.default": lambda g, sizes, dim, i: s.replaced(np.zeros(sizes, np.float32), g, dim, i),
        "slice_backward.default": lambda g, sizes, dim, start, end, step: s.replaced(
            np.zeros(sizes, np.float32), g, dim, slice(start, end, step)
        ),
        "slice_scatter.default": lambda x, source, dim=0, start=None, end=None, step=1: s.replaced(
            x, source, dim, slice(start, end, step)
        ),
        "select_scatter.default": lambda x, source, dim, index: s.replaced(x, source, dim, index),
        "full.default": s.full,
        "full_like.default": lambda x, value: s.full(x.shape, value, dtype=x.dtype),
        "zeros.default": lambda shape, dtype=np.float32: s.full(shape, 0, dtype=dtype),
        "zeros_like.default": np.zeros_like,
        "ones.default": lambda shape, dtype=np.float32: s.full(shape, 1, dtype=dtype),
        "ones_like.default": np.ones_like,
        "scalar_tensor.default": lambda value, dtype=np.float32: s.full([], value, dtype=dtype),
        "new_zeros.default": lambda x, shape: s.full(shape, 0, dtype=x.dtype),
        "new_full.default": lambda x, shape, value: s.full(shape, value, dtype=x.dtype),
        "new_ones.default": lambda x, shape: s.full(shape, 1, dtype=x.dtype),
        "tril.default": np.tril,
        "triu.default": np.triu,
        "gather.default": s.gather,
        "scatter.value": selection.scatter,
        "scatter.src": selection.scatter,
        "index.Tensor": lambda x, indices: x[_places(indices)],
        "index_select.default": lambda x, dim, index: np.take(x, index, dim),
        "embedding.default": lambda weight, index: weight[index],
        "any.default": np.any,
        "any.dim": lambda x, dim, keepdim=False: np.any(x, axis=dim, keepdims=keepdim),
        "all.default": np.all,
    }


def _places(indices: list[Any]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _selection() -> dict[str, Definition]:
    def numbers(x: Array) -> Array:
        return np.arange(x.size).reshape(x.shape)

    def index_put(x: Array, indices: list[Any], source: Array, accumulate: bool = False) -> Array:
        places = numbers(x)[_places(indices)]
        source = np.broadcast_to(source, places.shape)
        if accumulate:
            return calls.added_at(x, places, source)
        return selection.scatter(x.reshape(-1), 0, places.reshape(-1), source.reshape(-1)).reshape(x.shape)

    def scatter_add(x: Array, dim: int, index: Array, source: Array) -> Array:
        part = source[tuple(slice(0, n) for n in index.shape)]
        return calls.added_at(x, structure.gather(numbers(x), dim, index), part)

    def index_add(x: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
        return calls.added_at(x, np.take(numbers(x), index, dim), np.asarray(structure.scaled(source, alpha)))

    return {
        "argmax.default": selection.argmax,
        "max.dim": lambda x, dim, keepdim=False: selection.extreme(x, dim, keepdim, 1, "max"),
        "min.dim": lambda x, dim, keepdim=False: selection.extreme(x, dim, keepdim, -1, "min"),
        "amax.default": lambda x, dims=(), keepdim=False: selection.extremum(x, dims, keepdim, 1, "amax"),
        "amin.default": lambda x, dims=(), keepdim=False: selection.extremum(x, dims, keepdim, -1, "amin"),
        "sort.default": selection.sort,
        "topk.default": selection.topk,
        "prod.default": selection.prod,
        "logsumexp.default": selection.logsumexp,
        "index_put.default": index_put,
        "scatter_add.default": scatter_add,
        "index_add.default": index_add,
        "embedding_dense_backward.default": calls.embedding_backward,
    }


def _sums() -> dict[str, Definition]:
    return {
        "sum.default": calls.total,
        "sum.dim_IntList": calls.total,
        "mean.default": calls.mean,
        "mean.dim": calls.mean,
        "var.correction": lambda *a, **k: calls.variance_and_mean(*a, **k)[0],
        "var_mean.correction": calls.variance_and_mean,
        "linalg_vector_norm.default": calls.vector_norm,
        "cumsum.default": calls.cumulative,
        "_softmax.default": lambda x, dim, half: calls.along(layers.softmax, dim, x),
        "_log_softmax.default": lambda x, dim, half: calls.along(layers.log_softmax, dim, x),
        "_softmax_backward_data.default": lambda g, y, dim, kind: calls.along(layers.softmax_backward, dim, g, y),
        "_log_softmax_backward_data.default": lambda g, y, dim, kind: calls.along(
            layers.log_softmax_backward, dim, g, y
        ),
        "native_layer_norm.default": calls.layer_norm,
        "native_layer_norm_backward.default": calls.layer_norm_backward,
        "native_group_norm.default": calls.group_norm,
        "native_group_norm_backward.default": calls.group_norm_backward,
        "_native_batch_norm_legit_functional.default": calls.batch_norm,
        "native_batch_norm_backward.default": calls.batch_norm_backward,
    }


def _losses() -> dict[str, Definition]:
    return {
        "nll_loss_forward.default": losses.nll,
        "nll_loss_backward.default": losses.nll_backward,
        "nll_loss2d_forward.default": losses.nll2d,
        "nll_loss2d_backward.default": losses.nll2d_backward,
        "mse_loss.default": losses.mse,
        "mse_loss_backward.default": losses.mse_backward,
        "smooth_l1_loss.default": losses.smooth_l1,
        "smooth_l1_loss_backward.default": losses.smooth_l1_backward,
        "huber_loss.default": losses.huber,
        "huber_loss_backward.default": losses.huber_backward,
        "binary_cross_entropy_with_logits.default": losses.bce_with_logits,
    }


def _products(digits: int) -> dict[str, Definition]:
    return {
        "mm.default": lambda a, b: product.mm(a, b, digits),
        "bmm.default": lambda a, b: np.stack([product.mm(x, y, digits) for x, y in zip(a, b, strict=True)]),
        "addmm.default": partial(calls.addmm, digits),
        "baddbmm.default": partial(calls.addmm, digits),
        "mv.default": lambda a, b: product.mm(a, b[:, None], digits)[:, 0],
        "dot.default": lambda a, b: np.asarray(product.dot(a, b, digits)),
        "convolution.default": partial(calls.convolution, digits),
        "convolution_backward.default": partial(calls.convolution_backward, digits),
        "max_pool2d_with_indices.default": pooling.max_pool,
        "max_pool2d_with_indices_backward.default": pooling.max_pool_backward,
        "avg_pool2d.default": pooling.average_pool,
        "avg_pool2d_backward.default": pooling.average_pool_backward,
        "_adaptive_avg_pool2d.default": pooling.adaptive_average_pool,
        "_adaptive_avg_pool2d_backward.default": pooling.adaptive_average_pool_backward,
    }
