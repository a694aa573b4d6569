"""Calls of the larger operations: selections, sums, losses, normalisations, products, pooling. See `samples`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from podlt.exact.samples.basic import Call, Tensor, elementwise, structure, ties, values, whole

_SHAPE = ([2, 1], [1, 1], [1, 2], False, [0, 0], 2)
_TURNED = ([2, 1], [1, 1], [1, 1], True, [1, 0], 2)
_ALL = [True, True, True]


def samples(table: Mapping[str, Any]) -> Iterator[Call]:
    """Calls of every operation: its name, arguments and keywords.

    Args:
        table: what computes the results of forward passes that backward passes are given.
    """
    yield from elementwise()
    yield from structure()
    yield from _selections()
    yield from _sums(table)
    yield from _losses()
    yield from _norms(table)
    yield from _products()
    yield from _pools(table)


def _selections() -> Iterator[Call]:
    x, scalar, integers = ties(200, 3, 40, 2), torch.tensor(-0.0), whole(201, -3, 4, 5, 9)
    for given, dim in ((x, 1), (x.permute(2, 0, 1), -1), (integers, 0), (values(202, 1, 7), 0), (scalar, 0)):
        for descending in (False, True):
            yield "sort.default", (given, dim, descending), {}
            yield "topk.default", (given, 1, dim, descending), {}
        for name in ("max.dim", "min.dim"):
            yield name, (given, dim), {}
            yield name, (given, dim, True), {}
        yield "argmax.default", (given, dim), {}
        yield "argmax.default", (given, dim, True), {}
        yield "argmax.default", (given,), {}
        for name in ("amax.default", "amin.default"):
            yield name, (given, [dim]), {}
            yield name, (given, [], True), {}
    zeros = torch.tensor([[-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0], [float("nan"), 1.0]])
    for name in ("amax.default", "amin.default"):
        yield name, (zeros, [1]), {}
        yield name, (zeros[:3], [0, 1]), {}
    yield "sort.default", (torch.empty(3, 0), 1), {}
    yield "sort.default", (torch.empty(0, 3), 1), {}
    yield "topk.default", (x, 7, 1, True, False), {}
    yield "topk.default", (x, 0, 1), {}
    for n in (0, 1, 2, 3, 37, 64):
        yield "prod.default", (values(203, n) * 2,), {}
    yield "prod.default", (torch.tensor([1e30, 1e30, 0.0]),), {}
    yield "prod.default", (integers,), {}
    yield "prod.default", (values(204, 3, 5).t(),), {}


def _sums(t: Mapping[str, Any]) -> Iterator[Call]:
    x = values(210, 3, 17, 4)
    far = torch.tensor([1e38, -1e-45, 1e-38, 3.4e38, -3.4e38, 1.0])
    for name in ("sum.default", "mean.default", "linalg_vector_norm.default", "sum.dim_IntList"):
        more = () if name != "sum.dim_IntList" else (None,)
        for given in (x, x.permute(2, 0, 1), far * 1e-20, torch.tensor(-0.0), torch.empty(0)):
            if name != "mean.default" or given.numel():
                yield name, (given, *more), {}
    yield "sum.default", (far,), {}
    yield "sum.default", (torch.tensor([3.4e38, 3.4e38]),), {}
    yield "sum.default", (x > 0,), {}
    yield "sum.dim_IntList", (whole(211, -9, 9, 3, 4), [0]), {}
    for dims in ([0], [1], [-1], [0, 2], [0, 1, 2]):
        for name in ("sum.dim_IntList", "mean.dim"):
            yield name, (x, dims), {}
            yield name, (x, dims, True), {}
        yield "var.correction", (x, dims), {"correction": 0}
        yield "var_mean.correction", (x, dims), {"correction": 1, "keepdim": True}
        yield "logsumexp.default", (x * 30, dims), {}
        yield "logsumexp.default", (x, dims, True), {}
    yield "var_mean.correction", (x, [1]), {}
    yield "logsumexp.default", (torch.tensor([[-float("inf")] * 2, [1.0, -float("inf")]]), [1]), {}
    yield "logsumexp.default", (torch.empty(2, 0), [1]), {}
    for order in (0, 1, 2, 3.0, float("inf"), -float("inf"), 0.5):
        yield "linalg_vector_norm.default", (x, order, [1]), {}
    yield "cumsum.default", (x, 1), {}
    yield "cumsum.default", (x.permute(2, 0, 1), -1), {}
    yield "cumsum.default", (whole(211, -9, 9, 3, 4), 1), {}
    masked = torch.where(x > 2, -float("inf"), x * 10)
    for name in ("_softmax", "_log_softmax"):
        for dim in (0, 1, 2):
            y = t[f"{name}.default"](x, dim, False)
            yield f"{name}.default", (x, dim, False), {}
            yield f"{name}_backward_data.default", (values(212, 3, 17, 4), y, dim, torch.float32), {}
        yield f"{name}.default", (masked, 1, False), {}
        yield f"{name}.default", (x[:, :1], 1, False), {}


def _losses() -> Iterator[Call]:
    x, target = values(220, 6, 5) * 2, torch.tensor([1, 2, -100, 4, 0, 3])
    image, marks = values(221, 2, 5, 3, 2), whole(222, 0, 5, 2, 3, 2)
    total = values(223, 1).abs().reshape(())
    for reduction in (0, 1, 2):
        grad, grad2d = (values(224, 6), values(225, 2, 3, 2)) if reduction == 0 else (total * 3, total * 3)
        for weight in (None, values(226, 5).abs()):
            rest = (weight, reduction, -100)
            yield "nll_loss_forward.default", (x, target, *rest), {}
            yield "nll_loss_backward.default", (grad, x, target, *rest, total), {}
            yield "nll_loss2d_forward.default", (image, marks, *rest[:2], 2), {}
            yield "nll_loss2d_backward.default", (grad2d, image, marks, *rest[:2], 2, total), {}
        yield "nll_loss_forward.default", (x[0], target[0], None, reduction, -100), {}
        yield from _differences(reduction, total)


def _differences(reduction: int, total: Tensor) -> Iterator[Call]:
    x = torch.cat([values(227, 30), torch.tensor([0.0, -0.0, 1.0, -1.0, 4e-23, 1e-45])])
    y = torch.cat([values(228, 30), torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])])
    grad = values(229, 36) if reduction == 0 else total
    yield "mse_loss.default", (x, y, reduction), {}
    yield "mse_loss_backward.default", (grad, x, y, reduction), {}
    for number in (1.0, 0.3):
        for name in ("smooth_l1_loss", "huber_loss"):
            yield f"{name}.default", (x, y, reduction, number), {}
            yield f"{name}_backward.default", (grad, x, y, reduction, number), {}
    yield "smooth_l1_loss.default", (x, y, reduction, 0.0), {}
    yield "smooth_l1_loss_backward.default", (grad, x, y, reduction, 0.0), {}
    labels = (y > 0).float()
    for weights in ((None, None), (y.abs(), None), (None, y.abs()), (torch.tensor(0.3), torch.tensor(2.5))):
        yield "binary_cross_entropy_with_logits.default", (x * 20, labels, *weights, reduction), {}


def _norms(t: Mapping[str, Any]) -> Iterator[Call]:
    x, grad, w, b = values(230, 4, 10), values(231, 4, 10), values(232, 10), values(233, 10)
    for weight, bias in ((w, b), (None, None)):
        _, mean, rstd = t["native_layer_norm.default"](x, [10], weight, bias, 1e-5)
        yield "native_layer_norm.default", (x, [10], weight, bias, 1e-5), {}
        yield "native_layer_norm_backward.default", (grad, x, [10], mean, rstd, weight, bias, _ALL), {}
    image, back, s, r = values(234, 2, 6, 3, 2), values(235, 2, 6, 3, 2), values(236, 6), values(237, 6)
    for scale, shift in ((s, r), (None, None)):
        _, mean, rstd = t["native_group_norm.default"](image, scale, shift, 2, 6, 6, 3, 1e-5)
        yield "native_group_norm.default", (image, scale, shift, 2, 6, 6, 3, 1e-5), {}
        yield "native_group_norm_backward.default", (back, image, mean, rstd, scale, 2, 6, 6, 3, _ALL), {}
    running = values(238, 6), values(239, 6).abs()
    for training in (True, False):
        forward = (image, s, r, *running, training, 0.1, 1e-5)
        saved = t["_native_batch_norm_legit_functional.default"](*forward)[1:3]
        yield "_native_batch_norm_legit_functional.default", forward, {}
        backward = (back, image, s, *running, *saved, training, 1e-5, _ALL)
        yield "native_batch_norm_backward.default", backward, {}


def _products() -> Iterator[Call]:
    a, b = values(240, 3, 9), values(241, 9, 4)
    yield "mm.default", (a, b), {}
    yield "mm.default", (a.t().contiguous().t(), b * torch.tensor([1e-38, 1.0, 1e30, 0.0])), {}
    yield "mm.default", (a[:, :0], b[:0]), {}
    yield "mm.default", (a[:0], b), {}
    yield "bmm.default", (values(242, 2, 3, 5), values(243, 2, 5, 4)), {}
    yield "addmm.default", (values(244, 4), a, b), {}
    yield "addmm.default", (values(245, 3, 4), a, b), {"beta": 0.5, "alpha": 2}
    yield (
        "baddbmm.default",
        (values(246, 2, 1, 4), values(242, 2, 3, 5), values(243, 2, 5, 4)),
        {"beta": 0, "alpha": 0.3},
    )
    yield "mv.default", (a, b[:, 0]), {}
    yield "dot.default", (a[0], b[:, 1]), {}
    x, weight, bias = values(247, 2, 4, 4, 5), values(248, 6, 2, 3, 2), values(249, 6)
    for given, grad in ((bias, 6), (None, 6)):
        yield "convolution.default", (x, weight, given, *_SHAPE), {}
        back = values(250, 2, grad, 2, 5)
        yield "convolution_backward.default", (back, x, weight, [6], *_SHAPE, _ALL), {}
    turned = values(251, 4, 3, 3, 2)
    yield "convolution.default", (x, turned, bias, *_TURNED), {}
    yield "convolution_backward.default", (values(252, 2, 6, 8, 4), x, turned, [6], *_TURNED, _ALL), {}
    line = ([2], [1], [1], False, [0], 1)
    yield "convolution.default", (values(253, 2, 3, 7), values(254, 4, 3, 3), None, *line), {}
    arguments = (values(255, 2, 4, 4), values(253, 2, 3, 7), values(254, 4, 3, 3), [4], *line, _ALL)
    yield "convolution_backward.default", arguments, {}


def _pools(t: Mapping[str, Any]) -> Iterator[Call]:
    x = values(260, 2, 2, 7, 6)
    tied = ties(261, 1, 2, 7, 6).nan_to_num(0.0, 3.0, -3.0)
    for window in _WINDOWS:
        for given in (x, tied):
            out, index = t["max_pool2d_with_indices.default"](given, *window)
            yield "max_pool2d_with_indices.default", (given, *window), {}
            arguments = (values(262, *out.shape), given, *window, index)
            yield "max_pool2d_with_indices_backward.default", arguments, {}
    for average in _AVERAGES:
        out = t["avg_pool2d.default"](x, *average)
        yield "avg_pool2d.default", (x, *average), {}
        yield "avg_pool2d_backward.default", (values(263, *out.shape), x, *average), {}
    for size in ([1, 1], [7, 2], [3, 4], [9, 8]):
        yield "_adaptive_avg_pool2d.default", (x, size), {}
        yield "_adaptive_avg_pool2d_backward.default", (values(264, 2, 2, *size), x), {}


_AVERAGES: list[tuple[Any, ...]] = [
    ([2, 2], [2, 2], [0, 0], False, True, None),
    ([3, 2], [2, 1], [1, 1], False, True, None),
    ([3, 2], [2, 2], [1, 1], True, True, None),
    ([3, 2], [2, 1], [1, 0], True, False, None),
    ([3], [2], [1], False, False, 5),
]
_WINDOWS: list[tuple[Any, ...]] = [
    ([2, 2], [2, 2], [0, 0], [1, 1], True),
    ([3, 2], [2, 1], [1, 1], [1, 2], False),
    ([3], [], [1], [1], False),
]
