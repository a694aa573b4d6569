"""Attention is one operation: no program holds the scores of all heads, and strangers' calls are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import InvalidProofError
from podlt.exact.aten.attention import BLOCK_BYTES
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.validate import validate

T = 5
FIELDS = [FieldSpec("x", "f32", (T, 8), None, "input"), FieldSpec("y", "i64", (T,), None, "label")]


class Attention(nn.Module):
    """Two heads of four, after one projection; options are those of PyTorch's function."""

    def __init__(self, groups: int = 2, *, learned: bool = False, **options: Any) -> None:
        super().__init__()
        self.projection, self.groups, self.options = nn.Linear(8, 8 + 8 * groups), groups, options
        self.bias = nn.Parameter(torch.zeros(T, T)) if learned else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = [8, 4 * self.groups, 4 * self.groups]
        q, k, v = (part.unflatten(2, (-1, 4)).transpose(1, 2) for part in self.projection(x).split(sizes, 2))
        given = self.options if self.bias is None else {"attn_mask": self.bias}
        return functional.scaled_dot_product_attention(q, k, v, **given).transpose(1, 2).flatten(2).transpose(1, 2)


def taken(model: nn.Module) -> Program:
    """Capture itself holds the program against the module, in float64."""
    return capture(model, "cross_entropy", FIELDS).program


def counted(program: Program) -> Counter[str]:
    return Counter(node.operation for node in program.nodes)


@cache
def causal() -> Program:
    torch.manual_seed(0)
    return taken(Attention(is_causal=True))


some = torch.ones(T, T, dtype=torch.bool).tril(1)
padded = torch.zeros(1, 1, 1, T).index_fill(3, torch.tensor([4]), -torch.inf)
CASES: dict[str, Any] = {
    "bools": lambda: Attention(attn_mask=some),
    "floats, of one query": lambda: Attention(attn_mask=padded, scale=0.3),
    "dropout": lambda: Attention(is_causal=True, dropout_p=0.4),
    "grouped queries": lambda: Attention(1, enable_gqa=True),
}


@pytest.mark.slow  # dropout in attention is captured fast with the GPT of test_capture
@pytest.mark.parametrize("name", CASES)
def test_masks_dropout_and_groups_are_one_operation_each_way(name: str) -> None:
    found = counted(taken(CASES[name]()))
    assert found["attention"] == found["attention_backward"] == 1 and not found["bmm.default"]


def test_a_causal_program_holds_no_scores() -> None:
    found = causal()
    assert counted(found)["attention"] == counted(found)["attention_backward"] == 1
    assert not [kind for kind in found.types if kind.shape[-2:] == (T, T)]


@pytest.mark.slow
def test_a_mask_that_is_learned_is_taken_apart() -> None:
    assert not counted(taken(Attention(learned=True)))["attention"]


@pytest.mark.slow
def test_pytorch_s_own_layers_use_it() -> None:
    class Layer(nn.TransformerEncoderLayer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x).transpose(1, 2)

    found = counted(taken(Layer(8, 2, 8, batch_first=True)))
    assert found["attention"] == found["attention_backward"] == 1


def broken(operation: str, place: int, argument: Any) -> Program:
    """The program with one argument of an operation changed."""
    nodes = list(causal().nodes)
    number = next(i for i, node in enumerate(nodes) if node.operation == operation)
    arguments = list(nodes[number].arguments)
    arguments[place] = argument
    nodes[number] = replace(nodes[number], arguments=arguments)
    return replace(causal(), nodes=tuple(nodes))


X, Y = {"v": 2}, {"v": 3}


@pytest.mark.parametrize(
    ("operation", "place", "argument"),
    [
        ("attention", 0, X),
        ("attention", 1, None),
        ("attention", 2, Y),
        ("attention", 3, X),
        ("attention", 4, X),
        ("attention", 5, 1),
        ("attention", 5, {"f": "nan"}),
        ("attention", 7, 1),
        ("attention_backward", 0, X),
        ("attention_backward", 2, X),
        ("attention_backward", 9, [True] * 4),
        ("attention_backward", 9, [1, 1, 1]),
    ],
)
def test_arguments_that_do_not_belong_together_are_refused(operation: str, place: int, argument: Any) -> None:
    with pytest.raises(InvalidProofError, match=operation):
        validate(broken(operation, place, argument))


def test_the_scores_of_one_head_count_as_memory_and_no_more() -> None:
    torch.manual_seed(0)
    length = 2**11
    b = {"B": [1, 0]}
    shape = [b, 2, length, 2]
    nodes = [["attention", [{"v": 1}, {"v": 1}, {"v": 1}, None, None, 0.5, 1.0, True], {}, [2]]]
    nodes.append(["sum.dim_IntList", [{"v": 0}, [0]], {}, [3]])
    types = [["f32", [4]], ["f32", shape], ["f32", shape], ["f32", []]]
    outputs = [["loss", 3], ["grad:w", 0]]
    inputs = ["param:w", "batch:x"]
    document = {
        "version": 1,
        "arithmetic": "stock",
        "types": types,
        "inputs": inputs,
        "nodes": nodes,
        "outputs": outputs,
    }
    program = Program.from_document(document)
    scores = 4 * length**2
    assert scores > BLOCK_BYTES
    validate(program, examples=3, max_bytes=9 * scores)
    with pytest.raises(InvalidProofError, match="bytes"):
        validate(program, examples=3, max_bytes=7 * scores)
