"""Rows of recurrent layers: LSTM, GRU and RNN, one layer in one direction. They are no operations of ATen's.

    recurrence(kind, x, h, c, w_ih, w_hh, b_ih, b_hh)            -> y, last h, last c, saved
    recurrence_backward(kind, d_y, d_h, d_c, x, h, c, w_ih, w_hh, y, saved, mask)
                                                                 -> of x, h, c, w_ih, w_hh, b_ih, b_hh

`kind` is one of `GATES`; x (t, n, i) has the steps first, h and c are (n, h), weights and biases lie as PyTorch's do.
Only an LSTM has c, and only LSTM and GRU keep anything for the gradient. Biases may be None, and so may the gradients
of y, h and c. The mask says which of the seven gradients are wanted; None stands for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podlt.exact.definition import recurrences as d
from podlt.exact.operations.row import Sample, Table, product
from podlt.exact.operations.types import Given, Types, is_tensor
from podlt.exact.samples import floats, of, values

GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""How many gates a kind has."""

SAVED: Mapping[str, int] = {"lstm": 5, "gru": 4}
"""How many values an element of h keeps for the gradient: gates, and c or a product with the state."""


def _fits(values: Given, weights: Given) -> bool:
    """Whether input, states, weights and biases belong together."""
    kind, x, h, c = values
    if not isinstance(kind, str) or kind not in GATES or not is_tensor(x, "f32", 3) or not is_tensor(h, "f32", 2):
        return False
    (_, lines, width), (rows, hidden), gates = x[1], h[1], GATES[kind]
    if 0 in (*x[1], *h[1]) or rows != lines or c != (h if kind == "lstm" else None):
        return False
    matrices = [("f32", (gates * hidden, width)), ("f32", (gates * hidden, hidden))]
    biases = weights[2:]
    return weights[:2] == matrices and all(one in (None, ("f32", (gates * hidden,))) for one in biases)


def _layer(given: Given) -> Types | None:
    """Kind, input, states, weights, biases."""
    if len(given) != 8 or not _fits(given[:4], given[4:]):
        return None
    kind, (_, (steps, lines, _)), h = given[0], given[1], given[2]
    hidden = h[1][1]
    saved = ("f32", (steps, lines, SAVED[kind] * hidden)) if kind in SAVED else None
    return [("f32", (steps, lines, hidden)), h, given[3], saved]


def _layer_backward(given: Given) -> Types | None:
    """Kind, gradients, input, states, weights, h of each step, what was saved, which gradients are wanted."""
    if len(given) != 12:
        return None
    kind, d_y, d_h, d_c, x, h, c, w_ih, w_hh, y, saved, mask = given
    if not isinstance(mask, list) or len(mask) != 7 or not all(isinstance(part, bool) for part in mask):
        return None
    found = _layer([kind, x, h, c, w_ih, w_hh, None, None])
    if found is None or y != found[0] or saved != found[3] or (c is None and mask[2]):
        return None
    if any(one not in (None, kind) for one, kind in zip((d_y, d_h, d_c), found, strict=False)):
        return None
    bias = ("f32", w_ih[1][:1])
    return [kind if wanted else None for kind, wanted in zip([x, h, c, w_ih, w_hh, bias, bias], mask, strict=True)]


_T, _N, _I, _H = 3, 2, 3, 2


def _calls(kind: str, key: int) -> Sample:
    gates = GATES[kind] * _H
    c = floats(key + 2, _N, _H) if kind == "lstm" else None
    weights = floats(key + 3, gates, _I), floats(key + 4, gates, _H)
    return (
        kind,
        floats(key, _T, _N, _I),
        floats(key + 1, _N, _H),
        c,
        *weights,
        floats(key + 5, gates),
        floats(key + 6, gates),
    )


_LAYERS: list[Sample] = [
    *(_calls(kind, 300 + 10 * number) for number, kind in enumerate(GATES)),
    (*_calls("lstm", 340)[:6], None, None),
    (
        *_calls("gru", 350)[:1],
        of(floats(351, _N, _T, _I), lambda x: x.transpose(0, 1)),
        *_calls("gru", 350)[2:6],
        None,
        None,
    ),
]


def _backward(t: Table) -> Iterator[Sample]:
    for number, call in enumerate(_LAYERS):
        made = [item() if callable(item) else item for item in call]
        y, h, c, saved = t["recurrence"](*made)
        key, is_whole, has_c = 360 + 10 * number, number % 2 == 0, c is not None
        d_y = values(key, *y.shape) if number != 4 else None
        d_h = values(key + 1, *h.shape) if is_whole else None
        d_c = values(key + 2, *h.shape) if has_c and is_whole else None
        mask = [is_whole, True, has_c, True, True, *[made[6] is not None] * 2]
        yield made[0], d_y, d_h, d_c, *made[1:6], y, saved, mask


ROWS = (
    product("recurrence", d.recurrence, _LAYERS, _layer),
    product("recurrence_backward", d.recurrence_backward, _backward, _layer_backward),
)
