"""Captures a training step once, on the manager: an `nn.Module` and its loss become a `Program`.

The step is captured for three numbers of lines. The first two fix how every integer depends on it, the third must
then be what they predict: so there is one program, with one digest, for fragments of any size. Python-level state that
a trace bakes in (a random depth, a counter) differs between captures, and is refused that way.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from podlt.errors import InvalidProofError, UnsupportedError
from podlt.program.capture_check import NO_SUM, admit, example
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import TORCH_DTYPES
from podlt.program.losses import NAMED
from podlt.program.lower import Lowering
from podlt.program.operations import STOCK_ARITHMETIC
from podlt.program.simplify import simplify
from podlt.program.trace import WithLoss, trace
from podlt.program.validate import validate

SIZES = (5, 7, 11)
"""The numbers of lines of the three captures: pairwise different, and no common size of a model's layers."""


@dataclass(frozen=True)
class Captured:
    """A program, and the state (inputs' names to tensors) that the module began with."""

    program: Program
    state: dict[str, torch.Tensor]


@torch.enable_grad()  # a user may have switched gradients off
def capture(
    model: nn.Module,
    loss: str | Callable[..., torch.Tensor],
    fields: Sequence[FieldSpec],
    arithmetic: str = STOCK_ARITHMETIC,
) -> Captured:
    """The training step of a model as a program.

    Args:
        model: called with the inputs in the order of the fields, in train mode; a copy is, it stays as it was.
        loss: "cross_entropy", "mse", "bce" (with logits), each a sum over lines, or a callable taking
            (model, *inputs, *labels) that gives a loss a line (n,), or their sum.
        fields: inputs and labels.
        arithmetic: whose operations the program may hold.

    Raises:
        UnsupportedError: the step cannot be held by a program; names the operation and the place in the user's code.
    """
    model = _own_copy(model)
    _check_parameters(model)
    state, untouched = state_of(model), WithLoss(_own_copy(model), _step(loss, fields))
    module = WithLoss(model, _step(loss, fields))
    documents = []
    for size in SIZES:
        _reseed(size)
        batch = example(fields, size)
        traced = trace(module, batch, [f.name for f in fields], arithmetic)
        documents.append(Lowering(traced, arithmetic).document())
    merged = _merge(documents[0], documents[1])
    if _at(merged, SIZES[2]) != documents[2]:
        raise UnsupportedError(f"{NOT_THE_SAME}, or does not grow evenly with the number of lines")
    program = simplify(Program.from_document(merged))
    try:
        validate(program)
    except InvalidProofError as error:
        raise UnsupportedError(f"{type(model).__name__} cannot be captured: {error}") from error
    admit(program, untouched, state, fields)
    return Captured(program, state)


def _own_copy(model: nn.Module) -> nn.Module:
    """The model in train mode, to be traced: a trace leaves its marks, the user's own model stays as it is."""
    try:
        return copy.deepcopy(model).train()
    except Exception as error:
        raise UnsupportedError(f"{type(model).__name__} cannot be copied: {error}") from error


def _step(loss: str | Callable[..., torch.Tensor], fields: Sequence[FieldSpec]) -> Callable[..., torch.Tensor]:
    """The loss of a batch as a scalar sum, fields scaled as they say."""
    if isinstance(loss, str) and loss not in NAMED:
        raise UnsupportedError(f"no loss named {loss!r}: expected one of {', '.join(NAMED)}, or a callable")
    user = NAMED[loss] if isinstance(loss, str) else loss

    def step(model: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        for field, value in zip(fields, batch, strict=True):
            scaled = value if field.scale is None else value.to(torch.get_default_dtype()) * field.scale
            (inputs if field.role == "input" else labels).append(scaled)
        value = user(model, *inputs, *labels)
        if not isinstance(value, torch.Tensor) or value.ndim > 1:
            raise UnsupportedError("the loss must be a tensor: one value a line, or their sum")
        return value.sum() if value.ndim else value

    return step


def _check_parameters(model: nn.Module) -> None:
    named = dict(model.named_parameters())
    if not any(p.requires_grad for p in named.values()):
        raise UnsupportedError(f"{type(model).__name__} has no parameter to train")
    wrong = [n for n, p in named.items() if p.dtype != torch.float32]
    if wrong:
        raise UnsupportedError(f"parameter {wrong[0]} is {named[wrong[0]].dtype}: parameters must be float32")
    for n, b in model.named_buffers():
        if b.dtype not in TORCH_DTYPES.values():
            raise UnsupportedError(f"buffer {n} is {b.dtype}: expected one of {', '.join(TORCH_DTYPES)}")
    uninitialised = [n for n, p in named.items() if isinstance(p, nn.parameter.UninitializedParameter)]
    if uninitialised:
        raise UnsupportedError(f"parameter {uninitialised[0]} has no shape yet: call the model once before")


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of a model's parameters and buffers, as a program names them: "param:", "frozen:", "buffer:" and name."""
    state = {
        ("param:" if p.requires_grad else "frozen:") + name: p.detach().clone() for name, p in model.named_parameters()
    }
    return state | {"buffer:" + name: b.detach().clone() for name, b in model.named_buffers()}


def _reseed(number: int) -> None:
    """Another state of the generators that Python code may draw from: what it bakes in differs between captures."""
    random.seed(number)
    np.random.seed(number)


NOT_THE_SAME = (
    "the captured step is not the same from one capture to the next: a random choice, a counter or random constants in "
    "Python code, or a loop over the batch"
)


def _merge(first: Any, second: Any) -> Any:
    """One document for both numbers of lines: integers that differ become affine expressions of it."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {key: _merge(first[key], second[key]) for key in first}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [_merge(a, b) for a, b in zip(first, second, strict=True)]
    if type(first) is type(second) and first == second:
        return first
    if isinstance(first, int) and isinstance(second, int):
        slope, rest = divmod(second - first, SIZES[1] - SIZES[0])
        if rest == 0:
            return {"B": [slope, first - slope * SIZES[0]]}
    if isinstance(first, float) and isinstance(second, float) and first * SIZES[0] == second * SIZES[1]:
        raise UnsupportedError(NO_SUM)
    raise UnsupportedError(NOT_THE_SAME)


def _at(item: Any, lines: int) -> Any:
    """A merged document for a number of lines."""
    if isinstance(item, dict):
        if set(item) == {"B"}:
            return item["B"][0] * lines + item["B"][1]
        return {key: _at(value, lines) for key, value in item.items()}
    if isinstance(item, list):
        return [_at(value, lines) for value in item]
    return item
