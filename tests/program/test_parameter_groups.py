"""Adam, groups of parameters and clipping against PyTorch over 20 steps; and the bits of a norm."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from podlt.errors import UsageError
from podlt.manager.weights import Weights
from podlt.program.capture import capture
from podlt.program.clipping import EPS, LANES, clip_coefficient, global_norm
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.optimizer import optimizer_from
from podlt.program.schedule import Horizon

STEPS = 20
FIELDS = [FieldSpec("x", "f32", (3,), None, "input"), FieldSpec("y", "i64", (), None, "label")]


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


@pytest.fixture(scope="module")
def program() -> Program:
    return capture(network(), "cross_entropy", FIELDS).program


def gradients(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def ours(program: Program, spec: dict[str, Any], horizon: Horizon | None = None) -> dict[str, torch.Tensor]:
    """The parameters after the steps, by a run's own weights."""
    model = network()
    weights = Weights(program, optimizer_from(spec, horizon), np.zeros(state_layout(program).nbytes, np.uint8))
    weights.set({f"param:{name}": value.detach() for name, value in model.named_parameters()})
    layout = update_layout(program)
    for step in range(STEPS):
        update = np.zeros(layout.nbytes, np.uint8)
        for name, value in gradients(model, step).items():
            layout.views(update)[f"grad:{name}"].copy_(value)
        weights.apply(update, step)
    return {name.partition(":")[2]: value.clone() for name, value in weights.views.items()}


def assert_as_pytorch(found: dict[str, torch.Tensor], model: nn.Module, optimizer: Any, clip: float = 0.0) -> None:
    for step in range(STEPS):
        for (_, parameter), value in zip(model.named_parameters(), gradients(model, step).values(), strict=True):
            parameter.grad = value
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"betas": [0.8, 0.95], "eps": 1e-4}])
def test_adam_follows_pytorch(program: Program, options: dict[str, Any]) -> None:
    model = network()
    theirs = torch.optim.Adam(model.parameters(), lr=0.01, **options)
    assert_as_pytorch(ours(program, {"name": "adam", "lr": 0.01, **options}), model, theirs)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_groups_follow_pytorch(program: Program, name: str, kind: Any) -> None:
    model = network()
    theirs = kind(
        [
            {"params": [model[0].bias, model[1].weight, model[1].bias, model[2].bias], "weight_decay": 0.0},
            {"params": [model[2].weight], "lr": 0.001},
            {"params": [model[0].weight]},
        ],
        lr=0.01,
        weight_decay=0.1,
    )
    groups = [{"match": ["*.bias", "1.*"], "weight_decay": 0.0}, {"match": "2.weight", "lr": 0.001}]
    assert_as_pytorch(ours(program, {"name": name, "lr": 0.01, "weight_decay": 0.1, "groups": groups}), model, theirs)


def test_no_decay_spares_biases_and_norms_unless_a_group_says_otherwise(program: Program) -> None:
    spec = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
    plain = ours(program, {**spec, "groups": [{"match": ["*.bias", "1.weight"], "weight_decay": 0.0}]})
    found = ours(program, {**spec, "no_decay": True})
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    decayed = ours(program, {**spec, "no_decay": True, "groups": [{"match": ["0.bias"], "weight_decay": 0.1}]})
    assert not torch.equal(decayed["0.bias"], plain["0.bias"])
    assert torch.equal(decayed["2.bias"], plain["2.bias"])


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_follows_pytorch(program: Program, clip: float) -> None:
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert_as_pytorch(
        ours(program, {"name": "sgd", "lr": 0.1, "momentum": 0.9, "clip_norm": clip}), model, theirs, clip
    )


def test_momentum_of_one_group_leaves_the_others_plain(program: Program) -> None:
    model = network()
    theirs = torch.optim.SGD(
        [{"params": model[0].parameters(), "momentum": 0.9}, {"params": [*model[1:].parameters()]}], lr=0.1
    )
    groups = [{"match": ["0.*"], "momentum": 0.9}]
    assert_as_pytorch(ours(program, {"name": "sgd", "lr": 0.1, "groups": groups}), model, theirs)


def test_a_pattern_without_a_parameter_and_options_of_another_optimiser_are_refused() -> None:
    optimizer = optimizer_from({"name": "sgd", "lr": 0.1, "groups": [{"match": ["body.*"]}]})
    with pytest.raises(UsageError, match=r"groups\[0\].match: no parameter is called 'body\.\*'"):
        optimizer.require_names(["head.weight", "head.bias"])
    with pytest.raises(UsageError, match=r"groups\[0\]: .*betas"):
        optimizer_from({"name": "sgd", "lr": 0.1, "groups": [{"match": ["*"], "betas": [0.9, 0.99]}]})
    with pytest.raises(UsageError, match=r"groups\[0\].match: expected names"):
        optimizer_from({"name": "sgd", "lr": 0.1, "groups": [{"lr": 0.2}]})
    with pytest.raises(UsageError, match=r"max_grad_norm: SGD has no such option: do you mean clip_norm\?"):
        optimizer_from({"name": "sgd", "lr": 0.1, "max_grad_norm": 1.0})
    with pytest.raises(UsageError, match="weight_decy: AdamW has no such option: do you mean weight_decay"):
        optimizer_from({"name": "adamw", "lr": 0.1, "weight_decy": 0.1})
    with pytest.raises(UsageError, match="clip_norm"):
        optimizer_from({"name": "sgd", "lr": 0.1, "clip_norm": -1.0})


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), max_size=40), st.integers(0, 2 * LANES))
def test_a_norm_is_the_root_of_the_rounded_sum_of_squares(values: list[float], zeros: int) -> None:
    """Few values meet in a lane: then lanes hold exact squares, and the sum is rounded once."""
    vector = torch.tensor([0.0] * zeros + values, dtype=torch.float32)
    squares = sum((Fraction(v) ** 2 for v in vector.tolist()), Fraction(0))
    assert global_norm(vector) == math.sqrt(float(squares))


def test_lanes_are_added_in_the_order_of_the_values() -> None:
    """As the docstring of the module defines it, in plain Python."""
    vector = torch.randn(3 * LANES + 17, generator=torch.Generator().manual_seed(1)) * 1e3
    lanes = [0.0] * LANES
    for i, value in enumerate(vector.tolist()):
        lanes[i % LANES] += value * value
    norm = math.sqrt(math.fsum(lanes))
    assert global_norm(vector) == norm
    assert clip_coefficient(vector, 1.0) == 1.0 / (norm + EPS)
    assert clip_coefficient(vector, 1e9) == 1.0


def test_a_second_moment_that_overflows_is_named(program: Program) -> None:
    weights = Weights(
        program, optimizer_from({"name": "adam", "lr": 0.1}), np.zeros(state_layout(program).nbytes, np.uint8)
    )
    update = np.zeros(update_layout(program).nbytes, np.uint8)
    update_layout(program).views(update)["grad:0.bias"].fill_(1e30)
    weights.apply(update, 0)
    assert weights.infinite() == "the optimiser's state (second) is"
