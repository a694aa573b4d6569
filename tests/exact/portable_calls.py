"""Calls of the exact table, besides its samples, at the edges of types, shapes and geometries: twins must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from podlt.exact.conformance import values

T, F = True, False
Call = tuple[str, tuple[Any, ...], dict[str, Any]]
_EDGES = [0.0, -0.0, 1e-45, -1e-45, -1e-40, 2.0**-126, 1.0, -1.0, 0.5, -2.5, 1e30, -1e30, 3.4e38, -3.4e38, 88.7, -103.9]
_NAMES = """abs neg floor sign isnan isinf square reciprocal sqrt rsqrt exp log tanh sigmoid erf silu gelu relu clone
log1p expm1"""
_BAD = [math.inf, -math.inf, math.nan]


def edges() -> torch.Tensor:
    """Finite float32 at the edges of the format, and some in its midst."""
    return torch.cat([torch.tensor(_EDGES), values(90, 33), values(91, 14) * 1e-38, values(92, 14) * 1e36])


def wild() -> torch.Tensor:
    """`edges`, infinities and a NaN."""
    return torch.cat([edges(), torch.tensor(_BAD)])


def whole(key: int, *shape: int, below: int = 7) -> torch.Tensor:
    return (values(key, *shape).view(torch.int32) >> 5).long() % below


def calls(products_only: bool = False) -> Iterator[Call]:
    """All of them, or those that depend on the number of digits."""
    groups = [_products, _convolutions]
    if not products_only:
        groups += [_unary, _binary, _bounds, _selection, _places, _sums, _losses, _norms, _pools]
    for group in groups:
        for name, *arguments in group():
            options = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
            yield name, tuple(arguments), options


def _unary() -> Iterator[tuple[Any, ...]]:
    x = wild()
    for name in _NAMES.split():
        yield f"{name}.default", x
        yield f"{name}.default", values(1, 5, 6).t()
    yield "sqrt.default", x.abs()
    yield "exp.default", whole(2, 9)
    for name in ("sin", "cos"):
        yield f"{name}.default", torch.cat([values(3, 40) * 1e4, torch.tensor([0.0, -0.0, 524287.0, 1e-45])])
    yield "gelu.default", x, {"approximate": "tanh"}
    yield "leaky_relu.default", x
    yield "leaky_relu.default", x, 0.3
    for name in ("softplus", "elu", "log_sigmoid_forward"):
        yield f"{name}.default", x
    yield "softplus.default", x, 0.7, 3.0
    yield "elu.default", x, 1.3, 1.05, 0.9
    yield "logical_not.default", x > 0
    yield "bitwise_not.default", whole(4, 9)
    for dtype in (torch.int64, torch.bool, torch.float32):
        yield "_to_copy.default", values(94, 40) * 1e9, {"dtype": dtype}
    yield "_to_copy.default", whole(5, 9), {"dtype": torch.float32}
    yield "_to_copy.default", torch.tensor([2**24 + 1, -(2**62) - 1, 2**63 - 1]), {"dtype": torch.float32}


def _binary() -> Iterator[tuple[Any, ...]]:
    x = wild()
    y = x.flip(0)
    shape = values(6, 5, 1), values(7, 6)
    for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "pow"):
        pair = (x.abs(), y) if name == "pow" else (x, y)
        yield f"{name}.Tensor" + ("_Tensor" if name == "pow" else ""), *pair
        yield f"{name}.Tensor" + ("_Tensor" if name == "pow" else ""), *shape
        if name != "pow":
            yield f"{name}.Scalar", x, 3.1
            yield f"{name}.Scalar", whole(8, 9), 3
    yield "div.Tensor", x, torch.tensor(3.0)
    yield "add.Tensor", x, y, {"alpha": 0.3}
    yield "sub.Tensor", x, y, {"alpha": 0.3}
    yield "add.Tensor", whole(9, 6), whole(10, 6), {"alpha": 2}
    yield "rsub.Scalar", x, 1
    yield "rsub.Scalar", x, 0.7, 0.3
    yield "addcmul.default", x, y, y, {"value": 0.7}
    for exponent in (-0.5, 0.5, 1.7, 2, 3, -7, 64, 65, 0, 1.5, -1.5, 1e30):
        yield "pow.Tensor_Scalar", x, exponent
    yield "pow.Tensor_Scalar", whole(11, 9), 3
    for base in (0.9, 0.0, 2, -1.5):
        yield "pow.Scalar", base, x
    for name in ("logical_and.default", "logical_or.default"):
        yield name, x > 0, y > 1
    for name in ("bitwise_and.Tensor", "bitwise_or.Tensor"):
        yield name, whole(12, 9), whole(13, 9)
        yield name, x > 0, y > 1
    for name in ("tanh_backward", "sigmoid_backward", "gelu_backward", "silu_backward"):
        yield f"{name}.default", values(14, 40), values(15, 40)
    yield "gelu_backward.default", values(14, 40), values(15, 40), {"approximate": "tanh"}
    yield "leaky_relu_backward.default", x, y, 0.1, F
    yield "softplus_backward.default", values(15, *x.shape), x, 0.7, 3.0
    yield "log_sigmoid_backward.default", values(15, *x.shape), x, torch.empty(0)
    for from_result in (F, T):
        yield "elu_backward.default", values(15, *x.shape), 1.3, 1.05, 0.9, from_result, x


def _bounds() -> Iterator[tuple[Any, ...]]:
    x = wild()
    for name in ("maximum.default", "minimum.default"):
        yield name, x, x.flip(0)
        yield name, whole(16, 9), whole(17, 9)
    yield "clamp.default", x, -1.0, 1.5
    yield "clamp.default", x, None, 0
    yield "clamp.default", x, 0.0
    yield "clamp.Tensor", x, -values(18, *x.shape).abs(), values(19, *x.shape).abs()
    yield "clamp_min.default", x, 0
    yield "clamp_max.default", x, 0.5
    yield "hardtanh.default", x
    yield "hardtanh_backward.default", values(20, *x.shape), x, -1, 1
    yield "threshold_backward.default", values(20, *x.shape), x, 0
    yield "where.self", x > 0, x, x.flip(0)
    yield "where.ScalarSelf", x > 0, 2.0, x
    yield "where.ScalarOther", x > 0, x, 2.0
    yield "masked_fill.Scalar", x, x > 0, -1.5
    yield "masked_fill.Tensor", x, x > 0, torch.tensor(-1.5)
    for name in ("maximum.default", "minimum.default"):
        yield name, torch.zeros(19), -torch.zeros(19)
        yield name, whole(17, 9), values(17, 9)
    for name in ("amax.default", "amin.default"):
        yield name, _signs(), [0]
        yield name, values(21, 4, 5, 6), [1], T
        yield name, values(21, 4, 5, 6), [0, 2]
        yield name, values(21, 4, 5, 6)
        yield name, torch.tensor([[1.0, math.nan], [math.inf, -2.0]]), [1]
        yield name, whole(22, 4, 5), [1]
    for name in ("any.default", "all.default"):
        yield name, x > 0
    yield "any.dim", values(23, 4, 5) > 3, 1


def _signs() -> torch.Tensor:
    """Zeros of both signs, often equal."""
    return torch.tensor([0.0, -0.0, -0.0, 0.0] * 10).reshape(4, 10) * torch.tensor([[1.0], [1.0], [-1.0], [1.0]])


def _selection() -> Iterator[tuple[Any, ...]]:
    ties = (whole(95, 6, 9, below=4).float() - 1.0) * values(95, 6, 1).sign()
    shapes = [ties, values(96, 6, 9), whole(97, 6, 9), _signs(), whole(98, 6, 9) > 3, torch.full((2, 3), -math.inf)]
    for x in shapes:
        for dim in (0, 1, -1):
            yield "argmax.default", x, dim, dim == 1
            yield "max.dim", x, dim, dim == 1
            yield "min.dim", x, dim
            for descending in (F, T):
                yield "sort.default", x, dim, descending
        yield "argmax.default", x
        yield "argmax.default", x, None, T
        if x.dtype != torch.bool:
            yield "topk.default", x, 2, 1
            yield "topk.default", x, 2, 0, F, F
            yield "topk.default", x, 0
    for x in (values(98), torch.tensor(3)):
        yield "argmax.default", x
        yield "max.dim", x, 0
        yield "sort.default", x
        yield "topk.default", x, 1
    for x in (values(99, 13), edges(), torch.ones(0), torch.tensor(3.0), whole(99, 5)):
        yield "prod.default", x
    masked = values(100, 5, 7) * 30
    masked[2] = -math.inf
    for dims in ([0], [1], [0, 1]):
        yield "logsumexp.default", masked, dims
        yield "logsumexp.default", masked, dims, T
    yield "logsumexp.default", values(101, 0, 3), [0]
    yield "scatter.src", values(102, 5, 4), 0, torch.tensor([[0, 3, 2, 1], [4, 1, 0, 3]]), values(103, 3, 4)
    yield "arange.start_step", 0.1, 7.3, 0.3
    yield "arange.default", 4.5
    yield "arange.start", 2, 9, {"dtype": torch.float32}


def _places() -> Iterator[tuple[Any, ...]]:
    x, index = values(28, 7, 5), whole(29, 4, 5)
    yield "gather.default", x, 0, index
    yield "scatter.value", x, 0, index, 1.5
    yield "index_select.default", x, 0, index[0]
    yield "index.Tensor", x, [index]
    yield "index.Tensor", x, [None, whole(30, 6, below=5)]
    yield "index.Tensor", x, [index[0], whole(31, 5, below=5) - 5]
    yield "index.Tensor", x, [x > 0]
    yield "embedding.default", x, index
    yield "embedding.default", x, index, 2, F, F
    yield "embedding_dense_backward.default", values(32, 4, 5, 3), index, 7, 4, F
    yield "index_put.default", x, [index], values(33, 4, 5, 5), T
    yield "index_put.default", x, [None, torch.tensor([1, 2])], values(34, 7, 2)
    yield "index_put.default", x, [torch.tensor([1, -1])], values(34, 2, 5), F
    yield "index_put.default", x, [x > 0], torch.tensor(7.0)
    yield "index_put.default", whole(35, 6), [torch.tensor([1, 1])], torch.tensor([5, 6]), T
    yield "scatter_add.default", x, 0, index, values(36, 6, 5)
    yield "index_add.default", x, 0, index[0], values(37, 5, 5)
    yield "index_add.default", x, 1, whole(38, 6, below=5), values(39, 7, 6), {"alpha": 0.3}


def _products() -> Iterator[tuple[Any, ...]]:
    x, y = values(40, 9, 35), values(41, 13, 35)
    yield "mm.default", x, y.t()
    yield "mm.default", x.t().contiguous().t(), y.t().contiguous()
    yield "mm.default", values(42, 40, 3) * 1e-44, values(43, 3, 30) * 1e37
    yield "mm.default", torch.diag(edges()[:16]), values(44, 16, 5) * 1e20
    for m, k, n in ((2, 0, 3), (0, 4, 3), (1, 1, 1), (3, 4, 0)):
        yield "mm.default", values(45, m, k), values(46, k, n)
    yield "bmm.default", values(47, 3, 4, 6), values(48, 3, 5, 6).mT
    yield "bmm.default", values(47, 0, 4, 6), values(48, 0, 6, 5)
    yield "addmm.default", values(49, 13), x, y.t()
    yield "addmm.default", values(49, 9, 13), x, y.t(), {"beta": 0.5, "alpha": 2}
    yield "baddbmm.default", values(50, 3, 1, 2), values(51, 3, 4, 5), values(52, 3, 5, 2), {"beta": 0, "alpha": 0.3}
    yield "baddbmm.default", values(50, 3, 1, 2), values(51, 3, 4, 5), values(52, 3, 5, 2)
    yield "mv.default", x, y[0]
    yield "dot.default", x[0], y[0]


def _convolutions() -> Iterator[tuple[Any, ...]]:
    for transposed in (F, T):
        for dims in (1, 2):
            for groups in (1, 2):
                x = values(53, 2, 4, *[9] * dims)
                weight = values(54, *((4, 3) if transposed else (6, 4 // groups)), *[3] * dims)
                bias = values(55, 3 * groups if transposed else 6)
                shape = [[2] * dims, [1] * dims, [1] * dims, transposed, [1 if transposed else 0] * dims, groups]
                yield "convolution.default", x, weight, bias, *shape
                y = torch.ops.aten.convolution(x, weight, bias, *shape)
                yield "convolution_backward.default", values(56, *y.shape), x, weight, [len(bias)], *shape, [T] * 3
    for n, h, w, k, s, p, d in (
        (2, 5, 6, 3, 1, 1, 1),
        (1, 6, 6, 1, 2, 0, 1),
        (2, 7, 7, 3, 1, 2, 2),
        (1, 1, 3, 1, 7, 3, 1),
    ):
        x, weight = values(57, n, 2, h, w), values(58, 3, 2, k, k)
        shape = [[s, s], [p, p], [d, d], F, [0, 0], 1]
        yield "convolution.default", x, weight, None, *shape
        grad = values(59, *torch.ops.aten.convolution(x, weight, None, *shape).shape)
        yield "convolution_backward.default", grad, x, weight, None, *shape, [T, T, F]


def _sums() -> Iterator[tuple[Any, ...]]:
    x = values(60, 5, 7, 4)
    extreme = torch.stack([edges(), edges().flip(0), edges()])
    yield "sum.default", x
    yield "sum.default", x > 0
    yield "sum.default", values(61)
    for dims in ([0], [1], [2], [0, 2], [-1], [0, 1, 2], []):
        yield "sum.dim_IntList", x, dims, T
        yield "sum.dim_IntList", x, dims
        yield "sum.dim_IntList", extreme * 1e-3, [d for d in dims if d < 2]
    yield "sum.dim_IntList", torch.arange(6).reshape(2, 3), [0]
    yield "sum.dim_IntList", values(62, 0, 3), [0]
    yield "sum.dim_IntList", values(62, 0, 3), [1], T
    yield "mean.default", x
    yield "mean.dim", x, [0, 2]
    yield "mean.dim", x, [1], T
    yield "var.correction", x, [1], {"correction": 0}
    yield "var_mean.correction", x, [1], {"correction": 1, "keepdim": T}
    yield "var_mean.correction", x, [0]
    yield "cumsum.default", x, 1
    yield "cumsum.default", x, -1
    yield "cumsum.default", extreme * 1e-3, 1
    yield "cumsum.default", whole(63, 4, 5), 0
    yield "linalg_vector_norm.default", x
    yield "linalg_vector_norm.default", x, 2, [1], T


def _losses() -> Iterator[tuple[Any, ...]]:
    x, y, target = values(64, 6, 8), values(65, 6, 8), torch.tensor([1, 2, -100, 4, 0, 7])
    masked = x.clone()
    masked[1, 3:6] = -math.inf
    for dim in (0, 1):
        yield "_softmax.default", x * 20, dim, F
        yield "_softmax.default", masked, dim, F
        yield "_log_softmax.default", masked, dim, F
        yield "_softmax_backward_data.default", y, torch.softmax(x, dim), dim, torch.float32
        yield "_log_softmax_backward_data.default", y, torch.log_softmax(x, dim), dim, torch.float32
    for reduction in (0, 1, 2):
        for weight in (None, values(66, 8).abs()):
            yield "nll_loss_forward.default", x, target, weight, reduction, -100
            grad = values(67, 6) if reduction == 0 else values(67)
            yield "nll_loss_backward.default", grad, x, target, weight, reduction, -100, torch.tensor(4.5)
        yield "mse_loss.default", x, y, reduction
        yield "mse_loss_backward.default", values(68, 6, 8) if reduction == 0 else values(68), x, y, reduction
    yield "nll_loss_forward.default", x[0], torch.tensor(3), None, 1, -100
    yield from _more_losses()


def _more_losses() -> Iterator[tuple[Any, ...]]:
    x, y, g = values(104, 6, 8), values(105, 6, 8), values(106, 6, 8)
    image, places = values(107, 2, 8, 3, 4), whole(108, 2, 3, 4, below=8)
    places[0, 1] = -100
    for reduction in (0, 1, 2):
        for weight in (None, values(66, 8).abs()):
            yield "nll_loss2d_forward.default", image, places, weight, reduction, -100
            grad = values(109, 2, 3, 4) if reduction == 0 else values(109)
            yield "nll_loss2d_backward.default", grad, image, places, weight, reduction, -100, torch.tensor(4.5)
            for positive in (None, values(110, 8).abs()):
                yield "binary_cross_entropy_with_logits.default", x, y, weight, positive, reduction
        grad = g if reduction == 0 else values(111)
        for name in ("smooth_l1_loss", "huber_loss"):
            for bound in (1.0, 0.3):
                yield f"{name}.default", x, y, reduction, bound
                yield f"{name}_backward.default", grad, x, y, reduction, bound


def _norms() -> Iterator[tuple[Any, ...]]:
    x, weight, bias, grad = values(70, 6, 2, 8), values(71, 8), values(72, 8), values(73, 6, 2, 8)
    yield "native_layer_norm.default", x, [8], weight, bias, 1e-5
    yield "native_layer_norm.default", x, [2, 8], None, None, 1e-5
    mean, rstd = values(74, 6, 2, 1), values(75, 6, 2, 1).abs()
    yield "native_layer_norm_backward.default", grad, x, [8], mean, rstd, weight, bias, [T, T, T]
    yield "native_layer_norm_backward.default", grad, x, [8], mean, rstd, None, None, [T, F, F]
    image, w, b, g = values(76, 2, 6, 3, 3), values(77, 6), values(78, 6), values(79, 2, 6, 3, 3)
    yield "native_group_norm.default", image, w, b, 2, 6, 9, 3, 1e-5
    yield "native_group_norm.default", image, None, None, 2, 6, 9, 2, 1e-5
    stats = values(80, 2, 3), values(81, 2, 3).abs()
    yield "native_group_norm_backward.default", g, image, *stats, w, 2, 6, 9, 3, [T, T, T]
    for training in (T, F):
        running = values(82, 6), values(83, 6).abs()
        for scale in ((w, b), (None, None)):
            yield "_native_batch_norm_legit_functional.default", image, *scale, *running, training, 0.1, 1e-5
        saved = values(84, 6), values(85, 6).abs()
        yield "native_batch_norm_backward.default", g, image, w, *running, *saved, training, 1e-5, [T, T, T]
        yield "native_batch_norm_backward.default", g, image, None, *running, *saved, training, 1e-5, [T, F, T]


def _pools() -> Iterator[tuple[Any, ...]]:
    x = values(86, 2, 3, 8, 8)
    x[0, 0, :3, :3] = 1.0
    wrong = x.clone()
    wrong[0, 1, 2:4, 2:4] = torch.tensor([math.nan, -math.inf])
    windows = [([2, 2], [2, 2], [0, 0], [1, 1]), ([3, 3], [2, 2], [1, 1], [1, 1]), ([3], [1], [0], [2]), ([3, 2],)]
    for window in windows:
        yield "max_pool2d_with_indices.default", x, *window
        yield "max_pool2d_with_indices.default", wrong, *window
        if len(window) == 4:
            out, index = torch.ops.aten.max_pool2d_with_indices(x, *window)
            yield "max_pool2d_with_indices_backward.default", values(87, *out.shape), x, *window, F, index
    yield "max_pool2d_with_indices.default", values(88, 1, 1, 7, 7), [2, 2], [2, 2], [0, 0], [1, 1], T
    yield "avg_pool2d.default", x, [3, 3], [2, 2], [1, 1]
    yield "avg_pool2d_backward.default", values(89, 2, 3, 4, 4), x, [3, 3], [2, 2], [1, 1], F, T, None
    yield "_adaptive_avg_pool2d.default", x, [2, 2]
    yield "_adaptive_avg_pool2d_backward.default", values(89, 2, 3, 2, 2), x
