"""Running a program: local steps, traces, sums of updates, and errors that name the node."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given

from podlt.errors import InvalidProofError, UsageError
from podlt.program.descent import SGD, local_rule
from podlt.program.eager import widened
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.program.update import combine

from .zoo import Case

Get = Callable[[str], Case]


def room(case: Case) -> dict[str, torch.Tensor]:
    layout = update_layout(case.program)
    return layout.views(np.zeros(layout.nbytes, np.uint8))


@pytest.mark.parametrize("name", ["mlp", "pooled"])
def test_local_steps_are_plain_gradient_descent_over_parts_of_the_shard(captured: Get, name: str) -> None:
    case, examples, steps, lr = captured(name), 8, 3, 0.05
    batch, found = case.batch(examples), room(case)
    executor = Executor(case.program)
    executor.run_local_steps(case.state, batch, 0, found, steps, SGD(lr=lr))
    own, total = {k: v.clone() for k, v in case.state.items()}, torch.zeros(())
    for start, stop in ((0, 2), (2, 5), (5, 8)):
        part = room(case)
        executor.run(own, {k: v[start:stop] for k, v in batch.items()}, 0, part)
        total = total + part["loss"]
        for key, value in part.items():
            if key.startswith("grad:"):
                own["param:" + key[5:]] -= value / (stop - start) * lr
            elif key.startswith("buffer:"):
                own[key] = value / (stop - start) if value.is_floating_point() else value.clone()
    torch.testing.assert_close(found["loss"], total)
    for key, value in found.items():
        if key.startswith("grad:"):
            expected = (case.state["param:" + key[5:]] - own["param:" + key[5:]]) * examples
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
        elif key.startswith("buffer:"):
            torch.testing.assert_close(value, own[key] * (examples if own[key].is_floating_point() else 1))


def test_local_steps_by_adamw_are_pytorchs_with_a_fresh_state(captured: Get) -> None:
    case, examples, steps = captured("mlp"), 9, 3
    batch, found, executor = case.batch(examples), room(case), Executor(case.program)
    rule = local_rule({"name": "adamw", "weight_decay": 0.1, "betas": [0.8, 0.95]}, 0.01)
    executor.run_local_steps(case.state, batch, 0, found, steps, rule)
    own = {k: torch.nn.Parameter(v.clone()) for k, v in case.state.items() if k.startswith("param:")}
    theirs = torch.optim.AdamW(own.values(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    for start in range(0, examples, 3):
        part = room(case)
        state = case.state | {k: v.detach() for k, v in own.items()}
        executor.run(state, {k: v[start : start + 3].clone() for k, v in batch.items()}, 0, part)
        for key, parameter in own.items():
            parameter.grad = part["grad:" + key[6:]] / 3
        theirs.step()
    for key, parameter in own.items():
        expected = (case.state[key] - parameter.detach()) * examples
        torch.testing.assert_close(found["grad:" + key[6:]], expected, rtol=1e-4, atol=1e-5)


def test_a_program_says_by_what_its_local_steps_go_and_nothing_else(captured: Get) -> None:
    program = captured("mlp").program
    document = program.to_document() | {"local_optimizer": {"name": "adamw", "eps": 1e-6}}
    again = Program.from_document(document)
    assert again.local_optimizer == {"name": "adamw", "eps": 1e-6} and again.to_document() == document
    assert again.digest != program.digest
    for wrong in ({}, {"name": "adamw", "lr": 0.1}, {"name": 3}, {"eps": "much"}, {"betas": [0.1, 0.2, 0.3]}, [1]):
        with pytest.raises(InvalidProofError, match="local"):
            Program.from_document(document | {"local_optimizer": wrong})
    for wrong in ({"name": "lion"}, {"name": "sgd", "betas": [0.9, 0.99]}, {"name": "adamw", "eps": -1.0}):
        with pytest.raises(UsageError, match="optimizer"):
            local_rule(wrong, 0.1)


def test_more_local_steps_than_examples_are_one_example_each(captured: Get) -> None:
    case = captured("mlp")
    many, few, executor = room(case), room(case), Executor(case.program)
    executor.run_local_steps(case.state, case.batch(3), 0, many, 50, SGD(lr=0.1))
    executor.run_local_steps(case.state, case.batch(3), 0, few, 3, SGD(lr=0.1))
    assert all(torch.equal(many[k], few[k]) for k in many)


def test_a_run_changes_nothing_that_it_is_given(captured: Get) -> None:
    for name in ("mlp", "pooled", "normalised"):
        case = captured(name)
        state, batch = {k: v.clone() for k, v in case.state.items()}, case.batch(4)
        Executor(case.program).run(state, batch, 0, room(case))
        Executor(case.program).run_local_steps(state, batch, 0, room(case), 2, SGD(lr=0.1))
        assert all(torch.equal(state[k], case.state[k]) for k in state)
        assert all(torch.equal(batch[k], v) for k, v in case.batch(4).items())


def test_a_run_that_is_traced_gives_the_same_bits_and_every_value(captured: Get) -> None:
    case, plain, traced = captured("table"), room(captured("table")), room(captured("table"))
    seen: list[int] = []

    def note(number: int, outputs: object) -> None:
        seen.append(number)
        assert len(list(outputs)) == len(case.program.nodes[number].outputs)  # type: ignore[call-overload]

    executor = Executor(case.program)
    executor.run(case.state, case.batch(5), 0, plain)
    executor.run(case.state, case.batch(5), 0, traced, trace=note)
    assert seen == list(range(len(case.program.nodes)))
    assert all(torch.equal(plain[k], traced[k]) for k in plain)


def test_one_node_can_be_done_again_from_its_inputs(captured: Get) -> None:
    case = captured("mlp")
    kept: dict[int, torch.Tensor] = {}
    nodes = case.program.nodes

    def note(number: int, outputs: list[torch.Tensor]) -> None:
        kept.update(zip(nodes[number].outputs, [o.clone() for o in outputs], strict=True))

    executor = Executor(case.program)
    batch = case.batch(4)
    executor.run(case.state, batch, 0, room(case), trace=note)  # type: ignore[arg-type]
    values = [kept.get(i) for i in range(len(case.program.types))]
    for i, name in enumerate(case.program.inputs):
        values[i] = case.state[name] if name in case.state else batch[name.removeprefix("batch:")]
    for number, node in enumerate(nodes):
        again = list(values)
        executor.resolve(number, 4)(again, 0)
        assert all(torch.equal(again[o], kept[o]) for o in node.outputs), node.operation


def test_a_label_out_of_range_is_an_error_that_names_the_node(captured: Get) -> None:
    case = captured("mlp")
    batch = case.batch(4)
    batch["y"][2] = 10
    with pytest.raises(UsageError, match=r"node \d+ \(nll_loss_forward.default\) failed on these values"):
        Executor(case.program).run(case.state, batch, 0, room(case))


@examples(50)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1)
)
def test_updates_are_added_one_after_another_in_the_given_order(rows: list[list[float]]) -> None:
    out = torch.empty(3)
    combine([torch.tensor(row) for row in rows], out)
    expected = np.array(rows[0], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for row in rows[1:]:
            expected = expected + np.array(row, np.float32)
    assert out.numpy().tobytes() == expected.tobytes() or np.array_equal(out.numpy(), expected, equal_nan=True)


@pytest.mark.parametrize("name", ["cnn", "normalised"])
def test_outputs_are_given_one_by_one_as_they_are_written(captured: Callable[[str], Case], name: str) -> None:
    case = captured(name)
    batch, layout = case.batch(3), update_layout(case.program)
    memory = np.zeros(layout.nbytes, np.uint8)
    Executor(case.program).run(case.state, batch, 1, layout.views(memory))
    given: dict[str, torch.Tensor] = {}
    Executor(case.program).give(case.state, batch, 1, lambda name, value: given.update({name: value.clone()}))
    assert given.keys() == layout.views(memory).keys()
    assert all(torch.equal(value, given[name]) for name, value in layout.views(memory).items())


def test_float64_runs_take_parameters_in_float32(captured: Callable[[str], Case]) -> None:
    case = captured("cnn")
    batch, found = case.batch(3), []
    for state in (case.state, {name: widened(value, torch.float64) for name, value in case.state.items()}):
        given: dict[str, torch.Tensor] = {}
        wide = {name: widened(value, torch.float64) for name, value in batch.items()}
        Executor(case.program, double=True).give(state, wide, 1, lambda n, v, to=given: to.update({n: v.clone()}))
        found.append(given)
    assert all(torch.equal(value, found[1][name]) and value.dtype == torch.float64 for name, value in found[0].items())
