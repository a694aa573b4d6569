"""What must hold of a program before it runs: it may come from a stranger.

Everything is checked against declared types before any memory is taken: shapes are inferred on meta tensors, which
have no memory of their own.
"""

from __future__ import annotations

from typing import Any

import torch

from podlt.errors import InvalidProofError, UnsupportedError
from podlt.program.execute import Executor, references
from podlt.program.ir import ITEM_BYTES, Program, is_affine, resolve
from podlt.program.layout import TORCH_DTYPES
from podlt.program.operations import table

MAX_BYTES = 64 * 2**30
MAX_DEPTH = 6
MAX_CONSTANT = 65_536
SAMPLES = (1, 3)
"""For which numbers of lines shapes are inferred: an affine expression that holds for two holds for all."""


def validate(program: Program, *, max_bytes: int = MAX_BYTES) -> None:
    """Checks a whole program.

    Args:
        max_bytes: how much memory all of its values may take together, for 1,024 lines.

    Raises:
        InvalidProofError: it is malformed; UnsupportedError: an operation that is not in the table.
    """
    try:
        operations = table(program.arithmetic)
    except UnsupportedError as error:
        raise InvalidProofError(f"program: {error}") from None
    _check_inputs(program)
    _check_assignments(program, frozenset(operations))
    _check_memory(program, max_bytes)
    for lines in SAMPLES:
        _check_shapes(program, lines)
    _check_outputs(program)


def _fail(message: str, node: int | None = None, program: Program | None = None) -> InvalidProofError:
    where = f"node {node} ({program.nodes[node].operation}): " if node is not None and program is not None else ""
    return InvalidProofError(f"program: {where}{message}")


def _check_inputs(program: Program) -> None:
    if len(set(program.inputs)) != len(program.inputs) or len(program.inputs) > len(program.types):
        raise _fail("inputs must have different names and a type each")
    for name, kind in zip(program.inputs, program.types, strict=False):
        prefix = name.partition(":")[0]
        if prefix not in ("param", "frozen", "buffer", "batch"):
            raise _fail(f"input {name!r} is none of param, frozen, buffer and batch")
        if prefix == "batch" and (not kind.shape or kind.shape[0] != {"B": [1, 0]}):
            raise _fail(f"input {name!r} must have the lines as its first dimension")
        if prefix != "batch" and any(is_affine(dim) for dim in kind.shape):
            raise _fail(f"input {name!r} must not depend on the number of lines")
        if prefix == "param" and kind.dtype != "f32":
            raise _fail(f"parameter {name!r} must be f32, is {kind.dtype}")
    if not program.named("batch:"):
        raise _fail("there is no batch")


def _check_assignments(program: Program, operations: frozenset[str]) -> None:
    """Closed table, single assignment, definition before use, arguments of a known form."""
    defined = set(range(len(program.inputs)))
    for i, node in enumerate(program.nodes):
        if node.operation not in operations:
            raise UnsupportedError(f"program: node {i}: no operation {node.operation!r} in {program.arithmetic!r}")
        for item in [*node.arguments, *node.keywords.values()]:
            _check_argument(item, i, program, MAX_DEPTH)
        if any(references(value) for value in node.keywords.values()):
            raise _fail("keywords must be constants", i, program)
        missing = set(references(node.arguments)) - defined
        if missing:
            raise _fail(f"uses value {min(missing)} before it is defined", i, program)
        if len(set(node.outputs)) != len(node.outputs) or defined & set(node.outputs):
            raise _fail("defines a value for the second time", i, program)
        if max(node.outputs) >= len(program.types):
            raise _fail("defines a value without a type", i, program)
        defined |= set(node.outputs)
        if node.operation == "constant" and len(node.arguments) == 3 and len(node.arguments[2]) > MAX_CONSTANT:
            raise _fail(f"a constant of more than {MAX_CONSTANT} elements", i, program)
    if defined != set(range(len(program.types))):
        raise _fail("a type without a value")
    if {value for _, value in program.outputs} - defined:
        raise _fail("an output that is never defined")


def _check_argument(item: Any, node: int, program: Program, depth: int) -> None:
    if item is None or isinstance(item, (bool, int, float)):
        if isinstance(item, int) and abs(item) >= 2**63:
            raise _fail(f"integer {item} out of range", node, program)
        return
    if isinstance(item, str) and len(item) <= 32:
        return
    if isinstance(item, list) and depth > 0:
        for part in item:
            _check_argument(part, node, program, depth - 1)
        return
    if isinstance(item, dict) and len(item) == 1:
        ((key, value),) = item.items()
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if key == "v" and is_number and 0 <= value < len(program.types):
            return
        if key == "t" and isinstance(value, str) and value in TORCH_DTYPES:
            return
        if key == "f" and value in ("inf", "-inf", "nan"):
            return
        if is_affine(item):
            return
    raise _fail(f"no argument {str(item)[:80]}", node, program)


def _check_memory(program: Program, max_bytes: int) -> None:
    total = 0
    for kind in program.types:
        count = ITEM_BYTES[kind.dtype]
        for dim in kind.shape:
            size = resolve(dim, 1024)
            if size < 0 or resolve(dim, 1) < 0:
                raise _fail(f"a dimension below zero: {dim}")
            count *= size
        total += count
        if total > max_bytes:
            raise _fail(f"its values take more than {max_bytes} bytes")


def _check_shapes(program: Program, lines: int) -> None:
    """Runs every node on meta tensors, and compares what comes out with what is declared."""
    values: list[Any] = [None] * len(program.types)
    for i in range(len(program.inputs)):
        values[i] = _meta(program, i, lines)
    executor = Executor(program)
    for i, node in enumerate(program.nodes):
        if node.operation in ("uniform", "constant"):
            _check_own(program, i, lines)
            for output in node.outputs:
                values[output] = _meta(program, output, lines)
            continue
        try:
            with torch.no_grad(), torch.device("meta"):
                executor.resolve(i, lines)(values, 0)
        except Exception as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise _fail(f"does not fit its arguments: {reason}", i, program) from None
        for output in node.outputs:
            _compare(program, i, output, values[output], lines)
            values[output] = _meta(program, output, lines)


def _check_own(program: Program, number: int, lines: int) -> None:
    """Our own two operations: a random draw and a constant."""
    node = program.nodes[number]
    kind = program.types[node.outputs[0]]
    arguments = node.arguments
    if node.operation == "uniform":
        fits = len(arguments) == 2 and isinstance(arguments[0], int) and isinstance(arguments[1], list)
        fits = fits and kind.dtype == "f32" and list(kind.shape) == arguments[1] and 0 <= arguments[0] < 2**32
    else:
        fits = len(arguments) == 3 and arguments[0] == {"t": kind.dtype} and arguments[1] == list(kind.shape)
        count = 1
        for dim in kind.shape:
            fits = fits and not is_affine(dim)
            count *= resolve(dim, lines)
        fits = fits and isinstance(arguments[2], list) and len(arguments[2]) == count
        fits = fits and all(isinstance(v, (int, float, dict)) for v in arguments[2])
    if not fits or len(node.outputs) != 1 or node.keywords:
        raise _fail("does not fit its declared type", number, program)


def _meta(program: Program, value: int, lines: int) -> torch.Tensor:
    kind = program.types[value]
    return torch.empty(kind.at(lines), dtype=TORCH_DTYPES[kind.dtype], device="meta")


def _compare(program: Program, node: int, output: int, found: Any, lines: int) -> None:
    kind = program.types[output]
    if found is None and (kind.dtype, kind.shape) == ("f32", (0,)):
        return  # a gradient that was not asked for
    if not isinstance(found, torch.Tensor):
        raise _fail("gives something that is no tensor", node, program)
    if found.dtype != TORCH_DTYPES[kind.dtype] or tuple(found.shape) != kind.at(lines):
        declared, actual = f"{kind.dtype} {kind.at(lines)}", f"{found.dtype} {tuple(found.shape)}"
        raise _fail(f"gives {actual}, declared as {declared}", node, program)


def _check_outputs(program: Program) -> None:
    """The loss, a gradient for each parameter in order, and buffers that keep their types."""
    names = [name for name, _ in program.outputs]
    gradients = ["grad:" + name.partition(":")[2] for name in program.named("param:")]
    if names[: 1 + len(gradients)] != ["loss", *gradients] or len(set(names)) != len(names):
        raise _fail("outputs must be the loss, then one gradient for each parameter, then buffers")
    types = dict(zip(program.inputs, program.types, strict=False))
    for name, value in program.outputs:
        kind = program.types[value]
        if name == "loss":
            fits = (kind.dtype, kind.shape) == ("f32", ())
        elif name.startswith("grad:"):
            fits = kind == types["param:" + name[5:]]
        else:
            fits = name.startswith("buffer:") and types.get(name) == kind
        if not fits:
            raise _fail(f"output {name!r} has the wrong type")
