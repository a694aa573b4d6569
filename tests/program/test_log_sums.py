"""Running sums of exponentials hold whatever the line's range: what came long before its largest value counts too.

Source: torch.logcumsumexp in float64.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec

from .against_pytorch import Examples, assert_as_pytorch, examples_of, run_program

LINES = [FieldSpec("x", "f32", (3, 5), None, "input")]


class Sums(nn.Module):
    """Running sums over lines whose values differ by some hundred."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factor, self.dim = nn.Parameter(torch.linspace(-200, 200, 15).reshape(3, 5)), dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logcumsumexp(x * self.factor, self.dim) / 100


def squares(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x).square().flatten(1).sum(1)  # type: ignore[no-any-return]


def total(model: nn.Module, batch: Examples) -> torch.Tensor:
    return squares(model, batch["x"]).sum()


@pytest.mark.parametrize("dim", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_running_sums_of_exponentials_are_pytorchs_far_below_the_largest(dim: int) -> None:
    torch.manual_seed(0)
    captured = assert_as_pytorch(Sums(dim), squares, LINES, total, counts=(3,))
    executor = Executor(captured.program, arithmetic="exact/2")
    found = run_program(executor, captured.state, examples_of(LINES, 3), 1, double=False)
    assert all(value.isfinite().all() for value in found.values())
