"""The definition of recurrent layers: LSTM, GRU and RNN, one layer in one direction, and their gradients.

The products with the input are one exact product over all steps and lines, those with the state one a step. A
gradient of a weight is one exact product contracted over steps and lines together, rounded once; that of a bias is one
exact sum. A gradient that is not given counts as zeros. Signatures are those of `exact/operations/recurrences`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition.elementary import sigmoid, tanh
from podlt.exact.definition.layers import row_sums
from podlt.exact.definition.products import mm

_1 = np.float32(1.0)
_Forward = Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]
_Gradients = tuple[Array, Array, Array, Array | None]
_Backward = Callable[[Array, Array, Array, Array, Array, Array], _Gradients]


@dataclass(frozen=True)
class Cell:
    """One step of one kind of layer.

    Attributes:
        forward: (products with the input, with the state, h, c) to (new h, new c, what the gradient needs).
        backward: (gradient of the new h, of the new c, h, c, new h, what was saved) to the gradients of both products,
            of c, and what the gradient of h has beside its product, if anything.
    """

    forward: _Forward
    backward: _Backward


def recurrence(
    kind: str,
    x: Array,
    h: Array,
    c: Array | None,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    digits: int,
) -> tuple[Array, Array, Array | None, Array | None]:
    """A layer over all steps: h of each step, the last h and c, and what the gradient needs."""
    steps, lines, width = x.shape
    cell = np.zeros_like(h) if c is None else c
    given = _linear(x.reshape(steps * lines, width), w_ih, b_ih, digits).reshape(steps, lines, -1)
    hidden, saved = [], []
    for step in given:
        h, cell, part = CELLS[kind].forward(step, _linear(h, w_hh, b_hh, digits), h, cell)
        hidden.append(h)
        saved.append(part)
    return np.stack(hidden), h, None if c is None else cell, np.stack(saved) if kind in SAVING else None


def recurrence_backward(
    kind: str,
    d_y: Array | None,
    d_h: Array | None,
    d_c: Array | None,
    x: Array,
    h: Array,
    c: Array | None,
    w_ih: Array,
    w_hh: Array,
    y: Array,
    saved: Array | None,
    mask: Sequence[bool],
    digits: int,
) -> tuple[Array | None, ...]:
    """The gradients of x, h, c, w_ih, w_hh, b_ih and b_hh, from those of all h, of the last h and of the last c."""
    steps, lines, _ = x.shape
    before = np.concatenate([h[None], y[:-1]])
    cells = before if saved is None or c is None else np.concatenate([c[None], saved[:-1, :, -h.shape[1] :]])
    d_h, d_c = (np.zeros_like(h) if given is None else given for given in (d_h, d_c))
    d_given: list[Array] = []
    d_inner: list[Array] = []
    for t in reversed(range(steps)):
        d_new = d_h if d_y is None else d_h + d_y[t]
        part = y[t] if saved is None else saved[t]
        of_given, of_inner, d_c, direct = CELLS[kind].backward(d_new, d_c, before[t], cells[t], y[t], part)
        product = mm(of_inner, w_hh, digits)
        d_h = product if direct is None else product + direct
        d_given.insert(0, of_given)
        d_inner.insert(0, of_inner)
    g, i = (np.concatenate(d).reshape(steps * lines, -1) for d in (d_given, d_inner))
    rows, states = x.reshape(steps * lines, -1), before.reshape(steps * lines, -1)
    found: list[Callable[[], Array]] = [
        lambda: mm(g, w_ih, digits).reshape(x.shape),
        lambda: d_h,
        lambda: d_c,
        lambda: mm(g.T, rows, digits),
        lambda: mm(i.T, states, digits),
        lambda: row_sums(g.T),
        lambda: row_sums(i.T),
    ]
    return tuple(make() if wanted else None for make, wanted in zip(found, mask, strict=True))


def _linear(x: Array, weight: Array, bias: Array | None, digits: int) -> Array:
    """The product with the transposed weight, rounded, then + bias."""
    product = mm(x, weight.T, digits)
    return product if bias is None else product + bias


def _of_sigmoid(grad: Array, y: Array) -> Array:
    return grad * ((_1 - y) * y)


def _of_tanh(grad: Array, y: Array) -> Array:
    return grad * (_1 - y * y)


def _lstm(given: Array, inner: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """Gates i, f, g, o; c = f c + i g; h = o tanh(c)."""
    a, b, d, e = np.split(inner + given, 4, 1)
    i, f, g, o = sigmoid(a), sigmoid(b), tanh(d), sigmoid(e)
    c = f * c + i * g
    return o * tanh(c), c, np.concatenate([i, f, g, o, c], 1)


def _lstm_backward(d_h: Array, d_c: Array, h: Array, c: Array, y: Array, saved: Array) -> _Gradients:
    i, f, g, o, new = np.split(saved, 5, 1)
    t = tanh(new)
    d_c = d_c + (d_h * o) * (_1 - t * t)
    gates = [_of_sigmoid(d_c * g, i), _of_sigmoid(d_c * c, f), _of_tanh(d_c * i, g), _of_sigmoid(d_h * t, o)]
    d_gates = np.concatenate(gates, 1)
    return d_gates, d_gates, d_c * f, None


def _gru(given: Array, inner: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """Gates r, z; n = tanh(input + r state); h = (h - n) z + n."""
    (a, b, d), (p, q, m) = np.split(given, 3, 1), np.split(inner, 3, 1)
    r, z = sigmoid(p + a), sigmoid(q + b)
    n = tanh(d + m * r)
    return (h - n) * z + n, c, np.concatenate([r, z, n, m], 1)


def _gru_backward(d_h: Array, d_c: Array, h: Array, c: Array, y: Array, saved: Array) -> _Gradients:
    r, z, n, m = np.split(saved, 4, 1)
    through = d_h * z
    d_n = _of_tanh(d_h - through, n)
    d_r, d_z = _of_sigmoid(d_n * m, r), _of_sigmoid(d_h * (h - n), z)
    return np.concatenate([d_r, d_z, d_n], 1), np.concatenate([d_r, d_z, d_n * r], 1), d_c, through


def _rnn_tanh(given: Array, inner: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """h = tanh(state + input)."""
    h = tanh(inner + given)
    return h, c, h


def _rnn_tanh_backward(d_h: Array, d_c: Array, h: Array, c: Array, y: Array, saved: Array) -> _Gradients:
    d = _of_tanh(d_h, y)
    return d, d, d_c, None


def _rnn_relu(given: Array, inner: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """h = the sum of state and input where it is not below 0."""
    total = inner + given
    h = np.where(total < 0, np.float32(0.0), total)
    return h, c, h


def _rnn_relu_backward(d_h: Array, d_c: Array, h: Array, c: Array, y: Array, saved: Array) -> _Gradients:
    d = np.where(y <= 0, np.float32(0.0), d_h)
    return d, d, d_c, None


CELLS: Mapping[str, Cell] = {
    "lstm": Cell(_lstm, _lstm_backward),
    "gru": Cell(_gru, _gru_backward),
    "rnn_tanh": Cell(_rnn_tanh, _rnn_tanh_backward),
    "rnn_relu": Cell(_rnn_relu, _rnn_relu_backward),
}
SAVING = ("lstm", "gru")
"""The kinds whose gradient needs more than h of each step."""
