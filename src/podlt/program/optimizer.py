"""Optimisers as functions on flat vectors: every operation rounded on its own, so the bits are any machine's.

SGD follows torch.optim.SGD and AdamW follows torch.optim.AdamW (Loshchilov and Hutter, 2019), without fused kernels,
whose order of rounding is a machine's own business: sums, products, quotients and square roots of binary32, one IEEE
754 operation an element and a call, in the order written here. Numbers are reckoned in binary64, then rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from typing import Any, Protocol

import msgspec
import numpy as np
import torch

from podlt.errors import UsageError


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the learning rate goes: `warmup` steps from 0, then constant, or down to 0 at step `steps`."""

    schedule: str = "constant"
    warmup: int = 0
    steps: int = 0

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return 1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + _cosine_of_pi(done))


class Optimizer(Protocol):
    """Applies an average gradient to parameters."""

    def init(self, count: int) -> dict[str, torch.Tensor]:
        """The state before the first step, for so many parameters: float32 vectors by name."""

    def step(
        self, parameters: torch.Tensor, gradient: torch.Tensor, state: Mapping[str, torch.Tensor], step: int
    ) -> None:
        """Changes parameters and state in place; `step` counts from 0."""


class SGD(Schedule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stochastic gradient descent with momentum, weight decay and Nesterov's variant."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def init(self, count: int) -> dict[str, torch.Tensor]:
        return {"momentum": torch.zeros(count)} if self.momentum else {}

    def step(
        self, parameters: torch.Tensor, gradient: torch.Tensor, state: Mapping[str, torch.Tensor], step: int
    ) -> None:
        change = gradient
        if self.weight_decay:
            change = change + parameters * self.weight_decay
        if self.momentum:
            buffer = state["momentum"]
            buffer.mul_(self.momentum).add_(change)
            change = change + buffer * self.momentum if self.nesterov else buffer
        parameters.sub_(change * (self.lr * self.factor(step)))


class AdamW(Schedule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adam with decoupled weight decay."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def init(self, count: int) -> dict[str, torch.Tensor]:
        return {"first": torch.zeros(count), "second": torch.zeros(count)}

    def step(
        self, parameters: torch.Tensor, gradient: torch.Tensor, state: Mapping[str, torch.Tensor], step: int
    ) -> None:
        lr = self.lr * self.factor(step)
        first, second = state["first"], state["second"]
        scratch = gradient * (1 - self.betas[0])
        first.mul_(self.betas[0]).add_(scratch)
        torch.mul(gradient, gradient, out=scratch).mul_(1 - self.betas[1])
        second.mul_(self.betas[1]).add_(scratch)
        if self.weight_decay:
            parameters.mul_(1 - lr * self.weight_decay)
        _square_root(second, scratch)
        # A quotient by a Python number would be a product with its reciprocal on a GPU: by a tensor it is one division.
        scratch.div_(scratch.new_full((), math.sqrt(1 - _power(self.betas[1], step + 1)))).add_(self.eps)
        torch.div(first, scratch, out=scratch)
        parameters.sub_(scratch.mul_(lr / (1 - _power(self.betas[0], step + 1))))


def _square_root(x: torch.Tensor, out: torch.Tensor) -> None:
    """The IEEE square root: NumPy asks the processor, where torch may ask a vector library that rounds otherwise."""
    if x.device.type == "cpu":
        np.sqrt(x.numpy(), out=out.numpy())
    else:
        torch.sqrt(x, out=out)


def _power(base: float, exponent: int) -> float:
    """A power to 40 digits, then rounded: the C library's own differ in their last bit from machine to machine."""
    with localcontext(Context(prec=40)):
        return float(Decimal(base) ** exponent)


def _cosine_of_pi(x: float) -> float:
    """cos(pi * x) for x in [0, 1], to 30 digits and then rounded, for the same reason: its power series."""
    with localcontext(Context(prec=40)):
        square = (Decimal("3.141592653589793238462643383279502884197") * Decimal(x)) ** 2
        total = term = Decimal(1)
        for n in range(1, 30):
            term *= -square / ((2 * n - 1) * (2 * n))
            total += term
        return float(total)


_KINDS: dict[str, type[SGD] | type[AdamW]] = {"sgd": SGD, "adamw": AdamW}


def optimizer_from(spec: Mapping[str, Any]) -> Optimizer:
    """The optimiser that a recipe names: `{"name": "adamw", "lr": 0.001, ...}`.

    Raises:
        UsageError: an unknown name or field, or a value out of its range.
    """
    fields = dict(spec)
    name = fields.pop("name", None)
    if not isinstance(name, str) or name not in _KINDS:
        raise UsageError(f"optimizer.name: expected one of {', '.join(_KINDS)}, got {name!r}")
    try:
        found = msgspec.convert(fields, _KINDS[name])
    except msgspec.ValidationError as error:
        raise UsageError(f"optimizer: {error}") from None
    _check(found)
    return found


def _check(found: SGD | AdamW) -> None:
    for field in msgspec.structs.fields(found):
        value = getattr(found, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and number < 0:
                raise UsageError(f"optimizer.{field.name}: expected a number from 0, got {number}")
            if isinstance(number, float) and not (math.isfinite(number) and number >= 0):
                raise UsageError(f"optimizer.{field.name}: expected a finite number from 0, got {number}")
    if found.schedule not in ("constant", "linear", "cosine"):
        raise UsageError(f"optimizer.schedule: expected constant, linear or cosine, got {found.schedule!r}")
    if found.schedule != "constant" and found.steps < 1:
        raise UsageError(f"optimizer.schedule = {found.schedule!r} needs optimizer.steps, the rounds of the run")
    if isinstance(found, AdamW) and not all(beta < 1 for beta in found.betas):
        raise UsageError(f"optimizer.betas: expected two numbers below 1, got {found.betas}")
    if found.schedule != "constant" and found.warmup >= found.steps:
        raise UsageError(f"optimizer.warmup: expected fewer than the {found.steps} steps, got {found.warmup}")
    if isinstance(found, SGD) and found.momentum >= 1:
        raise UsageError(f"optimizer.momentum: expected a number below 1, got {found.momentum}")
    if isinstance(found, SGD) and found.nesterov and not found.momentum:
        raise UsageError("optimizer.nesterov needs optimizer.momentum above 0")
