"""The optimisers against PyTorch's own, and their schedules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import UsageError
from podlt.program.optimizer import Schedule, optimizer_from

STEPS = 12


def ours(spec: dict[str, Any]) -> torch.Tensor:
    optimizer = optimizer_from(spec)
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(50, generator=generator)
    state = optimizer.init(50)
    for step in range(STEPS):
        gradient = torch.randn(50, generator=generator)
        kept = gradient.clone()
        optimizer.rule.step(parameters, gradient, state, step, optimizer.factor(step))
        assert torch.equal(gradient, kept), "the gradient belongs to the caller"
    return parameters


def theirs(make: Any, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    parameter = torch.nn.Parameter(torch.randn(50, generator=generator))
    optimizer = make([parameter], **options)
    for _ in range(STEPS):
        parameter.grad = torch.randn(50, generator=generator)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ],
)
def test_sgd_follows_pytorch(options: dict[str, Any]) -> None:
    expected = theirs(torch.optim.SGD, lr=0.1, **options)
    torch.testing.assert_close(ours({"name": "sgd", "lr": 0.1, **options}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"betas": [0.8, 0.95], "eps": 1e-4}])
def test_adamw_follows_pytorch(options: dict[str, Any]) -> None:
    expected = theirs(torch.optim.AdamW, lr=0.01, **options)
    torch.testing.assert_close(ours({"name": "adamw", "lr": 0.01, **options}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_vector_cut_in_parts_moves_as_the_whole_does(name: str) -> None:
    optimizer = optimizer_from({"name": name, "lr": 0.1, **({"momentum": 0.9} if name == "sgd" else {})})
    generator = torch.Generator().manual_seed(2)
    start, gradients = torch.randn(37, generator=generator), torch.randn(5, 37, generator=generator)
    whole, parts = start.clone(), [start[:10].clone(), start[10:].clone()]
    state, states = optimizer.init(37), [optimizer.init(10), optimizer.init(27)]
    for step, gradient in enumerate(gradients):
        optimizer.rule.step(whole, gradient, state, step, optimizer.factor(step))
        optimizer.rule.step(parts[0], gradient[:10], states[0], step, optimizer.factor(step))
        optimizer.rule.step(parts[1], gradient[10:], states[1], step, optimizer.factor(step))
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"name": "lion", "lr": 0.1},
        {"name": "sgd"},
        {"name": "sgd", "lr": -0.1},
        {"name": "sgd", "lr": float("nan")},
        {"name": "sgd", "lr": "fast"},
        {"name": "sgd", "lr": 0.1, "beta": 1},
        {"name": "sgd", "lr": 0.1, "nesterov": True},
        {"name": "sgd", "lr": 0.1, "schedule": "cosine"},
        {"name": "sgd", "lr": 0.1, "schedule": "step", "steps": 3},
        {"name": "sgd", "lr": 0.1, "warmup": -1},
        {"name": "adamw", "lr": 0.1, "betas": [0.9, 1.0]},
        {"name": "adamw", "lr": 0.1, "betas": [0.9]},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="optimizer"):
        optimizer_from(spec)


def test_a_fault_names_the_field_and_what_it_takes_in_words() -> None:
    for spec, words in (
        ({"lr": "fast"}, "^optimizer.lr: expected a number, got a text$"),
        ({}, "^optimizer.lr is missing$"),
        (
            {"lr": 0.1, "groups": [{"match": "a", "lr": "x"}]},
            r"^optimizer.groups\[0\].lr: expected a number, got a text$",
        ),
        ({"lr": 0.1, "groups": [{"match": "a", "momentun": 1}]}, r"^optimizer.groups\[0\]: .* has no option momentun$"),
    ):
        with pytest.raises(UsageError, match=words):
            optimizer_from({"name": "sgd", **spec})


@examples(50)
@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 20), st.integers(1, 60))
def test_a_schedule_rises_through_its_warmup_and_never_rises_again(kind: str, warmup: int, steps: int) -> None:
    schedule = Schedule(schedule=kind, warmup=warmup, steps=steps)
    factors = [schedule.factor(step) for step in range(steps + warmup + 2)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert max(factors) == 1.0
    assert kind == "constant" or factors[-1] < 1e-12
