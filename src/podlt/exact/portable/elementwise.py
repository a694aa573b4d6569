"""Elementwise operations under their ATen names: one IEEE operation a kernel, elementary functions from here.

Selections are written with `where`, so that signs of zeros and NaNs go the same way on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact.coefficients import ANGLE_LIMIT
from podlt.exact.portable import elementary
from podlt.exact.portable.bits import Tensor, number
from podlt.exact.quotients import quotients

Operation = Callable[..., Any]
Scalar = float | int
Pairwise = Callable[[Tensor, Tensor], Tensor]
aten = torch.ops.aten

_FROM_TORCH = """
abs.default mul.Tensor mul.Scalar neg.default where.self where.ScalarSelf where.ScalarOther
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar
ge.Tensor logical_and.default logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor
bitwise_not.default masked_fill.Scalar masked_fill.Tensor floor.default isnan.default isinf.default
round.default
"""


def named(names: str) -> dict[str, Operation]:
    """The ATen overloads of these names, as torch computes them on any device."""
    found: dict[str, Operation] = {}
    for name in names.split():
        packet, _, overload = name.partition(".")
        found[name] = getattr(getattr(aten, packet), overload)
    return found


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else x.float()


def _unary(function: Callable[[Tensor], Tensor]) -> Operation:
    return lambda x: function(_float(x))


def _slope(derivative: Callable[[Tensor], Tensor]) -> Operation:
    return lambda grad, x: grad * derivative(x)


def _angle(quarters: int, name: str) -> Operation:
    def checked(x: Tensor) -> Tensor:
        if bool((x.abs() >= float(ANGLE_LIMIT)).any()):
            raise UnsupportedError(f"{name}: expected angles below {ANGLE_LIMIT}, got a larger one")
        return elementary.wave(_float(x), quarters)

    return checked


def add(a: Tensor, b: Tensor | Scalar, alpha: Scalar = 1) -> Tensor:
    """a + alpha * b: the product rounded on its own."""
    return torch.add(a, b if alpha == 1 else b * alpha)


def sub(a: Tensor, b: Tensor | Scalar, alpha: Scalar = 1) -> Tensor:
    """a - alpha * b: the product rounded on its own."""
    return torch.sub(a, b if alpha == 1 else b * alpha)


def _rsub(a: Tensor, b: Scalar, alpha: Scalar = 1) -> Tensor:
    return torch.sub(torch.full((), b, dtype=torch.result_type(a, b), device=a.device), a if alpha == 1 else a * alpha)


def _addcmul(a: Tensor, b: Tensor, c: Tensor, value: Scalar = 1) -> Tensor:
    product = b * c
    return a + (product if value == 1 else product * value)


def divide(a: Tensor, b: Tensor | Scalar) -> Tensor:
    """a / b, one division: a number becomes a tensor of the device, since CUDA multiplies by a number's reciprocal."""
    return torch.div(a, b.to(a.device) if isinstance(b, Tensor) else number(float(b), a))


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger of each pair: +0 is above -0, and a NaN wins. Source: IEEE 754-2019, 9.6 (maximum)."""
    return _chosen(a, b, torch.gt, torch.bitwise_and)


def minimum(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of each pair: -0 is below +0, and a NaN wins. Source: IEEE 754-2019, 9.6 (minimum)."""
    return _chosen(a, b, torch.lt, torch.bitwise_or)


def _chosen(a: Tensor, b: Tensor, better: Pairwise, of_bits: Pairwise) -> Tensor:
    """Of each pair the better; of equal floats what `of_bits` makes of theirs, so that zeros get the right sign."""
    common = torch.result_type(a, b)
    a, b = a.to(common), b.to(common)
    chosen = torch.where(better(a, b), a, b)
    if common != torch.float32:
        return chosen
    equal = of_bits(a.view(torch.int32), b.view(torch.int32)).view(torch.float32)
    return torch.where(torch.isnan(a), a, torch.where(a == b, equal, chosen))


def clamp(x: Tensor, low: Tensor | Scalar | None = None, high: Tensor | Scalar | None = None) -> Tensor:
    """`x` held between two bounds; zeros keep their sign, and a NaN, of a bound too, stays."""
    for bound, beyond in ((low, torch.lt), (high, torch.gt)):
        if isinstance(bound, Tensor):
            x = torch.where(beyond(x, bound) | torch.isnan(bound), bound, x)
        elif bound is not None:
            x = torch.where(beyond(x, bound), bound, x)
    return x


def _sign(x: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return torch.where(x > 0, one, torch.where(x < 0, -one, zero))


def to_copy(x: Tensor, *, dtype: torch.dtype | None = None, **layout: object) -> Tensor:
    """As aten::_to_copy; whole types take what they can hold: what C leaves open, machines answer differently.

    Raises:
        UnsupportedError: a NaN, or a value that is beyond the type when its fraction is cut off.
    """
    if dtype is not None and x.is_floating_point() and dtype not in (torch.bool, torch.float32, torch.float64):
        info = torch.iinfo(dtype)
        whole = torch.trunc(x.double())
        if not bool(((whole >= float(info.min)) & (whole < float(info.max) + 1)).all()):
            raise UnsupportedError(f"_to_copy: expected values that {dtype} can hold, got others")
    return x.clone() if dtype in (None, x.dtype) else x.to(dtype)


def power(x: Tensor | Scalar, y: Tensor | Scalar) -> Tensor:
    """x ** y, tensors or numbers; the commonest squares are one product."""
    if isinstance(x, Tensor) and not isinstance(y, Tensor):
        if not x.is_floating_point() and not isinstance(y, float):
            return torch.pow(x, y)
        x = _float(x)
        return x * x if y == 2 else elementary.power(x, number(float(y), x))
    assert isinstance(y, Tensor)
    if not torch.result_type(x, y).is_floating_point:
        return torch.pow(x, y)
    base = _float(x) if isinstance(x, Tensor) else number(float(x), y)
    return elementary.power(base, _float(y))


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return (elementary.gelu_tanh if approximate == "tanh" else elementary.gelu)(_float(x))


def _gelu_backward(grad: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    return grad * (elementary.gelu_tanh_slope if approximate == "tanh" else elementary.gelu_slope)(x)


def _hardtanh_backward(grad: Tensor, x: Tensor, low: Scalar, high: Scalar) -> Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, grad)


def _leaky_relu(x: Tensor, slope: Scalar = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: Scalar, is_result: bool) -> Tensor:
    return torch.where(x > 0, grad, grad * slope)


def _softplus(x: Tensor, beta: Scalar = 1, threshold: Scalar = 20) -> Tensor:
    t = x * beta
    soft = torch.div(elementary.log1p(elementary.exp(t)), number(float(beta), x))
    return torch.where(t > threshold, x, soft)


def _softplus_backward(grad: Tensor, x: Tensor, beta: Scalar, threshold: Scalar) -> Tensor:
    t = x * beta
    return grad * torch.where(t > threshold, 1.0, elementary.sigmoid(t))


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    z = elementary.exp(-x.abs())
    return torch.where(x > 0, 0.0, x) - elementary.log1p(z), z


def _elu(x: Tensor, alpha: Scalar = 1, scale: Scalar = 1, input_scale: Scalar = 1) -> Tensor:
    below = elementary.expm1(x * input_scale) * _product(alpha, scale)
    return torch.where(x <= 0, below, x * scale)


def _elu_backward(
    grad: Tensor, alpha: Scalar, scale: Scalar, input_scale: Scalar, is_result: bool, value: Tensor
) -> Tensor:
    negative, scaled = _product(alpha, scale), grad * input_scale
    below = scaled * (value + negative) if is_result else (scaled * negative) * elementary.exp(value * input_scale)
    return torch.where(value <= 0, below, grad * scale)


def _product(a: Scalar, b: Scalar) -> float:
    """The product of two float32 numbers."""
    return float(np.float32(a) * np.float32(b))


def elementwise() -> dict[str, Operation]:
    """Every elementwise operation of the exact table, by its ATen name."""
    return {
        **named(_FROM_TORCH),
        **{name: add for name in ("add.Tensor", "add.Scalar")},
        **{name: sub for name in ("sub.Tensor", "sub.Scalar")},
        **{name: divide for name in ("div.Tensor", "div.Scalar")},
        **{name: power for name in ("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")},
        "rsub.Scalar": _rsub,
        "addcmul.default": _addcmul,
        "reciprocal.default": lambda x: torch.div(number(1.0, x), x),
        "square.default": lambda x: x * x,
        "sqrt.default": _unary(elementary.square_root),
        "rsqrt.default": _unary(elementary.rsqrt),
        "exp.default": _unary(elementary.exp),
        "log.default": _unary(elementary.log),
        "tanh.default": _unary(elementary.tanh),
        "sigmoid.default": _unary(elementary.sigmoid),
        "erf.default": _unary(elementary.erf),
        "log2.default": _unary(elementary.log2),
        "erfc.default": _unary(elementary.erfc),
        "atan.default": _unary(elementary.atan),
        **quotients(elementary.fmod, torch.div),
        "sin.default": _angle(0, "sin"),
        "cos.default": _angle(1, "cos"),
        "silu.default": _unary(elementary.silu),
        "silu_backward.default": _slope(elementary.silu_slope),
        "gelu.default": _gelu,
        "gelu_backward.default": _gelu_backward,
        "tanh_backward.default": lambda grad, y: grad * (1.0 - y * y),
        "sigmoid_backward.default": lambda grad, y: grad * ((1.0 - y) * y),
        "log1p.default": _unary(elementary.log1p),
        "expm1.default": _unary(elementary.expm1),
        "softplus.default": _softplus,
        "softplus_backward.default": _softplus_backward,
        "log_sigmoid_forward.default": _log_sigmoid,
        "log_sigmoid_backward.default": lambda grad, x, buffer: grad * elementary.sigmoid(-x),
        "elu.default": _elu,
        "elu_backward.default": _elu_backward,
        "relu.default": lambda x: clamp(x, 0),
        "threshold_backward.default": lambda grad, x, threshold: torch.where(x <= threshold, 0.0, grad),
        "hardtanh.default": lambda x, low=-1, high=1: clamp(x, low, high),
        "hardtanh_backward.default": _hardtanh_backward,
        "leaky_relu.default": _leaky_relu,
        "leaky_relu_backward.default": _leaky_relu_backward,
        "maximum.default": maximum,
        "minimum.default": minimum,
        "clamp.default": clamp,
        "clamp.Tensor": clamp,
        "clamp_min.default": clamp,
        "clamp_max.default": lambda x, high: clamp(x, None, high),
        "sign.default": _sign,
        "_to_copy.default": to_copy,
        "clone.default": lambda x, **layout: x.clone(),
    }
