"""Elementwise functions, by the loops of `kernels.elementary` and `kernels.elementwise`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from podlt.exact.aten import elementwise as composed
from podlt.exact.aten.backend import AS_THEY_ARE, OTHERS, Operation, Scalar
from podlt.exact.aten.tensors import named
from podlt.exact.constants import Array
from podlt.exact.cpu import power as powers
from podlt.exact.cpu.kernels import elementary
from podlt.exact.cpu.kernels import elementwise as loops
from podlt.exact.cpu.scratch import address

Tensor = torch.Tensor
_SLOPES = "gelu gelu_tanh silu"
_INFINITY = float("inf")
_WHERE = named(["where.self", "masked_fill.Scalar"])


def _flat(x: Tensor) -> Array:
    """The values of a tensor as float32, flat, made contiguous where they are not."""
    values: Array = x.detach().float().contiguous().numpy().reshape(-1)
    return values


def _unary(which: int, x: Tensor) -> Tensor:
    values, out = x.float().contiguous(), torch.empty(x.shape)
    elementary.unary(which, address(values), values.numel(), address(out))
    return out


def _slope(which: int, grad: Tensor, x: Tensor) -> Tensor:
    given, values, out = grad.expand(x.shape).contiguous(), x.contiguous(), torch.empty(x.shape)
    elementary.slope(which, address(given), address(values), values.numel(), address(out))
    return out


def fmod(a: Tensor, b: Tensor) -> Tensor:
    """`Elementwise.fmod`."""
    out = torch.empty(a.shape)
    elementary.fmod(_flat(a), _flat(b), out.numpy().reshape(-1))
    return out


def power(x: Tensor, y: Tensor | float) -> Tensor:
    """`Elementwise.power`."""
    return powers.power(x, y)


def _one(which: int, x: Tensor, p: Scalar, q: Scalar = 0.0, r: Scalar = 0.0) -> Tensor:
    values, out = x.contiguous(), torch.empty(x.shape)
    loops.one(which, address(values), values.numel(), float(p), float(q), float(r), address(out))
    return out


def _two(which: int, a: Tensor, b: Tensor, p: Scalar = 0.0, q: Scalar = 0.0, r: Scalar = 0.0) -> Tensor:
    if a.shape != b.shape:
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = a.expand(shape), b.expand(shape)
    a, b, out = a.contiguous(), b.contiguous(), torch.empty(a.shape)
    loops.two(which, address(a), address(b), out.numel(), float(p), float(q), float(r), address(out))
    return out


def _whole(*tensors: Tensor) -> bool:
    """Whether some tensor is not float32: such are left to compositions."""
    return any(t.dtype is not torch.float32 for t in tensors)


def _clamp(x: Tensor, low: Scalar | None = None, high: Scalar | None = None) -> Tensor:
    if _whole(x):
        return composed.clamp(x, low, high)
    return _one(loops.CLAMP, x, -_INFINITY if low is None else low, _INFINITY if high is None else high)


def _leaky_relu(x: Tensor, slope: Scalar = 0.01) -> Tensor:
    return _one(loops.LEAKY_RELU, x, slope)


def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: Scalar, is_result: bool) -> Tensor:
    return _two(loops.LEAKY_RELU_BACKWARD, grad, x, slope)


def _elu(x: Tensor, alpha: Scalar = 1, scale: Scalar = 1, input_scale: Scalar = 1) -> Tensor:
    return _one(loops.ELU, x, _product(alpha, scale), scale, input_scale)


def _elu_backward(
    grad: Tensor, alpha: Scalar, scale: Scalar, input_scale: Scalar, is_result: bool, value: Tensor
) -> Tensor:
    which = loops.ELU_RESULT_BACKWARD if is_result else loops.ELU_BACKWARD
    return _two(which, grad, value, _product(alpha, scale), scale, input_scale)


def _product(a: Scalar, b: Scalar) -> float:
    """The product of two float32 numbers."""
    return float(np.float32(a) * np.float32(b))


def _softplus(x: Tensor, beta: Scalar = 1, threshold: Scalar = 20) -> Tensor:
    return _one(loops.SOFTPLUS, x, beta, threshold)


def _softplus_backward(grad: Tensor, x: Tensor, beta: Scalar, threshold: Scalar) -> Tensor:
    return _two(loops.SOFTPLUS_BACKWARD, grad, x, beta, threshold)


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """As aten::log_sigmoid_forward."""
    return _one(loops.LOG_SIGMOID, x, 0.0), _one(loops.LOG_SIGMOID_BUFFER, x, 0.0)


def _log_sigmoid_backward(grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    return _two(loops.LOG_SIGMOID_BACKWARD, grad, x)


def _extreme(which: int, other: Operation, a: Tensor, b: Tensor) -> Tensor:
    return other(a, b) if _whole(a, b) else _two(which, a, b)


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """As aten::where.self; by a loop where both are whole or one value, and the mask repeats along first dimensions."""
    shape = (
        mask.shape
        if mask.shape == a.shape == b.shape
        else torch.Size(np.broadcast_shapes(mask.shape, a.shape, b.shape))
    )
    if (
        _whole(a, b)
        or mask.dtype is not torch.bool
        or any(t.shape != shape and t.numel() != 1 for t in (a, b))
        or shape[len(shape) - len(_inner(mask.shape)) :] != _inner(mask.shape)
        or not mask.numel()
    ):
        return _WHERE["where.self"](mask, a, b)  # type: ignore[no-any-return]
    chosen, a, b, out = mask.contiguous(), a.contiguous(), b.contiguous(), torch.empty(shape)
    singles = (a.shape != shape) + 2 * (b.shape != shape)
    at = address(chosen, torch.bool), chosen.numel(), address(a), address(b)
    loops.choose(*at, out.numel(), singles, address(out))
    return out


def _inner(shape: torch.Size) -> torch.Size:
    """The shape without the ones that it begins with."""
    first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return shape[first:]


def _masked_fill(x: Tensor, mask: Tensor, value: Scalar) -> Tensor:
    if _whole(x):
        return _WHERE["masked_fill.Scalar"](x, mask, value)  # type: ignore[no-any-return]
    return _where(mask, torch.full((), value, dtype=torch.float32), x)


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    name: partial(_unary, getattr(elementary, name.upper())) for name in (*AS_THEY_ARE, *OTHERS)
}
SLOPES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: partial(_slope, getattr(elementary, name.upper())) for name in _SLOPES.split()
}
NATIVE: Mapping[str, Operation] = {
    "clamp.default": _clamp,
    "clamp_min.default": _clamp,
    "clamp_max.default": lambda x, high: _clamp(x, None, high),
    "hardtanh.default": lambda x, low=-1, high=1: _clamp(x, low, high),
    "hardtanh_backward.default": lambda grad, x, low, high: _two(loops.HARDTANH_BACKWARD, grad, x, low, high),
    "leaky_relu.default": _leaky_relu,
    "leaky_relu_backward.default": _leaky_relu_backward,
    "elu.default": _elu,
    "elu_backward.default": _elu_backward,
    "softplus.default": _softplus,
    "softplus_backward.default": _softplus_backward,
    "log_sigmoid_forward.default": _log_sigmoid,
    "log_sigmoid_backward.default": _log_sigmoid_backward,
    "tanh_backward.default": lambda grad, y: _two(loops.TANH_BACKWARD, grad, y),
    "sigmoid_backward.default": lambda grad, y: _two(loops.SIGMOID_BACKWARD, grad, y),
    "maximum.default": partial(_extreme, loops.MAXIMUM, composed.maximum),
    "minimum.default": partial(_extreme, loops.MINIMUM, composed.minimum),
    "where.self": _where,
    "masked_fill.Scalar": _masked_fill,
}
"""Operations of elements in one loop each, with the bits of those that `aten.elementwise` composes."""
