"""Softmax, layer, group and batch normalisation, and their gradients. Definitions: `definition.layers`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from podlt.exact.aten.backend import Backend, Operation, Statistics, Tensor
from podlt.exact.aten.tensors import shaped

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of argument, weight and bias: those that a mask asks for."""


def _softmax(logarithm: bool, operation: str, b: Backend, x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return b.norms.softmax(x, dim, logarithm, operation)


def _softmax_backward(
    logarithm: bool, operation: str, b: Backend, grad: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype
) -> Tensor:
    return b.norms.softmax_backward(grad, y, dim, logarithm, operation)


def _layer_norm(
    b: Backend, x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Statistics:
    """As aten::native_layer_norm: (normalised, means, 1/deviations)."""
    out, mean, rstd = b.norms.layer_norm(_rows(x, len(shape)), weight, bias, _float32(eps), "native_layer_norm")
    lead = [*x.shape[: x.ndim - len(shape)], *[1] * len(shape)]
    return shaped(out, x.shape), mean.reshape(lead), rstd.reshape(lead)


def _layer_norm_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Sequence[bool],
) -> Gradients:
    name = "native_layer_norm_backward"
    given, rows = _rows(grad, len(shape)), _rows(x, len(shape))
    d_x, terms = b.norms.layer_norm_backward(given, rows, mean, rstd, weight, name)
    d_weight = shaped(b.sums.total(terms, [0], False, name), shape) if mask[1] and weight is not None else None
    d_bias = shaped(b.sums.total(given, [0], False, name), shape) if mask[2] and bias is not None else None
    return shaped(d_x, x.shape) if mask[0] else None, d_weight, d_bias


def _group_norm(
    b: Backend,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    n: int,
    c: int,
    length: int,
    groups: int,
    eps: float,
) -> Statistics:
    """As aten::native_group_norm: (normalised, means, 1/deviations)."""
    rows = x.reshape(n * groups, c // groups * length)
    out, mean, rstd = b.norms.layer_norm(rows, None, None, _float32(eps), "native_group_norm")
    out = out.reshape(n, c, length)
    out = out if weight is None else out * weight.reshape(1, c, 1)
    out = out if bias is None else out + bias.reshape(1, c, 1)
    return out.reshape(x.shape), mean.reshape(n, groups), rstd.reshape(n, groups)


def _group_norm_backward(
    b: Backend,
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
) -> Gradients:
    name = "native_group_norm_backward"
    g = grad.reshape(n, c, length)
    rows = x.reshape(n * groups, c // groups * length)
    given = (g if weight is None else g * weight.reshape(1, c, 1)).reshape(rows.shape)
    d_x, _ = b.norms.layer_norm_backward(given, rows, mean, rstd, None, name)
    normal = ((rows - mean.reshape(-1, 1)) * rstd.reshape(-1, 1)).reshape(n, c, length)
    d_weight = b.sums.total(g * normal, [0, 2], False, name) if mask[1] else None
    d_bias = b.sums.total(g, [0, 2], False, name) if mask[2] else None
    return d_x.reshape(x.shape) if mask[0] else None, d_weight, d_bias


def _batch_norm(
    b: Backend,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """As aten::_native_batch_norm_legit_functional: result, means, 1/deviations, new running mean and variance.

    A running value becomes (1 - momentum) * old + momentum * new, the variance unbiased.
    """
    if not training:
        mean, rstd = _running(b, running_mean, running_var, eps)
        out = b.norms.channel_normalise(x, mean, rstd, weight, bias) if x.numel() else x.clone()
        saved = torch.empty(0, device=x.device), torch.empty(0, device=x.device)
        return out, *saved, running_mean, running_var
    out, mean, unbiased, rstd = b.norms.batch_norm(x, weight, bias, _float32(eps), "native_batch_norm")
    if running_mean is not None and running_var is not None:
        keep, take = _float32(1.0 - momentum), _float32(momentum)
        running_mean = running_mean * keep + mean * take
        running_var = running_var * keep + unbiased * take
    return out, mean, rstd, running_mean, running_var


def _batch_norm_backward(
    b: Backend,
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> Gradients:
    mean, rstd = save_mean, save_invstd
    if not training:
        mean, rstd = _running(b, running_mean, running_var, eps)
    assert mean is not None and rstd is not None
    if not x.numel():
        nothing = (torch.zeros_like(t) for t in (x, mean, mean))
        return tuple(t if wanted else None for t, wanted in zip(nothing, mask, strict=True))  # type: ignore[return-value]
    name = "native_batch_norm_backward"
    d_x, d_weight, d_bias = b.norms.batch_norm_backward(grad, x, mean, rstd, weight, training, name)
    return d_x if mask[0] else None, d_weight if mask[1] else None, d_bias if mask[2] else None


def _rows(x: Tensor, inner: int) -> Tensor:
    """`x` as (m, n), where n is what its last dimensions hold; a size of 0 leaves nothing to infer the other from."""
    lead = x.ndim - inner
    return x if (lead, inner) == (1, 1) else x.reshape(math.prod(x.shape[:lead]), math.prod(x.shape[lead:]))


def _running(b: Backend, mean: Tensor | None, variance: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Means and 1/deviations from running values."""
    assert mean is not None and variance is not None
    return mean, b.functions["rsqrt"](variance + _float32(eps))


def _float32(value: float) -> float:
    """The float32 nearest to a number: what it is rounded to before it meets a tensor."""
    return float(np.float32(value))


BY_BACKEND: Mapping[str, Operation] = {
    **{
        f"{name}{end}.default": partial(run, logarithm, name + end)
        for end, run in (("", _softmax), ("_backward_data", _softmax_backward))
        for name, logarithm in (("_softmax", False), ("_log_softmax", True))
    },
    "native_layer_norm.default": _layer_norm,
    "native_layer_norm_backward.default": _layer_norm_backward,
    "native_group_norm.default": _group_norm,
    "native_group_norm_backward.default": _group_norm_backward,
    "_native_batch_norm_legit_functional.default": _batch_norm,
    "native_batch_norm_backward.default": _batch_norm_backward,
}
