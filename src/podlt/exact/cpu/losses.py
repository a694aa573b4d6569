"""Losses by loops: the likelihood of one class a line, and sums over what each pair of values adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from podlt.exact.aten.backend import Operation
from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import elementwise, losses
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor
_MEAN, _SUM = 1, 2


def picked(x: Tensor, target: Tensor, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
    """`Likelihoods.picked`, in one pass that writes nothing but the sum and the count."""
    (m, n), out = x.shape, torch.empty(2)
    if target.shape != (m,):
        raise ValueError(f"{operation}: expected {m} classes, got {tuple(target.shape)}")
    values, classes, place = x.contiguous(), target.contiguous(), address(out)
    found = losses.picked_at(
        address(values), address(classes, torch.int64), m, n, ignore, sum_bits(m), place, place + 4
    )
    _check(found, n, operation)
    return out[0], out[1]


def spread(values: Tensor, target: Tensor, shape: Sequence[int], ignore: int, operation: str) -> Tensor:
    """`Likelihoods.spread`, in one pass."""
    (m, n), out = shape, torch.empty(tuple(shape))
    each = values.numel() != 1 or m == 1
    if target.shape != (m,) or values.numel() not in (1, m):
        raise ValueError(f"{operation}: expected {m} classes, got {tuple(target.shape)}")
    given, classes = values.contiguous(), target.contiguous()
    found = losses.spread_at(address(given), each, address(classes, torch.int64), m, n, ignore, address(out))
    _check(found, n, operation)
    return out


def _check(found: int, classes: int, operation: str) -> None:
    if found == losses.NOT_FINITE:
        raise NonFiniteError(operation)
    if found == losses.OUTSIDE:
        raise IndexError(f"{operation}: expected classes below {classes}, got another")


def _pairs(
    which: int,
    name: str,
    otherwise: Operation,
    x: Tensor,
    target: Tensor,
    *rest: Any,
) -> Tensor:
    """The sum or mean of what each pair adds to a loss.

    Args:
        which: of `kernels.elementwise.loss_at`.
        otherwise: computes what is not reduced, or not of float32 of one shape, or has weights.
        rest: ATen's further arguments, of which the reduction and a number are understood.
    """
    weights, reduction, edge = _READ[which](*rest)
    if _apart(x, target) or reduction not in (_MEAN, _SUM) or weights:
        return otherwise(x, target, *rest)  # type: ignore[no-any-return]
    n, values, wanted, out = x.numel(), x.contiguous(), target.contiguous(), torch.empty(())
    if not elementwise.loss_at(which, address(values), address(wanted), n, float(edge), sum_bits(n), address(out)):
        raise NonFiniteError(name)
    return out if reduction == _SUM else torch.div(out, torch.full((), float(n)))


def _apart(x: Tensor, target: Tensor) -> bool:
    """Whether two tensors are left to compositions."""
    float32 = x.dtype is torch.float32 and target.dtype is torch.float32
    return not float32 or x.shape != target.shape or not x.numel()


def _squared_backward(otherwise: Operation, grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    """As aten::mse_loss_backward."""
    if _apart(x, target) or grad.numel() != 1 or reduction not in (_MEAN, _SUM):
        return otherwise(grad, x, target, reduction)  # type: ignore[no-any-return]
    values, wanted, out = x.contiguous(), target.contiguous(), torch.empty(x.shape)
    divisor = float(x.numel() if reduction == _MEAN else 1)
    places = address(values), address(wanted), out.numel()
    elementwise.two(elementwise.SQUARED_BACKWARD, *places, divisor, float(grad), 0.0, address(out))
    return out


def _with_edge(reduction: int = _MEAN, edge: float = 1.0) -> tuple[bool, int, float]:
    return False, reduction, edge


def _with_weights(
    weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = _MEAN
) -> tuple[bool, int, float]:
    return weight is not None or pos_weight is not None, reduction, 0.0


_READ: Mapping[int, Callable[..., tuple[bool, int, float]]] = {
    elementwise.SQUARED: _with_edge,
    elementwise.SMOOTH_L1: _with_edge,
    elementwise.HUBER: _with_edge,
    elementwise.BINARY: _with_weights,
}
_PAIRS = {
    "mse_loss": elementwise.SQUARED,
    "smooth_l1_loss": elementwise.SMOOTH_L1,
    "huber_loss": elementwise.HUBER,
    "binary_cross_entropy_with_logits": elementwise.BINARY,
}


def faster(base: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """Losses in one loop each, in place of those of a table; what the loops do not know stays with it."""
    found: dict[str, Operation] = {
        f"{name}.default": partial(_pairs, which, name, base[f"{name}.default"]) for name, which in _PAIRS.items()
    }
    name = "mse_loss_backward.default"
    return found | {name: partial(_squared_backward, base[name])}
