"""Rows of what moves, selects, orders and places values, or makes them from numbers."""

from __future__ import annotations

import numpy as np
import torch

from podlt.exact.definition import selection
from podlt.exact.definition import structure as d
from podlt.exact.operations import rules
from podlt.exact.operations.row import Sample, factory, place, structure, view
from podlt.exact.samples import ORDERED, const, empty, floats, ints, of, tied

_SAME = "f32[*s] -> f32[*s]"
_TRIANGLE = "f32[*s m n] whole= -> f32[*s m n] | b1[*s m n] whole= -> b1[*s m n]"

_cube, _thin = floats(120, 3, 4, 2), floats(122, 3, 1, 1)
_plane, _slab = floats(123, 3, 2), floats(124, 3, 2, 2)
_slabs, _rows, _places = floats(129, 5, 4, 2), ints(125, 0, 3, 5), ints(126, 0, 4, 2, 6, 2)
_words, _embedded = ints(132, 0, 6, 2, 4), floats(133, 2, 4, 3)
_EXTREMES: list[Sample] = [(x, *rest) for x, dim in ORDERED for rest in ((dim,), (dim, True))]
_RESHAPED: list[Sample] = [(_cube, [6, -1]), (of(_cube, lambda x: x.transpose(0, 1)), [4, 6])]


ROWS = (
    view("view.default", np.reshape, _RESHAPED),
    view("_unsafe_view.default", np.reshape, _RESHAPED),
    view("reshape.default", np.reshape, _RESHAPED),
    view("permute.default", np.transpose, [(_cube, [2, 0, 1])]),
    view("t.default", np.transpose, [(of(_cube, lambda x: x[0]),)], "f32[m n] -> f32[n m]"),
    view("transpose.int", np.swapaxes, [(_cube, 0, -1)]),
    view("expand.default", d.expand, [(_cube, [5, -1, 4, 2])]),
    view("unsqueeze.default", np.expand_dims, [(_cube, -1), (floats(121, 12), 0)]),
    view("squeeze.default", np.squeeze, [(_thin,)]),
    view("squeeze.dim", d.squeeze, [(_thin, 1), (_thin, 0)]),
    view("squeeze.dims", d.squeeze, [(_thin, [1, 2])]),
    view("select.int", lambda x, dim, index: np.take(x, index, dim), [(_cube, 1, -2)]),
    view("slice.Tensor", d.cut, [(_cube, 1, 1, 9, 2), (_cube, 1, -3, -1), (_cube, 2)]),
    view("split.Tensor", d.split, [(_cube, 3, 1)]),
    view("split_with_sizes.default", d.pieces, [(_cube, [1, 3], 1)]),
    view("unbind.int", lambda x, dim=0: [np.take(x, i, dim) for i in range(x.shape[dim])], [(_cube, 2)]),
    structure(
        "cat.default",
        lambda tensors, dim=0: np.concatenate(tensors, dim),
        [([_cube, of(_cube, lambda x: x[:1])],), ([_cube, of(_cube, lambda x: x[:, :0])], 1)],
        rules.cat,
    ),
    structure(
        "stack.default",
        lambda tensors, dim=0: np.stack(tensors, dim),
        [([_cube, of(_cube, torch.neg)], -1)],
        rules.stack,
    ),
    structure("constant_pad_nd.default", d.pad, [(_cube, [1, 0, -1, 2], -0.5)]),
    structure("flip.default", lambda x, dims: np.flip(x, dims), [(_cube, [0, 2])]),
    structure("roll.default", d.roll, [(_cube, [5]), (_cube, [1, -3], [0, -2]), (_thin, [2], [1])]),
    structure("repeat.default", np.tile, [(_cube, [2, 1, 1, 3])]),
    structure("tril.default", np.tril, [(_cube, -1)], _TRIANGLE),
    structure("triu.default", np.triu, [(_cube, 1)], _TRIANGLE),
    structure(
        "select_backward.default",
        lambda g, sizes, dim, i: d.replaced(np.zeros(sizes, np.float32), g, dim, i),
        [(_plane, [3, 4, 2], 1, 2)],
    ),
    structure(
        "slice_backward.default",
        lambda g, sizes, dim, *part: d.replaced(np.zeros(sizes, np.float32), g, dim, slice(*part)),
        [(_slab, [3, 4, 2], 1, 0, 4, 2)],
    ),
    structure(
        "slice_scatter.default",
        lambda x, source, dim=0, start=None, end=None, step=1: d.replaced(x, source, dim, slice(start, end, step)),
        [(_cube, _slab, 1, 1, 3)],
    ),
    structure("select_scatter.default", d.replaced, [(_cube, _plane, 1, -1)]),
    structure("full_like.default", lambda x, value: d.full(x.shape, value, dtype=x.dtype), [(_cube, 0.3)]),
    structure("zeros_like.default", np.zeros_like, [(_cube,)], _SAME),
    structure("ones_like.default", np.ones_like, [(_cube,)], _SAME),
    structure("new_zeros.default", lambda x, shape: d.full(shape, 0, dtype=x.dtype), [(_cube, [2, 2])]),
    structure("new_full.default", lambda x, shape, v: d.full(shape, v, dtype=x.dtype), [(_cube, [2], -0.0)]),
    structure("new_ones.default", lambda x, shape: d.full(shape, 1, dtype=x.dtype), [(_cube, [0, 2])]),
    factory("full.default", d.full, [([2, 3], 0.3), ([2], 7, {"dtype": torch.int64})]),
    factory("zeros.default", lambda shape, dtype=np.float32: d.full(shape, 0, dtype=dtype), [([2, 0],)]),
    factory(
        "ones.default",
        lambda shape, dtype=np.float32: d.full(shape, 1, dtype=dtype),
        [([3], {"dtype": torch.bool})],
    ),
    factory("scalar_tensor.default", lambda value, dtype=np.float32: d.full([], value, dtype=dtype), [(0.3,)]),
    factory("arange.default", d.arange, [(5,), (5, {"dtype": torch.float32})], rules.arange),
    factory("arange.start", d.arange, [(-2, 9)]),
    factory("arange.start_step", d.arange, [(9, -3, -2), (0.1, 30.0, 0.7), (0, 64, 2, {"dtype": torch.float32})]),
    place("gather.default", d.gather, [(_cube, 1, _places)]),
    place("scatter.value", selection.scatter, [(_cube, 1, ints(126, 0, 4, 2, 3, 2), -0.0)]),
    place(
        "scatter.src",
        selection.scatter,
        [
            (_cube, 1, const([[[3, 0], [1, 2]]]), floats(127, 2, 2, 2)),
            (_cube, 0, of(empty(0, 4, 2), lambda x: x.long()), _cube),
        ],
    ),
    place("scatter_add.default", selection.scatter_add, [(_cube, 1, _places, floats(128, 2, 6, 2))]),
    place("index_add.default", selection.index_add, [(_cube, 0, _rows, _slabs, {"alpha": 0.3})], in_programs=False),
    place("index.Tensor", selection.at, [(_cube, [_rows]), (_cube, [None, ints(126, -4, 4, 2, 2)])]),
    place("index_select.default", lambda x, dim, index: np.take(x, index, dim), [(_cube, 0, _rows)]),
    place(
        "index_put.default",
        selection.index_put,
        [
            (_cube, [_rows], _slabs, True),
            (_cube, [const([2, 0])], floats(130, 2, 4, 2)),
            (_cube, [None, const([1, 3])], const(0.3)),
        ],
    ),
    place(
        "embedding.default",
        lambda weight, index: weight[index],
        [(floats(131, 6, 3), _words)],
        "f32[rows n] i64[*s] -> f32[*s n]",
    ),
    place(
        "embedding_dense_backward.default",
        selection.embedding_backward,
        [(_embedded, _words, 6, padding, False) for padding in (2, -1)],
    ),
    place(
        "argmax.default",
        selection.argmax,
        [(x, *rest) for x, dim in ORDERED for rest in ((dim,), (dim, True), ())],
    ),
    place(
        "sort.default",
        selection.sort,
        [
            *((x, dim, descending) for x, dim in ORDERED for descending in (False, True)),
            (empty(3, 0), 1),
            (empty(0, 3), 1),
        ],
    ),
    place(
        "topk.default",
        selection.topk,
        [
            *((x, 1, dim, largest) for x, dim in ORDERED for largest in (False, True)),
            (tied(200, 3, 40, 2), 7, 1, True, False),
            (tied(200, 3, 40, 2), 0, 1),
        ],
    ),
    place("max.dim", lambda x, dim, keepdim=False: selection.extreme(x, dim, keepdim, 1, "max"), _EXTREMES),
    place("min.dim", lambda x, dim, keepdim=False: selection.extreme(x, dim, keepdim, -1, "min"), _EXTREMES),
)
