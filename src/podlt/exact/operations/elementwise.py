"""Rows of what computes each element on its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from podlt.exact.constants import Array
from podlt.exact.definition import elementary
from podlt.exact.definition import structure as d
from podlt.exact.operations.row import Definition, Row, Sample, elementwise
from podlt.exact.samples import INF, NAN, bools, const, edges, empty, floats, ints, of, others, tied, wild, zeros

_0, _1 = np.float32(0.0), np.float32(1.0)
_SAME = "f32[*s] -> f32[*s]"
_TEST = "f32[*s] -> b1[*s]"
_PAIR = "f32[*s] f32[*s] -> f32[*s]"
_BOTH = "f32[*#s] f32[*#s] -> f32[*#s]"
_LOGICAL = "b1[*#s] b1[*#s] -> b1[*#s]"
_NUMBER = "f32[*s] number -> f32[*s]"

_mask = of(edges, lambda x: x > 0.5)
_size = of(edges, torch.abs)
_few = of(others, lambda y: y[:35])
_table = ints(105, -9, 10, 3, 4)
_bits, _more_bits, _numbers = bools(111), bools(112), ints(113, 0, 9, 4)
_NAN_BOUNDS = const([0.0, NAN, 1.0, 2.0, 3.0] * 7)
_FAR = const([2**24 + 1, 2**53 + 2**29 + 1, 2**62 + 2**38, 2**62 + 2**38 + 1, -(2**63)])

_FINITE: list[Sample] = [(edges,), (of(floats(101, 4, 6), torch.t),), (empty(0, 3),)]
_TWO: list[Sample] = [
    (edges, others),
    (floats(106, 3, 1), floats(107, 4)),
    (wild, of(wild, lambda x: x.flip(0))),
    (edges, 0.3),
]
_SCALED: list[Sample] = [(edges, others, {"alpha": 0.3}), (_table, of(_table, lambda x: x.flip(0)), {"alpha": 2})]
_SCALAR: list[Sample] = [(edges, 3.0), (_table, 3), (_table, 0.3)]
_EXTREMES: list[Sample] = [
    (edges, others),
    (tied(108, 40), tied(109, 40)),
    (wild, const([NAN, 1.0, 2.0, -INF, INF] * 7)),
    (_table, of(_table, lambda x: x.flip(1))),
]
_HALVES = const([0.5, -0.5, 1.5, 2.5, -2.5, 8388607.5, 0.49999997])
_REMAINDERS: list[Sample] = [
    *_TWO[:3],
    (wild, const([0.0, -0.0, 3.0, -INF, INF] * 7)),
    (of(edges, lambda x: x * 1e30), const(-0.37)),
    (_table, ints(119, 1, 5, 4)),
    (_table, ints(119, -5, 0, 4)),
]
_CASTS: list[Sample] = [
    (edges, {"dtype": torch.bool}),
    (of(floats(118, 9), lambda x: x * 100), {"dtype": torch.int64}),
    (const([-(2.0**63), 2.0**62, -0.9]), {"dtype": torch.int64}),
    (_FAR, {"dtype": torch.float32}),
    (_mask, {"dtype": torch.float32}),
    (_mask, {"dtype": torch.int64}),
]


def _function(name: str, definition: Definition, *more: Sample, types: str | None = _SAME) -> Row:
    """A function of one tensor, with samples of its own after those that all have."""
    return elementwise(f"{name}.default", definition, [*_FINITE, (wild,), *more], types)


def _real(name: str, function: Callable[[Array], Array]) -> Row:
    """A function of float32, as which it takes whole numbers."""
    return _function(name, lambda x: function(x.astype(np.float32)))


def _wave(name: str, function: Callable[[Array], Array]) -> Row:
    """A function of an angle, which infinities and NaNs are not."""
    return elementwise(f"{name}.default", lambda x: function(x.astype(np.float32)), _FINITE, _SAME)


def _slope(name: str, slope: Definition, *more: Sample) -> Row:
    """The gradient times a derivative."""
    name = f"{name}_backward.default"
    return elementwise(name, lambda g, x, *rest, **o: g * slope(x, *rest, **o), [(others, edges), *more], _PAIR)


def _pairwise(name: str, definition: Definition, *more: Sample, types: str = f"{_BOTH} | {_NUMBER}") -> tuple[Row, Row]:
    """An operation of two tensors, or of one and a number."""
    return (
        elementwise(f"{name}.Tensor", definition, [*_TWO, *more], types),
        elementwise(f"{name}.Scalar", definition, _SCALAR, _NUMBER),
    )


def _comparison(name: str, compare: Definition) -> tuple[Row, Row]:
    """A comparison of two tensors, or of one and a number."""
    two: list[Sample] = [(tied(108, 40), tied(109, 40)), (_table, of(_table, lambda x: x.flip(1)))]
    one: list[Sample] = [(lambda: torch.cat([edges(), wild()]), 0.625), (_table, 2)]
    return (
        elementwise(f"{name}.Tensor", lambda a, b: compare(*d.common(a, b)), two, "f32[*#s] f32[*#s] -> b1[*#s]"),
        elementwise(f"{name}.Scalar", lambda a, b: compare(*d.common(a, b)), one, "f32[*s] number -> b1[*s]"),
    )


def _bounded(*bounds: Sample) -> list[Sample]:
    """Each of three tensors between each of some bounds."""
    return [(x, *bound) for x in (edges, wild, zeros) for bound in bounds]


ROWS = (
    _real("exp", elementary.exp),
    _real("log", elementary.log),
    _real("log1p", elementary.log1p),
    _real("expm1", elementary.expm1),
    _real("tanh", elementary.tanh),
    _real("sigmoid", elementary.sigmoid),
    _real("log2", elementary.log2),
    _real("erf", elementary.erf),
    _real("erfc", elementary.erfc),
    _real("atan", elementary.atan),
    _wave("sin", elementary.sin),
    _wave("cos", elementary.cos),
    _real("sqrt", np.sqrt),
    _real("rsqrt", elementary.rsqrt),
    _real("silu", elementary.silu),
    _slope("silu", elementary.silu_slope),
    _function("gelu", elementary.gelu, (edges, {"approximate": "tanh"})),
    _slope("gelu", elementary.gelu_slope, (others, edges, {"approximate": "tanh"})),
    _slope("tanh", lambda y: _1 - y * y),
    _slope("sigmoid", lambda y: (_1 - y) * y),
    _function("softplus", elementary.softplus, (edges, 0.7), (edges, 2.0, 3.0)),
    elementwise(
        "softplus_backward.default",
        lambda grad, x, beta, threshold: grad * elementary.softplus_slope(x, beta, threshold),
        [(others, edges, 0.7, 20.0), (others, edges, 2.0, 20.0), (wild, wild, 1.0, 20.0)],
        "f32[*s] f32[*s] number number -> f32[*s]",
    ),
    _function("elu", elementary.elu, (edges, 1.0, 1.0, 1.0), (edges, 0.7, 1.3, 0.9)),
    elementwise(
        "elu_backward.default",
        elementary.elu_backward,
        [(others, *n, out, edges) for n in ((1.0, 1.0, 1.0), (0.7, 1.3, 0.9)) for out in (False, True)],
    ),
    _function("log_sigmoid_forward", elementary.log_sigmoid, types=None),
    elementwise(
        "log_sigmoid_backward.default",
        lambda grad, x, buffer: grad * elementary.log_sigmoid_slope(x),
        [(others, edges, empty(0))],
    ),
    elementwise(
        "pow.Tensor_Scalar",
        elementary.raised,
        [
            *((_size, exponent) for exponent in (2, 3, -7, 0.5, -0.5, 1.7, 0)),
            (ints(102, -5, 6, 7), 3),
            (ints(102, 0, 6, 7), 0.5),
        ],
        _NUMBER,
    ),
    elementwise(
        "pow.Tensor_Tensor",
        elementary.raised,
        [(_size, others), (of(floats(103, 3, 1), torch.abs), floats(104, 4))],
        _BOTH,
    ),
    elementwise("pow.Scalar", elementary.raised, [(0.9, edges)]),
    *_pairwise("add", d.add, *_SCALED, types=f"{_BOTH} | {_NUMBER} | i64[*s] whole -> i64[*s]"),
    *_pairwise("sub", d.sub, *_SCALED),
    *_pairwise("mul", d.mul),
    *_pairwise("div", d.div),
    elementwise("remainder.Tensor", d.remainder, _REMAINDERS, _BOTH),
    elementwise("remainder.Scalar", d.remainder, [(edges, 0.7), (edges, -3.0), (_table, 4), (_table, 0.3)], _NUMBER),
    elementwise("div.Tensor_mode", d.floor_quotient, [(*call, {"rounding_mode": "floor"}) for call in _REMAINDERS]),
    elementwise(
        "rsub.Scalar",
        lambda a, b, alpha=1: d.sub(b, a, alpha),
        [(edges, 1), (edges, 1.5, 0.3), (_table, 1.5)],
        _NUMBER,
    ),
    elementwise(
        "addcmul.default",
        lambda a, b, c, value=1: a + d.scaled(b * c, value),
        [(edges, others, edges, {"value": 0.7}), (edges, others, edges)],
        "f32[*#s] f32[*#s] f32[*#s] -> f32[*#s]",
    ),
    _function("abs", np.abs),
    _function("neg", np.negative),
    _function("reciprocal", lambda x: _1 / x),
    _function("square", lambda x: x * x),
    _function("sign", lambda x: np.where(x > 0, _1, np.where(x < 0, -_1, _0))),
    _function("floor", np.floor),
    _function("round", d.rounded, (_HALVES,)),
    _function("isnan", np.isnan, types=_TEST),
    _function("isinf", np.isinf, types=_TEST),
    _function("clone", np.copy),
    elementwise("_to_copy.default", d.cast, _CASTS),
    _function("relu", lambda x: np.where(x < 0, x.dtype.type(0), x)),
    elementwise(
        "threshold_backward.default",
        lambda grad, x, threshold: np.where(x <= np.float32(threshold), _0, grad),
        [(others, edges, 0), (_few, wild, 0)],
        "f32[*s] f32[*s] number -> f32[*s]",
    ),
    _function("leaky_relu", lambda x, slope=0.01: np.where(x > 0, x, x * np.float32(slope)), (edges, 0.2)),
    elementwise(
        "leaky_relu_backward.default",
        lambda g, x, slope, is_result: np.where(x > 0, g, g * np.float32(slope)),
        [(others, edges, 0.2, False)],
        "f32[*s] f32[*s] number bool -> f32[*s]",
    ),
    _function("hardtanh", lambda x, low=-1, high=1: d.clamp(x, low, high), (edges, -0.5, 0.5)),
    elementwise(
        "hardtanh_backward.default",
        lambda grad, x, low, high: np.where((x <= np.float32(low)) | (x >= np.float32(high)), _0, grad),
        [(others, edges, -0.5, 0.5), (_few, wild, -0.5, 0.5)],
        "f32[*s] f32[*s] number number -> f32[*s]",
    ),
    elementwise("maximum.default", d.maximum, _EXTREMES, _BOTH),
    elementwise("minimum.default", d.minimum, _EXTREMES, _BOTH),
    elementwise(
        "clamp.default",
        d.clamp,
        [*_bounded((-0.5, 0.7), (0.0,), (None, -0.0), (0.7, -0.5)), (ints(117, -9, 9, 12), -3, 4)],
        "f32[*s] number number -> f32[*s]",
    ),
    elementwise(
        "clamp.Tensor",
        d.clamp,
        [(zeros, of(zeros, lambda x: x.flip(0)), zeros), (edges, others, None), (wild, _NAN_BOUNDS, const(2.0))],
    ),
    elementwise("clamp_min.default", d.clamp, _bounded((0,)), _NUMBER),
    elementwise("clamp_max.default", lambda x, high: d.clamp(x, None, high), _bounded((0,)), _NUMBER),
    elementwise(
        "where.self",
        d.where,
        [(_mask, edges, others), (of(floats(115, 3, 1), lambda x: x > 0), floats(116, 4), const(-0.0))],
        "b1[*#s] f32[*#s] f32[*#s] -> f32[*#s]",
    ),
    elementwise("where.ScalarSelf", d.where, [(_mask, -0.0, edges)]),
    elementwise("where.ScalarOther", d.where, [(_mask, edges, 0.3)]),
    elementwise("masked_fill.Scalar", d.filled, [(edges, _mask, -INF)]),
    elementwise("masked_fill.Tensor", d.filled, [(edges, _mask, const(0.3))]),
    *_comparison("eq", np.equal),
    *_comparison("ne", np.not_equal),
    *_comparison("lt", np.less),
    *_comparison("le", np.less_equal),
    *_comparison("gt", np.greater),
    *_comparison("ge", np.greater_equal),
    elementwise("logical_and.default", np.logical_and, [(_bits, _more_bits), (_bits, ints(113, 0, 3, 5, 3))], _LOGICAL),
    elementwise("logical_or.default", np.logical_or, [(_bits, _more_bits)], _LOGICAL),
    elementwise("logical_not.default", np.logical_not, [(_bits,)], "b1[*s] -> b1[*s]"),
    elementwise("bitwise_and.Tensor", np.bitwise_and, [(_bits, _more_bits), (_numbers, ints(114, 0, 9, 4))], _LOGICAL),
    elementwise("bitwise_or.Tensor", np.bitwise_or, [(_bits, _more_bits)], _LOGICAL),
    elementwise("bitwise_not.default", np.invert, [(_bits,), (_numbers,)], "b1[*s] -> b1[*s]"),
)
