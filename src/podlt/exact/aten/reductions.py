"""Sums and what is made of them, under their ATen names: exact sums, each quotient one division."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from podlt.errors import UnsupportedError
from podlt.exact.aten.backend import Backend, Operation, Tensor
from podlt.exact.aten.elementwise import power
from podlt.exact.aten.selection import largest, least, ordered
from podlt.exact.aten.tensors import normal_dims, number
from podlt.exact.constants import NonFiniteError

Dims = Sequence[int] | None
_NORM = "linalg_vector_norm"


def _sum(b: Backend, x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    if not x.is_floating_point():
        return x.sum(dim=list(dim) if dim else None, keepdim=keepdim) if x.ndim else x.sum()
    return b.sums.total(x, dim, keepdim)


def _cumsum(b: Backend, x: Tensor, dim: int, dtype: object = None) -> Tensor:
    return b.sums.cumulative(x, dim) if x.is_floating_point() else x.cumsum(dim)


def _mean(b: Backend, x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    return torch.div(b.sums.total(x, dim, keepdim, "mean"), number(_count(x, dim), x))


def _count(x: Tensor, dim: Dims) -> int:
    return math.prod(x.shape[d] for d in normal_dims(dim, x.ndim))


def _variance_mean(
    b: Backend, x: Tensor, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    n = _count(x, dim)
    mean = torch.div(b.sums.total(x, dim, True, "var"), number(n, x))
    d = x - mean
    divisor = number(max(n - (1 if correction is None else correction), 0), x)
    variance = torch.div(b.sums.total(d * d, dim, keepdim, "var"), divisor)
    return variance, mean if keepdim else mean.reshape(variance.shape)


def _variance(b: Backend, x: Tensor, dim: Dims = None, **options: float | None) -> Tensor:
    return _variance_mean(b, x, dim, **options)[0]  # type: ignore[arg-type]


def _vector_norm(
    b: Backend, x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    size = x.abs()
    if ord in (math.inf, -math.inf):
        return (largest if ord > 0 else least)(b, size, dim or (), keepdim)
    if ord == 2:
        return b.functions["sqrt"](b.sums.total(x * x, dim, keepdim, _NORM))
    if ord in (0, 1):
        return b.sums.total(size if ord else (x != 0).float(), dim, keepdim, _NORM)
    return power(b, b.sums.total(power(b, size, float(ord)), dim, keepdim, _NORM), 1.0 / ord)


def _product(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::prod: ones up to a power of two, then the first half times the second half until one value is left."""
    kind = dtype or (x.dtype if x.is_floating_point() else torch.int64)
    values = x.to(kind).reshape(-1)
    size = 1 << max(values.numel() - 1, 0).bit_length()
    values = torch.cat([values, values.new_ones(size - values.numel())])
    while values.numel() > 1:
        half = values.numel() // 2
        values = values[:half] * values[half:]
    return values.reshape(())


def _cumulative_product(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """As aten::cumprod: the products of the prefixes along `dim`, from the first value on, one operation each."""
    if dtype not in (None, x.dtype):
        raise UnsupportedError(f"cumprod: expected no other dtype, got {dtype}")
    out = x.clone() if x.is_floating_point() else x.long().clone()
    lines = out.movedim(dim, 0) if out.ndim else out.reshape(1)
    for i in range(1, len(lines)):
        lines[i] = lines[i - 1] * lines[i]
    return out


def _log_sum_exp(b: Backend, x: Tensor, dims: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """As aten::logsumexp; -inf where there is nothing but -inf, or nothing.

    Raises:
        NonFiniteError: a value is +inf.
        NanError: a value is a NaN.
    """
    reduced = normal_dims([dims] if isinstance(dims, int) else dims, x.ndim)
    if x.ndim and any(x.shape[d] == 0 for d in reduced):
        return torch.full_like(b.sums.total(x, reduced, keepdim), -math.inf)
    top = b.selection.extreme(x, reduced, True, True) if x.ndim else x
    ordered(top, "logsumexp")
    if bool((top == math.inf).any()):
        raise NonFiniteError("logsumexp")
    shifted = x - torch.where(top == -math.inf, 0.0, top)
    total = b.sums.total(b.functions["exp"](shifted), reduced, keepdim, "logsumexp")
    return b.functions["log"](total) + top.reshape(total.shape)


ANYWHERE: Mapping[str, Operation] = {"prod.default": _product, "cumprod.default": _cumulative_product}
BY_BACKEND: Mapping[str, Operation] = {
    **dict.fromkeys(("sum.default", "sum.dim_IntList"), _sum),
    **dict.fromkeys(("mean.default", "mean.dim"), _mean),
    "var.correction": _variance,
    "var_mean.correction": _variance_mean,
    "cumsum.default": _cumsum,
    "linalg_vector_norm.default": _vector_norm,
    "logsumexp.default": _log_sum_exp,
}
