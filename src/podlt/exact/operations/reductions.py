"""Rows of what makes one value of several: sums, extremes, softmax, losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from podlt.exact.definition import calls, layers, losses, selection
from podlt.exact.operations import rules
from podlt.exact.operations.row import Sample, Samples, reduction
from podlt.exact.samples import INF, NAN, ORDERED, Made, bools, const, empty, floats, ints, of

_REDUCTIONS = (losses.NONE, losses.MEAN, losses.SUM)
_DIMS = ([0], [1], [-1], [0, 2], [0, 1, 2])
_NLL = "f32[n c] i64[n] none reduced whole"

_block, _table, _scalar = floats(210, 3, 17, 4), ints(211, -9, 9, 3, 4), const(-0.0)
_turned = of(_block, lambda x: x.permute(2, 0, 1))
_far = const([1e38, -1e-45, 1e-38, 3.4e38, -3.4e38, 1.0])
_zeros = const([[-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0], [NAN, 1.0]])
_total = of(floats(223, 1), lambda x: x.abs().reshape(()))
_bits = bools(111)

_TOTALS: list[Sample] = [(_block,), (_turned,), (of(_far, lambda x: x * 1e-20),), (_scalar,)]
_ALL: list[Sample] = [*_TOTALS, (empty(0),)]
_ALONG: list[Sample] = [(_block, dims, *kept) for dims in _DIMS for kept in ((), (True,))]
_EXTREMES: list[Sample] = [
    *((x, dims, *kept) for x, dim in ORDERED for dims, kept in (([dim], ()), ([], (True,)))),
    (_zeros, [1]),
    (of(_zeros, lambda x: x[:3]), [0, 1]),
]
_BOOLS: list[Sample] = [(_bits,), (of(_bits, lambda x: x[:0]),)]
_SOFTMAX: list[Sample] = [
    *((_block, dim, False) for dim in (0, 1, 2)),
    (of(_block, lambda x: torch.where(x > 2, -INF, x * 10)), 1, False),
    (of(_block, lambda x: x[:, :1]), 1, False),
]


def _softmax_backward(forward: str) -> Samples:
    return lambda t: [
        (floats(212, 3, 17, 4), t[forward](_block(), dim, False), dim, torch.float32) for dim in (0, 1, 2)
    ]


def _nll(images: bool = False) -> Iterator[tuple[Made, Sample]]:
    """A gradient; scores and targets of lines or of images, weights, reduction, and the target to ignore."""
    line = of(floats(220, 6, 5), lambda x: x * 2), const([1, 2, -100, 4, 0, 3]), -100, floats(224, 6)
    image = floats(221, 2, 5, 3, 2), ints(222, 0, 5, 2, 3, 2), 2, floats(225, 2, 3, 2)
    x, target, ignore, grad = image if images else line
    for how in _REDUCTIONS:
        for weight in (None, of(floats(226, 5), torch.abs)):
            yield grad if how == losses.NONE else of(_total, lambda x: x * 3), (x, target, weight, how, ignore)


def _nll_forward() -> Iterator[Sample]:
    for _, (x, target, weight, how, ignore) in _nll():
        yield x, target, weight, how, ignore
        if weight is not None:
            yield of(x, lambda x: x[0]), of(target, lambda x: x[0]), None, how, ignore


_x = of(floats(227, 30), lambda x: torch.cat([x, torch.tensor([0.0, -0.0, 1.0, -1.0, 4e-23, 1e-45])]))
_y = of(floats(228, 30), lambda y: torch.cat([y, torch.zeros(6)]))
_labels, _sizes = of(_y, lambda y: (y > 0).float()), of(_y, torch.abs)
_WEIGHTS: list[tuple[Any, Any]] = [(None, None), (_sizes, None), (None, _sizes), (const(0.3), const(2.5))]


def _distances(*settings: Sample) -> list[Sample]:
    """Calls of a loss of differences: each reduction, with each setting."""
    return [(_x, _y, how, *setting) for how in _REDUCTIONS for setting in settings]


def _distances_backward(*settings: Sample) -> list[Sample]:
    grads = {losses.NONE: floats(229, 36)}
    return [(grads.get(call[2], _total), *call) for call in _distances(*settings)]


ROWS = (
    reduction(
        "sum.default",
        calls.total,
        [*_ALL, (_far,), (const([3.4e38, 3.4e38]),), (of(_block, lambda x: x > 0),)],
        "f32[*s] -> f32[]",
    ),
    reduction(
        "sum.dim_IntList",
        calls.total,
        [*((*all_of, None) for all_of in _ALL), (_table, [0]), *_ALONG],
        rules.reduced("f32"),
    ),
    reduction("mean.default", calls.mean, _TOTALS, "f32[*s] -> f32[]"),
    reduction("mean.dim", calls.mean, _ALONG, rules.reduced("f32")),
    reduction(
        "var.correction",
        lambda *a, **k: calls.variance_and_mean(*a, **k)[0],
        [(_block, dims, {"correction": 0}) for dims in _DIMS],
    ),
    reduction(
        "var_mean.correction",
        calls.variance_and_mean,
        [*((_block, dims, {"correction": 1, "keepdim": True}) for dims in _DIMS), (_block, [1])],
    ),
    reduction(
        "linalg_vector_norm.default",
        calls.vector_norm,
        [*_ALL, *((_block, order, [1]) for order in (0, 1, 2, 3.0, INF, -INF, 0.5))],
    ),
    reduction(
        "cumsum.default",
        calls.cumulative,
        [(_block, 1), (_turned, -1), (_table, 1)],
        "f32[*s] axis -> f32[*s]",
    ),
    reduction(
        "cumprod.default",
        selection.cumprod,
        [(_block, 1), (_turned, -1), (_table, 1), (_scalar, 0), (of(_far, lambda x: x * 1e10), 0)],
        "f32[*s] axis -> f32[*s]",
    ),
    reduction(
        "prod.default",
        selection.prod,
        [
            *((of(floats(203, n), lambda x: x * 2),) for n in (0, 1, 2, 3, 37, 64)),
            (const([1e30, 1e30, 0.0]),),
            (ints(201, -3, 4, 5, 9),),
            (of(floats(204, 3, 5), torch.t),),
        ],
        "f32[*s] -> f32[]",
    ),
    reduction(
        "logsumexp.default",
        selection.logsumexp,
        [
            *(call for dims in _DIMS for call in ((of(_block, lambda x: x * 30), dims), (_block, dims, True))),
            (const([[-INF] * 2, [1.0, -INF]]), [1]),
            (empty(2, 0), [1]),
        ],
    ),
    reduction("amax.default", lambda x, dims=(), keep=False: selection.extremum(x, dims, keep, 1, "amax"), _EXTREMES),
    reduction("amin.default", lambda x, dims=(), keep=False: selection.extremum(x, dims, keep, -1, "amin"), _EXTREMES),
    reduction("any.default", np.any, _BOOLS, "b1[*s] -> b1[]"),
    reduction(
        "any.dim",
        lambda x, dim, keepdim=False: np.any(x, axis=dim, keepdims=keepdim),
        [(_bits, 1), (_bits, 0, True)],
        rules.reduced("b1"),
    ),
    reduction("all.default", np.all, _BOOLS, "b1[*s] -> b1[]"),
    reduction(
        "_softmax.default",
        lambda x, dim, half: calls.along(layers.softmax, dim, x),
        _SOFTMAX,
        "f32[*s] axis false -> f32[*s]",
    ),
    reduction(
        "_softmax_backward_data.default",
        lambda g, y, dim, kind: calls.along(layers.softmax_backward, dim, g, y),
        _softmax_backward("_softmax.default"),
        "f32[*s] f32[*s] axis dtype -> f32[*s]",
    ),
    reduction(
        "_log_softmax.default",
        lambda x, dim, half: calls.along(layers.log_softmax, dim, x),
        _SOFTMAX,
        "f32[*s] axis false -> f32[*s]",
    ),
    reduction(
        "_log_softmax_backward_data.default",
        lambda g, y, dim, kind: calls.along(layers.log_softmax_backward, dim, g, y),
        _softmax_backward("_log_softmax.default"),
        "f32[*s] f32[*s] axis dtype -> f32[*s]",
    ),
    reduction("nll_loss_forward.default", losses.nll, [*_nll_forward()], f"{_NLL} -> f32[] f32[]"),
    reduction(
        "nll_loss_backward.default",
        losses.nll_backward,
        [(grad, *given, _total) for grad, given in _nll()],
        f"f32[] {_NLL} f32[] -> f32[n c]",
    ),
    reduction("nll_loss2d_forward.default", losses.nll2d, [given for _, given in _nll(images=True)]),
    reduction(
        "nll_loss2d_backward.default",
        losses.nll2d_backward,
        [(grad, *given, _total) for grad, given in _nll(images=True)],
    ),
    reduction("mse_loss.default", losses.mse, _distances(())),
    reduction("mse_loss_backward.default", losses.mse_backward, _distances_backward(())),
    reduction("smooth_l1_loss.default", losses.smooth_l1, _distances((1.0,), (0.3,), (0.0,))),
    reduction(
        "smooth_l1_loss_backward.default", losses.smooth_l1_backward, _distances_backward((1.0,), (0.3,), (0.0,))
    ),
    reduction("huber_loss.default", losses.huber, _distances((1.0,), (0.3,))),
    reduction("huber_loss_backward.default", losses.huber_backward, _distances_backward((1.0,), (0.3,))),
    reduction(
        "binary_cross_entropy_with_logits.default",
        losses.bce_with_logits,
        [(of(_x, lambda x: x * 20), _labels, *weights, how) for how in _REDUCTIONS for weights in _WEIGHTS],
    ),
)
