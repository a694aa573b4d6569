"""Loops on the CPU for the steps of recurrent layers: all gates of a step, forward and backward, line by line.

Each loop reads and writes few rows, so that LLVM proves them apart and vectorises. Definition:
`definition.recurrences`.
"""

# Numba compiles this file; NumPy's stubs do not describe how its scalars combine.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import kernel, scalar

_0, _1 = np.float32(0.0), np.float32(1.0)


@scalar
def _sigmoids(a: Array, b: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = scalars.sigmoid(a[j] + b[j])


@scalar
def _tanhs(a: Array, b: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = scalars.tanh(a[j] + b[j])


@scalar
def _through_sigmoid(a: Array, b: Array, y: Array, out: Array) -> None:
    """The gradient a b of a sigmoid's result y to that of its argument."""
    for j in range(len(out)):
        out[j] = (a[j] * b[j]) * ((_1 - y[j]) * y[j])


@scalar
def _through_tanh(a: Array, b: Array, y: Array, out: Array) -> None:
    """The gradient a b of a tanh's result y to that of its argument."""
    for j in range(len(out)):
        out[j] = (a[j] * b[j]) * (_1 - y[j] * y[j])


@kernel
def lstm(given: Array, inner: Array, c: Array, saved: Array, y: Array) -> None:
    """One step: products with input and state (n, 4 h) and c (n, h), which is overwritten, to gates and new c (n, 5 h),
    and h (n, h)."""
    lines, h = y.shape
    for r in range(lines):
        a, b, k, before, out = given[r], inner[r], saved[r], c[r], y[r]
        _sigmoids(b[: 2 * h], a[: 2 * h], k[: 2 * h])
        _tanhs(b[2 * h : 3 * h], a[2 * h : 3 * h], k[2 * h : 3 * h])
        _sigmoids(b[3 * h :], a[3 * h :], k[3 * h : 4 * h])
        i, f, g, o, new = k[:h], k[h : 2 * h], k[2 * h : 3 * h], k[3 * h : 4 * h], k[4 * h :]
        for j in range(h):
            new[j] = f[j] * before[j] + i[j] * g[j]
        for j in range(h):
            before[j] = new[j]
        for j in range(h):
            out[j] = o[j] * scalars.tanh(new[j])


@kernel
def lstm_backward(d_y: Array, d_h: Array, d_c: Array, c: Array, saved: Array, d_gates: Array) -> None:
    """One step: gradients of its h from outside (n, h, or no line for none) and of the later step, to those of gates.

    Args:
        d_h: (n, h), of the later step.
        d_c: (n, h), of the new c, overwritten by that of c before.
        c: (n, h), before the step.
        saved: (n, 5 h).
        d_gates: (n, 4 h), written: the gradient of the products.
    """
    lines, h = d_h.shape
    d, t = np.empty(h, np.float32), np.empty(h, np.float32)
    for r in range(lines):
        k, out, dc, before, later = saved[r], d_gates[r], d_c[r], c[r], d_h[r]
        i, f, g, o, new = k[:h], k[h : 2 * h], k[2 * h : 3 * h], k[3 * h : 4 * h], k[4 * h :]
        if len(d_y) > 0:
            own = d_y[r]
            for j in range(h):
                d[j] = later[j] + own[j]
        else:
            for j in range(h):
                d[j] = later[j]
        for j in range(h):
            t[j] = scalars.tanh(new[j])
        for j in range(h):
            dc[j] = dc[j] + (d[j] * o[j]) * (_1 - t[j] * t[j])
        _through_sigmoid(dc, g, i, out[:h])
        _through_sigmoid(dc, before, f, out[h : 2 * h])
        _through_tanh(dc, i, g, out[2 * h : 3 * h])
        _through_sigmoid(d, t, o, out[3 * h :])
        for j in range(h):
            dc[j] = dc[j] * f[j]


@kernel
def gru(given: Array, inner: Array, before: Array, saved: Array, y: Array) -> None:
    """One step: products (n, 3 h) and h before (n, h), to r, z, n and a product (n, 4 h), and h (n, h)."""
    lines, h = y.shape
    for row in range(lines):
        a, b, k, last, out = given[row], inner[row], saved[row], before[row], y[row]
        _sigmoids(b[: 2 * h], a[: 2 * h], k[: 2 * h])
        r, z, n, m = k[:h], k[h : 2 * h], k[2 * h : 3 * h], k[3 * h :]
        of_input, of_state = a[2 * h :], b[2 * h :]
        for j in range(h):
            m[j] = of_state[j]
        for j in range(h):
            n[j] = scalars.tanh(of_input[j] + m[j] * r[j])
        for j in range(h):
            out[j] = (last[j] - n[j]) * z[j] + n[j]


@kernel
def gru_backward(d_y: Array, d_h: Array, before: Array, saved: Array, d_given: Array, d_inner: Array) -> None:
    """One step: as `lstm_backward`; `d_h` is overwritten by what passes beside the product with the state."""
    lines, h = d_h.shape
    d = np.empty(h, np.float32)
    for row in range(lines):
        k, of_input, of_state, last, through = saved[row], d_given[row], d_inner[row], before[row], d_h[row]
        r, z, n, m = k[:h], k[h : 2 * h], k[2 * h : 3 * h], k[3 * h :]
        d_r, d_z, d_n, d_m = of_input[:h], of_input[h : 2 * h], of_input[2 * h :], of_state[2 * h :]
        if len(d_y) > 0:
            own = d_y[row]
            for j in range(h):
                d[j] = through[j] + own[j]
        else:
            for j in range(h):
                d[j] = through[j]
        for j in range(h):
            through[j] = d[j] * z[j]
        for j in range(h):
            d_n[j] = (d[j] - through[j]) * (_1 - n[j] * n[j])
        _through_sigmoid(d_n, m, r, d_r)
        for j in range(h):
            d_z[j] = (d[j] * (last[j] - n[j])) * ((_1 - z[j]) * z[j])
        for j in range(h):
            d_m[j] = d_n[j] * r[j]
        for j in range(2 * h):
            of_state[j] = of_input[j]


@kernel
def rnn(given: Array, inner: Array, is_relu: bool, y: Array) -> None:
    """One step of float32 (n, h)."""
    for row in range(len(y)):
        a, b, out = given[row], inner[row], y[row]
        if is_relu:
            for j in range(len(out)):
                total = b[j] + a[j]
                out[j] = _0 if total < _0 else total
        else:
            _tanhs(b, a, out)


@kernel
def rnn_backward(d_y: Array, d_h: Array, y: Array, is_relu: bool, d_sums: Array) -> None:
    """One step: from the gradients of h (n, h), from outside (or no line) and of the later step, to the sum's."""
    for row in range(len(y)):
        later, own, out = d_h[row], y[row], d_sums[row]
        for j in range(len(out)):
            out[j] = later[j]
        if len(d_y) > 0:
            outside = d_y[row]
            for j in range(len(out)):
                out[j] = out[j] + outside[j]
        if is_relu:
            for j in range(len(out)):
                out[j] = _0 if own[j] <= _0 else out[j]
        else:
            for j in range(len(out)):
                out[j] = out[j] * (_1 - own[j] * own[j])
