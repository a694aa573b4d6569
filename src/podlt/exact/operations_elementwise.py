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
from podlt.exact import kernels_elementary as loops
from podlt.exact.coefficients import ANGLE_LIMIT
from podlt.exact.rules import Array

Operation = Callable[..., Any]
Scalar = float | int
aten = torch.ops.aten

_FROM_TORCH = """
abs.default mul.Tensor mul.Scalar div.Tensor div.Scalar neg.default relu.default maximum.default minimum.default
clamp.default clamp.Tensor clamp_min.default clamp_max.default where.self where.ScalarSelf where.ScalarOther
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar
ge.Tensor logical_and.default logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor
bitwise_not.default masked_fill.Scalar masked_fill.Tensor _to_copy.default clone.default sign.default floor.default
isnan.default isinf.default threshold_backward.default hardtanh.default hardtanh_backward.default
"""


def named(names: str) -> dict[str, Operation]:
    """The ATen overloads of these names, as torch computes them."""
    found: dict[str, Operation] = {}
    for name in names.split():
        packet, _, overload = name.partition(".")
        found[name] = getattr(getattr(aten, packet), overload)
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


def add(a: torch.Tensor, b: torch.Tensor | Scalar, alpha: Scalar = 1) -> torch.Tensor:
    """a + alpha * b: the product rounded on its own."""
    return torch.add(a, b if alpha == 1 else b * alpha)


def sub(a: torch.Tensor, b: torch.Tensor | Scalar, alpha: Scalar = 1) -> torch.Tensor:
    """a - alpha * b: the product rounded on its own."""
    return torch.sub(a, b if alpha == 1 else b * alpha)


def _rsub(a: torch.Tensor, b: Scalar, alpha: Scalar = 1) -> torch.Tensor:
    return torch.sub(torch.tensor(b, dtype=a.dtype), a if alpha == 1 else a * alpha)


def _addcmul(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, value: Scalar = 1) -> torch.Tensor:
    product = b * c
    return a + (product if value == 1 else product * value)


def power(x: torch.Tensor | Scalar, y: torch.Tensor | Scalar) -> torch.Tensor:
    """x ** y, tensors or numbers; the commonest squares are one product."""
    if isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        if not x.is_floating_point():
            return torch.pow(x, y)
        if y == 2:
            return x * x
        out = torch.empty(x.shape)
        loops.power(flat(x), np.array([y], np.float32), out.numpy().reshape(-1))
        return out
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
