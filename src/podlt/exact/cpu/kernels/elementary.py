"""Loops on the CPU over the elementary functions of `scalars`."""

from __future__ import annotations

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.cpu import scalars
from podlt.exact.cpu.jit import array_at, kernel
from podlt.exact.cpu.kernels import gelu

EXP, LOG, TANH, SIGMOID, ERF, RSQRT, GELU, GELU_TANH, SIN, COS, SILU, LOG1P, EXPM1, LOG2, ERFC, ATAN, SQRT = range(17)


@kernel
def unary(which: int, at: int, n: int, to: int) -> None:
    """Float32 (n,) at an address to f of them at another; `which` is one of the constants of this module."""
    x, out = array_at(at, n, np.float32), array_at(to, n, np.float32)
    if which == EXP:
        for i in range(n):
            out[i] = scalars.exp(x[i])
    elif which == LOG:
        for i in range(n):
            out[i] = scalars.log(x[i])
    elif which == TANH:
        for i in range(n):
            out[i] = scalars.tanh(x[i])
    elif which == SIGMOID:
        for i in range(n):
            out[i] = scalars.sigmoid(x[i])
    elif which == ERF:
        for i in range(n):
            out[i] = scalars.erf(x[i])
    elif which == RSQRT:
        for i in range(n):
            out[i] = scalars.rsqrt(x[i])
    elif which == GELU:
        gelu.gelu(x, out)
    elif which == GELU_TANH:
        for i in range(n):
            out[i] = scalars.gelu_tanh(x[i])
    elif which == SIN:
        for i in range(n):
            out[i] = scalars.wave(x[i], 0)
    elif which == COS:
        for i in range(n):
            out[i] = scalars.wave(x[i], 1)
    elif which == LOG1P:
        for i in range(n):
            out[i] = scalars.log1p(x[i])
    elif which == EXPM1:
        for i in range(n):
            out[i] = scalars.expm1(x[i])
    elif which == LOG2:
        for i in range(n):
            out[i] = scalars.log2(x[i])
    elif which == ERFC:
        for i in range(n):
            out[i] = scalars.erfc(x[i])
    elif which == ATAN:
        for i in range(n):
            out[i] = scalars.atan(x[i])
    elif which == SQRT:  # the IEEE operation: torch may ask a vector library that rounds otherwise
        for i in range(n):
            out[i] = np.sqrt(x[i])
    else:
        for i in range(n):
            out[i] = x[i] * scalars.sigmoid(x[i])


@kernel
def slope(which: int, grad_at: int, at: int, n: int, to: int) -> None:
    """grad[i] * f'(x[i]) for float32 (n,) at two addresses, at a third, of the functions GELU, GELU_TANH and SILU."""
    grad, x, out = array_at(grad_at, n, np.float32), array_at(at, n, np.float32), array_at(to, n, np.float32)
    one = np.float32(1.0)
    if which == GELU:
        gelu.gelu_slope(grad, x, out)
    elif which == GELU_TANH:
        for i in range(n):
            out[i] = grad[i] * scalars.gelu_tanh_slope(x[i])
    else:
        for i in range(n):
            s = scalars.sigmoid(x[i])
            out[i] = grad[i] * (s * (one + x[i] * (one - s)))


@kernel
def fmod(x: Array, y: Array, out: Array) -> None:
    """out[i] = fmod(x[i], y[i]) for float32 (n,) arrays: C's is exact."""
    for i in range(len(x)):
        out[i] = np.float32(np.fmod(np.float64(x[i]), np.float64(y[i])))
