"""What must hold of a program before it runs: it may come from a stranger.

Everything is checked against declared types before any memory is taken: shapes are inferred by rules (`shapes`), and
by PyTorch on meta tensors, which have no memory of their own. What inference lets pass and a kernel would not survive
is in `kernel_guards`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from podlt.errors import InvalidProofError, UnsupportedError
from podlt.program.execute import Executor
from podlt.program.ir import Program, TensorType, is_affine
from podlt.program.kernel_guards import check_kernel
from podlt.program.layout import TORCH_DTYPES
from podlt.program.liveness import references
from podlt.program.machine import MAX_BYTES
from podlt.program.memory import check_memory
from podlt.program.operations import STOCK_ARITHMETIC, constant, table
from podlt.program.pieces import piece_sizes
from podlt.program.shapes import infer

MAX_DEPTH = 6
MAX_CONSTANT = 65_536
MAX_EXAMPLES = 1024
"""The largest shard that a program is checked for, unless the caller says more."""
FEW = (2, 3)
"""Small numbers of examples for which shapes are inferred (a batch norm has no variance of one line), beside the
largest. What they show is that a program is sensible; `check_examples` holds it to each number before it runs with
it."""


def validate(program: Program, *, max_bytes: int = MAX_BYTES, examples: int = MAX_EXAMPLES) -> None:
    """Checks a whole program.

    Args:
        program: of a known form, but possibly from a stranger.
        max_bytes: how much memory its values may take at any one time.
        examples: of the largest task that it will run.

    Raises:
        MemoryNeedError: a task takes more memory than that.
        InvalidProofError: it is malformed.
        UnsupportedError: an operation that is not in the table.
    """
    try:
        operations = table(program.arithmetic)
    except UnsupportedError as error:
        raise InvalidProofError(f"program: {error}") from None
    # A single example is refused by some operations (BatchNorm), and shows nothing that two do not.
    examples = max(piece_sizes(examples, program.micro_batch_size)[1], *FEW)
    _check_inputs(program)
    _check_assignments(program, frozenset(operations))
    check_memory(program, examples, max_bytes)
    executor = Executor(program, arithmetic=STOCK_ARITHMETIC)
    for number in sorted({*FEW, examples}):
        _check_shapes(executor, number)
    _check_outputs(program)


def check_examples(program: Program, examples: int, max_bytes: int = MAX_BYTES) -> None:
    """Checks memory and shapes of a validated program for one number of examples, before the first run with it.

    What holds for some numbers of examples need not hold for others: a squeeze drops a dimension only where it is 1,
        and
    the bounds of a slice may change their sign.

    Args:
        program: a validated program.
        examples: of a task; what is checked is its pieces.
        max_bytes: how much memory its values may take at any one time.

    Raises:
        MemoryNeedError: so many examples take more memory than that.
        InvalidProofError: it does not hold for so many examples.
    """
    check_memory(program, examples, max_bytes)
    executor = Executor(program, arithmetic=STOCK_ARITHMETIC)
    for size in sorted({*piece_sizes(examples, program.micro_batch_size)}):
        _check_shapes(executor, size)


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
            raise _fail(f"input {name!r} must have the examples as its first dimension")
        if prefix != "batch" and any(is_affine(dim) for dim in kind.shape):
            raise _fail(f"input {name!r} must not depend on the number of examples")
        if prefix == "param" and kind.dtype != "f32":
            raise _fail(f"parameter {name!r} must be f32, is {kind.dtype}")
    if not program.named("batch:"):
        raise _fail("there is no batch")
    state = [name for name in program.inputs if not name.startswith("batch:")]
    if set(program.names) - set(state):
        raise _fail(f"names {min(set(program.names) - set(state))!r}, which is no input of the state")
    saved = [one for name in state for one in program.saved_names(name)]
    if len(set(saved)) != len(saved) or "__metadata__" in saved:
        raise _fail("two tensors of the state are saved by one name, or one by a name that no file can hold")


def _check_assignments(program: Program, operations: frozenset[str]) -> None:
    """Closed table, single assignment, definition before use, arguments of a known form."""
    defined = set(range(len(program.inputs)))
    for i, node in enumerate(program.nodes):
        if node.operation not in operations:
            raise UnsupportedError(f"program: node {i}: no operation {node.operation!r} in {program.arithmetic!r}")
        for item in [*node.arguments, *node.keywords.values()]:
            _check_argument(item, i, program, MAX_DEPTH)
        if any(references(value) for value in node.keywords.values()) or set(node.keywords) & _PLACES:
            raise _fail("keywords must be constants, and name no place or memory", i, program)
        missing = set(references(node.arguments)) - defined
        if missing:
            raise _fail(f"uses value {min(missing)} before it is defined", i, program)
        if len(set(node.outputs)) != len(node.outputs) or defined & set(node.outputs):
            raise _fail("defines a value for the second time", i, program)
        if max(node.outputs) >= len(program.types):
            raise _fail("defines a value without a type", i, program)
        defined |= set(node.outputs)
        if node.operation == "constant" and _is_longer(node.arguments[-1:], MAX_CONSTANT):
            raise _fail(f"a constant of more than {MAX_CONSTANT} elements", i, program)
    if defined != set(range(len(program.types))):
        raise _fail("a type without a value")
    if {value for _, value in program.outputs} - defined:
        raise _fail("an output that is never defined")


_PLACES = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "out", "generator"}


def _is_longer(items: list[Any], limit: int) -> bool:
    return any(isinstance(item, list) and len(item) > limit for item in items)


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


def _check_shapes(executor: Executor, examples: int) -> None:
    """Runs every node on meta tensors, and compares what comes out with what is declared."""
    program = executor.program
    values: list[Any] = [None] * len(program.types)
    for i in range(len(program.inputs)):
        values[i] = _meta(program, i, examples)
    for i, node in enumerate(program.nodes):
        if node.operation in ("uniform", "constant"):
            _check_own(program, i, examples)
        else:
            try:
                check_kernel(program, i, examples)
                _infer(executor, i, examples, values)
            except Exception as error:
                reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
                raise _fail(f"does not fit its arguments: {reason}", i, program) from None
            for output in node.outputs:
                _compare(program, i, output, values[output], examples)
        for output in node.outputs:
            values[output] = _meta(program, output, examples)


def _infer(executor: Executor, number: int, examples: int, values: list[Any]) -> None:
    """Makes a node's outputs on the meta device: by our own rule, or by PyTorch's.

    Raises:
        Exception: whatever PyTorch raises of arguments that do not fit.
    """
    found = infer(executor.program, number, examples)
    if found is None:
        with torch.no_grad():
            executor.resolve(number, examples, meta=True)(values, 0)
        return
    for output, kind in zip(executor.program.nodes[number].outputs, found, strict=True):
        values[output] = kind and torch.empty(kind[1], dtype=TORCH_DTYPES[kind[0]], device="meta")


def _check_own(program: Program, number: int, examples: int) -> None:
    """Our own two operations: a random draw and a constant."""
    node = program.nodes[number]
    kind = program.types[node.outputs[0]]
    arguments = node.arguments
    if node.operation == "uniform":
        fits = len(arguments) == 2 and isinstance(arguments[0], int) and isinstance(arguments[1], list)
        fits = fits and kind.dtype == "f32" and list(kind.shape) == arguments[1] and 0 <= arguments[0] < 2**32
    else:
        fits = len(arguments) == 3 and arguments[0] == {"t": kind.dtype} and arguments[1] == list(kind.shape)
        fits = fits and not any(is_affine(dim) for dim in kind.shape) and _holds(arguments[2], kind)
    if not fits or len(node.outputs) != 1 or node.keywords:
        raise _fail("does not fit its declared type", number, program)


def _holds(items: Any, kind: TensorType) -> bool:
    """Whether a list has as many numbers as a type, each in its range."""
    if not isinstance(items, list) or len(items) != prod(kind.at(1)):
        return False
    if not all(isinstance(item, (int, float)) or (isinstance(item, dict) and "f" in item) for item in items):
        return False
    try:
        constant(TORCH_DTYPES[kind.dtype], list(kind.shape), [_number(item) for item in items])
    except (RuntimeError, OverflowError, ValueError, TypeError):
        return False
    return True


def _number(item: Any) -> Any:
    return float(item["f"]) if isinstance(item, dict) else item


def _meta(program: Program, value: int, examples: int) -> torch.Tensor:
    kind = program.types[value]
    return torch.empty(kind.at(examples), dtype=TORCH_DTYPES[kind.dtype], device="meta")


def _compare(program: Program, node: int, output: int, found: Any, examples: int) -> None:
    kind = program.types[output]
    if found is None and (kind.dtype, kind.shape) == ("f32", (0,)):
        return  # a gradient that was not asked for
    if not isinstance(found, torch.Tensor) or found.device.type != "meta":
        raise _fail("gives something that is no tensor", node, program)
    if found.dtype != TORCH_DTYPES[kind.dtype] or tuple(found.shape) != kind.at(examples):
        declared, actual = f"{kind.dtype} {kind.at(examples)}", f"{found.dtype} {tuple(found.shape)}"
        raise _fail(f"gives {actual}, declared as {declared}", node, program)


def _check_outputs(program: Program) -> None:
    """The loss, its divisor if any, a gradient for each parameter in order, and buffers that keep their types."""
    names = [name for name, _ in program.outputs]
    gradients = ["grad:" + name.partition(":")[2] for name in program.named("param:")]
    expected = ["loss", *(["divisor"] if "divisor" in names else []), *gradients]
    if names[: len(expected)] != expected or len(set(names)) != len(names):
        raise _fail("outputs must be the loss, its divisor if any, one gradient for each parameter, then buffers")
    types = dict(zip(program.inputs, program.types, strict=False))
    for name, value in program.outputs:
        kind = program.types[value]
        if name in ("loss", "divisor"):
            fits = (kind.dtype, kind.shape) == ("f32", ())
        elif name.startswith("grad:"):
            fits = kind == types["param:" + name[5:]]
        else:
            fits = name.startswith("buffer:") and types.get(name) == kind
        if not fits:
            raise _fail(f"output {name!r} has the wrong type")
