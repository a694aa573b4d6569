"""The definition of the losses and their gradients, in NumPy, under ATen's arguments (reductions 0, 1, 2).

Differences and products are single float32 operations; every sum is exact and rounded once; a mean is that sum
divided by the float32 number of terms.
"""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition.elementary import exp, log1p
from podlt.exact.definition.products import exact_sum

NONE, MEAN, SUM = 0, 1, 2
_0, _1, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)


def reduced(losses: Array, reduction: int) -> Array:
    """The losses as they are, their exact sum, or that sum divided by their number."""
    if reduction == NONE:
        return losses
    total = exact_sum(losses)
    return np.asarray(total / np.float32(losses.size) if reduction == MEAN else total, np.float32)


def share(grad: Array, n: int, reduction: int) -> Array:
    """What each of `n` losses gets of the gradient: divided by n first under a mean."""
    return grad / np.float32(n) if reduction == MEAN else grad


def nll(x: Array, target: Array, weight: Array | None, reduction: int, ignore: int) -> tuple[Array, Array]:
    """-x[i, target[i]] * weight[target[i]] for each line (n, c) whose target is not `ignore`; and the sum of weights.

    A mean is divided by the sum of the weights. One line may come as (c,). Without a reduction the second result is 0.
    """
    rows, lines = (x[None], target.reshape(1)) if x.ndim == 1 else (x, target)
    each = np.array([_line_weight(t, weight, ignore) for t in lines], np.float32)
    losses = np.array(
        [_0 if t == ignore else -row[t] * w for row, t, w in zip(rows, lines, each, strict=True)], np.float32
    )
    if reduction == NONE:
        return losses.reshape(target.shape), np.zeros((), np.float32)
    weights, total = exact_sum(each), exact_sum(losses)
    return np.asarray(total / weights if reduction == MEAN else total), np.asarray(weights)


def nll_backward(
    grad: Array, x: Array, target: Array, weight: Array | None, reduction: int, ignore: int, total: Array
) -> Array:
    """-(grad / total) * weight[target[i]] at x[i, target[i]], without the division unless the loss was a mean."""
    rows, lines = (x[None], target.reshape(1)) if x.ndim == 1 else (x, target)
    out = np.zeros(rows.shape, np.float32)
    shares = np.broadcast_to(-(grad / total if reduction == MEAN else grad), lines.shape)
    for i, t in enumerate(lines):
        if t != ignore:
            out[i, t] = shares[i] if weight is None else shares[i] * weight[t]
    return out.reshape(x.shape)


def nll2d(x: Array, target: Array, weight: Array | None, reduction: int, ignore: int) -> tuple[Array, Array]:
    """`nll` with a line for each position of (n, c, h, w) and targets (n, h, w)."""
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    losses, weights = nll(rows, target.reshape(-1), weight, reduction, ignore)
    return losses.reshape(target.shape) if reduction == NONE else losses, weights


def nll2d_backward(
    grad: Array, x: Array, target: Array, weight: Array | None, reduction: int, ignore: int, total: Array
) -> Array:
    """`nll_backward` with a line for each position."""
    moved = np.moveaxis(x, 1, -1)
    flat = grad.reshape(-1) if reduction == NONE else grad
    rows = nll_backward(flat, moved.reshape(-1, x.shape[1]), target.reshape(-1), weight, reduction, ignore, total)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved.shape), -1, 1))


def mse(x: Array, target: Array, reduction: int = MEAN) -> Array:
    """(x - target)**2."""
    d = x - target
    return reduced(d * d, reduction)


def mse_backward(grad: Array, x: Array, target: Array, reduction: int) -> Array:
    """2 (x - target), divided by n under a mean, times grad."""
    d = (x - target) * np.float32(2.0)
    return (d / np.float32(d.size) if reduction == MEAN else d) * grad


def smooth_l1(x: Array, target: Array, reduction: int = MEAN, beta: float = 1.0) -> Array:
    """With z = |x - target|: ((z / 2) z) / beta where z < beta, else z - beta / 2."""
    z, b = np.abs(x - target), np.float32(beta)
    with np.errstate(all="ignore"):
        near = ((z * _HALF) * z) / b
    return reduced(np.where(z < b, near, z - b * _HALF), reduction)


def smooth_l1_backward(grad: Array, x: Array, target: Array, reduction: int, beta: float) -> Array:
    """With d = x - target and g = `share`: (d g) / beta where |d| < beta, else g with d's sign, or d g at 0 and NaN."""
    d, b = x - target, np.float32(beta)
    g = share(grad, d.size, reduction)
    with np.errstate(all="ignore"):
        near = (d * g) / b
    return np.where(np.abs(d) < b, near, np.where(d > 0, g, np.where(d < 0, -g, d * g)))


def huber(x: Array, target: Array, reduction: int = MEAN, delta: float = 1.0) -> Array:
    """With z = |x - target|: (z / 2) z where z <= delta, else delta (z - delta / 2)."""
    z, b = np.abs(x - target), np.float32(delta)
    return reduced(np.where(z <= b, (z * _HALF) * z, b * (z - b * _HALF)), reduction)


def huber_backward(grad: Array, x: Array, target: Array, reduction: int, delta: float) -> Array:
    """With d = x - target and g = `share`: delta g where d > delta, its negative where d < -delta, else d g."""
    d, b = x - target, np.float32(delta)
    g = share(grad, d.size, reduction)
    return np.where(d > b, b * g, np.where(d < -b, -(b * g), d * g))


def bce_with_logits(
    x: Array, target: Array, weight: Array | None = None, pos_weight: Array | None = None, reduction: int = MEAN
) -> Array:
    """(max(x, 0) - x target) + log1p(exp(-|x|)), times `weight`.

    With `pos_weight`: (1 - target) x + l (log1p(exp(-|x|)) + max(-x, 0)), where l = (pos_weight - 1) target + 1.
    """
    tail = log1p(exp(-np.abs(x)))
    if pos_weight is None:
        losses = (np.where(x < 0, _0, x) - x * target) + tail
    else:
        factor = (pos_weight - _1) * target + _1
        losses = (_1 - target) * x + factor * (tail + np.where(x > 0, _0, -x))
    return reduced(losses if weight is None else losses * weight, reduction)


def _line_weight(target: np.int64, weight: Array | None, ignore: int) -> np.float32:
    if target == ignore:
        return _0
    return _1 if weight is None else np.float32(weight[target])
