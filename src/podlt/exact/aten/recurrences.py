"""Recurrent layers, one layer in one direction, and their gradients. Definition: `definition.recurrences`.

Written once over the few functions that it is made of: exact ones of a backend, or PyTorch's own ("stock").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from podlt.exact.aten.backend import Backend, Operation, Tensor

Layer = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""h of each step (t, n, h), the last h and c (n, h), and what the gradient needs (t, n, m gates)."""

Stepped = tuple[Tensor, Tensor | None, Tensor | None]
Gradients = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class RecurrenceParts:
    """What a layer is made of.

    Args:
        linear: (x, weight, bias) to x times the transposed weight, rounded, then + bias.
        product: of two matrices.
        total: the sums over the rows of a matrix.
    """

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    product: Callable[[Tensor, Tensor], Tensor]
    total: Callable[[Tensor], Tensor]
    sigmoid: Callable[[Tensor], Tensor]
    tanh: Callable[[Tensor], Tensor]


def layer(
    p: RecurrenceParts,
    kind: str,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> Layer:
    """A layer over all steps."""
    steps, lines, width = x.shape
    given = p.linear(x.reshape(steps * lines, width), w_ih, b_ih).reshape(steps, lines, -1)
    forward, hidden, saved = CELLS[kind][0], [], []
    for step in given.unbind():
        h, c, part = forward(p, step, p.linear(h, w_hh, b_hh), h, c)
        hidden.append(h)
        if part is not None:
            saved.append(part)
    return torch.stack(hidden), h, c, torch.stack(saved) if saved else None


def layer_backward(
    p: RecurrenceParts,
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
    """The gradients of x, h, c, w_ih, w_hh, b_ih and b_hh that the mask asks for."""
    steps = x.shape[0]
    before = torch.cat([h.unsqueeze(0), y[:-1]])
    cells = None if c is None or saved is None else torch.cat([c.unsqueeze(0), saved[:-1, :, -h.shape[1] :]])
    backward = CELLS[kind][1]
    d_h = torch.zeros_like(h) if d_h is None else d_h
    d_c = torch.zeros_like(c) if d_c is None and c is not None else d_c
    d_given, d_inner = [], []
    for t in reversed(range(steps)):
        d_new = d_h if d_y is None else d_h + d_y[t]
        part = y[t] if saved is None else saved[t]
        of_given, of_inner, d_c, direct = backward(p, d_new, d_c, before[t], None if cells is None else cells[t], part)
        product = p.product(of_inner, w_hh)
        d_h = product if direct is None else product + direct
        d_given.append(of_given)
        d_inner.append(of_inner)
    rows, states = x.flatten(0, 1), before.flatten(0, 1)
    of_gates = torch.cat(d_given[::-1]), torch.cat(d_inner[::-1])
    return weight_gradients(p, of_gates, rows, states, w_ih, x.shape, (d_h, d_c), mask)


def weight_gradients(
    p: RecurrenceParts,
    of_gates: tuple[Tensor, Tensor],
    rows: Tensor,
    states: Tensor,
    w_ih: Tensor,
    shape: Sequence[int],
    of_states: tuple[Tensor, Tensor | None],
    mask: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """What is contracted over steps and lines together, beside the gradients of the first states.

    Args:
        of_gates: gradients of the products with input and state (t n, gates).
        rows: x (t n, i).
        states: h before each step (t n, h).
        shape: of x.
        of_states: gradients of the first h and c.
    """
    g, i = of_gates
    d_x = p.product(g, w_ih).reshape(tuple(shape)) if mask[0] else None
    d_w_ih = p.product(g.t(), rows) if mask[3] else None
    d_w_hh = p.product(i.t(), states) if mask[4] else None
    d_b_ih = p.total(g) if mask[5] or (mask[6] and g is i) else None
    d_b_hh = (d_b_ih.clone() if d_b_ih is not None and g is i else p.total(i)) if mask[6] else None
    d_h, d_c = (of if wanted else None for of, wanted in zip(of_states, mask[1:3], strict=True))
    return d_x, d_h, d_c, d_w_ih, d_w_hh, d_b_ih if mask[5] else None, d_b_hh


def _of_sigmoid(grad: Tensor, y: Tensor) -> Tensor:
    return grad * ((1.0 - y) * y)


def _of_tanh(grad: Tensor, y: Tensor) -> Tensor:
    return grad * (1.0 - y * y)


def _lstm(p: RecurrenceParts, given: Tensor, inner: Tensor, h: Tensor, c: Tensor | None) -> Stepped:
    assert c is not None
    a, b, d, e = (inner + given).chunk(4, 1)
    i, f, g, o = p.sigmoid(a), p.sigmoid(b), p.tanh(d), p.sigmoid(e)
    c = f * c + i * g
    return o * p.tanh(c), c, torch.cat([i, f, g, o, c], 1)


def _lstm_backward(
    p: RecurrenceParts, d_h: Tensor, d_c: Tensor | None, h: Tensor, c: Tensor | None, saved: Tensor
) -> Gradients:
    i, f, g, o, new = saved.chunk(5, 1)
    assert c is not None and d_c is not None
    t = p.tanh(new)
    d_c = d_c + (d_h * o) * (1.0 - t * t)
    gates = [_of_sigmoid(d_c * g, i), _of_sigmoid(d_c * c, f), _of_tanh(d_c * i, g), _of_sigmoid(d_h * t, o)]
    d_gates = torch.cat(gates, 1)
    return d_gates, d_gates, d_c * f, None


def _gru(p: RecurrenceParts, given: Tensor, inner: Tensor, h: Tensor, c: Tensor | None) -> Stepped:
    (a, b, d), (s, q, m) = given.chunk(3, 1), inner.chunk(3, 1)
    r, z = p.sigmoid(s + a), p.sigmoid(q + b)
    n = p.tanh(d + m * r)
    return (h - n) * z + n, None, torch.cat([r, z, n, m], 1)


def _gru_backward(
    p: RecurrenceParts, d_h: Tensor, d_c: Tensor | None, h: Tensor, c: Tensor | None, saved: Tensor
) -> Gradients:
    r, z, n, m = saved.chunk(4, 1)
    through = d_h * z
    d_n = _of_tanh(d_h - through, n)
    d_r, d_z = _of_sigmoid(d_n * m, r), _of_sigmoid(d_h * (h - n), z)
    return torch.cat([d_r, d_z, d_n], 1), torch.cat([d_r, d_z, d_n * r], 1), None, through


def _rnn_tanh(p: RecurrenceParts, given: Tensor, inner: Tensor, h: Tensor, c: Tensor | None) -> Stepped:
    return p.tanh(inner + given), None, None


def _rnn_tanh_backward(
    p: RecurrenceParts, d_h: Tensor, d_c: Tensor | None, h: Tensor, c: Tensor | None, saved: Tensor
) -> Gradients:
    d = _of_tanh(d_h, saved)
    return d, d, None, None


def _rnn_relu(p: RecurrenceParts, given: Tensor, inner: Tensor, h: Tensor, c: Tensor | None) -> Stepped:
    total = inner + given
    return torch.where(total < 0, 0.0, total), None, None


def _rnn_relu_backward(
    p: RecurrenceParts, d_h: Tensor, d_c: Tensor | None, h: Tensor, c: Tensor | None, saved: Tensor
) -> Gradients:
    d = torch.where(saved <= 0, 0.0, d_h)
    return d, d, None, None


CELLS: Mapping[str, tuple[Callable[..., Stepped], Callable[..., Gradients]]] = {
    "lstm": (_lstm, _lstm_backward),
    "gru": (_gru, _gru_backward),
    "rnn_tanh": (_rnn_tanh, _rnn_tanh_backward),
    "rnn_relu": (_rnn_relu, _rnn_relu_backward),
}
"""By kind: a step of the definition's `Cell.forward`, and of its `backward`, which takes h as what a kind saved."""


def parts(b: Backend, operation: str) -> RecurrenceParts:
    """The exact functions of a backend."""
    mm, digits = b.products.mm, b.digits
    return RecurrenceParts(
        linear=lambda x, weight, bias: mm(x, weight.t(), digits, bias, operation),
        product=lambda x, y: mm(x, y, digits, None, operation),
        total=lambda x: b.sums.total(x, [0], False, operation),
        sigmoid=b.functions["sigmoid"],
        tanh=b.functions["tanh"],
    )


_PYTORCH = RecurrenceParts(
    linear=functional.linear, product=torch.mm, total=lambda x: x.sum(0), sigmoid=torch.sigmoid, tanh=torch.tanh
)

STOCK: Mapping[str, Operation] = {
    "recurrence": partial(layer, _PYTORCH),
    "recurrence_backward": partial(layer_backward, _PYTORCH),
}
"""By PyTorch's own kernels, in float32 or float64."""

BY_BACKEND: Mapping[str, Operation] = {
    "recurrence": lambda b, *given: layer(parts(b, "recurrence"), *given),
    "recurrence_backward": lambda b, *given: layer_backward(parts(b, "recurrence_backward"), *given),
}
