"""Recurrent layers on the CPU: a weight's digits are cut once for all steps, and the gates of a step are one loop.

Definition: `definition.recurrences`. The arguments are those of `exact/operations/recurrences`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

from podlt.exact.aten.backend import Operation, Tensor
from podlt.exact.aten.recurrences import Layer, RecurrenceParts, weight_gradients
from podlt.exact.constants import Array
from podlt.exact.cpu import elementwise, reduce
from podlt.exact.cpu.digits import DigitCache
from podlt.exact.cpu.kernels import recurrences as loops
from podlt.exact.cpu.products import mm
from podlt.exact.operations.recurrences import SAVED

_BACKWARD = "recurrence_backward"
_nothing = np.empty((0, 0), np.float32)

_FORWARDS: Mapping[str, Callable[..., None]] = {
    "lstm": lambda given, inner, h, c, saved, y: loops.lstm(given, inner, c, saved, y),
    "gru": lambda given, inner, h, c, saved, y: loops.gru(given, inner, h, saved, y),
    "rnn_tanh": lambda given, inner, h, c, saved, y: loops.rnn(given, inner, False, y),
    "rnn_relu": lambda given, inner, h, c, saved, y: loops.rnn(given, inner, True, y),
}
_BACKWARDS: Mapping[str, Callable[..., None]] = {
    "lstm": lambda d_y, d_h, d_c, h, c, saved, y, g, i: loops.lstm_backward(d_y, d_h, d_c, c, saved, g),
    "gru": lambda d_y, d_h, d_c, h, c, saved, y, g, i: loops.gru_backward(d_y, d_h, h, saved, g, i),
    "rnn_tanh": lambda d_y, d_h, d_c, h, c, saved, y, g, i: loops.rnn_backward(d_y, d_h, y, False, g),
    "rnn_relu": lambda d_y, d_h, d_c, h, c, saved, y, g, i: loops.rnn_backward(d_y, d_h, y, True, g),
}


def _layer(
    digits: int,
    kind: str,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> Layer:
    (steps, lines, _), hidden, name = x.shape, h.shape[1], "recurrence"
    given = mm(x.reshape(steps * lines, -1), w_ih.t(), digits, b_ih, name).numpy().reshape(steps, lines, -1)
    inner, weight, h = torch.empty((lines, w_hh.shape[0])), w_hh.t(), h.contiguous()
    y, saved = torch.empty((steps, lines, hidden)), torch.empty((steps, lines, SAVED.get(kind, 0) * hidden))
    c = None if c is None else c.contiguous().clone()
    arrays = inner.numpy(), None if c is None else c.numpy(), saved.numpy(), y.numpy()
    products, cell, saved_rows, results = arrays
    state, forward = h.detach().numpy(), _FORWARDS[kind]
    with DigitCache([w_hh]):
        for t, result in enumerate(y.unbind()):
            mm(h, weight, digits, b_hh, name, out=inner)
            forward(given[t], products, state, cell, saved_rows[t], results[t])
            h, state = result, results[t]
    return y, h.clone(), c, saved if kind in SAVED else None


def _layer_backward(
    digits: int,
    kind: str,
    d_y: Tensor | None,
    d_h: Tensor | None,
    d_c: Tensor | None,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    y: Tensor,
    saved: Tensor | None,
    mask: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    (steps, lines, _), gates, hidden = x.shape, w_hh.shape[0], h.shape[1]
    before = torch.cat([h.unsqueeze(0), y[:-1]])
    own_h, own_c = (torch.zeros(h.shape) if d is None else d.clone(memory_format=_DENSE) for d in (d_h, d_c))
    d_given = torch.empty((steps, lines, gates))
    d_inner = torch.empty((steps, lines, gates)) if kind == "gru" else d_given
    product, of_inner, backward = torch.empty((lines, hidden)), d_inner.unbind(), _BACKWARDS[kind]
    outside, given, inner, states, results = (_array(each) for each in (d_y, d_given, d_inner, before, y))
    later, cell, product_array = own_h.numpy(), own_c.numpy(), product.numpy()
    saved_rows, first = _array(saved), _array(c)
    with DigitCache([w_hh]):
        for t in reversed(range(steps)):
            is_inner = kind == "lstm" and t > 0
            cells = np.ascontiguousarray(saved_rows[t - 1, :, -hidden:]) if is_inner else first
            of_y = _nothing if d_y is None else outside[t]
            own = saved_rows[t] if kind in SAVED else _nothing
            backward(of_y, later, cell, states[t], cells, own, results[t], given[t], inner[t])
            mm(of_inner[t], w_hh, digits, None, _BACKWARD, out=product)
            if kind == "gru":
                later += product_array
            else:
                later[:] = product_array
    of_gates = d_given.flatten(0, 1), d_inner.flatten(0, 1)
    of_gates = (of_gates[0],) * 2 if d_inner is d_given else of_gates
    rows, of_states = x.reshape(steps * lines, -1), (own_h, own_c)
    return weight_gradients(_parts(digits), of_gates, rows, before.flatten(0, 1), w_ih, x.shape, of_states, mask)


_DENSE = torch.contiguous_format


def _parts(digits: int) -> RecurrenceParts:
    return RecurrenceParts(
        linear=lambda x, weight, bias: mm(x, weight.t(), digits, bias, _BACKWARD),
        product=lambda x, y: mm(x, y, digits, None, _BACKWARD),
        total=lambda x: reduce.total(x, [0], False, _BACKWARD),
        sigmoid=elementwise.FUNCTIONS["sigmoid"],
        tanh=elementwise.FUNCTIONS["tanh"],
    )


def _array(x: Tensor | None) -> Array:
    """The memory of a tensor, made contiguous where it is not; an empty array for None."""
    return _nothing if x is None else x.detach().contiguous().numpy()


def operations(digits: int) -> Mapping[str, Operation]:
    """Both operations, for products of so many digits."""
    return MappingProxyType({"recurrence": partial(_layer, digits), _BACKWARD: partial(_layer_backward, digits)})
