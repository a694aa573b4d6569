"""The memory that kernels take beside their outputs, from declared types alone."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from podlt.exact.aten.attention import BLOCK_BYTES
from podlt.program.ir import Program
from podlt.program.kernel_guards import KernelCall, Shape, check_kernel


def scratch_bytes(program: Program, number: int, examples: int) -> int:
    """The memory that a node's kernel may take beside its outputs.

    Raises:
        ValueError: its arguments do not say.
    """
    rule = _SCRATCH.get(program.nodes[number].operation)
    return 0 if rule is None else rule(KernelCall(program, number, examples))


def _convolution_scratch(call: KernelCall) -> int:
    """Patches laid out as a matrix; padded samples as words, and for the weight's gradient as bytes.

    Nothing of a call that breaks its rule: it is refused when shapes are checked.
    """
    try:
        check_kernel(call.program, call.number, call.examples)
    except ValueError:
        return 0
    forward = call.node.operation == "convolution.default"
    values, weight = (call.tensor(place) for place in ((0, 1) if forward else (1, 2)))
    result = call.program.types[call.node.outputs[0]].at(call.examples) if forward else call.tensor(0)
    if len(result) != len(values):
        return 0
    padding = call.integers(4 if forward else 5)
    padded = prod(values[:2]) * prod(size + 2 * padding[min(i, len(padding) - 1)] for i, size in enumerate(values[2:]))
    patches = prod(weight[1:]) * prod(result[2:]) * max(1, values[0])
    cut = 0 if forward else 4 * prod(result) + 2 * result[0] * result[1] * padded // max(1, prod(values[:2]))
    return cut + 4 * (patches + 2 * padded + (_windows(values, weight, result) if len(values) == 5 else 0))


def _windows(values: Shape, weight: Shape, result: Shape) -> int:
    """How many numbers the windows along the depth hold, of the input and of the result, in three dimensions."""
    seen = prod(values[:2]) * result[2] * prod(values[3:])
    reached = prod(result[:2]) * values[2] * prod(result[3:])
    return weight[2] * (seen + reached * prod(weight[3:]) + seen)


def _recurrence_scratch(call: KernelCall) -> int:
    """Products of all steps with the input, or their gradients (a GRU has two); each operand as digits; h before."""
    forward = call.node.operation == "recurrence"
    x, w_ih, w_hh = (call.tensor(place) for place in ((1, 4, 5) if forward else (4, 7, 8)))
    if min(len(x), len(w_ih), len(w_hh)) < 2:
        raise ValueError("an input and weights must have two dimensions or more")
    rows, gates, hidden = prod(x[:-1]), w_ih[0], w_hh[-1]
    return 8 * rows * (2 * gates + 2 * hidden + x[-1]) + 4 * (prod(w_ih) + prod(w_hh))


def _attention_scratch(call: KernelCall) -> int:
    """Scores, their gradients, products and digits of the heads that are computed together; operands and digits."""
    first = 0 if call.node.operation == "attention" else 1
    q, k, v = (call.tensor(first + place) for place in range(3))
    if min(len(q), len(k)) < 2:
        raise ValueError("queries and keys must have two dimensions or more")
    own = 4 * q[-2] * k[-2]
    return 8 * max(own, min(BLOCK_BYTES, prod(q[:-2]) * own)) + 8 * (2 * prod(q) + prod(k) + 2 * prod(v))


_SCRATCH: dict[str, Callable[[KernelCall], int]] = {
    "convolution.default": _convolution_scratch,
    "convolution_backward.default": _convolution_scratch,
    "attention": _attention_scratch,
    "attention_backward": _attention_scratch,
    "recurrence": _recurrence_scratch,
    "recurrence_backward": _recurrence_scratch,
}
