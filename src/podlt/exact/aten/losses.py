"""Losses and their gradients under their ATen names. Definitions: `definition.losses`."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.tensors import number, shaped

_NONE, _MEAN = 0, 1


def _reduced(b: Backend, losses: Tensor, reduction: int, operation: str) -> Tensor:
    if reduction == _NONE:
        return losses
    total = b.sums.total(losses, None, False, operation)
    return torch.div(total, number(losses.numel(), losses)) if reduction == _MEAN else total


def _share(grad: Tensor, n: int, reduction: int) -> Tensor:
    return torch.div(grad, number(n, grad)) if reduction == _MEAN else grad


def _lines(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (m, classes) and targets (m,), of which there may be but one."""
    return (x.unsqueeze(0), target.reshape(1)) if x.ndim == 1 else (x, target)


def _counted(b: Backend, lines: Tensor, classes: int, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """Which targets count, and targets that are safe to look up."""
    counted = lines != ignore
    safe = torch.where(counted, lines, 0)
    b.selection.check_places(safe, classes, operation)
    return counted, safe


def _nll(
    b: Backend,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    operation: str = "nll_loss_forward",
) -> tuple[Tensor, Tensor]:
    """As aten::nll_loss_forward; a refusal names `operation`."""
    if b.losses is not None and weight is None and x.ndim == 2 and reduction != _NONE:
        loss, count = b.losses.picked(x, target, ignore, operation)
        return (torch.div(loss, count) if reduction == _MEAN else loss), count
    rows, lines = _lines(x, target)
    counted, safe = _counted(b, lines, rows.shape[1], ignore, operation)
    each = torch.ones(safe.shape, device=x.device) if weight is None else weight[safe]
    each = torch.where(counted, each, 0.0)
    losses = torch.where(counted, -rows.gather(1, safe.unsqueeze(1)).squeeze(1) * each, 0.0)
    if reduction == _NONE:
        return losses.reshape(target.shape), torch.zeros((), device=x.device)
    weights = b.sums.total(each, None, False, operation)
    loss = b.sums.total(losses, None, False, operation)
    return (torch.div(loss, weights) if reduction == _MEAN else loss), weights


def _nll_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    total: Tensor,
    operation: str = "nll_loss_backward",
) -> Tensor:
    """As aten::nll_loss_backward; a refusal names `operation`."""
    each = -(torch.div(grad, total) if reduction == _MEAN else grad)
    rows, lines = _lines(x, target)
    if b.losses is not None and weight is None:
        return shaped(b.losses.spread(each, lines, rows.shape, ignore, operation), x.shape)
    counted, safe = _counted(b, lines, rows.shape[1], ignore, operation)
    each = each.expand(lines.shape) if weight is None else each.expand(lines.shape) * weight[safe]
    out = torch.zeros(rows.shape, device=x.device)
    return out.scatter(1, safe.unsqueeze(1), torch.where(counted, each, 0.0).unsqueeze(1)).reshape(x.shape)


def _nll2d(
    b: Backend, x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int
) -> tuple[Tensor, Tensor]:
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    losses, weights = _nll(b, rows, target.reshape(-1), weight, reduction, ignore, "nll_loss2d_forward")
    return losses.reshape(target.shape) if reduction == _NONE else losses, weights


def _nll2d_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    total: Tensor,
) -> Tensor:
    moved = x.movedim(1, -1)
    rows = moved.reshape(-1, x.shape[1])
    flat = grad.reshape(-1) if reduction == _NONE else grad
    out = _nll_backward(b, flat, rows, target.reshape(-1), weight, reduction, ignore, total, "nll_loss2d_backward")
    return out.reshape(moved.shape).movedim(-1, 1).contiguous()


def _mse(b: Backend, x: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    d = x - target
    return _reduced(b, d * d, reduction, "mse_loss")


def _mse_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    d = (x - target) * 2.0
    return _share(d, d.numel(), reduction) * grad


def _smooth_l1(b: Backend, x: Tensor, target: Tensor, reduction: int = _MEAN, beta: float = 1.0) -> Tensor:
    z, edge = (x - target).abs(), number(beta, x)
    near = torch.div((z * 0.5) * z, edge)
    return _reduced(b, torch.where(z < edge, near, z - edge * 0.5), reduction, "smooth_l1_loss")


def _smooth_l1_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    d, edge = x - target, number(beta, x)
    g = _share(grad, d.numel(), reduction)
    product = d * g
    far = torch.where(d > 0, g, torch.where(d < 0, -g, product))
    return torch.where(d.abs() < edge, torch.div(product, edge), far)


def _huber(b: Backend, x: Tensor, target: Tensor, reduction: int = _MEAN, delta: float = 1.0) -> Tensor:
    z, edge = (x - target).abs(), number(delta, x)
    losses = torch.where(z <= edge, (z * 0.5) * z, edge * (z - edge * 0.5))
    return _reduced(b, losses, reduction, "huber_loss")


def _huber_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    d, edge = x - target, number(delta, x)
    g = _share(grad, d.numel(), reduction)
    return torch.where(d > edge, edge * g, torch.where(d < -edge, -(edge * g), d * g))


def _bce_with_logits(
    b: Backend,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = _MEAN,
) -> Tensor:
    tail = b.functions["log1p"](b.functions["exp"](-x.abs()))
    if pos_weight is None:
        losses = (torch.where(x < 0, 0.0, x) - x * target) + tail
    else:
        factor = (pos_weight - 1.0) * target + 1.0
        losses = (1.0 - target) * x + factor * (tail + torch.where(x > 0, 0.0, -x))
    losses = losses if weight is None else losses * weight
    return _reduced(b, losses, reduction, "binary_cross_entropy_with_logits")


ANYWHERE: Mapping[str, Operation] = {
    "mse_loss_backward.default": _mse_backward,
    "smooth_l1_loss_backward.default": _smooth_l1_backward,
    "huber_loss_backward.default": _huber_backward,
}
BY_BACKEND: Mapping[str, Operation] = {
    "nll_loss_forward.default": _nll,
    "nll_loss_backward.default": _nll_backward,
    "nll_loss2d_forward.default": _nll2d,
    "nll_loss2d_backward.default": _nll2d_backward,
    "mse_loss.default": _mse,
    "smooth_l1_loss.default": _smooth_l1,
    "huber_loss.default": _huber,
    "binary_cross_entropy_with_logits.default": _bce_with_logits,
}
