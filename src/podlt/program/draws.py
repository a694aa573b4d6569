"""Random operations of PyTorch's by uniform draws, the one kind that programs have.

A program and the module that it is held against draw alike: both read these formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Tensor = torch.Tensor
Uniform = Callable[[Sequence[int]], Tensor]
"""Gives float32 of a shape from [0, 1)."""


def _uniform(draw: Uniform, x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Tensor:
    return x.copy_(low + (high - low) * draw(x.shape))


def _exponential(draw: Uniform, x: Tensor, rate: float = 1.0, *, generator: Any = None) -> Tensor:
    return x.copy_(-torch.log(1 - draw(x.shape)) / rate)


def _gauss(draw: Uniform, shape: Sequence[int]) -> Tensor:
    """Numbers from the normal distribution, out of two uniform ones each (Box and Muller)."""
    return torch.sqrt(-2 * torch.log(1 - draw(shape))) * torch.cos(2 * math.pi * draw(shape))


def _normal_in_place(draw: Uniform, x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    return x.copy_(mean + std * _gauss(draw, x.shape))


def _normal(draw: Uniform, mean: Any, std: Any = 1.0, *, generator: Any = None) -> Tensor:
    shape = np.broadcast_shapes(*(v.shape for v in (mean, std) if isinstance(v, Tensor)))
    found: Tensor = mean + std * _gauss(draw, shape)
    return found


def _chosen(draw: Uniform, chance: Tensor, *, generator: Any = None) -> Tensor:
    return (draw(chance.shape) < chance).to(chance.dtype)


def _chosen_in_place(draw: Uniform, x: Tensor, chance: Tensor, *, generator: Any = None) -> Tensor:
    return x.copy_((draw(x.shape) < chance).to(x.dtype))


def _leaky(
    draw: Uniform,
    x: Tensor,
    noise: Tensor,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Tensor:
    """aten::rrelu_with_noise: a slope for each element below zero, left in `noise` for the backward pass."""
    if not training:
        return torch.where(x <= 0, x * ((lower + upper) / 2), x)
    noise.copy_(torch.where(x <= 0, lower + (upper - lower) * draw(x.shape), 1.0))
    return x * noise


def _whole(draw: Uniform, *arguments: Any, **options: Any) -> Tensor:
    """aten::randint of (high, shape) or (low, high, shape)."""
    low, high = (0, *arguments[:-1])[-2:]
    found: Tensor = low + torch.floor(draw(arguments[-1]) * (high - low))
    return found.long()


def _order(draw: Uniform, count: int, **options: Any) -> Tensor:
    """aten::randperm: the order of as many draws."""
    return torch.ops.aten.sort.default(draw([count]), 0, False)[1]  # type: ignore[no-any-return]


OF_TENSORS: Mapping[str, Callable[..., Tensor]] = {
    "uniform_.default": _uniform,
    "exponential_.default": _exponential,
    "normal_.default": _normal_in_place,
    "normal.Tensor_float": _normal,
    "normal.float_Tensor": _normal,
    "normal.Tensor_Tensor": _normal,
    "bernoulli.default": _chosen,
    "bernoulli_.Tensor": _chosen_in_place,
    "rrelu_with_noise.default": _leaky,
}
"""Operations of tensors, by the names of their overloads: a draw, then ATen's arguments."""

FACTORIES: Mapping[str, Callable[..., Tensor]] = {
    "randint.default": _whole,
    "randint.low": _whole,
    "randperm.default": _order,
}
"""Operations of numbers alone."""
