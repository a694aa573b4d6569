"""Our own rules of what operations give: wherever one answers, PyTorch answers the same."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from examples_drawn import ALL, examples
from hypothesis import given

from podlt.errors import InvalidProofError
from podlt.exact.cpu.backend import table as exact_table
from podlt.exact.operations import samples
from podlt.exact.operations.types import Type
from podlt.program.ir import TensorType
from podlt.program.layout import TORCH_DTYPES
from podlt.program.operations import STOCK_ARITHMETIC, table
from podlt.program.shapes import RULES, given_types, infer
from podlt.program.validate import validate

from .zoo import Case, case

Get = Callable[[str], Case]
EXAMPLES = 3
SHORT = {dtype: name for name, dtype in TORCH_DTYPES.items()}
WITHOUT_COMPILER = {
    *("view", "_unsafe_view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "select", "slice"),
    *("_to_copy", "full", "zeros", "ones", "scalar_tensor", "split", "unbind", "clone", "sum"),
    *("embedding_dense_backward", "uniform", "constant"),
}
"""What PyTorch itself infers without `sympy` and its compiler, and our own operations."""

MORE: list[tuple[str, list[Any]]] = [
    *((f"{name}.default", [("f32", (2, 3))]) for name in ("sigmoid", "exp", "log", "sqrt", "neg", "abs")),
    *((f"{name}.Scalar", [("f32", (2, 3)), 2]) for name in ("add", "sub", "div", "eq", "ne", "lt", "le", "gt")),
    ("_softmax.default", [("f32", (2, 3)), -1, False]),
    ("_log_softmax.default", [("f32", ()), 0, False]),
    ("sum.dim_IntList", [("f32", (2, 3)), [1, -2], False]),
    ("mean.dim", [("f32", (2, 3, 4)), [-1]]),
    ("any.dim", [("b1", (2, 3)), 0]),
    ("cat.default", [[("f32", (2, 3)), ("f32", (2, 1))], -1]),
    ("cat.default", [[("f32", (2,)), ("f32", (0,))]]),
    ("stack.default", [[("f32", (2, 3)), ("f32", (2, 3))], -1]),
    ("arange.default", [4]),
    ("tril.default", [("f32", (2, 3)), -1]),
    ("triu.default", [("b1", (4, 2, 3))]),
    ("where.self", [("b1", (2, 1)), ("f32", (3,)), ("f32", ())]),
    ("add.Tensor", [("f32", (2, 1)), ("f32", (1, 3))]),
    ("div.Tensor", [("f32", (2, 1)), {"f": "inf"}]),
    ("ge.Scalar", [("f32", (2,)), {"f": "nan"}]),
    (
        "convolution.default",
        [("f32", (1, 4, 5, 7)), ("f32", (6, 2, 3, 1)), None, [2, 1], [0, 2], [1, 3], False, [0, 0], 2],
    ),
    ("max_pool2d_with_indices.default", [("f32", (1, 2, 5, 7)), [2, 3], [1, 2]]),
    ("nll_loss_forward.default", [("f32", (4, 3)), ("i64", (4,)), None, 2, -100]),
    ("embedding.default", [("f32", (4, 3)), ("i64", ())]),
    ("bmm.default", [("f32", (2, 3, 4)), ("f32", (2, 4, 0))]),
]


@cache
def seeds() -> list[tuple[str, list[Any]]]:
    """Calls as programs make them: tensors by their types."""
    found = {}
    for name in ("cnn", "pooled", "gpt-dropout", *(("gru",) if ALL else ())):
        program = case(name).program
        for node in program.nodes:
            if node.operation in RULES and not node.keywords:
                call = (node.operation, [given_types(program, item, EXAMPLES) for item in node.arguments])
                found[str(call)] = call
    for operation, arguments, options in samples(exact_table(2)):
        if operation in RULES and not options:
            call = (operation, [as_given(item) for item in arguments])
            found[str(call)] = call
    return [*found.values(), *MORE]


def as_given(item: Any) -> Any:
    """A sample's argument as rules take it."""
    if isinstance(item, torch.Tensor):
        return SHORT[item.dtype], tuple(item.shape)
    if isinstance(item, list):
        return [as_given(part) for part in item]
    if isinstance(item, torch.dtype):
        return {"t": SHORT[item]}
    return {"f": str(item)} if isinstance(item, float) and not math.isfinite(item) else item


def by_pytorch(operation: str, call: list[Any]) -> list[Type | None]:
    """What PyTorch infers on the meta device."""

    def made(item: Any) -> Any:
        if isinstance(item, tuple):
            return torch.empty(item[1], dtype=TORCH_DTYPES[item[0]], device="meta")
        if isinstance(item, list):
            return [made(part) for part in item]
        if isinstance(item, dict):
            return TORCH_DTYPES[item["t"]] if "t" in item else float(item["f"])
        return item

    more = {"device": "meta"} if operation == "arange.default" else {}
    result = table(STOCK_ARITHMETIC)[operation](*[made(item) for item in call], **more)
    results = result if isinstance(result, (tuple, list)) else [result]
    return [None if one is None else (SHORT[one.dtype], tuple(one.shape)) for one in results]


def changed(item: Any, draw: st.DrawFn) -> Any:
    """An argument that is a little, or entirely, different."""
    if draw(st.integers(0, 4)) == 0:
        return draw(
            st.sampled_from([None, True, False, 0, 1, -1, 2, 1.5, [], [1], {"t": "i64"}, ("i64", (2,)), ("f32", ())])
        )
    if isinstance(item, tuple):
        dtype = draw(st.sampled_from([item[0], item[0], item[0], "f32", "i64", "b1", "u8"]))
        return dtype, tuple(_list_changed(list(item[1]), draw, st.integers(0, 5)))
    if isinstance(item, list):
        if item and draw(st.booleans()):
            at = draw(st.integers(0, len(item) - 1))
            return [*item[:at], changed(item[at], draw), *item[at + 1 :]]
        return _list_changed(item, draw, st.integers(-2, 3))
    if isinstance(item, bool):
        return not item
    return draw(st.integers(-4, 6)) if isinstance(item, int) else item


def _list_changed(items: list[Any], draw: st.DrawFn, parts: st.SearchStrategy[int]) -> list[Any]:
    at = draw(st.integers(0, len(items)))
    replaced = draw(st.lists(parts, max_size=2))
    return [*items[:at], *replaced, *items[at + draw(st.integers(0, 1)) :]]


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A call of a program with one or two arguments changed, or left out."""
    operation, call = draw(st.sampled_from(seeds()))
    call = list(call)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(call) - 1))
        call[at] = changed(call[at], draw)
    return operation, call[: len(call) - draw(st.sampled_from([0, 0, 0, 1]))]


def test_every_rule_answers_what_programs_ask_as_pytorch_does() -> None:
    asked = set()
    for operation, call in seeds():
        answer = RULES[operation](call)
        if answer is not None:
            asked.add(operation)
            assert answer == by_pytorch(operation, call), (operation, call)
    assert asked == set(RULES)


@examples(300)
@given(calls())
def test_no_rule_answers_otherwise_than_pytorch_or_where_it_refuses(call: tuple[str, list[Any]]) -> None:
    answer = RULES[call[0]](call[1])
    if answer is not None:
        assert answer == by_pytorch(*call)


@pytest.mark.parametrize("name", ["cnn", "pooled", "gpt-dropout", pytest.param("gru", marks=pytest.mark.slow)])
def test_common_models_need_nothing_that_imports_a_compiler(captured: Get, name: str) -> None:
    program = captured(name).program
    left = {node.operation for i, node in enumerate(program.nodes) if infer(program, i, EXAMPLES) is None}
    assert {operation.partition(".")[0] for operation in left} <= WITHOUT_COMPILER


@pytest.mark.parametrize("operation", ["relu.default", "addmm.default", "convolution.default", "mm.default"])
def test_a_declared_type_that_a_rule_contradicts_is_refused(captured: Get, operation: str) -> None:
    program = captured("cnn").program
    node = next(node for node in program.nodes if node.operation == operation)
    types = list(program.types)
    types[node.outputs[0]] = TensorType("f32", (*types[node.outputs[0]].shape, 1))
    with pytest.raises(InvalidProofError, match=operation):
        validate(replace(program, types=tuple(types)))


@pytest.mark.slow
def test_validating_a_program_does_not_import_pytorch_s_compiler(captured: Get, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(captured("gpt").program.to_bytes())
    code = (
        "import sys, pathlib\n"
        "from podlt.program.ir import Program\n"
        "from podlt.program.validate import validate\n"
        "validate(Program.from_bytes(pathlib.Path(sys.argv[1]).read_bytes()))\n"
        "print(sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "program"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
