"""A large model's checks hold one output at a time, keep what is left in 32 bits, and its parameters in float32."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.program import eager, example_sums, wide
from podlt.program.capture import capture
from podlt.program.eager import GivenDraws, eager_step
from podlt.program.ir import FieldSpec
from podlt.program.philox import uniform
from podlt.program.rests import PackedRest
from podlt.program.step import SummedLoss
from podlt.program.streaming import Each, streamed
from podlt.program.trace import WithLoss

FIELDS = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]


def test_a_step_runs_as_far_as_its_outputs_are_asked_for() -> None:
    done = []

    def give(each: Each) -> None:
        for name in "abc":
            done.append(name)
            each(name, torch.zeros(1))

    with closing(streamed(give)) as outputs:
        assert next(outputs)[0] == "a" and done == ["a"]
    assert done == ["a"]
    assert [name for name, _ in streamed(give)] == ["a", "b", "c"]


def test_what_a_step_raises_is_raised_where_its_outputs_are_asked_for() -> None:
    def give(each: Each) -> None:
        each("a", torch.zeros(1))
        raise ValueError("no b")

    outputs = streamed(give)
    next(outputs)
    with pytest.raises(ValueError, match="no b"):
        next(outputs)


def small(tied: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    if tied:
        model[3].weight = model[0].weight
    return model


def test_parameters_that_are_widened_when_used_give_the_gradients_of_wide_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    module = WithLoss(small(), SummedLoss("cross_entropy", FIELDS))
    batch = {"x": torch.randn(5, 4), "y": torch.tensor([0, 1, 2, 0, 1])}
    expected = eager_step(module, batch, GivenDraws(1, uniform), torch.float64)
    monkeypatch.setattr(eager, "WIDENED_WHEN_USED", 0)
    found = eager_step(module, batch, GivenDraws(1, uniform), torch.float64)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(p.dtype == torch.float32 and p.grad is None for p in module.parameters())


@pytest.fixture
def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "WIDENED_WHEN_USED", 0)
    monkeypatch.setattr(wide, "IN_PARTS", 0)
    monkeypatch.setattr(wide, "PART", 8)
    monkeypatch.setattr(example_sums, "HELD_BYTES", 0)
    monkeypatch.setattr(example_sums, "PACKED", 0)


@pytest.mark.usefixtures("as_if_large")
def test_a_large_model_is_captured_to_the_same_program() -> None:
    assert len(capture(small(), "cross_entropy", FIELDS).program.outputs) == 1 + 7 + 3


@pytest.mark.usefixtures("as_if_large")
def test_a_large_model_whose_examples_see_each_other_is_refused() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.linear(x - x.mean(0))
            return found

    with pytest.raises(UnsupportedError, match="see each other"):
        capture(Centred(), "cross_entropy", FIELDS)


def test_what_is_left_of_a_packed_output_is_found_down_to_the_tolerance() -> None:
    whole = torch.linspace(-3, 3, 1001, dtype=torch.float64)
    for off, expected in ((0.0, False), (1e-6, True), (float("nan"), True), (float("inf"), True)):
        rest = PackedRest(whole)
        rest.take(whole * 0.25, is_last=False)
        part = whole * 0.75
        part[17] += off
        rest.take(part, is_last=True)
        assert rest.is_something(0.0) is expected, off
