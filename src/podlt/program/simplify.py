"""Makes a program smaller without changing a bit of what it returns: copies, repeats and dead nodes go."""

from __future__ import annotations

from typing import Any

from podlt.canonical import to_json
from podlt.program.ir import Node, Program
from podlt.program.liveness import references

_COPIES = {"clone.default"}
_TURNS = {"t.default", "transpose.int"}
_VIEWS = {"view.default", "_unsafe_view.default"}
_NEVER_MERGED = {"uniform"}


def simplify(program: Program) -> Program:
    """The same function with fewer nodes, values numbered anew in the order of their definition."""
    return drop_dead(_merge_repeats(_shorten_views(program)))


def _shorten_views(program: Program) -> Program:
    """What is turned twice is not turned, a view of a view is one view, and a view of the same shape is none."""
    same: dict[int, int] = {}
    made: dict[int, Node] = {}
    nodes = []
    for node in program.nodes:
        arguments = _renamed(node.arguments, same)
        source = arguments[0]["v"] if node.operation in _TURNS | _VIEWS else -1
        before = made.get(source)
        if node.operation in _TURNS and before is not None and before.operation == node.operation:
            if before.arguments[1:] == arguments[1:]:
                same[node.outputs[0]] = before.arguments[0]["v"]
                continue
        elif node.operation in _VIEWS:
            if before is not None and before.operation in _VIEWS:
                arguments = [before.arguments[0], *arguments[1:]]
            if program.types[arguments[0]["v"]] == program.types[node.outputs[0]]:
                same[node.outputs[0]] = arguments[0]["v"]
                continue
        found = Node(node.operation, arguments, node.keywords, node.outputs)
        made.update(dict.fromkeys(node.outputs, found))
        nodes.append(found)
    outputs = tuple((name, same.get(value, value)) for name, value in program.outputs)
    return Program(program.arithmetic, program.types, program.inputs, tuple(nodes), outputs)


def _merge_repeats(program: Program) -> Program:
    """A copy is what it copies, and of two equal nodes the first is both: no value is changed in place."""
    same: dict[int, int] = {}
    seen: dict[bytes, tuple[int, ...]] = {}
    nodes = []
    for node in program.nodes:
        arguments = _renamed(node.arguments, same)
        if node.operation in _COPIES and isinstance(arguments[0], dict) and "v" in arguments[0]:
            same[node.outputs[0]] = arguments[0]["v"]
            continue
        key = to_json([node.operation, arguments, node.keywords])
        if key in seen and node.operation not in _NEVER_MERGED:
            same.update(zip(node.outputs, seen[key], strict=True))
            continue
        seen[key] = node.outputs
        nodes.append(Node(node.operation, arguments, node.keywords, node.outputs))
    outputs = tuple((name, same.get(value, value)) for name, value in program.outputs)
    return Program(program.arithmetic, program.types, program.inputs, tuple(nodes), outputs)


def drop_dead(program: Program) -> Program:
    """The same function without nodes that no output needs."""
    needed = {value for _, value in program.outputs}
    retained = []
    for node in reversed(program.nodes):
        if needed & set(node.outputs):
            retained.append(node)
            needed |= set(references(node.arguments))
    number = {i: i for i in range(len(program.inputs))}
    types = list(program.types[: len(program.inputs)])
    for node in reversed(retained):
        for output in node.outputs:
            number[output] = len(types)
            types.append(program.types[output])
    nodes = tuple(
        Node(n.operation, _renamed(n.arguments, number), n.keywords, tuple(number[o] for o in n.outputs))
        for n in reversed(retained)
    )
    outputs = tuple((name, number[value]) for name, value in program.outputs)
    return Program(program.arithmetic, tuple(types), program.inputs, nodes, outputs)


def _renamed(item: Any, names: dict[int, int]) -> Any:
    if isinstance(item, list):
        return [_renamed(part, names) for part in item]
    if isinstance(item, dict) and "v" in item:
        return {"v": names.get(item["v"], item["v"])}
    return item
