"""Functions of each element by those that programs hold. They are exact, or as good as their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

aten = torch.ops.aten
Tensor = torch.Tensor
Number = float | int


def _as_float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _trunc(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.floor(-x), torch.floor(x)) if x.is_floating_point() else x


def _ceil(x: Tensor) -> Tensor:
    return -torch.floor(-x) if x.is_floating_point() else x


def _round_decimals(x: Tensor, *, decimals: int) -> Tensor:
    scale = 10.0 ** abs(decimals)
    return torch.round(x * scale) / scale if decimals > 0 else torch.round(x / scale) * scale


def _tan(x: Tensor) -> Tensor:
    return torch.sin(x) / torch.cos(x)


def _sinh(x: Tensor) -> Tensor:
    """(t + t / (t + 1)) / 2 of t = e**|x| - 1, which loses nothing near 0; 1 / (1 / t + 1) has no inf / inf."""
    t = torch.expm1(x.abs())
    half = 0.5 * t + 0.5 * torch.reciprocal(torch.reciprocal(t) + 1)
    return torch.where(x < 0, -half, torch.where(x == 0, x, half))


def _cosh(x: Tensor) -> Tensor:
    half = 0.5 * torch.exp(x.abs())
    return half + 0.25 / half


def _asin(x: Tensor) -> Tensor:
    return torch.atan(x / torch.sqrt((1 - x) * (1 + x)))


def _acos(x: Tensor) -> Tensor:
    return 2 * torch.atan(torch.sqrt((1 - x) / (1 + x)))


def _asinh(x: Tensor) -> Tensor:
    size = x.abs()
    found = torch.log1p(size + size * size / (1 + torch.sqrt(size * size + 1)))
    return torch.where(x < 0, -found, torch.where(x == 0, x, found))


def _acosh(x: Tensor) -> Tensor:
    t = x - 1
    return torch.log1p(t + torch.sqrt(t * (x + 1)))


def _atanh(x: Tensor) -> Tensor:
    return 0.5 * (torch.log1p(x) - torch.log1p(-x))


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    """By the smaller of both quotients."""
    y, x = torch.broadcast_tensors(y, x)  # type: ignore[no-untyped-call]
    steep = y.abs() > x.abs()
    small, large = torch.where(steep, x, y), torch.where(steep, y, x)
    slope = torch.atan(small / torch.where(large == 0, 1.0, large))
    side = torch.where(_signbit(y), -1.0, 1.0)
    flat = torch.where(_signbit(x), slope + math.pi * side, slope)
    return torch.where(steep, side * (math.pi / 2) - slope, flat)


def _signbit(x: Tensor) -> Tensor:
    return (x < 0) | ((x == 0) & (torch.reciprocal(x) < 0)) if x.is_floating_point() else x < 0


def _copysign(x: Tensor, y: Tensor | Number) -> Tensor:
    size = _as_float(x).abs()
    if not isinstance(y, Tensor):
        return size if math.copysign(1.0, y) > 0 else -size
    return torch.where(_signbit(y), -size, size)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    """By the larger of both, so that no square overflows."""
    a, b = x.abs(), y.abs()
    large, small = torch.maximum(a, b), torch.minimum(a, b)
    quotient = small / torch.where(large == 0, 1.0, large)
    return large * torch.sqrt(1 + quotient * quotient)


def _fmod(x: Tensor, y: Tensor | Number) -> Tensor:
    """The remainder with the sign of x, by that with the sign of y: exact."""
    size = y.abs() if isinstance(y, Tensor) else abs(y)
    return torch.where(x < 0, -torch.remainder(-x, size), torch.remainder(x, size))


def _divided(x: Tensor, y: Tensor | Number, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode == "floor":
        return NotImplemented if isinstance(y, Tensor) else _floored(x, y)
    if rounding_mode is None:
        return torch.div(x, y)
    common = torch.result_type(x, y)
    if common.is_floating_point:
        return _trunc(torch.div(x, y))
    quotient = aten.div.Tensor_mode(x.abs(), _size(x, y), rounding_mode="floor")
    other = y if isinstance(y, Tensor) else torch.full_like(x, y)
    return torch.where((x < 0) != (other < 0), -quotient, quotient)


def _size(x: Tensor, y: Tensor | Number) -> Tensor:
    return y.abs() if isinstance(y, Tensor) else torch.full_like(x, abs(y))


def _floored(x: Tensor, y: Number) -> Tensor:
    divisor = torch.full([], y, dtype=torch.result_type(x, y))
    return aten.div.Tensor_mode(x, divisor, rounding_mode="floor")  # type: ignore[no-any-return]


def _fmax(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(torch.isnan(x), y, torch.where(torch.isnan(y), x, torch.maximum(x, y)))


def _fmin(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(torch.isnan(x), y, torch.where(torch.isnan(y), x, torch.minimum(x, y)))


def _xor(x: Tensor, y: Tensor) -> Tensor:
    return x.bool() != y.bool()


def _bitwise_xor(x: Tensor, y: Tensor) -> Tensor:
    return x != y if x.dtype == y.dtype == torch.bool else x + y - 2 * torch.bitwise_and(x, y)


def _with_number(operation: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """An operation of two tensors, of one and a number."""
    return lambda x, y: operation(x, torch.full([], y, dtype=x.dtype))


def _shifted(x: Tensor, y: int) -> Tensor:
    return x * int(2**y)


def _shifted_back(x: Tensor, y: int) -> Tensor:
    return aten.div.Tensor_mode(x, torch.full([], 2**y, dtype=x.dtype), rounding_mode="floor")  # type: ignore[no-any-return]


_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
_SHIFT = 10
"""So far up the asymptotic series are good to binary64."""


def _series(z: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """c0 / z + c1 / z**3 + ..."""
    inverse = torch.reciprocal(z)
    square = inverse * inverse
    total = torch.full_like(z, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * square + c
    return total * inverse


def _lgamma(x: Tensor) -> Tensor:
    """Stirling's series at x + 10; below 1/2 by reflection. Source: Abramowitz and Stegun 6.1.41, 6.1.17."""
    x = _as_float(x)
    low = x < 0.5
    y = torch.where(low, 1 - x, x)
    product = y
    for i in range(1, _SHIFT):
        product = product * (y + i)
    z = y + _SHIFT
    found = (z - 0.5) * torch.log(z) - z + 0.5 * math.log(2 * math.pi) + _series(z, _STIRLING) - torch.log(product)
    turned = math.log(math.pi) - torch.log(torch.sin(math.pi * (x - torch.floor(x))).abs()) - found
    return torch.where(low, turned, found)


def _digamma(x: Tensor) -> Tensor:
    """The same by its derivative. Source: Abramowitz and Stegun 6.3.18, 6.3.7."""
    x = _as_float(x)
    low = x < 0.5
    y = torch.where(low, 1 - x, x)
    total = torch.zeros_like(x)
    for i in range(_SHIFT):
        total = total + torch.reciprocal(y + i)
    z = y + _SHIFT
    inverse = torch.reciprocal(z)
    found = torch.log(z) - 0.5 * inverse - _series(z, _DIGAMMA) * inverse - total
    return torch.where(low, found - math.pi / _tan(math.pi * (x - torch.floor(x))), found)


def _polygamma(n: int, x: Tensor) -> Tensor:
    """The derivative of digamma, for n = 1 and x > 0. Source: Abramowitz and Stegun 6.4.12."""
    if n != 1:
        return NotImplemented  # type: ignore[no-any-return]
    total = torch.zeros_like(x)
    for i in range(_SHIFT):
        total = total + torch.reciprocal((x + i) * (x + i))
    z = x + _SHIFT
    inverse = torch.reciprocal(z)
    return total + inverse + 0.5 * inverse * inverse + _series(z, _TRIGAMMA) * inverse * inverse


def _erfinv(y: Tensor) -> Tensor:
    """M. Giles's approximation (2010), then three steps of Newton's."""
    w = -torch.log((1 - y) * (1 + y))
    low, high = w - 2.5, torch.sqrt(w) - 3.0
    near, far = torch.full_like(y, _GILES_NEAR[0]), torch.full_like(y, _GILES_FAR[0])
    for a, b in zip(_GILES_NEAR[1:], _GILES_FAR[1:], strict=True):
        near, far = near * low + a, far * high + b
    x = torch.where(w < 5, near, far) * y
    for _ in range(3):
        x = x - (torch.erf(x) - y) * (math.sqrt(math.pi) / 2) * torch.exp(x * x)
    return x


_GILES_NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_GILES_FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip

RULES: Mapping[Any, Callable[..., Any]] = {
    aten.trunc.default: _trunc,
    aten.ceil.default: _ceil,
    aten.round.decimals: _round_decimals,
    aten.exp2.default: lambda x: torch.pow(2.0, x),
    aten.log10.default: lambda x: torch.log2(x) * math.log10(2.0),
    aten.tan.default: _tan,
    aten.sinh.default: _sinh,
    aten.cosh.default: _cosh,
    aten.asin.default: _asin,
    aten.acos.default: _acos,
    aten.asinh.default: _asinh,
    aten.acosh.default: _acosh,
    aten.atanh.default: _atanh,
    aten.atan2.default: _atan2,
    aten.signbit.default: _signbit,
    aten.copysign.Tensor: _copysign,
    aten.copysign.Scalar: _copysign,
    aten.hypot.default: _hypot,
    aten.fmod.Tensor: _fmod,
    aten.fmod.Scalar: _fmod,
    aten.div.Tensor_mode: _divided,
    aten.div.Scalar_mode: _divided,
    aten.fmax.default: _fmax,
    aten.fmin.default: _fmin,
    aten.logical_xor.default: _xor,
    aten.bitwise_xor.Tensor: _bitwise_xor,
    aten.bitwise_xor.Scalar: _with_number(_bitwise_xor),
    aten.bitwise_and.Scalar: _with_number(torch.bitwise_and),
    aten.bitwise_or.Scalar: _with_number(torch.bitwise_or),
    **dict.fromkeys((aten.__lshift__.Scalar, aten.bitwise_left_shift.Tensor_Scalar), _shifted),
    **dict.fromkeys((aten.__rshift__.Scalar, aten.bitwise_right_shift.Tensor_Scalar), _shifted_back),
    aten.ldexp.Tensor: lambda x, y: x * torch.pow(2.0, _as_float(y)),
    aten.lgamma.default: _lgamma,
    aten.digamma.default: _digamma,
    aten.polygamma.default: _polygamma,
    aten.erfinv.default: _erfinv,
}
