"""Calls of every operation of the table: what definitions, twins and golden vectors are held together with.

Small, since definitions are slow, but with what goes wrong: zeros of both signs, subnormals, infinities where they are
values, ties, sizes of one and of nothing, values that are not contiguous. `samples_layers` holds the larger operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
Tensor = torch.Tensor

EDGES = [0.0, -0.0, 1e-45, -1e-45, 1e-40, 2.0**-126, -(2.0**-126), 1.0, -1.0, 0.625, 0.92773438, 20.0, -20.0, 88.7]
_INF = float("inf")
_NAN = float("nan")
_REAL = """
abs neg reciprocal sqrt rsqrt square exp log log1p expm1 tanh sigmoid erf sin cos relu gelu silu leaky_relu elu softplus
hardtanh log_sigmoid_forward sign floor isnan isinf clone
"""
_SLOPES = ["tanh_backward", "sigmoid_backward", "gelu_backward", "silu_backward"]
_COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


def values(key: int, *shape: int) -> Tensor:
    """Float32 of both signs with magnitudes from 2**-6 to 2**2, evenly over exponents: no rounding in their making."""
    words: np.ndarray[Any, np.dtype[np.uint64]] = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    exponent = 121 + (words >> np.uint64(33)) % np.uint64(8)
    bits = ((words & np.uint64(1)) << np.uint64(31)) | (exponent << np.uint64(23)) | (words >> np.uint64(41))
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32)).reshape(shape)


def whole(key: int, low: int, high: int, *shape: int) -> Tensor:
    """Int64 in [low, high)."""
    words = np.random.Philox(key=key).random_raw(int(np.prod(shape))) >> np.uint64(20)
    return torch.from_numpy((low + (words % np.uint64(high - low)).astype(np.int64)).reshape(shape))


def ties(key: int, *shape: int) -> Tensor:
    """Float32 with many equal values, zeros of both signs and infinities."""
    few = torch.tensor([0.0, -0.0, 1.5, -1.5, 2.0, -_INF, 1e-45, _INF])
    return few[whole(key, 0, 8, *shape)]


def edges(key: int) -> Tensor:
    """Float32 (m,): zeros, subnormals, borders of the elementary functions, and ordinary values of both signs."""
    return torch.cat([torch.tensor(EDGES), values(key, 200), values(key + 1, 60) * 16])


def elementwise() -> Iterator[Call]:
    """Calls of what computes each element on its own."""
    x, y = edges(100), edges(110).flip(0)
    wild = torch.tensor([_INF, -_INF, _NAN, 3.4e38, -3.4e38]).repeat(7)  # so many that vectors and their rest see each
    for name in _REAL.split():
        yield f"{name}.default", (x,), {}
        yield f"{name}.default", (values(101, 4, 6).t(),), {}
        yield f"{name}.default", (torch.empty(0, 3),), {}
        if name not in ("sin", "cos"):
            yield f"{name}.default", (wild,), {}
    for name in _SLOPES:
        yield f"{name}.default", (y, x), {}
    yield from _parametric(x, y, wild)
    yield from _pairs(x, y, wild)
    yield from _logical()
    yield from _choices(x, y, wild)


def _parametric(x: Tensor, y: Tensor, wild: Tensor) -> Iterator[Call]:
    for arguments in ((0.7,), (2.0, 3.0)):
        yield "softplus.default", (x, *arguments), {}
        yield "softplus_backward.default", (y, x, arguments[0], 20.0), {}
    yield "softplus_backward.default", (wild, wild, 1.0, 20.0), {}
    yield "gelu.default", (x,), {"approximate": "tanh"}
    yield "gelu_backward.default", (y, x), {"approximate": "tanh"}
    yield "leaky_relu.default", (x, 0.2), {}
    yield "leaky_relu_backward.default", (y, x, 0.2, False), {}
    for numbers in ((1.0, 1.0, 1.0), (0.7, 1.3, 0.9)):
        yield "elu.default", (x, *numbers), {}
        for is_result in (False, True):
            yield "elu_backward.default", (y, *numbers, is_result, x), {}
    yield "log_sigmoid_backward.default", (y, x, torch.empty(0)), {}
    yield "threshold_backward.default", (y, x, 0), {}
    yield "hardtanh.default", (x, -0.5, 0.5), {}
    yield "hardtanh_backward.default", (y, x, -0.5, 0.5), {}
    yield "hardtanh_backward.default", (y[:35], wild, -0.5, 0.5), {}
    yield "threshold_backward.default", (y[:35], wild, 0), {}
    for exponent in (2, 3, -7, 0.5, -0.5, 1.7, 0):
        yield "pow.Tensor_Scalar", (x.abs(), exponent), {}
    yield "pow.Tensor_Scalar", (whole(102, -5, 6, 7), 3), {}
    yield "pow.Tensor_Scalar", (whole(102, 0, 6, 7), 0.5), {}
    yield "pow.Tensor_Tensor", (x.abs(), y), {}
    yield "pow.Tensor_Tensor", (values(103, 3, 1).abs(), values(104, 4)), {}
    yield "pow.Scalar", (0.9, x), {}


def _pairs(x: Tensor, y: Tensor, wild: Tensor) -> Iterator[Call]:
    integers = whole(105, -9, 10, 3, 4)
    for name in ("add", "sub", "mul", "div"):
        yield f"{name}.Tensor", (x, y), {}
        yield f"{name}.Tensor", (values(106, 3, 1), values(107, 4)), {}
        yield f"{name}.Tensor", (wild, wild.flip(0)), {}
        yield f"{name}.Tensor", (x, 0.3), {}
        yield f"{name}.Scalar", (x, 3.0), {}
        yield f"{name}.Scalar", (integers, 3), {}
        yield f"{name}.Scalar", (integers, 0.3), {}
    for name in ("add", "sub"):
        yield f"{name}.Tensor", (x, y), {"alpha": 0.3}
        yield f"{name}.Tensor", (integers, integers.flip(0)), {"alpha": 2}
    yield "rsub.Scalar", (x, 1), {}
    yield "rsub.Scalar", (x, 1.5, 0.3), {}
    yield "rsub.Scalar", (integers, 1.5), {}
    yield "addcmul.default", (x, y, x), {"value": 0.7}
    yield "addcmul.default", (x, y, x), {}
    for name in ("maximum", "minimum"):
        yield f"{name}.default", (x, y), {}
        yield f"{name}.default", (ties(108, 40), ties(109, 40)), {}
        yield f"{name}.default", (wild, torch.tensor([_NAN, 1.0, 2.0, -_INF, _INF]).repeat(7)), {}
        yield f"{name}.default", (integers, integers.flip(1)), {}
    for name in _COMPARISONS:
        yield f"{name}.Tensor", (ties(108, 40), ties(109, 40)), {}
        yield f"{name}.Tensor", (integers, integers.flip(1)), {}
        yield f"{name}.Scalar", (torch.cat([x, wild]), 0.625), {}
        yield f"{name}.Scalar", (integers, 2), {}


def _logical() -> Iterator[Call]:
    a, b = whole(111, 0, 2, 5, 3) > 0, whole(112, 0, 2, 5, 3) > 0
    for name in ("logical_and.default", "logical_or.default", "bitwise_and.Tensor", "bitwise_or.Tensor"):
        yield name, (a, b), {}
    yield "logical_and.default", (a, whole(113, 0, 3, 5, 3)), {}
    for name in ("logical_not.default", "bitwise_not.default"):
        yield name, (a,), {}
    yield "bitwise_not.default", (whole(113, 0, 9, 4),), {}
    yield "bitwise_and.Tensor", (whole(113, 0, 9, 4), whole(114, 0, 9, 4)), {}
    for name in ("any.default", "all.default"):
        yield name, (a,), {}
        yield name, (a[:0],), {}
    yield "any.dim", (a, 1), {}
    yield "any.dim", (a, 0, True), {}


def _choices(x: Tensor, y: Tensor, wild: Tensor) -> Iterator[Call]:
    mask = x > 0.5
    yield "where.self", (mask, x, y), {}
    yield "where.self", (values(115, 3, 1) > 0, values(116, 4), torch.tensor(-0.0)), {}
    yield "where.ScalarSelf", (mask, -0.0, x), {}
    yield "where.ScalarOther", (mask, x, 0.3), {}
    yield "masked_fill.Scalar", (x, mask, -_INF), {}
    yield "masked_fill.Tensor", (x, mask, torch.tensor(0.3)), {}
    zeros = torch.tensor([0.0, -0.0] * 9)
    for given in (x, wild, zeros):
        yield "clamp.default", (given, -0.5, 0.7), {}
        yield "clamp.default", (given, 0.0), {}
        yield "clamp.default", (given, None, -0.0), {}
        yield "clamp.default", (given, 0.7, -0.5), {}
        yield "clamp_min.default", (given, 0), {}
        yield "clamp_max.default", (given, 0), {}
    yield "clamp.Tensor", (zeros, zeros.flip(0), zeros), {}
    yield "clamp.Tensor", (x, y, None), {}
    yield "clamp.Tensor", (wild, torch.tensor([0.0, _NAN, 1.0, 2.0, 3.0]).repeat(7), torch.tensor(2.0)), {}
    yield "clamp.default", (whole(117, -9, 9, 12), -3, 4), {}
    yield "_to_copy.default", (x,), {"dtype": torch.bool}
    yield "_to_copy.default", (values(118, 9) * 100,), {"dtype": torch.int64}
    yield "_to_copy.default", (torch.tensor([-(2.0**63), 2.0**62, -0.9]),), {"dtype": torch.int64}
    far = torch.tensor([2**24 + 1, 2**53 + 2**29 + 1, 2**62 + 2**38, 2**62 + 2**38 + 1, -(2**63)])
    yield "_to_copy.default", (far,), {"dtype": torch.float32}
    yield "_to_copy.default", (mask,), {"dtype": torch.float32}
    yield "_to_copy.default", (mask,), {"dtype": torch.int64}


def structure() -> Iterator[Call]:
    """Calls of what moves values or makes them from numbers."""
    x, flat = values(120, 3, 4, 2), values(121, 12)
    for name in ("view.default", "_unsafe_view.default", "reshape.default"):
        yield name, (x, [6, -1]), {}
        yield name, (x.transpose(0, 1), [4, 6]), {}
    moves: list[tuple[str, tuple[Any, ...]]] = [
        ("permute.default", ([2, 0, 1],)),
        ("transpose.int", (0, -1)),
        ("expand.default", ([5, -1, 4, 2],)),
        ("unsqueeze.default", (-1,)),
        ("select.int", (1, -2)),
        ("slice.Tensor", (1, 1, 9, 2)),
        ("slice.Tensor", (1, -3, -1)),
        ("slice.Tensor", (2,)),
        ("split.Tensor", (3, 1)),
        ("split_with_sizes.default", ([1, 3], 1)),
        ("unbind.int", (2,)),
        ("constant_pad_nd.default", ([1, 0, -1, 2], -0.5)),
        ("flip.default", ([0, 2],)),
        ("repeat.default", ([2, 1, 1, 3],)),
        ("full_like.default", (0.3,)),
        ("zeros_like.default", ()),
        ("ones_like.default", ()),
        ("new_zeros.default", ([2, 2],)),
        ("new_full.default", ([2], -0.0)),
        ("new_ones.default", ([0, 2],)),
        ("tril.default", (-1,)),
        ("triu.default", (1,)),
    ]
    for name, arguments in moves:
        yield name, (x, *arguments), {}
    yield "unsqueeze.default", (flat, 0), {}
    yield "t.default", (x[0],), {}
    for name, more in (
        ("squeeze.default", ()),
        ("squeeze.dim", (1,)),
        ("squeeze.dim", (0,)),
        ("squeeze.dims", ([1, 2],)),
    ):
        yield name, (values(122, 3, 1, 1), *more), {}
    yield "cat.default", ([x, x[:1]],), {}
    yield "cat.default", ([x, x[:, :0]], 1), {}
    yield "stack.default", ([x, -x], -1), {}
    yield "select_backward.default", (values(123, 3, 2), [3, 4, 2], 1, 2), {}
    yield "slice_backward.default", (values(124, 3, 2, 2), [3, 4, 2], 1, 0, 4, 2), {}
    yield "slice_scatter.default", (x, values(124, 3, 2, 2), 1, 1, 3), {}
    yield "select_scatter.default", (x, values(123, 3, 2), 1, -1), {}
    yield from _made()
    yield from _placed(x)


def _made() -> Iterator[Call]:
    yield "full.default", ([2, 3], 0.3), {}
    yield "full.default", ([2], 7), {"dtype": torch.int64}
    yield "zeros.default", ([2, 0],), {}
    yield "ones.default", ([3],), {"dtype": torch.bool}
    yield "scalar_tensor.default", (0.3,), {}
    yield "arange.default", (5,), {}
    yield "arange.default", (5,), {"dtype": torch.float32}
    yield "arange.start", (-2, 9), {}
    yield "arange.start_step", (9, -3, -2), {}
    yield "arange.start_step", (0.1, 30.0, 0.7), {}
    yield "arange.start_step", (0, 64, 2), {"dtype": torch.float32}


def _placed(x: Tensor) -> Iterator[Call]:
    rows = whole(125, 0, 3, 5)
    yield "gather.default", (x, 1, whole(126, 0, 4, 2, 6, 2)), {}
    yield "scatter.value", (x, 1, whole(126, 0, 4, 2, 3, 2), -0.0), {}
    yield "scatter.src", (x, 1, torch.tensor([[[3, 0], [1, 2]]]), values(127, 2, 2, 2)), {}
    yield "scatter.src", (x, 0, torch.zeros(0, 4, 2, dtype=torch.int64), x), {}
    yield "scatter_add.default", (x, 1, whole(126, 0, 4, 2, 6, 2), values(128, 2, 6, 2)), {}
    yield "index_add.default", (x, 0, rows, values(129, 5, 4, 2)), {"alpha": 0.3}
    yield "index.Tensor", (x, [rows]), {}
    yield "index.Tensor", (x, [None, whole(126, -4, 4, 2, 2)]), {}
    yield "index_select.default", (x, 0, rows), {}
    yield "index_put.default", (x, [rows], values(129, 5, 4, 2), True), {}
    yield "index_put.default", (x, [torch.tensor([2, 0])], values(130, 2, 4, 2)), {}
    yield "index_put.default", (x, [None, torch.tensor([1, 3])], torch.tensor(0.3)), {}
    yield "embedding.default", (values(131, 6, 3), whole(132, 0, 6, 2, 4)), {}
    yield "embedding_dense_backward.default", (values(133, 2, 4, 3), whole(132, 0, 6, 2, 4), 6, 2, False), {}
    yield "embedding_dense_backward.default", (values(133, 2, 4, 3), whole(132, 0, 6, 2, 4), 6, -1, False), {}
