"""Order, extremes and sums of other kinds, by sorts, prefixes and sums at places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from podlt.errors import UnsupportedError

aten = torch.ops.aten
Tensor = torch.Tensor


def _prod(x: Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The last of the products of the prefixes."""
    x = x if dtype is None else x.to(dtype)
    if not x.ndim:
        return x
    if x.shape[dim] == 0:
        return torch.ones_like(x.sum(dim, keepdim))
    found = x.cumprod(dim).select(dim, -1)
    return found.unsqueeze(dim) if keepdim else found


def _cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """In the type that is asked for."""
    if dtype is None or dtype == x.dtype:
        return NotImplemented  # type: ignore[no-any-return]
    wide = x.to(dtype) if dtype.is_floating_point else x.to(torch.int64)
    return wide.cumsum(dim).to(dtype)


def _running(largest: bool) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """The largest or least of each prefix, and of equal ones the last place, as PyTorch has it.

    Each prefix is a line of its own: the square of a line's length in memory.
    """

    def found(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        if not x.ndim:
            return x, torch.zeros((), dtype=torch.int64)
        line = x.movedim(dim, -1)
        n = line.shape[-1]
        until = torch.arange(n).unsqueeze(1) - torch.arange(n)  # prefix i read backwards: i, i - 1, ..., 0
        backwards = line[..., until.clamp(min=0)]
        fill = float("-inf") if largest else float("inf")
        seen = torch.where(until >= 0, backwards, fill)
        values, which = seen.max(-1) if largest else seen.min(-1)
        return values.movedim(-1, dim).contiguous(), (torch.arange(n) - which).movedim(-1, dim).contiguous()

    return found


def _log_cum_sum_exp(x: Tensor, dim: int) -> Tensor:
    """Sums of two, of four and so on: by the largest of the line, what comes long before it would be nothing."""
    count, step = x.shape[dim] if x.ndim else 0, 1
    while step < count:
        nothing = torch.full_like(x.narrow(dim, 0, step), float("-inf"))
        x = _log_add_exp(x, torch.cat([nothing, x.narrow(dim, 0, count - step)], dim))
        step *= 2
    return x.clone() if step == 1 else x


def _log_add_exp(a: Tensor, b: Tensor) -> Tensor:
    """The logarithm of e**a + e**b, where either may be -inf."""
    top = torch.maximum(a, b)
    top = torch.where(top == float("-inf"), 0.0, top)
    return torch.log(torch.exp(a - top) + torch.exp(b - top)) + top


def _argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return torch.argmax(-x, dim, keepdim)


def _stable(x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Every sort of ours is stable."""
    return aten.sort.default(x, dim, descending)


def _at_rank(x: Tensor, rank: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The value at a place of a line's order, and where it stood."""
    if not x.ndim:
        return x, torch.zeros((), dtype=torch.int64)
    values, places = (part.select(dim, rank) for part in aten.sort.default(x, dim, False))
    return (values.unsqueeze(dim), places.unsqueeze(dim)) if keepdim else (values, places)


def _median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of both in the middle."""
    return _at_rank(x, (x.shape[dim] - 1) // 2 if x.ndim else 0, dim, keepdim)


def _median_of_all(x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    return _at_rank(flat, (flat.shape[0] - 1) // 2, 0, False)[0]


def _kth(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _at_rank(x, k - 1, dim, keepdim)


def _bucketize(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    return _search(boundaries, x, right=right)


def _search(
    line: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """How many of a line in order lie before each value: compared with all of them."""
    if sorter is not None:
        return NotImplemented  # type: ignore[no-any-return]
    bounds, value = line.unsqueeze(-2) if line.ndim > 1 else line, x.unsqueeze(-1)
    return ((bounds <= value) if right or side == "right" else (bounds < value)).sum(-1)


def _histogram(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many values fall into each of `bins` cells from `min` to `max`: compared with all of them."""
    if min == max:
        return NotImplemented  # type: ignore[no-any-return]
    place = torch.floor((x.reshape(-1) - min) * bins / (max - min)).clamp(max=bins - 1)
    inside = (x.reshape(-1) >= min) & (x.reshape(-1) <= max)
    found = (place.unsqueeze(1) == torch.arange(bins)) & inside.unsqueeze(1)
    return found.sum(0).to(x.dtype)


def _any_of(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    x = x.bool()
    for d in sorted({d % x.ndim for d in (dim or range(x.ndim))}, reverse=True):
        x = aten.any.dim(x, d, keepdim)
    return x


def _all_of(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return torch.logical_not(_any_of(torch.logical_not(x.bool()), [dim] if isinstance(dim, int) else dim, keepdim))


def _times(repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    """Which place of `repeats` each of so many repetitions is of.

    Raises:
        UnsupportedError: how many there are depends on the data.
    """
    if output_size is None:
        raise UnsupportedError("repeat_interleave by a tensor: give output_size, the number of results")
    return _search(repeats.cumsum(0), torch.arange(output_size), right=True)


def _scatter_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Sums and means at places; maxima and minima by comparing each place with all that go there.

    Raises:
        UnsupportedError: products, whose last bits depend on the order.
    """
    if reduce == "prod":
        raise UnsupportedError("scatter_reduce by prod: the result would depend on order")
    source = source[tuple(slice(0, n) for n in index.shape)]
    if reduce in ("amax", "amin"):
        return _scattered_extreme(x, dim, index, source, reduce == "amax", include_self)
    base = x if include_self else x.scatter(dim, index, 0.0)
    total = base.scatter_add(dim, index, source)
    if reduce == "sum":
        return total
    ones = torch.ones_like(x) if include_self else torch.ones_like(x).scatter(dim, index, 0.0)
    count = ones.scatter_add(dim, index, torch.ones_like(source))
    return total / torch.where(count == 0, 1.0, count)


def _scattered_extreme(x: Tensor, dim: int, index: Tensor, source: Tensor, largest: bool, include_self: bool) -> Tensor:
    """The values in order, the best last: where it stands in its place's run, that place reads it.

    Equal values share the gradient, as PyTorch shares it.
    """
    fill = float("-inf") if largest else float("inf")
    places, values, own = (t.movedim(dim, -1) if t.ndim else t.reshape(1) for t in (index, source, x))
    lead = places.shape[:-1]
    own = own[tuple(slice(0, n) for n in lead)]
    there = places.unsqueeze(-2) == torch.arange(own.shape[-1]).unsqueeze(-1)
    seen = torch.where(there, values.unsqueeze(-2), fill)
    if include_self:
        seen = torch.cat([seen, own.unsqueeze(-1)], -1)
        found = seen.amax(-1) if largest else seen.amin(-1)
    else:
        found = seen.amax(-1) if largest else seen.amin(-1)
        found = torch.where(there.any(-1), found, own)
    whole = x.movedim(dim, -1) if x.ndim else x.reshape(1)
    if found.shape != whole.shape:
        parts = tuple(slice(0, n) for n in lead)
        whole = whole.clone()
        whole[parts] = found
        found = whole
    return found.movedim(-1, dim) if x.ndim else found.reshape(())


def _index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    shape = [1] * x.ndim
    shape[dim] = index.shape[0]
    spread = index.reshape(shape).expand(source.shape)
    return _scatter_reduce(x, dim, spread, source, reduce, include_self=include_self)


def _scatter_added(x: Tensor, dim: int, index: Tensor, source: Tensor, *, reduce: str) -> Tensor:
    return x.scatter_add(dim, index, source) if reduce == "add" else NotImplemented


RULES: Mapping[Any, Callable[..., Any]] = {
    aten.prod.dim_int: _prod,
    aten.cumsum.default: _cumsum,
    aten.cummax.default: _running(True),
    aten.cummin.default: _running(False),
    aten.logcumsumexp.default: _log_cum_sum_exp,
    aten.argmin.default: _argmin,
    aten.sort.stable: _stable,
    aten.median.dim: _median,
    aten.nanmedian.dim: _median,
    aten.median.default: _median_of_all,
    aten.nanmedian.default: _median_of_all,
    aten.kthvalue.default: _kth,
    aten.bucketize.Tensor: _bucketize,
    aten.searchsorted.Tensor: _search,
    aten.histc.default: _histogram,
    aten.any.dims: _any_of,
    aten.all.dim: _all_of,
    aten.all.dims: _all_of,
    aten.repeat_interleave.Tensor: _times,
    aten.scatter.reduce: _scatter_added,
}

COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.scatter_reduce.two: _scatter_reduce,
    aten.index_reduce.default: _index_reduce,
}
