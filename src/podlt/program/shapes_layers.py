"""What products, convolutions, pooling, normalisations and losses give: the rules of `shapes` for layers."""

from __future__ import annotations

from typing import Any

from podlt.program.types import Given, Rule, Type, are_wholes, axis_of, is_tensor, is_whole

Shape = tuple[int, ...]
Found = list[Type | None] | None


def _mm(given: Given) -> Found:
    """Two matrices."""
    if len(given) != 2 or not all(is_tensor(item, "f32", 2) for item in given):
        return None
    (rows, inner), (height, columns) = given[0][1], given[1][1]
    return [("f32", (rows, columns))] if inner == height else None


def _addmm(given: Given) -> Found:
    """A row, and the product of two matrices."""
    product = _mm(given[1:]) if len(given) == 3 else None
    return product if product and product[0] and given[0] == ("f32", product[0][1][1:]) else None


def _bmm(given: Given) -> Found:
    """As many matrices in one as in the other."""
    if len(given) != 2 or not all(is_tensor(item, "f32", 3) for item in given):
        return None
    (count, rows, inner), (other, height, columns) = given[0][1], given[1][1]
    return [("f32", (count, rows, columns))] if (count, inner) == (other, height) else None


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
    sizes = [
        (size + 2 * beside - apart * (reach - 1) - 1) // step + 1
        for size, reach, step, beside, apart in zip(image, kernel, stride, padding, dilation, strict=True)
    ]
    return (lines, outputs, *sizes) if min(sizes) >= 1 else None


def _convolution(given: Given) -> Found:
    """Images, weight, bias, settings."""
    shape = _convolved(given[0], given[1], given[3:]) if len(given) == 9 else None
    if shape is None or given[2] not in (None, ("f32", given[1][1][:1])):
        return None
    return [("f32", shape)]


def _convolution_backward(given: Given) -> Found:
    """Gradient, images, weight, the bias' shape, settings, which gradients are wanted."""
    if len(given) != 11 or not _is_mask(given[10]):
        return None
    shape = _convolved(given[1], given[2], given[4:10])
    if shape is None or given[0] != ("f32", shape):
        return None
    outputs = given[2][1][0]
    if given[3] != [outputs] and (given[10][2] or given[3] != [0]):
        return None
    return _asked([given[1], given[2], ("f32", (outputs,))], given[10])


def _is_mask(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 3 and all(isinstance(part, bool) for part in item)


def _asked(types: list[Type | None], mask: list[bool]) -> Found:
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
    sizes = [(size - reach) // step + 1 for size, reach, step in zip(values[1][2:], kernel, stride, strict=True)]
    return (*values[1][:2], *sizes) if min(sizes) >= 1 else None


def _max_pool(given: Given) -> Found:
    """Images, kernel, stride."""
    shape = _pooled(*given) if len(given) == 3 else None
    return None if shape is None else [("f32", shape), ("i64", shape)]


def _max_pool_backward(given: Given) -> Found:
    """Gradient, images, the pooling's settings, and where the largest were."""
    if len(given) != 8 or given[4:7] != [[0, 0], [1, 1], False]:
        return None
    shape = _pooled(*given[1:4])
    fits = shape is not None and given[0] == ("f32", shape) and given[7] == ("i64", shape)
    return [given[1]] if fits else None


def _batch_norm(given: Given) -> Found:
    """Values, weight, bias, running mean and variance, that it is training, momentum, epsilon."""
    if len(given) != 8 or (channels := _channels(given[0])) is None or given[5] is not True:
        return None
    fits = given[1] in (None, channels) and given[2] in (None, channels) and given[3] == given[4] == channels
    return [given[0], *4 * [channels]] if fits and all(isinstance(item, float) for item in given[6:]) else None


def _batch_norm_backward(given: Given) -> Found:
    """Gradient, values, weight, running and saved mean and variance, that it is training, epsilon, what is wanted."""
    if len(given) != 10 or given[0] != given[1] or (channels := _channels(given[1])) is None:
        return None
    fits = given[2:7] == 5 * [channels] and given[7] is True and isinstance(given[8], float) and _is_mask(given[9])
    return _asked([given[1], channels, channels], given[9]) if fits and given[9][0] else None


def _channels(values: Any) -> Type | None:
    """One number a channel."""
    return ("f32", values[1][1:2]) if is_tensor(values, "f32") and len(values[1]) >= 2 and 0 not in values[1] else None


def _rows(values: Any, inner: Any) -> Type | None:
    """One number a row, where the last dimensions are normalised."""
    if not is_tensor(values, "f32") or not isinstance(inner, list) or 0 in values[1]:
        return None
    outer = len(values[1]) - len(inner)
    fits = 0 < len(inner) <= len(values[1]) and values[1][outer:] == tuple(inner)
    return ("f32", values[1][:outer] + (1,) * len(inner)) if fits else None


def _layer_norm(given: Given) -> Found:
    """Values, the shape that is normalised, weight, bias, epsilon."""
    if len(given) != 5 or (rows := _rows(given[0], given[1])) is None or not isinstance(given[4], float):
        return None
    return [given[0], rows, rows] if given[2] == given[3] == ("f32", tuple(given[1])) else None


def _layer_norm_backward(given: Given) -> Found:
    """Gradient, values, the shape that is normalised, mean and deviation, weight, bias, what is wanted."""
    if len(given) != 8 or given[0] != given[1] or (rows := _rows(given[1], given[2])) is None or not _is_mask(given[7]):
        return None
    inner = ("f32", tuple(given[2]))
    fits = given[3] == given[4] == rows and given[5] == given[6] == inner
    return _asked([given[1], inner, inner], given[7]) if fits else None


def _softmax(given: Given) -> Found:
    """A tensor, a dimension, and that its dtype stays."""
    if len(given) != 3 or not is_tensor(given[0], "f32") or given[2] is not False:
        return None
    return [given[0]] if axis_of(given[1], len(given[0][1]) or 1) is not None else None


def _softmax_backward(given: Given) -> Found:
    """Gradient, what the softmax gave, its dimension, its dtype."""
    fits = len(given) == 4 and given[0] == given[1] and given[3] == {"t": "f32"}
    return _softmax([given[1], given[2], False]) if fits else None


def _nll_loss(given: Given) -> Found:
    """A matrix, a label a row, no weights, mean or sum, the label to ignore: the loss, and the weight of all rows."""
    if len(given) != 5 or not is_tensor(given[0], "f32", 2) or given[2] is not None or not is_whole(given[4]):
        return None
    fits = given[1] == ("i64", given[0][1][:1]) and is_whole(given[3]) and given[3] in (1, 2)
    return [("f32", ()), ("f32", ())] if fits else None


def _nll_loss_backward(given: Given) -> Found:
    """The loss's gradient, what the loss was given, and the weight of all rows."""
    fits = len(given) == 7 and given[0] == given[6] == ("f32", ()) and _nll_loss(given[1:6]) is not None
    return [given[1]] if fits else None


def _embedding(given: Given) -> Found:
    """A row for each number."""
    fits = len(given) == 2 and is_tensor(given[0], "f32", 2) and is_tensor(given[1], "i64")
    return [("f32", (*given[1][1], given[0][1][1]))] if fits else None


RULES: dict[str, Rule] = {
    "mm.default": _mm,
    "addmm.default": _addmm,
    "bmm.default": _bmm,
    "convolution.default": _convolution,
    "convolution_backward.default": _convolution_backward,
    "max_pool2d_with_indices.default": _max_pool,
    "max_pool2d_with_indices_backward.default": _max_pool_backward,
    "_native_batch_norm_legit_functional.default": _batch_norm,
    "native_batch_norm_backward.default": _batch_norm_backward,
    "native_layer_norm.default": _layer_norm,
    "native_layer_norm_backward.default": _layer_norm_backward,
    "_softmax.default": _softmax,
    "_softmax_backward_data.default": _softmax_backward,
    "_log_softmax.default": _softmax,
    "_log_softmax_backward_data.default": _softmax_backward,
    "nll_loss_forward.default": _nll_loss,
    "nll_loss_backward.default": _nll_loss_backward,
    "embedding.default": _embedding,
}
"""By operation."""
