"""Elementwise operations under their ATen names: one IEEE operation each from torch, elementary functions from here.

torch is trusted with `+ - * /`, comparisons, selections and copies only, each as a single operation; whatever it may
fuse (`alpha=`, `addcmul`) or ask of a vector library (`sqrt`, `exp`) is spelled out. Selections are written with
`where`, so that signs of zeros and NaNs go the same way on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact.aten.backend import Backend, Operation, Scalar, Tensor
from podlt.exact.aten.tensors import as_float, named, number
from podlt.exact.coefficients import ANGLE_LIMIT

Pairwise = Callable[[Tensor, Tensor], Tensor]

_FROM_TORCH = """
abs.default mul.Tensor mul.Scalar neg.default where.self where.ScalarSelf where.ScalarOther
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar
ge.Tensor logical_and.default logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor
bitwise_not.default masked_fill.Scalar masked_fill.Tensor floor.default round.default isnan.default isinf.default
"""


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


def _divide(a: Tensor, b: Tensor | Scalar) -> Tensor:
    """a / b, one division: a number becomes a tensor of the device, since CUDA multiplies by a number's reciprocal."""
    return torch.div(a, b.to(a.device) if isinstance(b, Tensor) else number(float(b), a))


def _remainder(b: Backend, x: Tensor, y: Tensor | Scalar) -> Tensor:
    x, y = _common(x, y)
    if not x.is_floating_point():
        return torch.remainder(x, y)
    r = b.elementwise.fmod(x, y)
    return torch.where(_apart(r, y), r + y, r)


def _floor_quotient(b: Backend, x: Tensor, y: Tensor | Scalar, *, rounding_mode: str) -> Tensor:
    if rounding_mode != "floor":
        raise UnsupportedError(f"div: expected the rounding mode floor, got {rounding_mode!r}")
    x, y = _common(x, y)
    if not x.is_floating_point():
        return torch.div(x, y, rounding_mode="floor")
    r = b.elementwise.fmod(x, y)
    q = torch.div(x - r, y)
    q = torch.where(_apart(r, y), q - 1.0, q)
    whole = torch.floor(q)
    whole = torch.where(q - whole > 0.5, whole + 1.0, whole)
    plain = torch.div(x, y)
    whole = torch.where(q == 0, torch.copysign(torch.zeros_like(q), plain), whole)
    return torch.where(y == 0, plain, whole)


def _common(x: Tensor, y: Tensor | Scalar) -> tuple[Tensor, Tensor]:
    """Two tensors of one type and shape."""
    dtype = torch.result_type(x, y)
    other = y if isinstance(y, Tensor) else torch.full((), y, dtype=dtype, device=x.device)
    a, b = torch.broadcast_tensors(x.to(dtype), other.to(dtype))  # type: ignore[no-untyped-call]
    return a, b


def _apart(r: Tensor, y: Tensor) -> Tensor:
    """Where a remainder is not 0 and has another sign than the divisor."""
    return (r != 0) & ((r < 0) != (y < 0))


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
    """`x`, or `low` where x < low, or then `high` where that is above it.

    Zeros keep their sign, and a NaN, of a bound too, stays.
    """
    for edge, beyond in ((low, torch.lt), (high, torch.gt)):
        if isinstance(edge, Tensor):
            x = torch.where(beyond(x, edge) | torch.isnan(edge), edge, x)
        elif edge is not None:
            x = torch.where(beyond(x, edge), edge, x)
    return x


def _sign(x: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return torch.where(x > 0, one, torch.where(x < 0, -one, zero))


def _to_copy(x: Tensor, *, dtype: torch.dtype | None = None, **layout: object) -> Tensor:
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


def power(b: Backend, x: Tensor | Scalar, y: Tensor | Scalar) -> Tensor:
    """x ** y, tensors or numbers; the commonest squares are one product."""
    if isinstance(x, Tensor) and not isinstance(y, Tensor):
        if not x.is_floating_point() and not isinstance(y, float):
            return torch.pow(x, y)
        x = as_float(x)
        return x * x if y == 2 else b.elementwise.power(x, float(y))
    assert isinstance(y, Tensor)
    if not torch.result_type(x, y).is_floating_point:
        return torch.pow(x, y)
    return b.elementwise.power(as_float(x) if isinstance(x, Tensor) else number(x, y), as_float(y))


def _wave(name: str, b: Backend, x: Tensor) -> Tensor:
    """sin or cos.

    Raises:
        UnsupportedError: an angle for which the reduction would not be exact.
    """
    if bool((x.abs() >= float(ANGLE_LIMIT)).any()):
        raise UnsupportedError(f"{name}: expected angles below {ANGLE_LIMIT}, got a larger one")
    return b.functions[name](x)


def _gelu(b: Backend, x: Tensor, approximate: str = "none") -> Tensor:
    return b.functions["gelu_tanh" if approximate == "tanh" else "gelu"](x)


def _gelu_backward(b: Backend, grad: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    return b.slopes["gelu_tanh" if approximate == "tanh" else "gelu"](grad, x)


def _hardtanh_backward(grad: Tensor, x: Tensor, low: Scalar, high: Scalar) -> Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, grad)


def _leaky_relu(x: Tensor, slope: Scalar = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: Scalar, is_result: bool) -> Tensor:
    return torch.where(x > 0, grad, grad * slope)


def _softplus(b: Backend, x: Tensor, beta: Scalar = 1, threshold: Scalar = 20) -> Tensor:
    t = x * beta
    soft = torch.div(b.functions["log1p"](b.functions["exp"](t)), number(beta, x))
    return torch.where(t > threshold, x, soft)


def _softplus_backward(b: Backend, grad: Tensor, x: Tensor, beta: Scalar, threshold: Scalar) -> Tensor:
    t = x * beta
    return grad * torch.where(t > threshold, 1.0, b.functions["sigmoid"](t))


def _log_sigmoid(b: Backend, x: Tensor) -> tuple[Tensor, Tensor]:
    z = b.functions["exp"](-x.abs())
    return torch.where(x > 0, 0.0, x) - b.functions["log1p"](z), z


def _log_sigmoid_backward(b: Backend, grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    """grad * sigmoid(-x); the buffer of the forward pass is not asked: CUDA's is empty."""
    return grad * b.functions["sigmoid"](-x)


def _elu(b: Backend, x: Tensor, alpha: Scalar = 1, scale: Scalar = 1, input_scale: Scalar = 1) -> Tensor:
    below = b.functions["expm1"](x * input_scale) * _product(alpha, scale)
    return torch.where(x <= 0, below, x * scale)


def _elu_backward(
    b: Backend, grad: Tensor, alpha: Scalar, scale: Scalar, input_scale: Scalar, is_result: bool, value: Tensor
) -> Tensor:
    negative, scaled = _product(alpha, scale), grad * input_scale
    exp = b.functions["exp"]
    below = scaled * (value + negative) if is_result else (scaled * negative) * exp(value * input_scale)
    return torch.where(value <= 0, below, grad * scale)


def _product(a: Scalar, b: Scalar) -> float:
    """The product of two float32 numbers."""
    return float(np.float32(a) * np.float32(b))


ANYWHERE: Mapping[str, Operation] = {
    **named(_FROM_TORCH.split()),
    **dict.fromkeys(("add.Tensor", "add.Scalar"), add),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar"), sub),
    **dict.fromkeys(("div.Tensor", "div.Scalar"), _divide),
    "rsub.Scalar": _rsub,
    "addcmul.default": _addcmul,
    "reciprocal.default": lambda x: torch.div(number(1.0, x), x),
    "square.default": lambda x: x * x,
    "maximum.default": maximum,
    "minimum.default": minimum,
    "relu.default": lambda x: clamp(x, 0),
    "threshold_backward.default": lambda grad, x, threshold: torch.where(x <= threshold, 0.0, grad),
    **dict.fromkeys(("clamp.default", "clamp.Tensor", "clamp_min.default"), clamp),
    "clamp_max.default": lambda x, high: clamp(x, None, high),
    "hardtanh.default": lambda x, low=-1, high=1: clamp(x, low, high),
    "hardtanh_backward.default": _hardtanh_backward,
    "leaky_relu.default": _leaky_relu,
    "leaky_relu_backward.default": _leaky_relu_backward,
    "tanh_backward.default": lambda grad, y: grad * (1.0 - y * y),
    "sigmoid_backward.default": lambda grad, y: grad * ((1.0 - y) * y),
    "sign.default": _sign,
    "_to_copy.default": _to_copy,
    "clone.default": lambda x, **layout: x.clone(),
}
BY_BACKEND: Mapping[str, Operation] = {
    **dict.fromkeys(("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"), power),
    **dict.fromkeys(("remainder.Tensor", "remainder.Scalar"), _remainder),
    "div.Tensor_mode": _floor_quotient,
    "sin.default": partial(_wave, "sin"),
    "cos.default": partial(_wave, "cos"),
    "silu.default": lambda b, x: b.functions["silu"](x),
    "silu_backward.default": lambda b, grad, x: b.slopes["silu"](grad, x),
    "gelu.default": _gelu,
    "gelu_backward.default": _gelu_backward,
    "softplus.default": _softplus,
    "softplus_backward.default": _softplus_backward,
    "log_sigmoid_forward.default": _log_sigmoid,
    "log_sigmoid_backward.default": _log_sigmoid_backward,
    "elu.default": _elu,
    "elu_backward.default": _elu_backward,
}
