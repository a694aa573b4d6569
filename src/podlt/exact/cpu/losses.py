"""Losses and their gradients under their ATen names. Definitions: `definition_losses`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu import reduce
from podlt.exact.cpu.elementwise import Operation, unary
from podlt.exact.cpu.kernels import elementary as loops
from podlt.exact.cpu.kernels import losses as kernels_losses
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor
_NONE, _MEAN = 0, 1


def divided(x: Tensor, n: float) -> Tensor:
    """x / n, one IEEE division by the float32 n."""
    return x / torch.tensor(n, dtype=torch.float32)


def _reduced(losses: Tensor, reduction: int, operation: str) -> Tensor:
    if reduction == _NONE:
        return losses
    total = reduce.total(losses, None, False, operation)
    return divided(total, losses.numel()) if reduction == _MEAN else total


def _share(grad: Tensor, n: int, reduction: int) -> Tensor:
    return divided(grad, n) if reduction == _MEAN else grad


def nll(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    operation: str = "nll_loss_forward",
) -> tuple[Tensor, Tensor]:
    """As aten::nll_loss_forward; a refusal names `operation`."""
    if weight is None and x.ndim == 2 and reduction != _NONE:
        loss, count = _picked(x, target, ignore, operation)
        return (loss / count if reduction == _MEAN else loss), count
    rows, lines = (x.unsqueeze(0), target.reshape(1)) if x.ndim == 1 else (x, target)
    kept = lines != ignore
    safe = torch.where(kept, lines, 0)
    each = torch.ones(lines.shape) if weight is None else weight[safe]
    each = torch.where(kept, each, 0.0)
    losses = torch.where(kept, -rows.gather(1, safe.unsqueeze(1)).squeeze(1) * each, 0.0)
    if reduction == _NONE:
        return losses.reshape(target.shape), torch.zeros(())
    weights = reduce.total(each, None, False, operation)
    loss = reduce.total(losses, None, False, operation)
    return (loss / weights if reduction == _MEAN else loss), weights


def nll_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int, total: Tensor
) -> Tensor:
    """As aten::nll_loss_backward."""
    if weight is None and x.ndim == 2:
        return _spread(-(grad / total if reduction == _MEAN else grad), target, x.shape, ignore)
    rows, lines = (x.unsqueeze(0), target.reshape(1)) if x.ndim == 1 else (x, target)
    kept = lines != ignore
    safe = torch.where(kept, lines, 0)
    each = -(grad / total if reduction == _MEAN else grad).expand(lines.shape)
    each = torch.where(kept, each if weight is None else each * weight[safe], 0.0)
    return torch.zeros(rows.shape).scatter(1, safe.unsqueeze(1), each.unsqueeze(1)).reshape(x.shape)


def _picked(x: Tensor, target: Tensor, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """The exact sum of what the lines give their class, negative, and how many lines take part."""
    (m, n), out = x.shape, torch.empty(2)
    if target.shape != (m,):
        raise ValueError(f"{operation}: expected {m} classes, got {tuple(target.shape)}")
    values, classes, place = x.contiguous(), target.contiguous(), address(out)
    found = kernels_losses.picked_at(
        address(values), address(classes, torch.int64), m, n, ignore, sum_bits(m), place, place + 4
    )
    _check(found, n, operation)
    return out[0], out[1]


def _spread(values: Tensor, target: Tensor, shape: Sequence[int], ignore: int) -> Tensor:
    """Zeros of this shape, but `values` (one, or one a line) where the classes are."""
    (m, n), out = shape, torch.empty(tuple(shape))
    each = values.numel() != 1 or m == 1
    if target.shape != (m,) or values.numel() not in (1, m):
        raise ValueError(f"nll_loss_backward: expected {m} classes, got {tuple(target.shape)}")
    given, classes = values.contiguous(), target.contiguous()
    found = kernels_losses.spread_at(address(given), each, address(classes, torch.int64), m, n, ignore, address(out))
    _check(found, n, "nll_loss_backward")
    return out


def _check(found: int, classes: int, operation: str) -> None:
    if found == kernels_losses.NOT_FINITE:
        raise NonFiniteError(operation)
    if found == kernels_losses.OUTSIDE:
        raise IndexError(f"{operation}: expected classes below {classes}, got another")


def _nll2d(x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int) -> tuple[Tensor, Tensor]:
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    losses, weights = nll(rows, target.reshape(-1), weight, reduction, ignore, "nll_loss2d_forward")
    return losses.reshape(target.shape) if reduction == _NONE else losses, weights


def _nll2d_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int, total: Tensor
) -> Tensor:
    moved = x.movedim(1, -1)
    rows = moved.reshape(-1, x.shape[1])
    flat = grad.reshape(-1) if reduction == _NONE else grad
    out = nll_backward(flat, rows, target.reshape(-1), weight, reduction, ignore, total)
    return out.reshape(moved.shape).movedim(-1, 1).contiguous()


def _mse(x: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    d = x - target
    return _reduced(d * d, reduction, "mse_loss")


def _mse_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    d = (x - target) * 2.0
    return (divided(d, d.numel()) if reduction == _MEAN else d) * grad


def _smooth_l1(x: Tensor, target: Tensor, reduction: int = _MEAN, beta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    b = torch.tensor(beta, dtype=torch.float32)
    return _reduced(torch.where(z < b, ((z * 0.5) * z) / b, z - b * 0.5), reduction, "smooth_l1_loss")


def _smooth_l1_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    d = x - target
    b = torch.tensor(beta, dtype=torch.float32)
    g = _share(grad, d.numel(), reduction)
    product = d * g
    return torch.where(d.abs() < b, product / b, torch.where(d > 0, g, torch.where(d < 0, -g, product)))


def _huber(x: Tensor, target: Tensor, reduction: int = _MEAN, delta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    b = torch.tensor(delta, dtype=torch.float32)
    return _reduced(torch.where(z <= b, (z * 0.5) * z, b * (z - b * 0.5)), reduction, "huber_loss")


def _huber_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    d = x - target
    b = torch.tensor(delta, dtype=torch.float32)
    g = _share(grad, d.numel(), reduction)
    return torch.where(d > b, b * g, torch.where(d < -b, -(b * g), d * g))


def _bce_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = _MEAN
) -> Tensor:
    tail = unary(loops.LOG1P)(unary(loops.EXP)(-x.abs()))
    if pos_weight is None:
        losses = (torch.where(x < 0, 0.0, x) - x * target) + tail
    else:
        factor = (pos_weight - 1.0) * target + 1.0
        losses = (1.0 - target) * x + factor * (tail + torch.where(x > 0, 0.0, -x))
    return _reduced(losses if weight is None else losses * weight, reduction, "binary_cross_entropy_with_logits")


def losses() -> dict[str, Operation]:
    """Every loss that has an exact definition, by its ATen name."""
    return {
        "nll_loss_forward.default": nll,
        "nll_loss_backward.default": nll_backward,
        "nll_loss2d_forward.default": _nll2d,
        "nll_loss2d_backward.default": _nll2d_backward,
        "mse_loss.default": _mse,
        "mse_loss_backward.default": _mse_backward,
        "smooth_l1_loss.default": _smooth_l1,
        "smooth_l1_loss_backward.default": _smooth_l1_backward,
        "huber_loss.default": _huber,
        "huber_loss_backward.default": _huber_backward,
        "binary_cross_entropy_with_logits.default": _bce_with_logits,
    }
