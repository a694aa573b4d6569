"""How a vector of parameters takes a step: every operation rounded on its own, so the bits are any machine's.

SGD follows torch.optim.SGD, Adam follows torch.optim.Adam (Kingma and Ba, 2015) and AdamW follows torch.optim.AdamW
(Loshchilov and Hutter, 2019), without fused kernels, whose order of rounding is a machine's own business: sums,
products, quotients and square roots of binary32, one IEEE 754 operation an element and a call, in the order written
here. Numbers are reckoned in binary64, then rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch

from podlt.errors import UsageError
from podlt.program.schedule import finite_from_zero
from podlt.recipe_faults import in_table


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a vector of parameters takes a step: the base of all optimisers.

    Attributes:
        lr: the learning rate, which the schedule multiplies.
        weight_decay: per step.
    """

    lr: float
    weight_decay: float = 0.0

    def init(self, count: int) -> dict[str, torch.Tensor]:
        """The state before the first step, for so many parameters: float32 vectors by name."""
        raise NotImplementedError

    def step(
        self,
        parameters: torch.Tensor,
        gradient: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        step: int,
        factor: float = 1.0,
    ) -> None:
        """Changes parameters and state in place.

        Args:
            parameters: float32, shape (n,).
            gradient: float32, shape (n,); is not changed.
            state: as `init` made it.
            step: steps taken before.
            factor: of the learning rate.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Refuses numbers that make no sense.

        Raises:
            UsageError: says which field.
        """
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                finite_from_zero(field.name, number)


class SGD(Rule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stochastic gradient descent with momentum, weight decay and Nesterov's variant."""

    momentum: float = 0.0
    nesterov: bool = False

    def init(self, count: int) -> dict[str, torch.Tensor]:
        return {"momentum": torch.zeros(count)} if self.momentum else {}

    def step(
        self,
        parameters: torch.Tensor,
        gradient: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        step: int,
        factor: float = 1.0,
    ) -> None:
        change = gradient
        if self.weight_decay:
            change = change + parameters * self.weight_decay
        if self.momentum:
            buffer = state["momentum"]
            buffer.mul_(self.momentum).add_(change)
            change = change + buffer * self.momentum if self.nesterov else buffer
        parameters.sub_(change * (self.lr * factor))

    def check(self) -> None:
        super().check()
        if self.momentum >= 1:
            raise UsageError(f"optimizer.momentum: expected a number below 1, got {self.momentum}")
        if self.nesterov and not self.momentum:
            raise UsageError("optimizer.nesterov needs optimizer.momentum above 0")


class Adam(Rule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adam; weight decay is added to the gradient, as torch.optim.Adam does, unless it is decoupled from it."""

    decoupled: ClassVar[bool] = False

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def init(self, count: int) -> dict[str, torch.Tensor]:
        return {"first": torch.zeros(count), "second": torch.zeros(count)}

    def step(
        self,
        parameters: torch.Tensor,
        gradient: torch.Tensor,
        state: Mapping[str, torch.Tensor],
        step: int,
        factor: float = 1.0,
    ) -> None:
        lr = self.lr * factor
        if self.weight_decay and not self.decoupled:
            gradient = gradient + parameters * self.weight_decay
        first, second = state["first"], state["second"]
        scratch = gradient * (1 - self.betas[0])
        first.mul_(self.betas[0]).add_(scratch)
        torch.mul(gradient, gradient, out=scratch).mul_(1 - self.betas[1])
        second.mul_(self.betas[1]).add_(scratch)
        if self.weight_decay and self.decoupled:
            parameters.mul_(1 - lr * self.weight_decay)
        _square_root(second, scratch)
        # A quotient by a Python number would be a product with its reciprocal on a GPU: by a tensor it is one division.
        scratch.div_(scratch.new_full((), math.sqrt(1 - _power(self.betas[1], step + 1)))).add_(self.eps)
        torch.div(first, scratch, out=scratch)
        parameters.sub_(scratch.mul_(lr / (1 - _power(self.betas[0], step + 1))))

    def check(self) -> None:
        super().check()
        if not all(beta < 1 for beta in self.betas):
            raise UsageError(f"optimizer.betas: expected two numbers below 1, got {self.betas}")


class AdamW(Adam, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adam with decoupled weight decay."""

    decoupled: ClassVar[bool] = True

    weight_decay: float = 0.01


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


def local_rule(spec: Mapping[str, Any], lr: float) -> Rule:
    """The rule of a task's own steps.

    Args:
        spec: name and options, without a learning rate; empty for SGD.
        lr: the learning rate.

    Raises:
        UsageError: an unknown rule or option, or a number that makes no sense.
    """
    options = dict(spec)
    name = options.pop("name", "sgd")
    if name not in RULES:
        raise UsageError(f"training.local_optimizer.name: expected one of {', '.join(RULES)}, got {name!r}")
    try:
        rule = msgspec.convert({**options, "lr": lr}, RULES[name])
    except msgspec.ValidationError as error:
        raise UsageError(in_table(str(error), RULES[name], "training.local_optimizer")) from None
    rule.check()
    return rule


RULES: Mapping[str, type[Rule]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
