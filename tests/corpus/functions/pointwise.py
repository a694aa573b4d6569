"""Probes of functions of each element, and of elements side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional as f

from .probe import Probe

Function = Callable[..., torch.Tensor]


def _unary() -> Iterator[Probe]:
    group = "Functions of an element"

    def over(names: str, before: Function) -> Iterator[Probe]:
        for name in names.split():
            module, _, short = name.rpartition(".")
            function = getattr(torch.special if module else torch, short)
            yield Probe(group, name, lambda x, g=function: g(before(x)), (6,))

    yield from over(
        "abs negative positive exp exp2 expm1 sin cos tan sinh cosh tanh atan asinh sigmoid sinc square erf erfc "
        "special.ndtr special.expit special.log_ndtr special.i0 special.i0e special.i1 special.i1e special.bessel_j0 "
        "special.bessel_j1 special.erfcx deg2rad rad2deg frac trunc ceil floor round sign sgn fix logical_not isnan "
        "isinf isfinite isneginf isposinf signbit relu nan_to_num",
        lambda x: x,
    )
    yield from over(
        "log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma special.gammaln", lambda x: x.abs() + 0.2
    )
    yield from over("asin acos atanh erfinv", lambda x: x.tanh() * 0.9)
    yield from over("acosh", lambda x: x.abs() + 1.2)
    yield from over("logit special.entr", lambda x: x.sigmoid() * 0.9 + 0.05)
    more: dict[str, Function] = {
        "polygamma(1, x)": lambda x: torch.polygamma(1, x.abs() + 0.5),
        "clamp(-0.5, 0.7)": lambda x: x.clamp(-0.5, 0.7),
        "clamp(tensors)": lambda x: x.clamp(x.detach() - 0.1, x.new_zeros(())),
        "pow(2)": lambda x: x**2,
        "pow(3)": lambda x: x**3,
        "pow(0.7)": lambda x: (x.abs() + 0.1) ** 0.7,
        "pow(-1.5)": lambda x: (x.abs() + 0.1) ** -1.5,
        "2 ** x": lambda x: 2**x,
        "nan_to_num": lambda x: torch.nan_to_num(x / 1.0, nan=0.0, posinf=1.0),
        "float(), double() within": lambda x: x.double().float(),
        "bfloat16() within": lambda x: x.bfloat16().float(),
        "half() within": lambda x: x.half().float(),
        "long() within": lambda x: x.detach().long().float() * x,
        "int() within": lambda x: x.detach().int().float() * x,
        "round(decimals=1)": lambda x: torch.round(x, decimals=1) + x,
        "ldexp": lambda x: torch.ldexp(x, torch.tensor(2)),
        "frexp": lambda x: torch.frexp(x)[0] + x,
        "dropout(functional)": lambda x: f.dropout(x, 0.3),
        "gumbel_softmax": lambda x: f.gumbel_softmax(x, dim=-1),
        "gumbel_softmax(hard)": lambda x: f.gumbel_softmax(x, hard=True, dim=-1),
        "softmax(dtype)": lambda x: x.softmax(-1, dtype=torch.float32),
        "normalize": lambda x: f.normalize(x, dim=-1),
        "stochastic depth": lambda x: x + x.tanh() * torch.bernoulli(torch.full((len(x), 1), 0.8)) / 0.8,
        "stochastic depth, in place": lambda x: x * x.new_empty([len(x), 1]).bernoulli_(0.8).div_(0.8),
        "randn_like": lambda x: x + 0.1 * torch.randn_like(x),
        "rand": lambda x: x + torch.rand(x.shape),
        "normal_": lambda x: x + torch.empty_like(x).normal_(0, 0.1),
        "torch.normal": lambda x: x + torch.normal(torch.zeros_like(x), 0.1),
        "uniform_": lambda x: x + torch.empty_like(x).uniform_(-1, 1),
        "exponential_": lambda x: x + torch.empty_like(x).exponential_(),
        "bernoulli(tensor)": lambda x: x * torch.bernoulli(x.detach().sigmoid()),
        "randint": lambda x: x * torch.randint(0, 3, x.shape),
        "randperm": lambda x: x[:, torch.randperm(6)],
        "straight through": lambda x: x + (x.round() - x).detach(),
        "in place: mul_, add_, relu_": lambda x: x.clone().mul_(2).add_(1).relu_(),
        "masked in place: y[y > 0] = 0": lambda x: _zeroed(x),
    }
    for name, function in more.items():
        yield Probe(group, name, function, (6,))


def _zeroed(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y > 0] = 0
    return y


def _binary() -> Iterator[Probe]:
    group = "Functions of several elements"

    def other(x: torch.Tensor) -> torch.Tensor:
        return x.roll(1, -1) * 0.7 + 0.01

    for name in [
        "add",
        "sub",
        "mul",
        "div",
        "true_divide",
        "rsub",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "atan2",
        "hypot",
        "copysign",
        "logaddexp",
        "logaddexp2",
        "remainder",
        "fmod",
        "floor_divide",
        "heaviside",
        "nextafter",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_xor",
    ]:
        yield Probe(group, name, partial(_of_two, getattr(torch, name)), (6,))
    more: dict[str, Function] = {
        "pow(x, y)": lambda x: (x.abs() + 0.1) ** other(x),
        "float_power": lambda x: torch.float_power(x.abs() + 0.1, 1.5).float(),
        "xlogy": lambda x: torch.xlogy(x, other(x).abs() + 0.1),
        "special.xlog1py": lambda x: torch.special.xlog1py(x, other(x).abs()),
        "special.zeta": lambda x: torch.special.zeta(x.detach().abs() + 1.5, torch.tensor(1.0)) * x,
        "special.logsumexp": lambda x: torch.special.logsumexp(x, -1),
        "lerp": lambda x: torch.lerp(x, other(x), 0.3),
        "lerp(tensor)": lambda x: torch.lerp(x, other(x), other(x).sigmoid()),
        "addcmul": lambda x: torch.addcmul(x, x, other(x), value=0.3),
        "addcdiv": lambda x: torch.addcdiv(x, x, other(x).abs() + 1, value=0.3),
        "where": lambda x: torch.where(x > 0, x, other(x)),
        "where(number)": lambda x: torch.where(x > 0, x, 0.3),
        "masked_fill": lambda x: x.masked_fill(x > 0, 0.2),
        "masked_fill(-inf), softmax": lambda x: x.masked_fill(torch.arange(6) > 3, float("-inf")).softmax(-1),
        "masked_scatter": lambda x: x.masked_scatter(x > 0, other(x)),
        "isclose": lambda x: torch.isclose(x, other(x)) * x,
        "div(floor)": lambda x: torch.div(x, 0.3, rounding_mode="floor") + x,
        "div(trunc)": lambda x: torch.div(x, 0.3, rounding_mode="trunc") + x,
        "integers: //, %": lambda x: x * (torch.arange(6) // 4 + torch.arange(6) % 4),
        "integers: *, -, <<, &, ^": lambda x: x * ((torch.arange(6) * 3 - 1 << 1) & 5 ^ 3),
        "complex product by view_as_complex": lambda x: _rotated(x),
        "complex polar": lambda x: torch.view_as_real(
            torch.view_as_complex(x.view(-1, 3, 2)) * torch.polar(torch.ones(3), torch.arange(3.0))
        ),
        "complex abs": lambda x: torch.view_as_complex(x.view(-1, 3, 2)).abs(),
        "fft.rfft": lambda x: torch.view_as_real(torch.fft.rfft(x)),
        "fft.fft2 (FNet)": lambda x: torch.fft.fft2(x.view(-1, 2, 3)).real,
        "stft": lambda x: torch.view_as_real(
            torch.stft(x.repeat(1, 4), 8, 4, window=torch.hann_window(8), return_complex=True)
        ),
    }
    for name, function in more.items():
        yield Probe(group, name, function, (6,))


def _of_two(function: Function, x: torch.Tensor) -> torch.Tensor:
    """A function of two; without a gradient where PyTorch has none."""
    y = x.roll(1, -1) * 0.7 + 0.01
    has_none = function in (torch.floor_divide, torch.heaviside)
    return function(x.detach(), y.detach()) * x if has_none else function(x, y)


def _rotated(x: torch.Tensor) -> torch.Tensor:
    """A rotary embedding as LLaMA's own code has it."""
    turned = torch.polar(torch.ones(3), torch.outer(torch.arange(1.0, 2.0), torch.tensor([1.0, 0.1, 0.01]))[0])
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], 3, 2))
    return torch.view_as_real(pairs * turned).flatten(-2)


PROBES = (*_unary(), *_binary())
