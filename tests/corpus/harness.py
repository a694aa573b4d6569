"""What a row of the corpus is held to: captured as a run captures, the gradients of eager float64, and 20 steps beside
eager training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.execution.task_executor import TaskExecutor
from podlt.manager.precheck import try_task
from podlt.manager.weights import Weights
from podlt.program.capture import Captured, capture
from podlt.program.eager import GivenDraws, eager_step
from podlt.program.layout import state_layout, update_layout
from podlt.program.optimizer import optimizer_from
from podlt.program.philox import uniform
from podlt.program.preparation import copied, own_copy, unwrapped
from podlt.program.step import loss_value
from podlt.program.trace import WithLoss

from .rows import EXAMPLES, Row

ARITHMETIC = "exact/2"
STEPS = 20

GRADIENTS, OWN = 1e-4, 4.0
"""How far a program's gradients by PyTorch's arithmetic may be from eager float64's: the norm of the difference by the
norm of the gradients; or so many times as far as eager float32's, which BatchNorm over eight examples takes far off.
This holds the capture; what exact arithmetic makes of it shows in the 20 steps."""

LOSSES = 2e-2
"""How far a loss of the 20 steps may be from eager's, by the first loss."""

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        refused: why it was, "" if it was not.
        nodes: how many operations its program has.
        gradients: how far its gradients are from eager float64's, by their size.
        own: how far eager float32's are.
        losses: how far its worst loss is from eager's, by the first.
        fell: by how much eager's loss fell in the 20 steps.
    """

    refused: str = ""
    nodes: int = 0
    gradients: float = 0.0
    own: float = 0.0
    losses: float = 0.0
    fell: float = 0.0


def try_row(row: Row, *, train: bool = True) -> Outcome:
    """Captures a row's module, and trains it beside eager."""
    torch.manual_seed(0)
    module, examples = row.make(), row.examples()
    try:
        captured = capture(module, row.loss, row.fields(), ARITHMETIC, examples, 2 * EXAMPLES)
        try_task(captured, TaskExecutor(captured.program, 1, None), examples)
    except UnsupportedError as error:
        return Outcome(str(error))
    if not train:
        return Outcome("", len(captured.program.nodes))
    stock = replace(captured, program=replace(captured.program, arithmetic="stock"))
    plain = _Eager(row, module).step(examples, 1)
    try:
        expected = _Eager(row, module).step(examples, 1, torch.float64)
    except (RuntimeError, ValueError):  # it makes float32 tensors of its own
        expected = plain
    gradients = _distance(_Taken(stock, row.lr).step(examples, 1), expected)
    losses, fell = _loss_error(_Taken(captured if row.precise else stock, row.lr), _Eager(row, module), examples)
    return Outcome("", len(captured.program.nodes), gradients, _distance(plain, expected), losses, fell)


class _Taken:
    """Training as a run trains: a task's update, the average, the optimiser."""

    def __init__(self, captured: Captured, lr: float) -> None:
        program = captured.program
        self._execute, self._layout = TaskExecutor(program, 1, None), update_layout(program)
        optimizer = optimizer_from({"name": "sgd", "lr": lr})
        self._weights = Weights(program, optimizer, np.zeros(state_layout(program).nbytes, np.uint8))
        self._weights.set(captured.state)

    def step(self, examples: Tensors, seed: int) -> dict[str, torch.Tensor]:
        """The average of a round of one task, once it is applied."""
        update = np.zeros(self._layout.nbytes, np.uint8)
        self._execute(self._weights.views, examples, seed.to_bytes(8, "big") + bytes(24), update)
        average = self._weights.average([update], [EXAMPLES], 0)
        self._weights.apply(average.data, 0)
        return {name: value.clone() for name, value in self._layout.views(average.data).items()}


class _Eager:
    """Training as the row's user trains: the mean over examples of a loss that is one value an example or their sum,
    and else the loss as it is. Draws are a program's."""

    def __init__(self, row: Row, module: nn.Module) -> None:
        self._row, self._fields, self._mean = row, row.fields(), True
        self._module = own_copy(copied(unwrapped(module), torch.Tensor.clone))
        self._module = self._module.train() if not module.training else self._module
        self._mean = self._is_mean(row.examples())

    def step(self, examples: Tensors, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        """Loss and gradients, once SGD has taken its step; buffers as they are then."""
        found = eager_step(WithLoss(self._module, self._loss), examples, GivenDraws(seed, uniform), dtype)
        with torch.no_grad():
            for name, parameter in self._module.named_parameters():
                if f"grad:{name}" in found:
                    parameter -= self._row.lr * found[f"grad:{name}"].to(parameter.dtype)
            for name, buffer in self._module.named_buffers():
                value = found[f"buffer:{name}"]
                buffer.copy_(value / EXAMPLES if value.is_floating_point() else value)
        return found

    def _loss(self, model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        inputs = [v for f, v in zip(self._fields, batch, strict=True) if f.role == "input"]
        labels = [v for f, v in zip(self._fields, batch, strict=True) if f.role == "label"]
        value = loss_value(self._row.loss, model, inputs, labels)
        return value.mean() if value.ndim or self._mean else value / len(batch[0])

    @torch.no_grad()
    def _is_mean(self, examples: Tensors) -> bool:
        twin = copied(self._module, torch.Tensor.clone)
        found = []
        for batch in (examples, {name: torch.cat([value, value]) for name, value in examples.items()}):
            with GivenDraws(0, lambda seed, draw, shape: torch.full(shape, 0.5)):
                found.append(float(self._loss(twin, *batch.values())))
        return abs(found[1] - found[0]) < abs(found[1] - 2 * found[0])


def _distance(found: Tensors, expected: Tensors) -> float:
    """How far gradients are from others, by the others' size."""
    names = [name for name in found if name.startswith("grad:")]
    off = sum(float((found[n].double() - expected[n].double()).square().sum()) for n in names)
    size = sum(float(expected[n].double().square().sum()) for n in names)
    return (off / size) ** 0.5


def _loss_error(taken: _Taken, eager: _Eager, examples: Tensors) -> tuple[float, float]:
    pairs = [(float(taken.step(examples, k)["loss"]), float(eager.step(examples, k)["loss"])) for k in range(STEPS)]
    first, last = pairs[0][1], pairs[-1][1]
    return max(abs(a - b) for a, b in pairs) / abs(first), (first - last) / abs(first)
