"""Means over tokens, labels and weights: divided by what all examples of a round have of them, however they are
dealt."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.execution.task_executor import TaskExecutor
from podlt.manager.weights import Weights
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.optimizer import optimizer_from
from podlt.program.step import Loss

TOKENS = [FieldSpec("x", "i64", (3,), None, "input"), FieldSpec("y", "i64", (3,), None, "label")]
CLASSES = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
GAPS = [CLASSES[0], FieldSpec("mask", "f32", (3,), None, "input"), FieldSpec("y", "f32", (3,), None, "label")]

EXAMPLES = 9
CUT = (0, 2, 3, EXAMPLES)
"""The second shard has one line, without any label."""

Batch = dict[str, torch.Tensor]


def labelled() -> Batch:
    y = torch.arange(3 * EXAMPLES).reshape(EXAMPLES, 3) % 5
    y[0, 1:], y[2], y[5, :2] = -100, -100, -100
    return {"x": torch.arange(3 * EXAMPLES).reshape(EXAMPLES, 3) % 7, "y": y}


def classes() -> Batch:
    y = torch.arange(EXAMPLES) % 3
    y[2] = -100
    return {"x": torch.randn((EXAMPLES, 4), generator=torch.Generator().manual_seed(1)), "y": y}


def gaps() -> Batch:
    x, y = classes()["x"], torch.randn((EXAMPLES, 3), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(3 * EXAMPLES).reshape(EXAMPLES, 3) % 4 > 0).float()
    mask[2] = 0
    return {"x": x, "mask": mask, "y": y}


def tokens(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def weighted(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(model(x), y, weight=torch.tensor([1.0, 3.0, 0.25]))


def masked(model: nn.Module, x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((model(x) - y).square() * mask).sum() / mask.sum().clamp(min=1)


def counted(model: nn.Module, x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((model(x) - y).square() * mask).sum() / (mask > 0).sum()


def words() -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5))


KINDS: dict[str, tuple[Callable[[], nn.Module], Loss, list[FieldSpec], Callable[[], Batch]]] = {
    "labels of -100": (words, tokens, TOKENS, labelled),
    "class weights": (lambda: nn.Linear(4, 3), weighted, CLASSES, classes),
    "a mask": (lambda: nn.Linear(4, 3), masked, GAPS, gaps),
    "a count of whole numbers": (lambda: nn.Linear(4, 3), counted, GAPS, gaps),
}


@pytest.mark.parametrize(
    "name", ["labels of -100", "a mask", *(pytest.param(n, marks=pytest.mark.slow) for n in list(KINDS)[1::2])]
)
@pytest.mark.parametrize("arithmetic", [pytest.param("stock", marks=pytest.mark.slow), "exact/3"])
def test_a_round_applies_the_gradient_of_the_mean_over_all_its_examples(name: str, arithmetic: str) -> None:
    make, loss, fields, examples = KINDS[name]
    torch.manual_seed(0)
    model, batch = make(), examples()
    captured = capture(model, loss, fields, arithmetic, batch)
    average = _round(captured.program, captured.state, batch, CUT)
    value = loss(model, *batch.values())  # type: ignore[operator]
    value.backward()
    torch.testing.assert_close(average["loss"], value.detach(), rtol=1e-5, atol=1e-6)
    for parameter, value in model.named_parameters():
        torch.testing.assert_close(average[f"grad:{parameter}"], value.grad, rtol=1e-4, atol=1e-6)


def _round(program: Program, state: Batch, batch: Batch, cut: tuple[int, ...], steps: int = 1) -> Batch:
    """What a round of these shards applies, by name."""
    layout = update_layout(program)
    execute = TaskExecutor(program, steps, 0.1)
    weights = Weights(program, optimizer_from({"name": "sgd", "lr": 0.1}), _memory(program))
    updates = []
    for start, stop in itertools.pairwise(cut):
        updates.append(np.zeros(layout.nbytes, np.uint8))
        part = {name: value[start:stop].clone() for name, value in batch.items()}
        execute(state, part, bytes(32), updates[-1])
    average = weights.average(updates, [stop - start for start, stop in itertools.pairwise(cut)], 0)
    assert average.finite
    return {name: value.clone() for name, value in layout.views(average.data).items()}


def _memory(program: Program) -> np.ndarray:
    return np.zeros(state_layout(program).nbytes, np.uint8)


def test_a_round_without_any_label_changes_nothing() -> None:
    torch.manual_seed(0)
    captured = capture(words(), tokens, TOKENS, examples=labelled())
    batch = {name: value[2:3] for name, value in labelled().items()}
    assert all(not value.any() for value in _round(captured.program, captured.state, batch, (0, 1)).values())


def test_local_steps_divide_by_their_own_divisors_and_give_the_examples() -> None:
    torch.manual_seed(0)
    model, batch = words(), {name: value[4:8] for name, value in labelled().items()}
    captured = capture(model, tokens, TOKENS, examples=labelled())
    found = _round(captured.program, captured.state, batch, (0, 4), steps=2)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for part in (slice(0, 2), slice(2, 4)):
        model.zero_grad()
        tokens(model, batch["x"][part], batch["y"][part]).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[f"grad:{name}"], before[name] - parameter, rtol=1e-4, atol=1e-6)
    assert found["divisor"] == 4


def test_a_mean_over_examples_alone_has_no_divisor() -> None:
    captured = capture(nn.Linear(4, 3), lambda m, x, mask, y: functional.mse_loss(m(x), y), GAPS, examples=gaps())
    assert "divisor" not in dict(captured.program.outputs)


def test_two_means_over_unlike_counts_are_refused() -> None:
    def both(model: nn.Module, x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return masked(model, x, mask, y) + masked(model, x, 1 - mask, y)

    with pytest.raises(UnsupportedError, match="divides by something that depends on the data"):
        capture(nn.Linear(4, 3), both, GAPS, examples=gaps())
