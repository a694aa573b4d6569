"""What PyTorch's kernels trust without looking: checked here, as a program may come from a stranger.

Shape inference on meta tensors accepts calls that then read or write outside their memory (torch 2.13: a pooling
index beyond the image, a batch norm whose weight is shorter than its channels), that make a million views of nothing,
or that take scratch memory which no declared type shows. Each such kernel has a rule here, on declared types alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from podlt.program.ir import Program, resolve
from podlt.program.shapes import infer

MAX_PARTS = 64
"""Into how many parts one operation may cut a value: as many outputs as a node may have."""

LONGEST = 2**20
"""Cells of a window, or windows of an adaptive pooling, along a dimension."""

Shape = tuple[int, ...]


class KernelCall:
    """One node with the shapes of what it is given.

    Args:
        program: whose types are declared.
        number: of the node.
        examples: the number of examples.
    """

    def __init__(self, program: Program, number: int, examples: int) -> None:
        self.program, self.number, self.examples = program, number, examples
        self.node = program.nodes[number]

    def shape(self, position: int) -> Shape | None:
        """The shape of a tensor argument, or None where it is none."""
        item = self.argument(position)
        if isinstance(item, dict) and "v" in item:
            return self.program.types[item["v"]].at(self.examples)
        return None

    def tensor(self, position: int) -> Shape:
        """The shape of an argument that must be a tensor.

        Raises:
            ValueError: it is none.
        """
        shape = self.shape(position)
        if shape is None:
            raise ValueError(f"argument {position} must be a tensor")
        return shape

    def axis(self, position: int) -> int:
        """A dimension of the first argument, 0 where it is left out.

        Raises:
            ValueError: the first argument has no such dimension.
        """
        rank = len(self.tensor(0))
        axis = self.integers(position)[0] if position < len(self.node.arguments) else 0
        require(-rank <= axis < rank, "the input has no such dimension")
        return axis

    def argument(self, position: int) -> Any:
        """An argument as the document has it, or None where it is left out."""
        return self.node.arguments[position] if position < len(self.node.arguments) else None

    def integers(self, position: int) -> list[int]:
        """A list of integers, resolved; an integer stands for a list of one."""
        item = self.argument(position)
        items = item if isinstance(item, list) else [item]
        if not all(isinstance(i, int) or (isinstance(i, dict) and "B" in i) for i in items):
            raise ValueError(f"argument {position} is no list of integers")
        return [resolve(i, self.examples) for i in items]


def check_kernel(program: Program, number: int, examples: int) -> None:
    """Holds a node to the rule of its kernel, if it has one.

    Raises:
        ValueError: it breaks it; the message says how.
    """
    rule = _RULES.get(program.nodes[number].operation)
    if rule is not None:
        rule(KernelCall(program, number, examples))


def require(holds: bool, message: str) -> None:
    """Refuses a call.

    Raises:
        ValueError: it does not hold.
    """
    if not holds:
        raise ValueError(message)


def _layer_norm_backward(call: KernelCall) -> None:
    values, inner = call.tensor(1), tuple(call.integers(2))
    require(call.shape(0) == values, "gradient and input must have one shape")
    require(0 < len(inner) <= len(values) and values[len(values) - len(inner) :] == inner, "not the shape's end")
    rows = prod(values[: len(values) - len(inner)])
    for position in (3, 4):
        require(prod(call.tensor(position)) == rows, f"argument {position} must have one number a row")
    for position in (5, 6):
        require(call.shape(position) in (None, inner), f"argument {position} must have the normalised shape")


def _group_norm(call: KernelCall) -> None:
    """Forward and backward: the numbers must be those of the input, and weights have one number a channel."""
    backward = call.node.operation == "native_group_norm_backward.default"
    values = call.tensor(1 if backward else 0)
    n, c, length, groups = (call.integers(place)[0] for place in range(5 if backward else 3, 9 if backward else 7))
    require(values[:2] == (n, c) and prod(values[2:]) == length, "not the examples, channels and pixels of the input")
    require(groups > 0 and c % groups == 0, "channels must fall into groups")
    for position in (4,) if backward else (1, 2):
        require(call.shape(position) in (None, (c,)), f"argument {position} must have one number a channel")
    if backward:
        require(call.tensor(0) == values, "gradient and input must have one shape")
        for position in (2, 3):
            require(prod(call.tensor(position)) == n * groups, f"argument {position} must have one number a group")


def _per_channel(*positions: int, values: int) -> Callable[[KernelCall], None]:
    """The arguments at these positions must be absent, or have one number a channel."""

    def rule(call: KernelCall) -> None:
        shape = call.tensor(values)
        require(len(shape) >= 2, "the input must have examples and channels")
        require(values == 0 or call.shape(0) == shape, "gradient and input must have one shape")
        for position in positions:
            require(call.shape(position) in (None, (shape[1],)), f"argument {position} must have one number a channel")

    return rule


def _same_shape(call: KernelCall) -> None:
    require(call.shape(0) == call.shape(1), "gradient and output must have one shape")


def _same_examples_and_channels(call: KernelCall) -> None:
    gradient, values = call.tensor(0), call.tensor(1)
    require(len(gradient) == len(values) and gradient[:-2] == values[:-2], "gradient and input must agree")


def _pool(call: KernelCall) -> None:
    """Of a window that begins before the image and ends far behind it, each cell is gone through."""
    for position in range(1, min(len(call.node.arguments), 5)):
        if isinstance(call.argument(position), list):
            longest = max(map(abs, call.integers(position)), default=0)
            require(longest <= LONGEST, f"argument {position} is more than {LONGEST}")


def _average_backward(call: KernelCall) -> None:
    _same_examples_and_channels(call)
    _pool(call)


def _pool_backward(call: KernelCall) -> None:
    """Its indices are written to without a look: they must be those of the same pooling's forward pass."""
    arguments = call.node.arguments
    require(len(arguments) == 8, "all eight arguments must be given")
    indices = arguments[7]
    for other in call.program.nodes:
        if other.operation == "max_pool2d_with_indices.default" and {"v": other.outputs[-1]} == indices:
            given = other.arguments + _POOL_DEFAULTS[len(other.arguments) - 1 :]
            given[2] = given[2] or given[1]
            require(not other.keywords and len(given) == 6, "the forward pass must have no keywords")
            kernel, stride, *others = _pairs(arguments[2:6])
            wanted = [arguments[1], kernel, stride or kernel, *others, arguments[6]]
            require([given[0], *_pairs(given[1:5]), given[5]] == wanted, "not the arguments of its forward pass")
            return
    raise ValueError("its indices must come from max_pool2d_with_indices")


_POOL_DEFAULTS: list[Any] = [None, [], [0, 0], [1, 1], False]
"""Kernel (always given), stride, padding, dilation, ceil_mode."""


def _pairs(items: list[Any]) -> list[Any]:
    """One number stands for both directions."""
    return [item * 2 if isinstance(item, list) and len(item) == 1 else item for item in items]


def _batch_norm_backward(call: KernelCall) -> None:
    """Of no values it divides by zero, and ends the process (torch 2.13)."""
    _per_channel(2, 3, 4, 5, 6, values=1)(call)
    require(0 not in call.tensor(1), "the input must have values")


def _adaptive(call: KernelCall) -> None:
    """Of no images there may be any number of windows, which are counted all the same."""
    require(max(call.integers(1), default=0) <= LONGEST, f"more than {LONGEST} windows a dimension")


def _adaptive_backward(call: KernelCall) -> None:
    """Of an image without pixels it writes outside its memory (torch 2.13)."""
    _same_examples_and_channels(call)
    require(max(call.tensor(0)[-2:]) <= LONGEST, f"more than {LONGEST} windows a dimension")
    require(0 not in call.tensor(1)[-2:], "the input must have pixels")


def _convolution(call: KernelCall) -> None:
    """Kernels read the bias, and the gradient of the result, by the sizes that follow from input and weight."""
    forward = call.node.operation == "convolution.default"
    first = 0 if forward else 1
    values, weight = call.tensor(first), call.tensor(first + 1)
    dims = len(values) - 2
    require(1 <= dims <= 3 and len(weight) == len(values), "input and weight must have 1 to 3 dimensions in space")
    stride, padding, dilation = (_each_way(call, first + place, dims) for place in (3, 4, 5))
    more, (groups, *_) = _each_way(call, first + 7, dims), call.integers(first + 8)
    require(min(*stride, *dilation, groups) >= 1 and min(*padding, *more) >= 0, "a stride, dilation or group of none")
    transposed = call.argument(first + 6)
    require(isinstance(transposed, bool), "transposed must be true or false")
    inputs, outputs = (weight[0], weight[1] * groups) if transposed else (weight[1] * groups, weight[0])
    require(values[1] == inputs and weight[0] % groups == 0, "input, weight and groups must have the same channels")
    own = zip(values[2:], weight[2:], stride, padding, dilation, more, strict=True)
    if transposed:
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + extra for n, k, s, p, d, extra in own]
    else:
        sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in own]
    require(min(sizes) >= 0, "the weight is larger than the input")
    if forward:
        require(call.shape(2) in (None, (outputs,)), "the bias must have one number a channel")
        return
    require(call.tensor(0) == (values[0], outputs, *sizes), "not the gradient of its result")
    require(call.argument(3) is None or call.integers(3) in ([outputs], [0]), "the bias must have one number a channel")
    require(call.argument(3) == [outputs] or not _asked(call, 10)[2], "there is no bias")


def _each_way(call: KernelCall, position: int, dims: int) -> list[int]:
    """A number a dimension in space, below 2**31; one stands for all."""
    found = call.integers(position)
    require(len(found) in (1, dims), f"argument {position} must have one number a dimension")
    require(all(abs(n) < 2**31 for n in found), f"argument {position} is too large")
    return found * dims if len(found) == 1 else found


def _asked(call: KernelCall, position: int) -> list[bool]:
    """Which of three gradients are wanted."""
    mask = call.argument(position)
    wanted = isinstance(mask, list) and len(mask) == 3 and all(isinstance(part, bool) for part in mask)
    require(wanted, f"argument {position} must be three of true and false")
    return list(mask)


def _unbind(call: KernelCall) -> None:
    require(call.tensor(0)[call.axis(1)] == len(call.node.outputs) <= MAX_PARTS, f"more than {MAX_PARTS} parts")


def _split(call: KernelCall) -> None:
    size = call.integers(1)[0]
    require(size > 0, "parts of no size")
    require(-(-call.tensor(0)[call.axis(2)] // size) <= MAX_PARTS, f"more than {MAX_PARTS} parts")


def _embedding_backward(call: KernelCall) -> None:
    require(not call.argument(4), "gradients scaled by frequency are not supported")  # counts without looking


def _floor_division(call: KernelCall) -> None:
    """Cutting the least integer over -1 towards 0 ends the process with SIGFPE (torch 2.13)."""
    require(call.node.keywords == {"rounding_mode": "floor"}, "the rounding mode must be floor")


def _own(call: KernelCall) -> None:
    """No kernel of PyTorch's looks at the arguments of our own operations: our rule of types must have an answer."""
    require(infer(call.program, call.number, call.examples) is not None, "not the arguments that it takes")


_RULES: dict[str, Callable[[KernelCall], None]] = {
    "native_layer_norm_backward.default": _layer_norm_backward,
    "native_group_norm.default": _group_norm,
    "native_group_norm_backward.default": _group_norm,
    "_native_batch_norm_legit_functional.default": _per_channel(1, 2, 3, 4, values=0),
    "native_batch_norm_backward.default": _batch_norm_backward,
    "_softmax_backward_data.default": _same_shape,
    "_log_softmax_backward_data.default": _same_shape,
    "max_pool2d_with_indices_backward.default": _pool_backward,
    "max_pool2d_with_indices.default": _pool,
    "avg_pool2d.default": _pool,
    "avg_pool2d_backward.default": _average_backward,
    "_adaptive_avg_pool2d.default": _adaptive,
    "_adaptive_avg_pool2d_backward.default": _adaptive_backward,
    "embedding_dense_backward.default": _embedding_backward,
    "div.Tensor_mode": _floor_division,
    "convolution.default": _convolution,
    "convolution_backward.default": _convolution,
    "unbind.int": _unbind,
    "split.Tensor": _split,
    "attention": _own,
    "attention_backward": _own,
    "recurrence": _own,
    "recurrence_backward": _own,
}
