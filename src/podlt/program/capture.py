"""Captures a training step once, on the manager: an `nn.Module` and its loss become a `Program`.

The step is captured for three numbers of examples. The first two fix how every integer depends on it, the third must
then be what they predict: so there is one program, with one digest, for shards of any size. Before that the module
is tried (`trial`), and afterwards the program is held against it (`capture_check`): nothing is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from podlt.errors import InvalidProofError, UnsupportedError
from podlt.program.capture_check import NO_SUM, check_numbers, check_sums, example
from podlt.program.divisor import may_divide, numerators
from podlt.program.eager import widened
from podlt.program.example_sums import EXAMPLES, ExampleSums
from podlt.program.heap import large_blocks_apart, trim
from podlt.program.ir import FieldSpec, Program
from podlt.program.lower import Lowering
from podlt.program.memory import UNBOUNDED
from podlt.program.needs import least_examples
from podlt.program.operations import STOCK_ARITHMETIC
from podlt.program.preparation import check_module, copied, own_copy, saved_names, state_of, unwrapped
from podlt.program.simplify import simplify
from podlt.program.step import Loss, SummedLoss
from podlt.program.trace import WithLoss, trace
from podlt.program.trial import python_seeds, try_out
from podlt.program.validate import MAX_EXAMPLES, validate

SIZES = (5, 7, 11)
"""The numbers of examples of the three captures: pairwise different, and no common size of a model's layers."""

TRIED_BYTES = 2**28
"""How large the examples may be with which the largest shard is traced."""


LARGE, LARGE_EXAMPLES = 2**27, 3
"""From so many bytes of parameters on a step is tried on fewer examples than others (`example_sums.EXAMPLES`): what it
computes in float64 would take several times the model's memory, and minutes. Three can still be cut unevenly."""


@dataclass(frozen=True)
class Captured:
    """A program, and what it begins with.

    Attributes:
        program: the step.
        state: inputs' names to the tensors that the module began with.
        notices: what its user should know, a sentence each.
    """

    program: Program
    state: dict[str, torch.Tensor]
    notices: tuple[str, ...] = ()


@torch.enable_grad()  # a user may have switched gradients off
def capture(
    model: nn.Module,
    loss: Loss,
    fields: Sequence[FieldSpec],
    arithmetic: str = STOCK_ARITHMETIC,
    examples: Mapping[str, torch.Tensor] | None = None,
    most: int = 0,
) -> Captured:
    """The training step of a model as a program.

    Args:
        model: called with the inputs in the order of the fields. A copy is, in the modes that `preparation.own_copy`
            says; it stays as it was.
        loss: a name of `losses.NAMED`, a module of PyTorch's kind, or a callable taking (model, *inputs, *labels) that
            gives one value an example (n,), their sum or their mean, or an output with one of these as its loss.
        fields: inputs and labels.
        arithmetic: whose operations the program may hold.
        examples: some examples of the data, on which the program is held against the module; made up where there are
            none.
        most: how many examples a shard may have at most: the step is traced at this size too.

    Raises:
        UnsupportedError: the step cannot be held by a program; names the operation and the place in the user's code.
    """
    model = unwrapped(model)
    check_module(model)
    model = own_copy(model)
    is_large = sum(p.nbytes for p in model.parameters()) >= LARGE
    few = LARGE_EXAMPLES if is_large else EXAMPLES
    tried_on = _enough(examples, few) if examples else example(fields, few)
    if few < EXAMPLES:
        tried_on = {name: value[:few] for name, value in tried_on.items()}
    heap = large_blocks_apart() if is_large else nullcontext()
    with torch.compiler.set_stance("force_eager"), _one_thread(), heap:
        trial = try_out(WithLoss(model, SummedLoss(loss, fields)), tried_on)
        if is_large:
            trim(LARGE)
        for name, parameter in model.named_parameters():
            if name in trial.unused:
                parameter.requires_grad_(False)  # as PyTorch's optimisers skip it: no decay, no state
        state = state_of(model, shared=True)
        draft = trial.mean and _weighted(_Step(model, SummedLoss(loss, fields), fields, arithmetic), state, tried_on)
        draft = draft or _Draft(_Step(model, SummedLoss(loss, fields, mean=trial.mean), fields, arithmetic))
        program, least = draft.program(most)
        saved = saved_names(model)
        program = replace(program, names={n: saved[short] for n in state if (short := n.partition(":")[2]) in saved})
        fault = "" if draft.is_sum else check_sums(draft.whole, draft.place, state, tried_on, least)
        if fault:
            raise UnsupportedError(f"{type(model).__name__} cannot be captured: {fault}")
        sizes = {*(n for n in (1, 2) if n >= least), few, len(next(iter(tried_on.values())))}
        most = min(most, TRIED_BYTES // sum(8 * prod(field.shape) for field in fields))
        if most > max(SIZES) and draft.at(most) != draft.step.document(most):
            sizes.add(most)  # traced otherwise there: its numbers decide
        check_numbers(program, draft.step.module, state, sorted(sizes), _enough(tried_on, max(sizes)))
    return Captured(program, {name: value.clone() for name, value in state.items()}, _notices(trial.unused))


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread: a capture calls thousands of small operations, and more threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _enough(examples: Mapping[str, torch.Tensor], wanted: int) -> dict[str, torch.Tensor]:
    """Examples of the data, repeated where there are too few."""
    count = len(next(iter(examples.values())))
    return {name: value.repeat(-(-wanted // count), *[1] * (value.ndim - 1)) for name, value in examples.items()}


def _notices(unused: Sequence[str]) -> tuple[str, ...]:
    if not unused:
        return ()
    shown = ", ".join(unused[:3]) + (f" and {len(unused) - 3} more" if len(unused) > 3 else "")
    return (
        f"the loss does not use {shown}: kept as they are, as PyTorch's optimizers keep parameters without gradient",
    )


class _Step:
    """A step that can be traced for any number of examples.

    Args:
        model: stays as it is.
        loss: of a batch, a scalar.
        fields: inputs and labels.
        arithmetic: whose operations a program may hold.
    """

    def __init__(self, model: nn.Module, loss: SummedLoss, fields: Sequence[FieldSpec], arithmetic: str) -> None:
        self.module, self._fields, self._arithmetic = WithLoss(model, loss), fields, arithmetic
        self.places: list[str] = []

    def document(self, examples: int) -> Any:
        """What a trace for so many examples gives."""
        with python_seeds(examples):  # what Python code bakes in by chance differs between captures
            batch = list(example(self._fields, examples).values())
            # A trace leaves its marks on a module.
            names, first = [f.name for f in self._fields], not self.places
            traced = trace(copied(self.module, lambda tensor: tensor), batch, names, self._arithmetic, places=first)
        lowering = Lowering(traced, self._arithmetic)
        found = lowering.document()
        if first:
            self.places = lowering.places
        return found


class _Draft:
    """A step as it is traced, for any number of examples.

    Args:
        step: what is traced.
        first: what its trace of the first size gave, if it was traced.

    Raises:
        UnsupportedError: there is no one document for any number of examples.
    """

    def __init__(self, step: _Step, first: Any = None) -> None:
        self.step = step
        documents = [first or step.document(SIZES[0]), *map(step.document, SIZES[1:])]
        self._merged = _merge(documents[0], documents[1])
        if self.at(SIZES[2]) != documents[2]:
            raise UnsupportedError(f"{NOT_THE_SAME}, or does not grow evenly with the number of examples")
        self.whole, self.is_sum = Program.from_document(self._merged), False

    def at(self, examples: int) -> Any:
        """What the document for any number of examples says of so many."""
        return _at(self._merged, examples)

    def place(self, node: int) -> str:
        """Which operation a node is, and where in the user's code."""
        return f"{self.whole.nodes[node].operation}{(*self.step.places, '')[min(node, len(self.step.places))]}"

    def program(self, most: int) -> tuple[Program, int]:
        """The program, made smaller and validated, and of how few examples it can be run.

        Args:
            most: examples of the largest task, or 0. What it takes of memory is for whoever executes it to say.

        Raises:
            UnsupportedError: it is none.
        """
        program = simplify(self.whole)
        try:
            validate(program, examples=most or MAX_EXAMPLES, max_bytes=UNBOUNDED)
        except InvalidProofError as error:
            raise UnsupportedError(f"{type(self.step.module.model).__name__} cannot be captured: {error}") from error
        return program, least_examples(program)[0]


def _weighted(step: _Step, state: Mapping[str, torch.Tensor], examples: Mapping[str, torch.Tensor]) -> _Draft | None:
    """The draft of a loss that is a mean over tokens, labels or weights; None if it is none.

    Args:
        step: of the loss as it is.
        state: parameters and buffers.
        examples: as many as it is tried on; the first `EXAMPLES` are used.
    """
    try:
        first = step.document(SIZES[0])
        if not may_divide(Program.from_document(first)):
            return None
        draft = _Draft(step, first)
    except UnsupportedError:  # it divides by its examples: what is wrong with it is found as a mean over them
        return None
    batch = {name: widened(value[:EXAMPLES], torch.float64) for name, value in examples.items()}
    for program in numerators(draft.whole, state, batch):
        if not ExampleSums(program, state, batch, least_examples(simplify(program))[0]).fault():
            draft.whole, draft.is_sum = program, True
            return draft
    return None


NOT_THE_SAME = (
    "the captured step is not the same from one capture to the next: a random choice, a counter or random constants in "
    "Python code, or a loop over the batch"
)


def _merge(first: Any, second: Any) -> Any:
    """One document for both numbers of examples: integers that differ become affine expressions of it."""
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
        why, cure = "it divides by the number of examples in a way that no program holds", "Give one value an example"
        raise UnsupportedError(NO_SUM.format(why=why, cure=cure))
    raise UnsupportedError(NOT_THE_SAME)


def _at(item: Any, examples: int) -> Any:
    """A merged document for a number of examples."""
    if isinstance(item, dict):
        if set(item) == {"B"}:
            return item["B"][0] * examples + item["B"][1]
        return {key: _at(value, examples) for key, value in item.items()}
    if isinstance(item, list):
        return [_at(value, examples) for value in item]
    return item
