"""Rows of normalisations, products, convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from podlt.exact.definition import calls, pooling
from podlt.exact.definition import products as d
from podlt.exact.operations import rules
from podlt.exact.operations.row import Sample, Table, product, reduction
from podlt.exact.samples import const, floats, of, tied, values

_ALL = [True, True, True]
_NORMED = "f32[n+ c+ *s+] f32[c+]? f32[c+]? f32[c+] f32[c+] true float float -> f32[n+ c+ *s+]" + 4 * " f32[c+]"
_NORMED_BACKWARD = (
    "f32[n+ c+ *s+] f32[n+ c+ *s+] f32[c+] f32[c+] f32[c+] f32[c+] f32[c+] true float mask"
    " -> f32[n+ c+ *s+] f32[c+]? f32[c+]?"
)

_lines, _grad, _weight, _bias = floats(230, 4, 10), floats(231, 4, 10), floats(232, 10), floats(233, 10)
_images, _back, _scale, _shift = floats(234, 2, 6, 3, 2), floats(235, 2, 6, 3, 2), floats(236, 6), floats(237, 6)
_mean, _variance = floats(238, 6), of(floats(239, 6), lambda x: x.abs())
_GROUPS = (2, 6, 6, 3)  # images, channels, pixels, groups
_LAYER_NORM: list[Sample] = [(_lines, [10], _weight, _bias, 1e-5), (_lines, [10], None, None, 1e-5)]
_GROUP_NORM: list[Sample] = [(_images, _scale, _shift, *_GROUPS, 1e-5), (_images, None, None, *_GROUPS, 1e-5)]
_BATCH_NORM: list[Sample] = [
    (_images, _scale, _shift, _mean, _variance, training, 0.1, 1e-5) for training in (True, False)
]


def _forward(t: Table, name: str, call: Sample) -> Any:
    """What a forward pass gives."""
    return t[name](*(item() if callable(item) else item for item in call))


def _layer_norm_backward(t: Table) -> Iterator[Sample]:
    for call in _LAYER_NORM:
        _, mean, factor = _forward(t, "native_layer_norm.default", call)
        yield _grad, _lines, [10], mean, factor, *call[2:4], _ALL


def _group_norm_backward(t: Table) -> Iterator[Sample]:
    for call in _GROUP_NORM:
        _, mean, factor = _forward(t, "native_group_norm.default", call)
        yield _back, _images, mean, factor, call[1], *_GROUPS, _ALL


def _batch_norm_backward(t: Table) -> Iterator[Sample]:
    for call in _BATCH_NORM:
        _, mean, factor, *_ = _forward(t, "_native_batch_norm_legit_functional.default", call)
        yield _back, _images, _scale, _mean, _variance, mean, factor, call[5], 1e-5, _ALL


_a, _b = floats(240, 3, 9), floats(241, 9, 4)
_batches, _others = floats(242, 2, 3, 5), floats(243, 2, 5, 4)
_MATRICES: list[Sample] = [
    (_a, _b),
    (of(_a, lambda x: x.t().contiguous().t()), of(_b, lambda x: x * const([1e-38, 1.0, 1e30, 0.0])())),
    (of(_a, lambda x: x[:, :0]), of(_b, lambda x: x[:0])),
    (of(_a, lambda x: x[:0]), _b),
]

_x, _kernel, _offset = floats(247, 2, 4, 4, 5), floats(248, 6, 2, 3, 2), floats(249, 6)
_SHAPE = ([2, 1], [1, 1], [1, 2], False, [0, 0], 2)
_TURNED = ([2, 1], [1, 1], [1, 1], True, [1, 0], 2)
_LINE = ([2], [1], [1], False, [0], 1)
_CONVOLUTIONS: list[tuple[Any, Sample, list[int], Sample]] = [
    (floats(250, 2, 6, 2, 5), (_x, _kernel, _offset), [6], _SHAPE),
    (floats(250, 2, 6, 2, 5), (_x, _kernel, None), [6], _SHAPE),
    (floats(252, 2, 6, 8, 4), (_x, floats(251, 4, 3, 3, 2), _offset), [6], _TURNED),
    (floats(255, 2, 4, 4), (floats(253, 2, 3, 7), floats(254, 4, 3, 3), None), [4], _LINE),
]
"""A gradient; image, weight and bias; the bias' shape; stride, padding, dilation, transposed, beyond, groups."""

_planes = floats(260, 2, 2, 7, 6)
_tied = of(tied(261, 1, 2, 7, 6), lambda x: x.nan_to_num(0.0, 3.0, -3.0))
_SIZES = ([1, 1], [7, 2], [3, 4], [9, 8])
_WINDOWS: list[Sample] = [
    ([2, 2], [2, 2], [0, 0], [1, 1], True),
    ([3, 2], [2, 1], [1, 1], [1, 2], False),
    ([3], [], [1], [1], False),
]
_AVERAGES: list[Sample] = [
    ([2, 2], [2, 2], [0, 0], False, True, None),
    ([3, 2], [2, 1], [1, 1], False, True, None),
    ([3, 2], [2, 2], [1, 1], True, True, None),
    ([3, 2], [2, 1], [1, 0], True, False, None),
    ([3], [2], [1], False, False, 5),
]
_MAX_POOL: list[Sample] = [(x, *window) for window in _WINDOWS for x in (_planes, _tied)]


def _max_pool_backward(t: Table) -> Iterator[Sample]:
    for call in _MAX_POOL:
        out, index = _forward(t, "max_pool2d_with_indices.default", call)
        yield values(262, *out.shape), *call, index


def _average_backward(t: Table) -> Iterator[Sample]:
    for average in _AVERAGES:
        out = _forward(t, "avg_pool2d.default", (_planes, *average))
        yield values(263, *out.shape), _planes, *average


ROWS = (
    reduction("native_layer_norm.default", calls.layer_norm, _LAYER_NORM, rules.layer_norm),
    reduction(
        "native_layer_norm_backward.default", calls.layer_norm_backward, _layer_norm_backward, rules.layer_norm_backward
    ),
    reduction("native_group_norm.default", calls.group_norm, _GROUP_NORM),
    reduction("native_group_norm_backward.default", calls.group_norm_backward, _group_norm_backward),
    reduction("_native_batch_norm_legit_functional.default", calls.batch_norm, _BATCH_NORM, _NORMED),
    reduction("native_batch_norm_backward.default", calls.batch_norm_backward, _batch_norm_backward, _NORMED_BACKWARD),
    product("mm.default", d.mm, _MATRICES, "f32[m k] f32[k n] -> f32[m n]"),
    product("bmm.default", calls.bmm, [(_batches, _others)], "f32[b m k] f32[b k n] -> f32[b m n]"),
    product(
        "addmm.default",
        calls.addmm,
        [(floats(244, 4), _a, _b), (floats(245, 3, 4), _a, _b, {"beta": 0.5, "alpha": 2})],
        "f32[n] f32[m k] f32[k n] -> f32[m n]",
    ),
    product("baddbmm.default", calls.addmm, [(floats(246, 2, 1, 4), _batches, _others, {"beta": 0, "alpha": 0.3})]),
    product(
        "mv.default",
        lambda a, b, digits: d.mm(a, b[:, None], digits)[:, 0],
        [(_a, of(_b, lambda b: b[:, 0]))],
        "f32[m k] f32[k] -> f32[m]",
    ),
    product(
        "dot.default",
        lambda a, b, digits: np.asarray(d.dot(a, b, digits)),
        [(of(_a, lambda a: a[0]), of(_b, lambda b: b[:, 1]))],
        "f32[k] f32[k] -> f32[]",
    ),
    product(
        "convolution.default",
        calls.convolution,
        [(*given, *shape) for _, given, _, shape in _CONVOLUTIONS],
        rules.convolution,
    ),
    product(
        "convolution_backward.default",
        calls.convolution_backward,
        [(grad, x, weight, sizes, *shape, _ALL) for grad, (x, weight, _), sizes, shape in _CONVOLUTIONS],
        rules.convolution_backward,
    ),
    reduction("max_pool2d_with_indices.default", pooling.max_pool, _MAX_POOL, rules.max_pool),
    reduction(
        "max_pool2d_with_indices_backward.default",
        pooling.max_pool_backward,
        _max_pool_backward,
        rules.max_pool_backward,
    ),
    reduction("avg_pool2d.default", pooling.average_pool, [(_planes, *average) for average in _AVERAGES]),
    reduction("avg_pool2d_backward.default", pooling.average_pool_backward, _average_backward),
    reduction("_adaptive_avg_pool2d.default", pooling.adaptive_average_pool, [(_planes, size) for size in _SIZES]),
    reduction(
        "_adaptive_avg_pool2d_backward.default",
        pooling.adaptive_average_pool_backward,
        [(floats(264, 2, 2, *size), _planes) for size in _SIZES],
    ),
)
