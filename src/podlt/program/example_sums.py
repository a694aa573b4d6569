"""Whether an update is a sum over examples: however a batch is cut, its parts together must give what the whole gives.

A batch normalisation is the one thing through which examples of a shard may see each other: here its means and
variances are those of the whole batch, and then its update must be such a sum too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch.nn import functional

from podlt.program.eager import constant_draw
from podlt.program.execute import Executor, Trace
from podlt.program.heap import TRIMMED, trim
from podlt.program.ir import Program, TensorType, resolve
from podlt.program.liveness import references
from podlt.program.rests import NOISE, PACKED, TOLERANCE, PackedRest, Rest, own
from podlt.program.streaming import Each
from podlt.program.trial import NO_DROPOUT

EXAMPLES = 7
CUTS = ((1, 6), (2, 5), (4, 3), (1,) * EXAMPLES)
"""How these examples are cut; a large model's are fewer."""

BATCH_NORM = "_native_batch_norm_legit_functional.default"
BATCH_NORM_BACKWARD = "native_batch_norm_backward.default"

HELD_BYTES = 2**26
"""Up to so many bytes of an update are kept for all cuts; a larger one is worked out again for each."""

Examples = Mapping[str, torch.Tensor]


def cuts(examples: int) -> tuple[tuple[int, ...], ...]:
    """How so many examples are cut: unevenly, as a mean hides how many examples it is of."""
    return CUTS if examples == EXAMPLES else ((1, examples - 1), (1,) * examples)


class _GivenNorms(Executor):
    """Executes in float64 with draws that are the same for every example, and batch norms with the statistics of the
    first run, which must be of all examples."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, double=True, draw=constant_draw(NO_DROPOUT))
        table: Any = self._table
        self._forward, self._backward = table[BATCH_NORM], table[BATCH_NORM_BACKWARD]
        self._table = table | {BATCH_NORM: self._normalise, BATCH_NORM_BACKWARD: self._normalise_backward}
        norms = [node for node in program.nodes if node.operation == BATCH_NORM]
        # With a channel for each example of the batch it is an instance norm, through which no examples see each other.
        self._shared = [not isinstance(program.types[n.arguments[0]["v"]].shape[1], dict) for n in norms]
        self._known: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._next, self._first = 0, True

    def update(self, state: Examples, batch: Examples, each: Each, trace: Trace | None = None) -> None:
        """Gives the update of some examples, output by output."""
        if self._first and self._shared:
            self.give(state, batch, 0, _nothing)
        self._first = False
        self._next = 0
        self.give(state, batch, 0, each, trace)

    def _normalise(self, x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> Any:
        training, _, eps = rest
        number, self._next = self._next, self._next + 1
        if self._first:
            found = self._forward(x, weight, bias, mean, var, *rest)
            self._known.append((found[1], found[2]))
            return found
        if not training or not self._shared[number]:
            return self._forward(x, weight, bias, mean, var, *rest)
        known_mean, known_factor = self._known[number]
        spread = known_factor.pow(-2) - eps
        out = functional.batch_norm(x, known_mean, spread, weight, bias, training=False, eps=eps)
        return out, known_mean, known_factor, mean, var

    def _normalise_backward(self, gradient: torch.Tensor, x: torch.Tensor, weight: Any, *rest: Any) -> Any:
        _, _, saved_mean, saved_factor, training, eps, wanted = rest
        if self._first or not training or not any(saved_mean is known for known, _ in self._known):
            return self._backward(gradient, x, weight, *rest)
        spread = saved_factor.pow(-2) - eps
        return self._backward(gradient, x, weight, saved_mean, spread, None, None, False, eps, wanted)


@dataclass(frozen=True)
class _Stretch:
    """Consecutive examples of a batch, and where they are cut."""

    start: int
    sizes: tuple[int, ...]

    def whole(self) -> tuple[int, int]:
        """The first example, and the one behind the last."""
        return self.start, self.start + sum(self.sizes)

    def parts(self) -> list[tuple[int, int]]:
        """As `whole`, of each part."""
        starts = [self.start + sum(self.sizes[:i]) for i in range(len(self.sizes))]
        return [(start, start + size) for start, size in zip(starts, self.sizes, strict=True)]


def _stretches(cuts: Sequence[tuple[int, ...]]) -> list[_Stretch]:
    """What is compared in the place of a batch cut in each of these ways.

    That the batch is the sum of its first example and the rest is known before all examples are taken one by one: then
    it is enough that the rest is the sum of its own.
    """
    found = [_Stretch(0, cut) for cut in cuts]
    if found and set(cuts[-1]) == {1} and cuts[0] == (1, len(cuts[-1]) - 1):
        return [*found[1:-1], found[0], _Stretch(1, cuts[-1][1:])]
    return found


_Rests = dict[str, Rest | PackedRest]


class ExampleSums:
    """A program's updates of a batch and of its parts; of what is large, one update is held at once, packed.

    Args:
        program: any that has the form of one.
        state: its parameters and buffers.
        batch: `EXAMPLES` examples, or fewer, wide.
        least: of how few examples the program can be run, batch norms apart.
    """

    def __init__(self, program: Program, state: Examples, batch: Examples, least: int) -> None:
        self._executor, self._state, self._batch = _GivenNorms(program), state, batch
        self._cuts = [cut for cut in cuts(_count(batch)) if min(cut) >= least]
        self._whole: dict[str, torch.Tensor] = {}
        shapes = [program.types[value].shape for _, value in program.outputs]
        elements = sum(prod(resolve(dim, _count(batch)) for dim in shape) for shape in shapes)
        self._is_large = 8 * elements > HELD_BYTES

    def fault(self) -> str:
        """The name of an output that depends on how the examples are cut, "" if none does."""
        stretches, rests = _stretches(self._cuts), None
        for stretch, after in zip(stretches, (*stretches[1:], None), strict=False):
            is_next = after is not None and after.whole() == stretch.parts()[-1]
            fault, rests = self._fault_of(stretch, rests or self._rests(stretch.whole()), is_next=is_next)
            if fault:
                return fault
        return ""

    def has_other_term(self) -> bool:
        """Whether the loss is a sum over examples and something that each part has once more."""
        excess = [(sum(map(self._loss, self._cut(cut))), len(cut)) for cut in self._cuts]
        whole = self._loss(self._batch)
        terms = [(total - whole) / (count - 1) for total, count in excess]
        return max(terms) - min(terms) <= TOLERANCE * (abs(whole) + max(map(abs, terms)))

    def _fault_of(self, stretch: _Stretch, rests: _Rests, *, is_next: bool) -> tuple[str, _Rests | None]:
        """The name of an output that is no sum of those of its parts, and what the last part gave if it is the next to
        be cut, in the place of what was left of the whole."""
        noise = NOISE * max(rest.largest() for name, rest in rests.items() if not name.startswith("buffer:"))
        names, faults, given = [name for name, _ in self._executor.program.outputs], set[str](), _Rests()

        def take(name: str, value: torch.Tensor, *, is_last: bool) -> None:
            rests[name].take(value, is_last=is_last)
            if not is_last:
                return
            if rests.pop(name).is_something(0.0 if name.startswith("buffer:") else noise):
                faults.add(name)
            if is_next:
                given[name] = self._rest(value)

        for part in stretch.parts():
            take_part = partial(take, is_last=part == stretch.parts()[-1])
            self._executor.update(self._state, _rows(self._batch, *part), take_part)
            self._trim()
        return next(filter(faults.__contains__, names), ""), {name: given[name] for name in names} if is_next else None

    def _rests(self, whole: tuple[int, int]) -> _Rests:
        """The update of some examples, from which nothing was taken yet, in the order of the program's outputs."""
        given = _Rests()
        is_whole = not self._is_large and whole == (0, _count(self._batch))
        if self._whole and is_whole:
            return {name: Rest(value.clone()) for name, value in self._whole.items()}

        def take(name: str, value: torch.Tensor) -> None:
            given[name] = self._rest(value)
            if is_whole:
                self._whole[name] = own(value)

        self._executor.update(self._state, _rows(self._batch, *whole), take)
        self._trim()
        return given

    def _rest(self, value: torch.Tensor) -> Rest | PackedRest:
        """Of an output, which may share memory with others."""
        is_packed = self._is_large and value.is_floating_point() and value.numel() >= PACKED
        return PackedRest(value) if is_packed else Rest(own(value))

    def _trim(self) -> None:
        if self._is_large:
            trim(TRIMMED)

    def _loss(self, batch: Examples) -> float:
        found: dict[str, float] = {}
        self._executor.update(
            self._state, batch, lambda name, value: found.update({name: float(value)} if name == "loss" else {})
        )
        return found["loss"]

    def first_difference(self) -> tuple[int, bool]:
        """The number of the first node that gives an example something else in another batch, and whether examples then
        differ before the loss is made of them."""
        program = self._executor.program
        whole, of_batch = self._values(self._batch), _made_of_batch(program)
        agree = [True] * len(program.types)
        # In the middle, and not all of the same neighbours.
        for rows in ((1, 4), (3, 6)) if _count(self._batch) == EXAMPLES else ((0, 2), (1, 3)):
            part = self._values(_rows(self._batch, *rows))
            for value, kind in enumerate(program.types):
                if _is_folded(kind):
                    continue
                expected = _narrowed(whole[value], kind, *rows)
                agree[value] &= expected.shape == part[value].shape and _close(expected, part[value])
        end = next(i for i, n in enumerate(program.nodes) if dict(program.outputs)["loss"] in n.outputs)
        off = [
            i for i, n in enumerate(program.nodes[: end + 1]) if any(o in of_batch and not agree[o] for o in n.outputs)
        ]
        examples = any(_has_examples(program, o) and not agree[o] for i in off for o in program.nodes[i].outputs)
        return _numbering(program, off[0], agree, of_batch) if off else end, examples

    def _values(self, batch: Examples) -> list[torch.Tensor]:
        program = self._executor.program
        values = [(batch[n[6:]] if n.startswith("batch:") else self._state[n]) for n in program.inputs]
        values += [torch.empty(0)] * (len(program.types) - len(values))

        def keep(number: int, outputs: Sequence[torch.Tensor]) -> None:
            for output, value in zip(program.nodes[number].outputs, outputs, strict=True):
                values[output] = torch.empty(0) if value is None else value.clone()

        self._executor.update(self._state, batch, _nothing, keep)
        return values

    def _cut(self, cut: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        return [_rows(self._batch, *part) for part in _Stretch(0, tuple(cut)).parts()]


def _count(batch: Examples) -> int:
    return len(next(iter(batch.values())))


def _rows(batch: Examples, start: int, stop: int) -> dict[str, torch.Tensor]:
    return {name: value[start:stop].clone() for name, value in batch.items()}


def _narrowed(value: torch.Tensor, kind: TensorType, start: int, stop: int) -> torch.Tensor:
    """What a value of the whole batch has of some examples."""
    for place, dim in enumerate(kind.shape):
        if isinstance(dim, dict) and dim["B"][1] == 0:
            value = value.narrow(place, dim["B"][0] * start, dim["B"][0] * (stop - start))
    return value


def _made_of_batch(program: Program) -> set[int]:
    """The values that examples have a part in: not the numbers of examples as `arange` gives them, by which an example
    is looked up."""
    found = {value for value, name in enumerate(program.inputs) if name.startswith("batch:")}
    for node in program.nodes:
        if found & {*references(node.arguments), *references(list(node.keywords.values()))}:
            found.update(node.outputs)
    return found


def _numbering(program: Program, node: int, agree: Sequence[bool], of_batch: set[int]) -> int:
    """The node that numbers the examples, if a node takes these numbers as values; else the node itself."""
    made = {output: i for i, n in enumerate(program.nodes) for output in n.outputs}
    given = references(program.nodes[node].arguments)
    while own := [value for value in given if value not in of_batch and value in made and not agree[value]]:
        node = made[own[0]]
        given = references(program.nodes[node].arguments)
    return node


def _is_folded(kind: TensorType) -> bool:
    """Whether examples and something else share a dimension, in an order that the shape does not tell."""
    return any(isinstance(dim, dict) and dim["B"][0] != 1 for dim in kind.shape)


def _nothing(name: str, value: torch.Tensor) -> None:
    """What is done with an output that nobody wants."""


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _has_examples(program: Program, value: int) -> bool:
    return any(isinstance(dim, dict) for dim in program.types[value].shape)
