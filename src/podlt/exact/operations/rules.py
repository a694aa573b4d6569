"""What operations give whose types no signature can say. A rule answers only for the plain case that it is sure of."""

from __future__ import annotations

from typing import Any

from podlt.exact.geometry import Geometry, pair, pooled_length
from podlt.exact.operations.types import (
    Given,
    Rule,
    Shape,
    Type,
    Types,
    are_wholes,
    axis_of,
    is_mask,
    is_tensor,
    is_whole,
)


def reduced(dtype: str) -> Rule:
    """A tensor, its dimensions that become one, and whether they are kept."""

    def rule(given: Given) -> Types | None:
        if not 2 <= len(given) <= 3 or not is_tensor(given[0], dtype):
            return None
        if not all(isinstance(kept, bool) for kept in given[2:]):
            return None
        shape, asked = given[0][1], given[1] if isinstance(given[1], list) else [given[1]]
        axes = [axis_of(item, len(shape)) for item in asked]
        if not axes or None in axes or len(set(axes)) != len(axes):
            return None
        kept = given[2:] == [True]
        return [(dtype, tuple(1 if i in axes else size for i, size in enumerate(shape) if kept or i not in axes))]

    return rule


def arange(given: Given) -> Types | None:
    """Whole numbers up to one."""
    return [("i64", (given[0],))] if len(given) == 1 and is_whole(given[0]) and given[0] >= 0 else None


def cat(given: Given) -> Types | None:
    """Several tensors that differ in one dimension only."""
    if (found := _joined(given)) is None:
        return None
    shapes, axis = found[0], axis_of(found[1], len(found[0][0]))
    if axis is None or len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) != 1:
        return None
    return [("f32", (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))]


def stack(given: Given) -> Types | None:
    """Several tensors of one shape, which get a dimension more."""
    if (found := _joined(given)) is None or len(set(found[0])) != 1:
        return None
    shapes, axis = found[0], axis_of(found[1], len(found[0][0]) + 1)
    return None if axis is None else [("f32", (*shapes[0][:axis], len(shapes), *shapes[0][axis:]))]


def _joined(given: Given) -> tuple[list[Shape], Any] | None:
    """The shapes of several tensors with as many dimensions each (at least one), and along which they are joined."""
    if not 1 <= len(given) <= 2 or not isinstance(given[0], list) or not given[0]:
        return None
    if not all(is_tensor(part, "f32") for part in given[0]):
        return None
    shapes = [part[1] for part in given[0]]
    return (shapes, given[1] if len(given) == 2 else 0) if {len(s) for s in shapes} == {len(shapes[0]) or 1} else None


def _convolved(values: Any, weight: Any, settings: Given) -> Shape | None:
    """The shape of a convolution over images; settings: stride, padding, dilation, no transposition, groups."""
    if not is_tensor(values, "f32", 4) or not is_tensor(weight, "f32", 4) or len(settings) != 6:
        return None
    stride, padding, dilation, transposed, beyond, groups = settings
    if not (are_wholes(stride, 2, 1) and are_wholes(padding, 2, 0) and are_wholes(dilation, 2, 1)):
        return None
    if transposed is not False or beyond != [0, 0] or not is_whole(groups) or groups < 1:
        return None
    (lines, channels, *image), (outputs, share, *kernel) = values[1], weight[1]
    if 0 in (*values[1], *weight[1]) or share * groups != channels or outputs % groups:
        return None
    g = Geometry(pair(stride), pair(padding), pair(dilation), groups)
    sizes = g.output(pair(image), pair(kernel))
    return (lines, outputs, *sizes) if min(sizes) >= 1 else None


def convolution(given: Given) -> Types | None:
    """Images, weight, bias, settings."""
    shape = _convolved(given[0], given[1], given[3:]) if len(given) == 9 else None
    if shape is None or given[2] not in (None, ("f32", given[1][1][:1])):
        return None
    return [("f32", shape)]


def convolution_backward(given: Given) -> Types | None:
    """Gradient, images, weight, the bias' shape, settings, which gradients are wanted."""
    if len(given) != 11 or not is_mask(given[10]):
        return None
    shape = _convolved(given[1], given[2], given[4:10])
    if shape is None or given[0] != ("f32", shape):
        return None
    outputs = given[2][1][0]
    if given[3] != [outputs] and (given[10][2] or given[3] != [0]):
        return None
    return _asked([given[1], given[2], ("f32", (outputs,))], given[10])


def _asked(types: Types, mask: list[bool]) -> Types | None:
    return [kind if wanted else None for kind, wanted in zip(types, mask, strict=True)]


def _pooled(values: Any, kernel: Any, stride: Any) -> Shape | None:
    """The shape of a pooling without padding."""
    if (
        not is_tensor(values, "f32", 4)
        or 0 in values[1]
        or not are_wholes(kernel, 2, 1)
        or not are_wholes(stride, 2, 1)
    ):
        return None
    sizes = [pooled_length(n, k, s, 0, 1, False) for n, k, s in zip(values[1][2:], kernel, stride, strict=True)]
    return (*values[1][:2], *sizes) if min(sizes) >= 1 else None


def max_pool(given: Given) -> Types | None:
    """Images, kernel, stride."""
    shape = _pooled(*given) if len(given) == 3 else None
    return None if shape is None else [("f32", shape), ("i64", shape)]


def max_pool_backward(given: Given) -> Types | None:
    """Gradient, images, the pooling's settings, and where the largest were."""
    if len(given) != 8 or given[4:7] != [[0, 0], [1, 1], False]:
        return None
    shape = _pooled(*given[1:4])
    fits = shape is not None and given[0] == ("f32", shape) and given[7] == ("i64", shape)
    return [given[1]] if fits else None


def _rows(values: Any, inner: Any) -> Type | None:
    """One number a row, where the last dimensions are normalised."""
    if not is_tensor(values, "f32") or not isinstance(inner, list):
        return None
    outer = len(values[1]) - len(inner)
    fits = 0 < len(inner) <= len(values[1]) and values[1][outer:] == tuple(inner)
    return ("f32", values[1][:outer] + (1,) * len(inner)) if fits else None


def layer_norm(given: Given) -> Types | None:
    """Values, the shape that is normalised, weight, bias, epsilon."""
    if len(given) != 5 or (rows := _rows(given[0], given[1])) is None or not isinstance(given[4], float):
        return None
    return [given[0], rows, rows] if given[2] == given[3] == ("f32", tuple(given[1])) else None


def layer_norm_backward(given: Given) -> Types | None:
    """Gradient, values, the shape that is normalised, mean and deviation, weight, bias, what is wanted."""
    if len(given) != 8 or given[0] != given[1] or (rows := _rows(given[1], given[2])) is None or not is_mask(given[7]):
        return None
    inner = ("f32", tuple(given[2]))
    fits = given[3] == given[4] == rows and given[5] == given[6] == inner
    return _asked([given[1], inner, inner], given[7]) if fits else None
