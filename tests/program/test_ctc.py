"""Connectionist temporal classification: loss and gradients are PyTorch's, whatever lengths the examples have.

Source: torch.nn.functional.ctc_loss in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec

from .against_pytorch import Examples, plain, some_fast, update

STEPS, CLASSES, LABELS, COUNT = 5, 4, 2, 6
FIELDS = [
    FieldSpec("x", "f32", (2 * STEPS,), None, "input"),
    FieldSpec("y", "i64", (LABELS,), None, "label"),
    FieldSpec("steps", "i64", (), None, "label"),
    FieldSpec("labels", "i64", (), None, "label"),
]

Loss = Callable[..., torch.Tensor]


class Scores(nn.Module):
    """Log probabilities of the classes at each step of time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.view(len(x), STEPS, 2)).log_softmax(-1).transpose(0, 1)  # type: ignore[no-any-return]


def drawn(*, impossible: bool = False) -> dict[str, torch.Tensor]:
    """Examples of every length: without labels, without steps, with labels that repeat, and padded by anything."""
    y = torch.tensor([[1, 2], [3, -1], [-1, -1], [2, 2], [0, 1], [-1, -1]])
    steps, labels = torch.tensor([5, 4, 5, 3, 2, 0]), torch.tensor([2, 1, 0, 2, 1, 0])
    if impossible:
        steps[3] = 2
    return {
        "x": torch.randn(COUNT, 2 * STEPS, generator=torch.manual_seed(1)),
        "y": y,
        "steps": steps,
        "labels": labels,
    }


def ctc(**options: Any) -> Loss:
    return lambda model, x, y, steps, labels: functional.ctc_loss(model(x), y, steps, labels, **options)


def as_pytorch(loss: Loss, batch: Examples) -> Captured:
    model = Scores()
    captured = capture(model, loss, FIELDS, examples=batch)
    expected = plain(model, lambda m, b: loss(m, *b.values()).sum(), batch, double=True)
    found = update(captured, batch)
    factor = COUNT if loss(model, *batch.values()).ndim == 0 and "divisor" not in found else 1
    for name in ("loss", "grad:linear.weight", "grad:linear.bias"):
        torch.testing.assert_close(found[name], expected[name] * factor, rtol=1e-10, atol=1e-10)
    return captured


ONES: dict[str, Loss] = {
    "blank last": ctc(blank=3, reduction="none"),
    "blank in the middle": ctc(blank=2, reduction="none", zero_infinity=True),
}


def test_examples_of_any_length_are_pytorchs_without_labels_and_without_steps_too() -> None:
    batch = drawn()
    batch["y"][4] = 1
    as_pytorch(ctc(reduction="none"), batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONES)
def test_another_class_is_the_blank(name: str) -> None:
    batch = drawn()
    blank = 3 if name == "blank last" else 2
    batch["y"] = torch.where(batch["y"] == blank, 1, batch["y"])
    as_pytorch(ONES[name], batch)


def test_labels_that_no_steps_have_room_for_count_nothing_if_so_asked() -> None:
    batch = drawn(impossible=True)
    batch["y"][4] = 1
    as_pytorch(ctc(reduction="none", zero_infinity=True), batch)
    with pytest.raises(UnsupportedError, match="loss is inf"):
        capture(Scores(), ctc(reduction="none"), FIELDS, examples=batch)


LISTS: dict[str, Loss] = {
    "lists": lambda m, x, y, steps, labels: functional.ctc_loss(m(x), y, (STEPS,) * len(x), (LABELS,) * len(x)),
    "labels in one row": lambda m, x, y, steps, labels: functional.ctc_loss(
        m(x), y.flatten(), (STEPS,) * len(x), (LABELS,) * len(x), reduction="sum"
    ),
}


@pytest.mark.parametrize("name", some_fast(LISTS, ("labels in one row",)))
def test_equal_lengths_as_lists_hold_for_any_number_of_examples(name: str) -> None:
    batch = drawn() | {"y": torch.tensor([[1, 2], [3, 1], [2, 2], [1, 1], [3, 2], [2, 3]])}
    model, loss = Scores(), LISTS[name]
    captured = capture(model, loss, FIELDS, examples=batch)
    is_mean = name == "lists"
    expected = plain(model, lambda m, b: loss(m, *b.values()) * (COUNT if is_mean else 1), batch, double=True)
    found = update(captured, batch)
    for one in ("loss", "grad:linear.weight"):
        torch.testing.assert_close(found[one], expected[one], rtol=1e-10, atol=1e-10)


def test_labels_in_one_row_whose_lengths_are_data_are_refused() -> None:
    def loss(m: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.ctc_loss(m(x), y.flatten(), steps, labels, zero_infinity=True, reduction="sum")

    batch = drawn() | {"y": torch.ones(COUNT, LABELS, dtype=torch.long), "labels": torch.full((COUNT,), LABELS)}
    batch["steps"] = torch.full((COUNT,), STEPS)
    with pytest.raises(UnsupportedError, match="in one row"):
        capture(Scores(), loss, FIELDS, examples=batch)
