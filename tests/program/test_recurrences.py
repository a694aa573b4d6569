"""Recurrent layers are one operation a layer and direction: programs do not grow with the sequence."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from podlt.errors import InvalidProofError
from podlt.exact.operations.recurrences import GATES
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.validate import validate

KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
}


class Tagger(nn.Module):
    """A label for each step."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.layers = KINDS[kind](2, 3, batch_first=True, **options)
        self.head = nn.Linear(6 if options.get("bidirectional") else 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x)[0]).transpose(1, 2)  # type: ignore[no-any-return]


def taken(kind: str, steps: int, **options: Any) -> Captured:
    torch.manual_seed(0)
    fields = [FieldSpec("x", "f32", (steps, 2), None, "input"), FieldSpec("y", "i64", (steps,), None, "label")]
    return capture(Tagger(kind, **options), "cross_entropy", fields)


@cache
def program() -> Program:
    return taken("lstm", 4).program


def counted(found: Program) -> Counter[str]:
    return Counter(node.operation for node in found.nodes)


def test_a_program_has_as_many_nodes_for_12_steps_as_for_4() -> None:
    short, long = counted(program()), counted(taken("lstm", 12).program)
    assert short == long
    assert short["recurrence"] == short["recurrence_backward"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("steps", [128, 512])
def test_an_lstm_of_two_layers_has_as_many_nodes_for_any_steps(steps: int) -> None:
    short, long = (counted(taken("lstm", n, num_layers=2).program) for n in (32, steps))
    assert short == long and short["recurrence"] == 2


@pytest.mark.parametrize("kind", ["gru", *(pytest.param(kind, marks=pytest.mark.slow) for kind in GATES)])
def test_layers_directions_and_dropout_give_what_pytorch_gives(kind: str) -> None:
    """Capture itself holds the program against the module, in float64."""
    found = taken(kind, 3, num_layers=2, bidirectional=True, dropout=0.3, bias=kind != "rnn_relu")
    assert counted(found.program)["recurrence"] == 4


def test_the_last_states_alone_lead_to_gradients() -> None:
    class Last(nn.LSTM):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return torch.cat(super().forward(x)[1], 2)[0]

    torch.manual_seed(0)
    fields = [FieldSpec("x", "f32", (5, 2), None, "input"), FieldSpec("y", "i64", (), None, "label")]
    assert counted(capture(Last(2, 3, batch_first=True), "cross_entropy", fields).program)["recurrence_backward"] == 1


@pytest.mark.slow
def test_an_lstm_with_projections_is_taken_apart() -> None:
    class Projected(nn.LSTM):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x)[0].transpose(1, 2)

    fields = [FieldSpec("x", "f32", (3, 2), None, "input"), FieldSpec("y", "i64", (3,), None, "label")]
    found = capture(Projected(2, 3, batch_first=True, proj_size=2, bidirectional=True), "cross_entropy", fields)
    assert not counted(found.program)["recurrence"]


def broken(operation: str, place: int, argument: Any, **keywords: Any) -> Program:
    """The program with one argument of an operation changed."""
    nodes = list(program().nodes)
    number = next(i for i, node in enumerate(nodes) if node.operation == operation)
    arguments = list(nodes[number].arguments)
    arguments[place] = argument
    nodes[number] = replace(nodes[number], arguments=arguments, keywords=keywords)
    return replace(program(), nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("operation", "place", "argument"),
    [
        ("recurrence", 0, "gru"),
        ("recurrence", 0, "elman"),
        ("recurrence", 0, 7),
        ("recurrence", 1, {"v": 0}),
        ("recurrence", 3, None),
        ("recurrence", 4, {"v": 1}),
        ("recurrence", 6, {"v": 0}),
        ("recurrence_backward", 0, "rnn_tanh"),
        ("recurrence_backward", 1, {"v": 0}),
        ("recurrence_backward", 9, {"v": 0}),
        ("recurrence_backward", 10, None),
        ("recurrence_backward", 11, [True] * 6),
        ("recurrence_backward", 11, [1] * 7),
    ],
)
def test_arguments_that_do_not_belong_together_are_refused(operation: str, place: int, argument: Any) -> None:
    validate(program())
    with pytest.raises(InvalidProofError, match=operation):
        validate(broken(operation, place, argument))


def test_a_keyword_of_a_recurrence_is_refused() -> None:
    with pytest.raises(InvalidProofError, match="recurrence"):
        validate(broken("recurrence", 0, "lstm", reverse=True))


def test_what_a_recurrence_takes_beside_its_results_counts_as_memory() -> None:
    kinds = program().types
    values = sum(4 * torch.Size(kind.at(1024)).numel() for kind in kinds)
    validate(program(), max_bytes=4 * values)
    with pytest.raises(InvalidProofError, match="bytes"):
        validate(program(), max_bytes=values // 2)
