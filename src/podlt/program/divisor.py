"""A mean over tokens, labels or weights, as `cross_entropy` with labels of -100 gives it.

Such a loss is a sum over examples divided by another. Where the examples are dealt to workers, a mean of their means is
another number: so a program gives both sums, its gradients are those of the numerator, and what a round applies is
divided by the divisor of all its examples (`program.update`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from podlt.program.eager import constant_draw
from podlt.program.execute import Executor
from podlt.program.ir import Node, Program, TensorType
from podlt.program.liveness import references
from podlt.program.operations import STOCK_ARITHMETIC
from podlt.program.simplify import drop_dead
from podlt.program.trial import NO_DROPOUT
from podlt.program.update import DIVISOR

_FORWARD = frozenset(("nll_loss_forward.default", "nll_loss2d_forward.default"))
_BACKWARD = frozenset(("nll_loss_backward.default", "nll_loss2d_backward.default"))
_REDUCTION = dict.fromkeys(_FORWARD, 3) | dict.fromkeys(_BACKWARD, 4)
_MEAN, _SUM = 1, 2

_DIVISIONS = frozenset(("div.Tensor",))
_CARRIED = frozenset(("_to_copy.default", "clamp.default", "clamp_min.default", "maximum.default"))
"""What a divisor is led through: to be a float, and to be no zero."""

CLOSE = 1e-12

Examples = Mapping[str, torch.Tensor]


def may_divide(program: Program) -> bool:
    """Whether a step divides by something that examples have a part in, and parameters not."""
    return bool(_divisors(program))


def numerators(program: Program, state: Examples, batch: Examples) -> Iterator[Program]:
    """For each divisor of a step, the step of the numerator, which gives the divisor as well.

    That loss and divisor are sums over examples, and their quotient the loss, is for its checks to find.

    Args:
        program: as it was captured; its nodes stay in their places.
        state: parameters and buffers.
        batch: examples, wide.
    """
    candidates = _divisors(program)
    sizes = _values(program, candidates, state, batch)
    done: set[int] = set()
    for value in candidates:
        if value in done:
            continue
        same = {v for v in candidates if abs(sizes[v] - sizes[value]) <= CLOSE * abs(sizes[value])}
        done |= same
        yield _numerator(program, same)


def divisor_of(program: Program, state: Examples, batch: Examples, *, double: bool = True) -> float | None:
    """What loss and gradients of these examples are divided by; None if the program has no divisor.

    It is worked out before the rest, from the few nodes that it is made of.

    Args:
        program: any that has the form of one.
        state: parameters and buffers.
        batch: the examples.
        double: whether in float64, or as PyTorch computes it in float32.
    """
    value = dict(program.outputs).get(DIVISOR)
    if value is None:
        return None
    part = _made_only(program, ((DIVISOR, value),))
    executor = Executor(part, double=True) if double else Executor(part, arithmetic=STOCK_ARITHMETIC)
    found: dict[str, float] = {}
    executor.give(state, batch, 0, lambda name, value: found.update({name: float(value)}))
    return found[DIVISOR]


def _divisors(program: Program) -> list[int]:
    """Scalars by which the step divides."""
    examples, trained = _made_of(program, "batch:"), _made_of(program, "param:")
    found: list[int] = []
    for node in program.nodes:
        if node.operation in _FORWARD and node.arguments[_REDUCTION[node.operation]] == _MEAN:
            found.append(node.outputs[1])
        elif node.operation in _DIVISIONS and isinstance(node.arguments[1], dict) and "v" in node.arguments[1]:
            value = node.arguments[1]["v"]
            if program.types[value].shape == () and value in examples and value not in trained:
                found.append(value)
    return list(dict.fromkeys(found))


def _made_of(program: Program, prefix: str) -> set[int]:
    """The values in which inputs of a kind have a part; the labels that a loss counts have none of its scores."""
    found = {value for value, name in enumerate(program.inputs) if name.startswith(prefix)}
    for node in program.nodes:
        if not found.isdisjoint(references(node.arguments)):
            found.update(node.outputs[:1] if node.operation in _FORWARD else node.outputs)
    return found


def _values(program: Program, wanted: Sequence[int], state: Examples, batch: Examples) -> dict[int, float]:
    """Scalars of a step, by the nodes that they are made of alone."""
    part = _made_only(program, tuple((str(value), value) for value in wanted))
    found: dict[int, float] = {}
    executor = Executor(part, double=True, draw=constant_draw(NO_DROPOUT))
    executor.give(state, batch, 0, lambda name, value: found.update({int(name): float(value)}))
    return found


def _made_only(program: Program, outputs: tuple[tuple[str, int], ...]) -> Program:
    """The few nodes that divisors are made of. What a loss counts depends on its scores' shape alone: zeros stand in
    their place, and the model is not run."""
    types, nodes = list(program.types), list[Node]()
    for node in program.nodes:
        if node.operation in _FORWARD:
            scores = program.types[node.arguments[0]["v"]]
            nodes.append(Node("zeros.default", [list(scores.shape)], {"dtype": {"t": scores.dtype}}, (len(types),)))
            node = Node(node.operation, [{"v": len(types)}, *node.arguments[1:]], node.keywords, node.outputs)
            types.append(scores)
        nodes.append(node)
    return drop_dead(Program(program.arithmetic, tuple(types), program.inputs, tuple(nodes), outputs))


def _numerator(program: Program, divisors: set[int]) -> Program:
    """The same step with 1 in the place of these values."""
    nodes = [_undivided(node, program, divisors) for node in program.nodes]
    types, divisor = list(program.types), _source(program, min(divisors))
    if types[divisor].dtype != "f32":
        nodes.append(Node("_to_copy.default", [{"v": divisor}], {"dtype": {"t": "f32"}}, (len(types),)))
        types.append(TensorType("f32", ()))
        divisor = len(types) - 1
    loss, *rest = program.outputs
    return Program(program.arithmetic, tuple(types), program.inputs, tuple(nodes), (loss, (DIVISOR, divisor), *rest))


def _undivided(node: Node, program: Program, divisors: set[int]) -> Node:
    if node.operation in _REDUCTION:
        place = _REDUCTION[node.operation]
        total = node.outputs[1] if node.operation in _FORWARD else references(node.arguments)[-1]
        if total in divisors and node.arguments[place] == _MEAN:
            arguments = [*node.arguments[:place], _SUM, *node.arguments[place + 1 :]]
            return Node(node.operation, arguments, node.keywords, node.outputs)
    elif node.operation in _DIVISIONS and not divisors.isdisjoint(references(node.arguments[1])):
        source = references(node.arguments[0])
        if source and program.types[source[0]] == program.types[node.outputs[0]]:
            return Node("clone.default", [{"v": source[0]}], {}, node.outputs)
    return node


def _source(program: Program, value: int) -> int:
    """What a divisor was before it was made a float, or no less than some number."""
    made = {output: node for node in program.nodes for output in node.outputs}
    while value in made and made[value].operation in _CARRIED:
        value = references(made[value].arguments)[0]
    return value
