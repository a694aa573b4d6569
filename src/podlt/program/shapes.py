"""What common operations give, by rules of our own, where PyTorch would import its compiler to say it.

The first inference on a meta tensor imports `sympy`, and many import `torch._dynamo`: a second of the processor's time
that a worker would wait before its first task. A rule answers only for the plain case that it is sure of, and leaves
every other to PyTorch; it never answers where PyTorch would refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podlt.program import shapes_layers as layers
from podlt.program.ir import Program, is_affine, resolve
from podlt.program.types import Given, Rule, Type, axis_of, is_number, is_tensor, is_whole


def infer(program: Program, number: int, lines: int) -> list[Type | None] | None:
    """The types of a node's outputs (None for a gradient that is not asked for), or None where no rule says them.

    Args:
        program: whose arguments have a known form; number: of the node; lines: the number of lines.
    """
    node = program.nodes[number]
    rule = RULES.get(node.operation)
    if rule is None or (node.keywords and node.operation not in _APPROXIMATE):
        return None
    if any(key != "approximate" or value not in ("none", "tanh") for key, value in node.keywords.items()):
        return None
    found = rule([given_types(program, item, lines) for item in node.arguments])
    return found if found is not None and len(found) == len(node.outputs) else None


_APPROXIMATE = ("gelu.default", "gelu_backward.default")


def given_types(program: Program, item: Any, lines: int) -> Any:
    """An argument as rules take it: tensors by their types, everything else resolved."""
    if isinstance(item, dict) and "v" in item:
        kind = program.types[item["v"]]
        return kind.dtype, kind.at(lines)
    if isinstance(item, list):
        return [given_types(program, part, lines) for part in item]
    return resolve(item, lines) if is_affine(item) else item


def _unary(source: str, result: str) -> Rule:
    """One tensor, and another of its shape."""

    def rule(given: Given) -> list[Type | None] | None:
        return [(result, given[0][1])] if len(given) == 1 and is_tensor(given[0], source) else None

    return rule


def _with_number(result: str) -> Rule:
    """A tensor with a number."""

    def rule(given: Given) -> list[Type | None] | None:
        fits = len(given) == 2 and is_tensor(given[0], "f32") and is_number(given[1])
        return [(result, given[0][1])] if fits else None

    return rule


def _binary(given: Given) -> list[Type | None] | None:
    """Two tensors, or a tensor and a number."""
    if len(given) != 2 or not is_tensor(given[0], "f32"):
        return None
    if is_number(given[1]):
        return [given[0]]
    shape = _broadcast([given[0][1], given[1][1]]) if is_tensor(given[1], "f32") else None
    return None if shape is None else [("f32", shape)]


def _added(given: Given) -> list[Type | None] | None:
    """As `_binary`, and a whole number to whole ones: a counter of batches."""
    if len(given) == 2 and is_tensor(given[0], "i64") and is_whole(given[1]):
        return [given[0]]
    return _binary(given)


def _where(given: Given) -> list[Type | None] | None:
    """A condition, and two tensors to choose from."""
    if len(given) != 3 or [is_tensor(*pair) for pair in zip(given, ("b1", "f32", "f32"), strict=True)] != 3 * [True]:
        return None
    shape = _broadcast([item[1] for item in given])
    return None if shape is None else [("f32", shape)]


def _broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that all have together, where a size of one fits any other."""
    most = max(len(shape) for shape in shapes)
    columns = zip(*((1,) * (most - len(shape)) + shape for shape in shapes), strict=True)
    wanted = [set(column) - {1} or {1} for column in columns]
    return tuple(size for (size,) in wanted) if all(len(sizes) == 1 for sizes in wanted) else None


def _pair(given: Given) -> list[Type | None] | None:
    """Two tensors of one shape: a gradient, and what it is of."""
    return [given[0]] if len(given) == 2 and is_tensor(given[0], "f32") and given[0] == given[1] else None


def _threshold_backward(given: Given) -> list[Type | None] | None:
    return _pair(given[:2]) if len(given) == 3 and is_number(given[2]) else None


def _reduced(dtype: str) -> Rule:
    """A tensor, its dimensions that become one, and whether they are kept."""

    def rule(given: Given) -> list[Type | None] | None:
        if (
            not 2 <= len(given) <= 3
            or not is_tensor(given[0], dtype)
            or not all(isinstance(k, bool) for k in given[2:])
        ):
            return None
        shape, asked = given[0][1], given[1] if isinstance(given[1], list) else [given[1]]
        axes = [axis_of(item, len(shape)) for item in asked]
        if not axes or None in axes or len(set(axes)) != len(axes):
            return None
        if given[2:] == [True]:
            return [(dtype, tuple(1 if i in axes else size for i, size in enumerate(shape)))]
        return [(dtype, tuple(size for i, size in enumerate(shape) if i not in axes))]

    return rule


def _triangle(given: Given) -> list[Type | None] | None:
    """A tensor of at least two dimensions, and the diagonal."""
    fits = 1 <= len(given) <= 2 and (is_tensor(given[0], "f32") or is_tensor(given[0], "b1"))
    return [given[0]] if fits and len(given[0][1]) >= 2 and all(is_whole(item) for item in given[1:]) else None


def _joined(given: Given) -> tuple[list[tuple[int, ...]], Any] | None:
    """The shapes of several tensors with as many dimensions each (at least one), and along which they are joined."""
    if not 1 <= len(given) <= 2 or not isinstance(given[0], list) or not given[0]:
        return None
    if not all(is_tensor(part, "f32") for part in given[0]):
        return None
    shapes = [part[1] for part in given[0]]
    return (shapes, given[1] if len(given) == 2 else 0) if {len(s) for s in shapes} == {len(shapes[0]) or 1} else None


def _cat(given: Given) -> list[Type | None] | None:
    """Several tensors that differ in one dimension only."""
    if (found := _joined(given)) is None:
        return None
    shapes, axis = found[0], axis_of(found[1], len(found[0][0]))
    if axis is None or len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) != 1:
        return None
    return [("f32", (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))]


def _stack(given: Given) -> list[Type | None] | None:
    """Several tensors of one shape, which get a dimension more."""
    if (found := _joined(given)) is None or len(set(found[0])) != 1:
        return None
    shapes, axis = found[0], axis_of(found[1], len(found[0][0]) + 1)
    return None if axis is None else [("f32", (*shapes[0][:axis], len(shapes), *shapes[0][axis:]))]


def _arange(given: Given) -> list[Type | None] | None:
    return [("i64", (given[0],))] if len(given) == 1 and is_whole(given[0]) and given[0] >= 0 else None


def _named(names: str, rule: Rule, overload: str = "default") -> dict[str, Rule]:
    return {f"{name}.{overload}": rule for name in names.split()}


RULES: dict[str, Callable[[Given], list[Type | None] | None]] = {
    **_named("relu gelu tanh sigmoid exp log sqrt neg abs ones_like zeros_like", _unary("f32", "f32")),
    **_named("logical_not", _unary("b1", "b1")),
    **_named("eq ne lt le gt ge", _with_number("b1"), "Scalar"),
    **_named("add sub mul div", _with_number("f32"), "Scalar"),
    **_named("add", _added, "Tensor"),
    **_named("sub mul div", _binary, "Tensor"),
    **_named("where", _where, "self"),
    **_named("tanh_backward sigmoid_backward gelu_backward", _pair),
    **_named("threshold_backward", _threshold_backward),
    **_named("sum", _reduced("f32"), "dim_IntList"),
    **_named("mean", _reduced("f32"), "dim"),
    **_named("any", _reduced("b1"), "dim"),
    **_named("tril triu", _triangle),
    **_named("cat", _cat),
    **_named("stack", _stack),
    **_named("arange", _arange),
    **layers.RULES,
}
"""By operation."""
