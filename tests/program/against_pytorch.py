"""A captured step beside what plain PyTorch gives for the same examples: loss, gradients and buffers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from podlt.program.capture import Captured, capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.layout import TORCH_DTYPES
from podlt.program.step import Loss

FOUR = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
NUMBER = [FOUR[0], FieldSpec("y", "f32", (), None, "label")]
IMAGE = [FieldSpec("x", "f32", (1, 8, 8), None, "input"), FOUR[1]]
WORDS = [FieldSpec("x", "i64", (6,), None, "input"), FOUR[1]]

Examples = Mapping[str, torch.Tensor]


def some_fast(names: Iterable[str], fast: Sequence[str]) -> list[Any]:
    """Parameters of a test of which all but a few kinds run with the slow ones: a capture takes a while."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


def examples_of(fields: Sequence[FieldSpec], count: int, below: int = 2) -> dict[str, torch.Tensor]:
    """Examples of the right types, whole numbers below a bound."""
    generator = torch.Generator().manual_seed(count)
    return {
        f.name: torch.randn((count, *f.shape), generator=generator)
        if f.dtype == "f32"
        else torch.randint(0, below, (count, *f.shape), generator=generator)
        for f in fields
    }


def run_program(
    executor: Executor, state: Examples, batch: Examples, seed: int, *, double: bool
) -> dict[str, torch.Tensor]:
    """A program's update of some examples, by name."""
    program, examples = executor.program, len(next(iter(batch.values())))
    out = {}
    for name, value in program.outputs:
        kind = program.types[value]
        dtype = torch.float64 if double and kind.dtype == "f32" else TORCH_DTYPES[kind.dtype]
        out[name] = torch.empty(kind.at(examples), dtype=dtype)
    executor.run(state, batch, seed, out)
    return out


def update(captured: Captured, batch: Examples) -> dict[str, torch.Tensor]:
    """The program's update in float64."""
    wide = [{n: v.double() if v.is_floating_point() else v for n, v in m.items()} for m in (captured.state, batch)]
    return run_program(Executor(captured.program, double=True), wide[0], wide[1], 1, double=True)


def plain(
    model: nn.Module, total: Callable[[nn.Module, Examples], torch.Tensor], batch: Examples, double: bool
) -> Examples:
    """What PyTorch's `backward` leaves behind, in float64 or as the module is; `total` gives the loss of all
    examples."""
    twin = copy.deepcopy(model)
    if double:
        twin, batch = twin.double(), {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}
    loss = total(twin, batch)
    loss.backward()
    found = {"loss": loss.detach()}
    found |= {f"grad:{n}": p.grad for n, p in twin.named_parameters() if p.grad is not None}
    count = len(next(iter(batch.values())))
    return found | {f"buffer:{n}": b * count if b.is_floating_point() else b for n, b in twin.named_buffers()}


def assert_as_pytorch(
    model: nn.Module,
    loss: Loss,
    fields: Sequence[FieldSpec],
    total: Callable[[nn.Module, Examples], torch.Tensor],
    *,
    below: int = 2,
    double: bool = True,
    counts: Sequence[int] = (3, 8),
) -> Captured:
    """Captures a model, and compares its updates of some examples with PyTorch's.

    Args:
        model: as its user has it.
        loss: what is captured.
        fields: of an example.
        total: the loss of all examples, by plain PyTorch.
        below: the bound of whole numbers.
        double: whether PyTorch can compute it in float64.
        counts: numbers of examples.
    """
    captured = capture(model, loss, fields)
    tolerance = 1e-10 if double else 2e-5
    for count in counts:
        batch = examples_of(fields, count, below)
        expected, found = plain(model, total, batch, double), update(captured, batch)
        assert {n for n in expected if n.startswith("grad:")} == {n for n in found if n.startswith("grad:")}
        found.pop("divisor", None)  # of a mean over labels: test_divisor has it
        for name, value in found.items():
            torch.testing.assert_close(value.double(), expected[name].double(), rtol=tolerance, atol=tolerance)
    return captured
