"""Pooling by the loops of `kernels.pooling`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from podlt.exact.aten.backend import Operation
from podlt.exact.aten.windows import Line, Lines, adaptive_windows, area, windows
from podlt.exact.constants import Array, NonFiniteError, sum_bits
from podlt.exact.cpu.kernels import pooling, sums
from podlt.exact.cpu.scratch import address
from podlt.exact.geometry import Pair, Sizes, pair


def max_pool(
    x: torch.Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, size: Pair
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Pooling.max_pool`."""
    values: Array = x.detach().contiguous().numpy().reshape(-1, x.shape[-2], x.shape[-1])
    out = torch.empty((*x.shape[:-2], *size))
    index = torch.empty(out.shape, dtype=torch.int64)
    shape = (values.shape[0], *size)
    window = np.array([*kernel, *stride, *padding, *dilation], np.int64)
    pooling.max_pool(values, window, out.numpy().reshape(shape), index.numpy().reshape(shape))
    return out, index


def max_pool_backward(
    grad: torch.Tensor, index: torch.Tensor, shape: Sequence[int], bits: int, operation: str
) -> torch.Tensor:
    """`Pooling.max_pool_backward`."""
    out = torch.empty(tuple(shape))
    sums = out.numpy().reshape(-1, shape[-2] * shape[-1])
    values: Array = grad.detach().contiguous().numpy().reshape(len(sums), -1)
    if not pooling.max_pool_backward(values, index.contiguous().numpy().reshape(len(sums), -1), bits, sums):
        raise NonFiniteError(operation)
    return out


def _max_pool_backward(otherwise: Operation, grad: torch.Tensor, x: torch.Tensor, *window: Any) -> torch.Tensor:
    """As aten::max_pool2d_with_indices_backward, by a loop of its own where windows do not overlap."""
    kernel, stride, _, dilation, _, index = window
    k, s, area = pair(kernel), pair(stride or kernel), x.shape[-2] * x.shape[-1]
    if not x.numel() or not grad.numel() or pair(dilation) != (1, 1) or s[0] < k[0] or s[1] < k[1]:
        return otherwise(grad, x, *window)  # type: ignore[no-any-return]
    name, planes = "max_pool2d_with_indices_backward", x.numel() // area
    values, places, out = grad.contiguous(), index.contiguous(), torch.empty(x.shape)
    at = address(values), address(places, torch.int64), planes, values.numel() // planes, area
    found = pooling.max_pool_backward_apart(*at, sum_bits(k[0] * k[1]), address(out))
    if found == sums.NOT_FINITE:
        raise NonFiniteError(name)
    if found == sums.OUTSIDE:
        raise IndexError(f"{name}: expected indices below {area}")
    return out


def _average_pool(
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil: bool = False,
    include_pad: bool = True,
    divisor: int | None = None,
) -> torch.Tensor:
    """As aten::avg_pool2d."""
    lines = windows(x, kernel, stride, padding, ceil, include_pad)
    return _average(pooling.average_pool, x, x, lines, divisor, "avg_pool2d")


def _average_pool_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> torch.Tensor:
    """As aten::avg_pool2d_backward."""
    lines = windows(x, kernel, stride, padding, ceil, include_pad)
    return _average(pooling.average_pool_backward, grad, x, lines, divisor, "avg_pool2d_backward")


def _adaptive_pool(x: torch.Tensor, size: Sizes) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d."""
    return _average(pooling.average_pool, x, x, adaptive_windows(x, size), None, "_adaptive_avg_pool2d")


def _adaptive_pool_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """As aten::_adaptive_avg_pool2d_backward."""
    lines = adaptive_windows(x, grad.shape[-2:])
    return _average(pooling.average_pool_backward, grad, x, lines, None, "_adaptive_avg_pool2d_backward")


def _average(
    loop: Callable[..., bool],
    given: torch.Tensor,
    x: torch.Tensor,
    lines: Lines,
    divisor: int | None,
    operation: str,
) -> torch.Tensor:
    """What a loop makes of values or of gradients; of those, as many are terms as all windows see cells."""
    rows, columns = lines
    backward = given is not x
    shape = x.shape if backward else (*x.shape[:-2], len(rows.first), len(columns.first))
    out, values = torch.empty(shape), given.contiguous()
    h, w = x.shape[-2], x.shape[-1]
    planes = x.numel() // (h * w) if h * w else 0
    if not out.numel() or not values.numel():
        return out.zero_()
    *spans, divisors = _spans(rows, columns, divisor)
    bits = [sum_bits(planes * int(rows.seen.sum()) * int(columns.seen.sum()) + 1)] if backward else []
    if not loop(address(values), planes, h, w, *spans, address(divisors), divisors.ndim == 0, *bits, address(out)):
        raise NonFiniteError(operation)
    return out


@lru_cache(maxsize=256)
def _spans(rows: Line, columns: Line, divisor: int | None) -> tuple[Array, Array, torch.Tensor]:
    """Each window's first cell, and the first that it does not see, int64 (2, windows) a line; and the areas."""
    divisors = area((rows, columns), divisor, rows.first).contiguous()
    return _span(rows), _span(columns), divisors


def _span(line: Line) -> Array:
    first = line.first.clamp(min=0)
    found: Array = torch.stack([first, torch.maximum(line.stop, first)]).numpy()
    return found


NATIVE: Mapping[str, Operation] = {
    "avg_pool2d.default": _average_pool,
    "avg_pool2d_backward.default": _average_pool_backward,
    "_adaptive_avg_pool2d.default": _adaptive_pool,
    "_adaptive_avg_pool2d_backward.default": _adaptive_pool_backward,
}


def faster(base: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """Gradients of maxima of windows that do not overlap, in place of a table's; others stay with it."""
    name = "max_pool2d_with_indices_backward.default"
    return {name: partial(_max_pool_backward, base[name])}
