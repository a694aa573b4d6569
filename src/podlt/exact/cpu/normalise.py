"""Softmax, layer and group normalisation, and their gradients, by the loops of `kernels.norms`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from podlt.exact.aten.backend import Operation
from podlt.exact.constants import NonFiniteError, sum_bits
from podlt.exact.cpu import reduce, scratch
from podlt.exact.cpu.batch_norm import batch_norm as batch_norm
from podlt.exact.cpu.batch_norm import batch_norm_backward as batch_norm_backward
from podlt.exact.cpu.batch_norm import channel_normalise as channel_normalise
from podlt.exact.cpu.kernels import norms
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor


def softmax(x: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax`."""
    values = _lines(x, dim)
    out = torch.empty(values.shape)
    if values.numel():
        n = values.shape[-1]
        m = values.numel() // n
        if not norms.softmax_at(address(values), m, n, sum_bits(n), logarithm, address(out)):
            raise NonFiniteError(operation)
    return _from_lines(out, x, dim)


def softmax_backward(grad: Tensor, y: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
    """`Norms.softmax_backward`."""
    given, values = _lines(grad, dim), _lines(y, dim)
    if given.shape != values.shape:
        raise ValueError(f"{operation}: expected a gradient of shape {tuple(y.shape)}, got {tuple(grad.shape)}")
    out = torch.empty(values.shape)
    if values.numel():
        n = values.shape[-1]
        m = values.numel() // n
        places = address(given), address(values)
        if not norms.softmax_backward_at(*places, m, n, sum_bits(n), logarithm, address(out)):
            raise NonFiniteError(operation)
    return _from_lines(out, y, dim)


def layer_norm(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str, kinds: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """`Norms.layer_norm`.

    Args:
        kinds: how many rows of weights and biases take turns.
    """
    (m, n), out = rows.shape, torch.empty(rows.shape)
    values, scale, shift = rows.contiguous(), _flat(weight), _flat(bias)
    stats = torch.empty((2, m))
    places = address(values), _place(scale), _place(shift)
    if not norms.layer_norm_at(*places, m, n, kinds, float(eps), sum_bits(n), address(out), address(stats)):
        raise NonFiniteError(operation)
    mean, rstd = stats.unbind()
    return out, mean if n else torch.zeros_like(mean), rstd


def layer_norm_backward(
    grad: Tensor,
    rows: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    operation: str,
    kinds: int = 1,
) -> tuple[Tensor, Tensor]:
    """`Norms.layer_norm_backward`; the terms are scratch memory.

    Args:
        kinds: as of `layer_norm`.
    """
    (m, n), out = rows.shape, torch.empty(rows.shape)
    given, values, scale = grad.contiguous(), rows.contiguous(), _flat(weight)
    middle, deviation = mean.contiguous(), rstd.contiguous()
    terms = torch.from_numpy(scratch.take("norm terms", (m, n), np.float32))
    places = address(given), address(values), _place(scale), address(middle), address(deviation)
    if not norms.layer_norm_backward_at(*places, m, n, kinds, sum_bits(n), address(out), address(terms)):
        raise NonFiniteError(operation)
    return out, terms


def _flat(x: Tensor | None) -> Tensor | None:
    """A weight in contiguous memory."""
    return None if x is None else x.contiguous()


def _place(x: Tensor | None) -> int:
    """Where it lies, or 0."""
    return 0 if x is None else address(x)


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, length: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As aten::native_group_norm: (normalised, means, 1/deviations)."""
    rows, affine = x.reshape(n * groups, c // groups * length), (_spread(weight, length), _spread(bias, length))
    out, mean, rstd = layer_norm(rows, *affine, float(np.float32(eps)), "native_group_norm", groups)
    return out.reshape(x.shape), mean.reshape(n, groups), rstd.reshape(n, groups)


def _group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    n: int,
    c: int,
    length: int,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """As aten::native_group_norm_backward."""
    name, size = "native_group_norm_backward", (n * groups, c // groups * length)
    given = grad.reshape(size)
    scale = _spread(weight, length)
    d_x, terms = layer_norm_backward(given, x.reshape(size), mean, rstd, scale, name, groups)
    d_weight = reduce.total(terms.reshape(n, c, length), [0, 2], False, name) if mask[1] else None
    d_bias = reduce.total(given.reshape(n, c, length), [0, 2], False, name) if mask[2] else None
    return d_x.reshape(x.shape) if mask[0] else None, d_weight, d_bias


def _spread(weight: Tensor | None, length: int) -> Tensor | None:
    """One value a channel as one a pixel."""
    return None if weight is None else weight.reshape(-1, 1).expand(-1, length).contiguous()


def _lines(x: Tensor, dim: int) -> Tensor:
    """`x` in contiguous memory with `dim` last."""
    if x.ndim == 0:
        return x.reshape(1)
    return (x if dim in (-1, x.ndim - 1) else x.movedim(dim, -1)).contiguous()


def _from_lines(out: Tensor, x: Tensor, dim: int) -> Tensor:
    """What lies as `_lines` of `x` lie, in the order of dimensions that `x` has."""
    if x.ndim == 0:
        return out.reshape(())
    return out if dim in (-1, x.ndim - 1) else out.movedim(-1, dim).contiguous()


NATIVE: Mapping[str, Operation] = {
    "native_group_norm.default": _group_norm,
    "native_group_norm_backward.default": _group_norm_backward,
}
"""Group normalisation as that of rows, each group with weights of its own."""
