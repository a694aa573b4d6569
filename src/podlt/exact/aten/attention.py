"""Attention and its gradients, a few heads at a time. Definition: `definition.attention`.

Written once over the few functions that it is made of: exact ones of a backend, or PyTorch's own ("stock"). Nothing is
saved for the gradient but what is given: the probabilities are computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from podlt.exact.aten.backend import Backend, Operation, Tensor

BLOCK_BYTES = 2**20
"""What the scores of the heads that are computed together may take on a CPU, where they stay in the cache; a head's
own may take more."""

DEVICE_BLOCK_BYTES = 2**28
"""The same on another device, where a kernel must be worth its launch."""

_INFINITY = float("inf")


@dataclass(frozen=True)
class AttentionParts:
    """What attention is made of.

    Args:
        bmm: the products of each pair of matrices.
        scores: the same of (h, t, d) and (h, s, d), transposed. Where the third argument says so, what lies beyond a
            query's own place may be anything.
        softmax: of scores (h, t, s), by rows, zeros in a row of nothing but -inf; it may write into them. Where the
            second argument says so, a query sees no key beyond its own place, whatever its score.
        softmax_backward: of a gradient and probabilities (h, t, s); it may write into the gradient. What a query does
            not see by its place has the gradient 0.
        block: the bytes that scores may take at once.
    """

    bmm: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor, Tensor, bool], Tensor]
    softmax: Callable[[Tensor, bool], Tensor]
    softmax_backward: Callable[[Tensor, Tensor, bool], Tensor]
    block: int


@dataclass(frozen=True)
class _Heads:
    """What belongs to some heads.

    Args:
        place: which they are.
        mask: (h, t, s) or None, and so for `surviving`.
    """

    place: slice
    mask: Tensor | None
    surviving: Tensor | None


def attention(
    p: AttentionParts,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    surviving: Tensor | None,
    factor: float,
    lift: float,
    causal: bool,
) -> Tensor:
    """Each query's average of the values, by its probabilities."""
    queries, keys, values = _flat(q, factor), _flat(k, factor), _flat(v)
    found = []
    for heads in _heads(p, q, k, mask, surviving):
        probabilities = _probabilities(p, queries[heads.place], keys[heads.place], heads, causal)
        found.append(p.bmm(_dropped(probabilities, heads, lift), values[heads.place]))
    out = found[0] if len(found) == 1 else torch.cat(found)
    return out.reshape(*q.shape[:-1], v.shape[-1])


def attention_backward(
    p: AttentionParts,
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    surviving: Tensor | None,
    factor: float,
    lift: float,
    causal: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of q, k and v that are wanted."""
    queries, keys, values, given = _flat(q, factor), _flat(k, factor), _flat(v), _flat(grad)
    found: tuple[list[Tensor], ...] = ([], [], [])
    for heads in _heads(p, q, k, mask, surviving):
        of_q, of_k, of_v, outer = (x[heads.place] for x in (queries, keys, values, given))
        probabilities = _probabilities(p, of_q, of_k, heads, causal)
        if wanted[2]:
            found[2].append(p.bmm(_dropped(probabilities, heads, lift).mT, outer))
        if not (wanted[0] or wanted[1]):
            continue
        d_p = _dropped(p.scores(outer, of_v, causal), heads, lift)
        if heads.mask is not None and heads.mask.dtype == torch.bool:
            d_p = d_p.masked_fill(~heads.mask, 0.0)
        d_scores = p.softmax_backward(d_p, probabilities, causal)
        if wanted[0]:
            found[0].append(p.bmm(d_scores, of_k) * factor)
        if wanted[1]:
            found[1].append(p.bmm(d_scores.mT, of_q) * factor)
    return tuple(
        torch.cat(parts).reshape(x.shape) if parts else None for parts, x in zip(found, (q, k, v), strict=True)
    )


def _heads(p: AttentionParts, q: Tensor, k: Tensor, mask: Tensor | None, surviving: Tensor | None) -> Iterator[_Heads]:
    """Some heads after others: as many as have their scores in a block, but one at least."""
    lead, scores = q.shape[:-2], (q.shape[-2], k.shape[-2])
    count = math.prod(lead)
    each = max(1, p.block // (q.element_size() * math.prod(scores)))
    for start in range(0, count, each):
        stop = min(start + each, count)
        yield _Heads(
            slice(start, stop),
            _of_heads(mask, lead, scores, start, stop),
            _of_heads(surviving, lead, scores, start, stop),
        )


def _of_heads(x: Tensor | None, lead: Sequence[int], scores: tuple[int, int], start: int, stop: int) -> Tensor | None:
    """What a mask says of some heads, counted through all leading dimensions: (h, t, s)."""
    if x is None:
        return None
    if math.prod(x.shape[:-2]) == 1:
        return x.reshape(1, *x.shape[-2:]).expand(stop - start, *scores)
    count = torch.arange(start, stop, device=x.device)
    places = []
    for size, own in zip(reversed(lead), reversed(x.shape[:-2]), strict=True):
        places.append(count % size if own > 1 else torch.zeros_like(count))
        count = torch.div(count, size, rounding_mode="floor")
    return x[tuple(reversed(places))].expand(stop - start, *scores)


def _probabilities(p: AttentionParts, queries: Tensor, keys: Tensor, heads: _Heads, causal: bool) -> Tensor:
    scores = p.scores(queries, keys, causal)
    if heads.mask is not None and heads.mask.dtype == torch.bool:
        scores = scores.masked_fill(~heads.mask, -_INFINITY)
    elif heads.mask is not None:
        scores = scores + heads.mask
    return p.softmax(scores, causal)


def _dropped(x: Tensor, heads: _Heads, lift: float) -> Tensor:
    """What dropout makes of it."""
    return x if heads.surviving is None else (x * heads.surviving) * lift


def parts(b: Backend, operation: str) -> AttentionParts:
    """The exact functions of a backend."""
    return AttentionParts(
        bmm=lambda x, y: b.products.bmm(x, y, b.digits, operation),
        scores=lambda x, y, causal: b.attention.scores(x, y, causal, b.digits, operation),
        softmax=partial(b.attention.softmax, operation=operation),
        softmax_backward=partial(b.attention.softmax_backward, operation=operation),
        block=BLOCK_BYTES if b.device.type == "cpu" else DEVICE_BLOCK_BYTES,
    )


def _flat(x: Tensor, factor: float | None = None) -> Tensor:
    """`x` as (n, rows, columns), in order in memory, times a factor if there is one."""
    rows = x.reshape(-1, *x.shape[-2:]).contiguous()
    return rows if factor is None else rows * factor


def hidden(scores: Tensor) -> Tensor:
    """Which keys lie beyond the place of each query: bools (t, s)."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


def _softmax(scores: Tensor, causal: bool) -> Tensor:
    scores = scores.masked_fill(hidden(scores), -_INFINITY) if causal else scores
    blind = (scores == -_INFINITY).all(-1, keepdim=True)
    return torch.softmax(scores, -1).masked_fill(blind, 0.0)


def _softmax_backward(grad: Tensor, y: Tensor, causal: bool) -> Tensor:
    return torch.ops.aten._softmax_backward_data(grad, y, -1, y.dtype)  # type: ignore[no-any-return]


_PYTORCH = AttentionParts(torch.bmm, lambda x, y, causal: torch.bmm(x, y.mT), _softmax, _softmax_backward, BLOCK_BYTES)

STOCK: Mapping[str, Operation] = {
    "attention": partial(attention, _PYTORCH),
    "attention_backward": partial(attention_backward, _PYTORCH),
}
"""By PyTorch's own kernels, in float32 or float64."""

BY_BACKEND: Mapping[str, Operation] = {
    "attention": lambda b, *given: attention(parts(b, "attention"), *given),
    "attention_backward": lambda b, *given: attention_backward(parts(b, "attention_backward"), *given),
}
