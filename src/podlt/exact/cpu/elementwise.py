"""Elementwise operations under their ATen names: one IEEE operation each from torch, elementary functions from here.

torch is trusted with `+ - * /`, comparisons, selections and copies only, each as a single operation; whatever it may
fuse (`alpha=`, `addcmul`) or ask of a vector library (`sqrt`, `exp`) is spelled out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from podlt.errors import UnsupportedError
from podlt.exact.coefficients import ANGLE_LIMIT
from podlt.exact.constants import Array
from podlt.exact.cpu.kernels import elementary as loops
from podlt.exact.quotients import quotients

Operation = Callable[..., Any]
Scalar = float | int
aten = torch.ops.aten

_FROM_TORCH = """
abs.default mul.Tensor mul.Scalar div.Tensor div.Scalar neg.default where.self where.ScalarSelf where.ScalarOther
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar
ge.Tensor logical_and.default logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor
bitwise_not.default masked_fill.Scalar masked_fill.Tensor clone.default sign.default floor.default
isnan.default isinf.default threshold_backward.default round.default
"""


def named(names: str) -> dict[str, Operation]:
    """The ATen overloads of these names, as torch computes them."""
    found: dict[str, Operation] = {}
    for name in names.split():
        packet, _, overload = name.partition(".")
        found[name] = getattr(getattr(aten, packet), overload)._op  # the overload itself asks Python first
    return found


def flat(x: torch.Tensor) -> Array:
    """The values of a float32 tensor, flat, made contiguous where they are not."""
    values: Array = x.detach().contiguous().numpy().reshape(-1)
    return values


def _float(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float32 else x.float()


def unary(which: int) -> Operation:
    """The elementary function of `kernels_elementary` with this number, on a tensor of any shape."""

    def run(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(x.shape)
        loops.unary(which, flat(_float(x)), out.numpy().reshape(-1))
        return out

    return run


def _slope(which: int) -> Operation:
    def run(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(x.shape)
        loops.slope(which, flat(grad.expand(x.shape)), flat(x), out.numpy().reshape(-1))
        return out

    return run


def _angle(which: int, name: str) -> Operation:
    run = unary(which)

    def checked(x: torch.Tensor) -> torch.Tensor:
        if bool((x.abs() >= float(ANGLE_LIMIT)).any()):
            raise UnsupportedError(f"{name}: expected angles below {ANGLE_LIMIT}, got a larger one")
        return run(x)  # type: ignore[no-any-return]

    return checked


def square_root(x: torch.Tensor) -> torch.Tensor:
    """The IEEE square root of each element."""
    out = torch.empty(x.shape)
    loops.square_root(flat(_float(x)), out.numpy().reshape(-1))
    return out


def fmod(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a - b trunc(a / b) with the sign of a, for float32 of one shape: exact."""
    out = torch.empty(a.shape)
    loops.fmod(flat(a), flat(b), out.numpy().reshape(-1))
    return out


def add(a: torch.Tensor, b: torch.Tensor | Scalar, alpha: Scalar = 1) -> torch.Tensor:
    """a + alpha * b: the product rounded on its own."""
    return torch.add(a, b if alpha == 1 else b * alpha)


def sub(a: torch.Tensor, b: torch.Tensor | Scalar, alpha: Scalar = 1) -> torch.Tensor:
    """a - alpha * b: the product rounded on its own."""
    return torch.sub(a, b if alpha == 1 else b * alpha)


def _rsub(a: torch.Tensor, b: Scalar, alpha: Scalar = 1) -> torch.Tensor:
    return torch.sub(torch.tensor(b, dtype=torch.result_type(a, b)), a if alpha == 1 else a * alpha)


def _addcmul(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, value: Scalar = 1) -> torch.Tensor:
    product = b * c
    return a + (product if value == 1 else product * value)


def power(x: torch.Tensor | Scalar, y: torch.Tensor | Scalar) -> torch.Tensor:
    """x ** y, tensors or numbers; the commonest squares are one product."""
    if isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        if not x.is_floating_point() and not isinstance(y, float):
            return torch.pow(x, y)
        x = _float(x)
        if y == 2:
            return x * x
        out = torch.empty(x.shape)
        loops.power(flat(x), np.array([y], np.float32), out.numpy().reshape(-1))
        return out
    if isinstance(y, torch.Tensor) and not torch.result_type(x, y).is_floating_point:
        return torch.pow(x, y)
    base = x if isinstance(x, torch.Tensor) else torch.tensor(float(x))
    exponent = y if isinstance(y, torch.Tensor) else torch.tensor(float(y))
    shape = np.broadcast_shapes(base.shape, exponent.shape)
    a, b = _float(base).expand(shape), _float(exponent).expand(shape)
    out = torch.empty(a.shape)
    loops.power(flat(a), flat(b), out.numpy().reshape(-1))
    return out


def _gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    return unary(loops.GELU_TANH if approximate == "tanh" else loops.GELU)(x)  # type: ignore[no-any-return]


def _gelu_backward(grad: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    which = loops.GELU_TANH if approximate == "tanh" else loops.GELU
    return _slope(which)(grad, x)  # type: ignore[no-any-return]


def _tanh_backward(grad: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return grad * (1.0 - y * y)


def _sigmoid_backward(grad: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return grad * ((1.0 - y) * y)


def _leaky_relu(x: torch.Tensor, slope: Scalar = 0.01) -> torch.Tensor:
    return torch.where(x > 0, x, x * slope)


def _leaky_relu_backward(grad: torch.Tensor, x: torch.Tensor, slope: Scalar, is_result: bool) -> torch.Tensor:
    return torch.where(x > 0, grad, grad * slope)


def relu(x: torch.Tensor) -> torch.Tensor:
    """0 where x < 0, else x: -0 and NaN stay. One pass of a comparison and a choice, where processors' own maxima
    disagree about zeros: what is below 0 is at most the subnormal next to it."""
    return torch.threshold(x, -(2.0**-149) if x.is_floating_point() else -1, 0)


def clamp(
    x: torch.Tensor, low: torch.Tensor | Scalar | None = None, high: torch.Tensor | Scalar | None = None
) -> torch.Tensor:
    """`x`, or `low` where x < low, or then `high` where that is above it: zeros keep their sign, a NaN, of a bound too,
    stays."""
    for bound, beyond in ((low, torch.lt), (high, torch.gt)):
        if isinstance(bound, torch.Tensor):
            x = torch.where(beyond(x, bound) | torch.isnan(bound), bound, x)
        elif bound is not None:
            x = torch.where(beyond(x, bound), bound, x)
    return x


def _hardtanh_backward(grad: torch.Tensor, x: torch.Tensor, low: Scalar, high: Scalar) -> torch.Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, grad)


def maximum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The larger of each pair: +0 is above -0, and a NaN wins. Source: IEEE 754-2019, 9.6 (maximum)."""
    out = torch.maximum(a, b)
    return _signed_zeros(out, torch.signbit(a) & torch.signbit(b)) if out.is_floating_point() else out


def minimum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The smaller of each pair: -0 is below +0, and a NaN wins. Source: IEEE 754-2019, 9.6 (minimum)."""
    out = torch.minimum(a, b)
    return _signed_zeros(out, torch.signbit(a) | torch.signbit(b)) if out.is_floating_point() else out


def _signed_zeros(x: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    return torch.where(x == 0, torch.where(negative, -0.0, 0.0), x)


def to_copy(x: torch.Tensor, *, dtype: torch.dtype | None = None, **layout: object) -> torch.Tensor:
    """As aten::_to_copy; whole types take what they can hold: what C leaves open, machines answer differently.

    Raises:
        UnsupportedError: a NaN, or a value that is beyond the type when its fraction is cut off.
    """
    if dtype is not None and x.is_floating_point() and dtype not in (torch.bool, torch.float32, torch.float64):
        info = torch.iinfo(dtype)
        whole = torch.trunc(x.double())
        if not bool(((whole >= float(info.min)) & (whole < float(info.max) + 1)).all()):
            raise UnsupportedError(f"_to_copy: expected values that {dtype} can hold, got others")
    return aten._to_copy(x, dtype=dtype, **layout)  # type: ignore[no-any-return]


def _softplus(x: torch.Tensor, beta: Scalar = 1, threshold: Scalar = 20) -> torch.Tensor:
    t = x * beta
    soft = unary(loops.LOG1P)(unary(loops.EXP)(t)) / torch.tensor(float(beta))
    return torch.where(t > threshold, x, soft)


def _softplus_backward(grad: torch.Tensor, x: torch.Tensor, beta: Scalar, threshold: Scalar) -> torch.Tensor:
    t = x * beta
    return grad * torch.where(t > threshold, 1.0, unary(loops.SIGMOID)(t))


def _log_sigmoid(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = unary(loops.EXP)(-x.abs())
    return torch.where(x > 0, 0.0, x) - unary(loops.LOG1P)(z), z


def _log_sigmoid_backward(grad: torch.Tensor, x: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """grad * sigmoid(-x); the buffer of the forward pass is not asked: CUDA's is empty."""
    return grad * unary(loops.SIGMOID)(-x)  # type: ignore[no-any-return]


def _elu(x: torch.Tensor, alpha: Scalar = 1, scale: Scalar = 1, input_scale: Scalar = 1) -> torch.Tensor:
    below = unary(loops.EXPM1)(x * input_scale) * _product(alpha, scale)
    return torch.where(x <= 0, below, x * scale)


def _elu_backward(
    grad: torch.Tensor, alpha: Scalar, scale: Scalar, input_scale: Scalar, is_result: bool, value: torch.Tensor
) -> torch.Tensor:
    negative, scaled = _product(alpha, scale), grad * input_scale
    below = scaled * (value + negative) if is_result else (scaled * negative) * unary(loops.EXP)(value * input_scale)
    return torch.where(value <= 0, below, grad * scale)


def _product(a: Scalar, b: Scalar) -> float:
    """The product of two float32 numbers."""
    return float(np.float32(a) * np.float32(b))


def elementwise() -> dict[str, Operation]:
    """Every elementwise operation that has an exact definition, by its ATen name."""
    return {
        **named(_FROM_TORCH),
        "add.Tensor": add,
        "add.Scalar": add,
        "sub.Tensor": sub,
        "sub.Scalar": sub,
        "rsub.Scalar": _rsub,
        "addcmul.default": _addcmul,
        "relu.default": relu,
        "clamp.default": clamp,
        "clamp.Tensor": clamp,
        "clamp_min.default": clamp,
        "clamp_max.default": lambda x, high: clamp(x, None, high),
        "hardtanh.default": lambda x, low=-1, high=1: clamp(x, low, high),
        "hardtanh_backward.default": _hardtanh_backward,
        "maximum.default": maximum,
        "minimum.default": minimum,
        "_to_copy.default": to_copy,
        "log1p.default": unary(loops.LOG1P),
        "expm1.default": unary(loops.EXPM1),
        "softplus.default": _softplus,
        "softplus_backward.default": _softplus_backward,
        "log_sigmoid_forward.default": _log_sigmoid,
        "log_sigmoid_backward.default": _log_sigmoid_backward,
        "elu.default": _elu,
        "elu_backward.default": _elu_backward,
        "reciprocal.default": lambda x: torch.ones(()) / x,
        "square.default": lambda x: x * x,
        "sqrt.default": square_root,
        "rsqrt.default": unary(loops.RSQRT),
        "pow.Tensor_Scalar": power,
        "pow.Tensor_Tensor": power,
        "pow.Scalar": power,
        "exp.default": unary(loops.EXP),
        "log.default": unary(loops.LOG),
        "tanh.default": unary(loops.TANH),
        "sigmoid.default": unary(loops.SIGMOID),
        "erf.default": unary(loops.ERF),
        "log2.default": unary(loops.LOG2),
        "erfc.default": unary(loops.ERFC),
        "atan.default": unary(loops.ATAN),
        **quotients(fmod, torch.div),
        "sin.default": _angle(loops.SIN, "sin"),
        "cos.default": _angle(loops.COS, "cos"),
        "silu.default": unary(loops.SILU),
        "silu_backward.default": _slope(loops.SILU),
        "gelu.default": _gelu,
        "gelu_backward.default": _gelu_backward,
        "tanh_backward.default": _tanh_backward,
        "sigmoid_backward.default": _sigmoid_backward,
        "leaky_relu.default": _leaky_relu,
        "leaky_relu_backward.default": _leaky_relu_backward,
    }
