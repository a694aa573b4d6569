"""Programs from strangers: refused before memory is taken, and never the end of the process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import HealthCheck, given, settings

from podlt.canonical import to_json
from podlt.errors import InvalidProofError, PodltError, UnsupportedError
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import TORCH_DTYPES, state_layout, update_layout
from podlt.program.validate import validate

from .zoo import Case

Get = Callable[[str], Case]
BOUND = 2**28
EXAMPLES = 3
B = {"B": [1, 0]}


def document(
    nodes: list[Any], types: list[Any], loss: int, inputs: list[str] | None = None, shapes: list[Any] | None = None
) -> dict[str, Any]:
    """A program of one parameter (its own gradient) and a batch, with these nodes after them."""
    first = [["f32", [2]], ["f32", [B, 2]]] if shapes is None else shapes
    return {
        "version": 1,
        "arithmetic": "stock",
        "types": [*first, *types],
        "inputs": inputs or ["param:w", "batch:x"],
        "nodes": nodes,
        "outputs": [["loss", loss], ["grad:w", 0]],
    }


def check(found: dict[str, Any], max_bytes: int = BOUND) -> Program:
    program = Program.from_bytes(to_json(found))
    validate(program, max_bytes=max_bytes)
    return program


SUM = ["sum.default", [{"v": 1}], {}, [2]]


def with_node(node: list[Any], kind: list[Any]) -> dict[str, Any]:
    """A sound program with one more node, whose output is value 3."""
    return document([SUM, node], [["f32", []], kind], 2)


def test_a_sound_program_is_accepted() -> None:
    check(document([SUM], [["f32", []]], 2))


def test_an_operation_outside_of_the_table_is_refused_by_name() -> None:
    for name in ("system", "as_strided.default", "set_.source_Tensor", "__class__", "empty.memory_format", ""):
        with pytest.raises(UnsupportedError, match="no operation"):
            check(with_node([name, [{"v": 1}], {}, [3]], ["f32", [B, 2]]))


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (["full.default", [[2**39], 1.0], {}, [3]], ["f32", [2**39]]),
        (["full.default", [[2**39], 1.0], {}, [3]], ["f32", [2]]),
        (["zeros.default", [[2**20, 2**20]], {}, [3]], ["f32", [2]]),
        (["arange.default", [2**40], {"dtype": {"t": "f32"}}, [3]], ["f32", [3]]),
        (["arange.start_step", [0, 2**50, 1], {"dtype": {"t": "f32"}}, [3]], ["f32", [3]]),
        (["repeat.default", [{"v": 0}, [2**40]], {}, [3]], ["f32", [2]]),
        (["repeat.default", [{"v": 1}, [B, 1]], {}, [3]], ["f32", [{"B": [4, -3]}, 2]]),
        (["repeat.default", [{"v": 1}, [B, 1]], {}, [3]], ["f32", [{"B": [5, -6]}, 2]]),
        (["constant_pad_nd.default", [{"v": 0}, [2**40, 0], 0.0], {}, [3]], ["f32", [2]]),
        (["expand.default", [{"v": 0}, [2**38, 2]], {}, [3]], ["f32", [2**38, 2]]),
        (["uniform", [0, [2**39]], {}, [3]], ["f32", [2**39]]),
        (["uniform", [0, [2**39]], {}, [3]], ["f32", [2]]),
        (["constant", [{"t": "f32"}, [2**39], [1.0]], {}, [3]], ["f32", [2**39]]),
        (["new_zeros.default", [{"v": 0}, [2**39]], {}, [3]], ["f32", [1]]),
        (["full.default", [[2], 1.0], {"device": "cpu"}, [3]], ["f32", [2]]),
        (["full.default", [[2], 1.0], {"pin_memory": True}, [3]], ["f32", [2]]),
    ],
)
def test_more_memory_than_was_declared_or_is_allowed_is_refused_before_it_is_taken(node: Any, kind: Any) -> None:
    with pytest.raises(InvalidProofError):
        check(with_node(node, kind))


def test_the_bound_is_on_what_is_alive_at_one_time() -> None:
    nodes = [["full.default", [[1024, 1024], float(i)], {}, [3 + i]] for i in range(40)]
    kinds = [["f32", []], *[["f32", [1024, 1024]]] * 40]
    program = document([SUM, *nodes], kinds, 2)
    check(program, max_bytes=6 * 2**20)
    chain = [["cat.default", [[{"v": 3 + i} for i in range(40)]], {}, [43]]]
    with pytest.raises(InvalidProofError, match="take more than"):
        check(document([SUM, *nodes, *chain], [*kinds, ["f32", [40960, 1024]]], 2), max_bytes=170 * 2**20)


def test_the_memory_of_a_value_counts_as_long_as_a_view_of_it_is_used() -> None:
    def program(last: list[Any]) -> dict[str, Any]:
        nodes: list[Any] = [SUM]
        for i in range(20):
            nodes.append(["full.default", [[1024, 1024], float(i)], {}, [3 + 2 * i]])
            nodes.append(["select.int", [{"v": 3 + 2 * i}, 0, 0], {}, [4 + 2 * i]])
        kinds = [["f32", []], *([["f32", [1024, 1024]], ["f32", [1024]]] * 20), ["f32", [len(last) * 1024]]]
        return document([*nodes, ["cat.default", [last], {}, [43]]], kinds, 2)

    check(program([{"v": 42}]), max_bytes=10 * 2**20)
    with pytest.raises(InvalidProofError, match="take more than"):
        check(program([{"v": 4 + 2 * i} for i in range(20)]), max_bytes=10 * 2**20)


def image(nodes: list[Any], kinds: list[Any]) -> dict[str, Any]:
    shapes = [["f32", [2]], ["f32", [B, 4, 4, 4]], ["f32", [2]], ["i64", [B, 4, 2, 2]], ["f32", [B, 4, 2, 2]]]
    inputs = ["param:w", "batch:x", "frozen:short", "batch:places", "batch:gradient"]
    nodes = [["sum.default", [{"v": 1}], {}, [5]], *nodes]
    return document(nodes, [["f32", []], *kinds], 5, inputs, shapes)


PICTURE, CHANNELS = ["f32", [B, 4, 4, 4]], ["f32", [4]]


@pytest.mark.parametrize(
    ("operation", "arguments", "outputs", "kinds"),
    [
        (
            "max_pool2d_with_indices_backward.default",
            [{"v": 4}, {"v": 1}, [2, 2], [2, 2], [0, 0], [1, 1], False, {"v": 3}],
            [6],
            [PICTURE],
        ),
        (
            "_native_batch_norm_legit_functional.default",
            [{"v": 1}, {"v": 2}, {"v": 2}, {"v": 2}, {"v": 2}, True, 0.1, 1e-5],
            [6, 7, 8, 9, 10],
            [PICTURE, CHANNELS, CHANNELS, ["f32", [2]], ["f32", [2]]],
        ),
        (
            "native_batch_norm_backward.default",
            [{"v": 1}, {"v": 1}, {"v": 2}, None, None, {"v": 2}, {"v": 2}, True, 1e-5, [True] * 3],
            [6, 7, 8],
            [PICTURE, CHANNELS, CHANNELS],
        ),
        (
            "native_layer_norm_backward.default",
            [{"v": 1}, {"v": 1}, [4], {"v": 2}, {"v": 2}, None, None, [True, False, False]],
            [6, 7, 8],
            [PICTURE, ["f32", [0]], ["f32", [0]]],
        ),
        ("_log_softmax_backward_data.default", [{"v": 4}, {"v": 1}, 1, {"t": "f32"}], [6], [PICTURE]),
        ("_adaptive_avg_pool2d_backward.default", [{"v": 2}, {"v": 1}], [6], [PICTURE]),
        ("split.Tensor", [{"v": 1}, 0], [6], [PICTURE]),
    ],
)
def test_calls_that_a_kernel_would_not_survive_are_refused(
    operation: str, arguments: Any, outputs: list[int], kinds: Any
) -> None:
    with pytest.raises(InvalidProofError, match="does not fit"):
        check(image([[operation, arguments, {}, outputs]], kinds))


@pytest.mark.parametrize("mode", ["trunc", None, "ceil"])
def test_whole_numbers_are_divided_towards_minus_infinity_only(mode: Any) -> None:
    """The least integer over -1, cut towards 0, ends PyTorch's process."""
    node = ["div.Tensor_mode", [{"v": 3}, {"v": 3}], {"rounding_mode": mode}, [6]]
    with pytest.raises(InvalidProofError, match="rounding mode must be floor"):
        check(image([node], [["i64", [B, 4, 2, 2]]]))
    node[2] = {"rounding_mode": "floor"}
    check(image([node], [["i64", [B, 4, 2, 2]]]))


def test_a_million_views_of_nothing_are_refused() -> None:
    nodes = [["zeros.default", [[10**9, 0]], {}, [3]], ["unbind.int", [{"v": 3}], {}, [4]]]
    with pytest.raises(InvalidProofError, match="parts"):
        check(document([SUM, *nodes], [["f32", []], ["f32", [10**9, 0]], ["f32", [0]]], 2))


@pytest.mark.parametrize(
    "change",
    [
        {"version": True},
        {"version": 1.0},
        {"version": 2},
        {"arithmetic": "none"},
        {"inputs": ["param:w", "param:w"]},
        {"inputs": ["param:w", "other:x"]},
        {"inputs": ["param:w"]},
        {"outputs": [["loss", 2]]},
        {"outputs": [["loss", 1], ["grad:w", 0]]},
        {"outputs": [["loss", 2], ["grad:w", 2]]},
        {"outputs": [["loss", 9], ["grad:w", 0]]},
        {"types": [["f64", [2]], ["f32", [B, 2]], ["f32", []]]},
        {"types": [["f32", [2]], ["f32", [B, -2]], ["f32", []]]},
        {"types": [["f32", [2]], ["f32", [{"B": [True, 0]}, 2]], ["f32", []]]},
        {"types": [["f32", [2]], ["f32", [3, 2]], ["f32", []]]},
        {"nodes": [["sum.default", [{"v": 2}], {}, [2]]]},
        {"nodes": [["sum.default", [{"v": 1}], {}, [1]]]},
        {"nodes": [["sum.default", [{"v": 1}], {}, [7]]]},
        {"nodes": [["sum.default", [{"v": -1}], {}, [2]]]},
        {"nodes": [["sum.default", [{"v": 1}], {"dtype": {"v": 1}}, [2]]]},
        {"nodes": [["sum.default", [{"v": 1}], {}, []]]},
        {"extra": 1},
    ],
)
def test_a_document_that_breaks_the_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidProofError):
        check(document([SUM], [["f32", []]], 2) | change)


def test_a_constant_that_its_type_does_not_hold_is_refused() -> None:
    for kind, items in (("u8", [300]), ("i32", [2**40]), ("f32", [{"v": 0}]), ("f32", [[1.0]]), ("i64", [1.5, 2])):
        with pytest.raises(InvalidProofError, match="declared type"):
            check(with_node(["constant", [{"t": kind}, [1], items], {}, [3]], [kind, [1]]))
    check(with_node(["constant", [{"t": "f32"}, [2], [{"f": "inf"}, 1]], {}, [3]], ["f32", [2]]))


LEAVES = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**39, -(2**62), 2**62]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
    st.booleans(),
    st.builds(lambda a, c: {"B": [a, c]}, st.integers(-2, 3), st.integers(-3, 40)),
    st.builds(lambda v: {"v": v}, st.integers(0, 40)),
    st.sampled_from([{"t": "i64"}, {"t": "f32"}, {"f": "nan"}, "tanh", [], [1], [2, 2], [0, 1]]),
)


def places(item: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a document."""
    inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    return [path, *[place for key, value in inner for place in places(value, (*path, key))]]


def mutated(raw: bytes, data: st.DataObject, names: list[str]) -> Any:
    found = json.loads(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(found["nodes"], ("nodes",)) + places(found["types"], ("types",))))
        target: Any = found
        for key in path[:-1]:
            target = target[key]
        old = target[path[-1]]
        target[path[-1]] = data.draw(st.sampled_from(names) if old in names else LEAVES)
    return found


def run_any(program: Program) -> None:
    """Runs a program that was accepted; it may fail as Python fails, and only so."""
    memory = state_layout(program)
    state = memory.views(np.zeros(memory.nbytes, np.uint8))
    layout = update_layout(program)
    batch = {
        name.removeprefix("batch:"): torch.zeros(kind.at(EXAMPLES), dtype=TORCH_DTYPES[kind.dtype])
        for name, kind in program.named("batch:").items()
    }
    try:
        Executor(program).run(state, batch, 1, layout.views(np.zeros(layout.nbytes, np.uint8)))
    except PodltError:
        return


@pytest.mark.parametrize(
    "name", ["mlp", "pooled", *(pytest.param(name, marks=pytest.mark.slow) for name in ("table", "normalised", "gru"))]
)
def test_a_mutated_program_is_refused_or_runs(captured: Get, name: str) -> None:
    case = captured(name)
    raw, names = case.program.to_bytes(), sorted({n.operation for n in case.program.nodes})

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        found = mutated(raw, data, names)
        try:
            program = check(found)
        except (InvalidProofError, UnsupportedError):
            return
        run_any(program)

    holds()


@examples(100)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)))
def test_any_document_in_place_of_a_part_is_refused_or_accepted(part: Any) -> None:
    for key in ("types", "inputs", "nodes", "outputs"):
        found = document([SUM], [["f32", []]], 2) | {key: part}
        try:
            check(found)
        except (InvalidProofError, UnsupportedError):
            continue
