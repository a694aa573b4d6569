"""Programs that pass a look at a few sizes and misbehave at another: each once ended a process, or its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from podlt.errors import InvalidProofError, UnsupportedError, UsageError
from podlt.execution.task_executor import TaskExecutor
from podlt.program.capture import capture
from podlt.program.descent import _power
from podlt.program.ir import FieldSpec, Program, TensorType
from podlt.program.layout import Layout, update_layout
from podlt.program.optimizer import optimizer_from
from podlt.program.schedule import Schedule, cosine_of_pi
from podlt.program.validate import check_examples, validate

B = {"B": [1, 0]}


def stranger(nodes: list[list[Any]], types: list[list[Any]]) -> Program:
    """A program with a parameter of 4, a batch x of (B, 4), the given nodes, and the parameter as its gradient."""
    given = [["f32", [4]], ["f32", [B, 4]]]
    first = len(given) + len(types)
    tail = [["sum.dim_IntList", [{"v": 0}, [0]], {}, [first]]]
    return Program.from_document(
        {
            "version": 1,
            "arithmetic": "stock",
            "types": [*given, *types, ["f32", []]],
            "inputs": ["param:w", "batch:x"],
            "nodes": [*nodes, *tail],
            "outputs": [["loss", first], ["grad:w", 0]],
        }
    )


def test_a_slice_whose_bounds_change_their_sign_is_refused_before_it_runs() -> None:
    wrapped = {"B": [-3000, 10000]}
    nodes = [["slice.Tensor", [{"v": 1}, 0, wrapped, 9_000_000], {}, [2]]]
    program = stranger(nodes, [["f32", [{"B": [1, 0]}, 4]]])
    with pytest.raises(InvalidProofError):
        validate(program)
        for examples in range(1, 64):
            check_examples(program, examples)


def test_a_size_that_shrinks_with_the_examples_is_bounded_where_it_is_large() -> None:
    shape = [{"B": [-(2**20), 2**30]}, {"B": [-1, 1024]}]
    program = stranger([["full.default", [shape, 0.0], {"dtype": {"t": "f32"}}, [2]]], [["f32", shape]])
    with pytest.raises(InvalidProofError, match="bytes"):
        check_examples(program, 20)


def test_a_squeeze_that_drops_the_examples_where_there_is_one_is_refused_for_one_line() -> None:
    nodes = [["squeeze.default", [{"v": 1}], {}, [2]]]
    program = stranger(nodes, [["f32", [B, 4]]])
    validate(program)
    with pytest.raises(InvalidProofError, match="declared"):
        check_examples(program, 1)


def test_an_executor_checks_a_number_of_examples_before_it_runs_with_it() -> None:
    nodes = [["squeeze.default", [{"v": 1}], {}, [2]]]
    program = stranger(nodes, [["f32", [B, 4]]])
    execute = TaskExecutor(program, 1, None)
    state = {"param:w": torch.ones(4)}
    out = np.zeros(update_layout(program).nbytes, np.uint8)
    execute(state, {"x": torch.ones(2, 4)}, bytes(32), out)
    with pytest.raises(InvalidProofError):
        execute(state, {"x": torch.ones(1, 4)}, bytes(32), out)


def test_gradients_scaled_by_frequency_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4, scale_grad_by_freq=True), torch.nn.Linear(4, 3))
    fields = [FieldSpec("x", "i64", (), None, "input"), FieldSpec("y", "i64", (), None, "label")]
    with pytest.raises(UnsupportedError, match="frequency"):
        capture(model, "cross_entropy", fields)


def test_a_constant_that_is_no_list_is_refused() -> None:
    nodes = [["constant", [{"t": "f32"}, [], 5], {}, [2]]]
    with pytest.raises(InvalidProofError):
        validate(stranger(nodes, [["f32", []]]))


def test_a_section_ends_where_its_own_tensors_end_though_some_are_empty() -> None:
    def of(*shape: int) -> TensorType:
        return TensorType("f32", shape)

    layout = Layout([("param:a", of(3)), ("param:b", of(0)), ("frozen:c", of(20)), ("buffer:d", of(0))])
    assert layout.section("param:") == (0, 64)
    assert layout.section("frozen:") == (64, 192)
    assert layout.section("buffer:") == (192, 192)
    assert layout.section("nothing:") == (0, 0)


def test_an_unknown_loss_and_one_class_are_explained() -> None:
    fields = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
    with pytest.raises(UnsupportedError, match="no loss named 'hinge'"):
        capture(torch.nn.Linear(4, 3), "hinge", fields)
    with pytest.raises(UnsupportedError, match="two or more classes"):
        capture(torch.nn.Linear(4, 1), "cross_entropy", fields)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ["adamw"], "lr": 1.0},
        {"name": "sgd", "lr": 1.0, "momentum": 1.5},
        {"name": "sgd", "lr": 1.0, "schedule": "linear", "warmup": 20, "steps": 10},
    ],
)
def test_an_optimizer_that_makes_no_sense_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        optimizer_from(spec)


def test_powers_and_cosines_are_correctly_rounded_on_any_machine() -> None:
    assert [cosine_of_pi(x) for x in (0.0, 1.0)] == [1.0, -1.0]
    assert abs(cosine_of_pi(0.5)) < 1e-30
    assert abs(cosine_of_pi(1 / 3) - 0.5) < 1e-15
    schedule = Schedule(schedule="cosine", steps=10)
    assert schedule.factor(5) == 0.5
    assert [_power(0.5, n) for n in (1, 10)] == [0.5, 2.0**-10]
    assert _power(0.999, 1000) == pytest.approx(0.999**1000, rel=1e-15)
