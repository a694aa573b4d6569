"""One program for any number of examples, the same in every process, with eager PyTorch's own numbers."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.program.step import loss_value
from podlt.program.validate import validate

from .zoo import CASES, RANDOM, SLOW, Case

Get = Callable[[str], Case]
DETERMINATE = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in CASES if n not in RANDOM]
EVERY = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in CASES]


def run(case: Case, examples: int, seed: int = 0) -> dict[str, torch.Tensor]:
    layout = update_layout(case.program)
    out = layout.views(np.zeros(layout.nbytes, np.uint8))
    Executor(case.program).run(case.state, case.batch(examples), seed, out)
    return out


def eager(case: Case, examples: int) -> dict[str, torch.Tensor]:
    """The model's own numbers in float32, named as an update's."""
    twin = copy.deepcopy(case.model).train()
    scaled = [
        value if field.scale is None else value.to(torch.float32) * field.scale
        for field, value in zip(case.fields, case.batch(examples).values(), strict=True)
    ]
    loss = loss_value(case.loss, twin, scaled[:-1], scaled[-1:])
    named = dict(twin.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()))
    found = {"loss": loss.detach(), **{f"grad:{n}": g for n, g in zip(named, gradients, strict=True)}}
    for name, buffer in twin.named_buffers():
        found[f"buffer:{name}"] = buffer * examples if buffer.is_floating_point() else buffer
    return found


@pytest.mark.parametrize("name", DETERMINATE)
@pytest.mark.parametrize("examples", [2, 5, 20])
def test_a_program_gives_eager_numbers_bit_for_bit_for_any_number_of_examples(
    captured: Get, name: str, examples: int
) -> None:
    case = captured(name)
    expected = eager(case, examples)
    for key, value in run(case, examples).items():
        if name in NOT_BIT_EQUAL:
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(value, expected[key]), key


NOT_BIT_EQUAL = ("gpt", "lstm", "gru", "binary")
"""Attention is captured by its definition where eager runs a fused kernel; recurrent layers and the binary loss are
captured as their decomposition."""


@pytest.mark.parametrize("name", EVERY)
def test_a_captured_program_survives_its_own_encoding_and_validation(captured: Get, name: str) -> None:
    program = captured(name).program
    again = Program.from_bytes(program.to_bytes())
    assert again.digest == program.digest
    validate(again)


def test_the_gradients_of_a_shard_are_the_sum_of_those_of_its_examples(captured: Get) -> None:
    case = captured("mlp")
    layout, executor = update_layout(case.program), Executor(case.program)
    batch = case.batch(6)
    whole = layout.views(np.zeros(layout.nbytes, np.uint8))
    part = layout.views(np.zeros(layout.nbytes, np.uint8))
    executor.run(case.state, batch, 0, whole)
    total = dict.fromkeys(whole, torch.zeros(()))
    for line in range(6):
        executor.run(case.state, {k: v[line : line + 1] for k, v in batch.items()}, 0, part)
        total = {k: total[k] + part[k] for k in total}
    for key, value in whole.items():
        torch.testing.assert_close(value, total[key], rtol=1e-5, atol=1e-5)


def test_a_draw_depends_on_the_seed_and_on_nothing_else(captured: Get) -> None:
    case = captured("gpt-dropout")
    first, again, other = run(case, 7, seed=1), run(case, 7, seed=1), run(case, 7, seed=2)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["loss"], other["loss"])


def test_tied_weights_are_one_parameter_with_one_gradient(captured: Get) -> None:
    state = captured("gpt-dropout").state
    assert "param:tokens.weight" in state and "param:head.weight" not in state


def test_the_users_model_stays_as_it_was(captured: Get) -> None:
    case = captured("normalised")
    assert int(case.model.seen) == 0
    assert torch.equal(case.model.mean, torch.zeros(6))


PRINT_DIGESTS = """
import random, sys, torch
random.seed(int(sys.argv[1]))
sys.path.insert(0, sys.argv[2])
from program.zoo import CASES, build
for name in sys.argv[3:]:
    print(name, build(name, CASES[name]).program.digest.hex())
"""


def digests(seed: int, names: list[str]) -> str:
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", PRINT_DIGESTS, str(seed), tests, *names]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": str(seed)}).stdout


@pytest.mark.slow
def test_two_processes_capture_the_same_digest_of_every_model() -> None:
    assert digests(1, list(CASES)) == digests(2, list(CASES))


def test_the_program_of_a_perceptron_is_the_golden_one(captured: Get, golden: Callable[[Path, str], None]) -> None:
    """Every process that runs this test captures the digest that is checked in."""
    program = captured("mlp").program
    lines = [f"{n.operation} {n.arguments} {n.keywords} -> {list(n.outputs)}" for n in program.nodes]
    text = "\n".join([program.digest.hex(), *lines, *map(str, program.outputs)]) + "\n"
    golden(Path(__file__).parent / "golden" / "mlp.txt", text)


def test_who_has_switched_gradients_off_can_capture(captured: Get) -> None:
    case = captured("mlp")
    with torch.no_grad():
        again = capture(case.model, case.loss, case.fields, "stock").program
    assert again.digest == case.program.digest
